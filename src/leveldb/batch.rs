//! Writes that are applied together.

use cruzbit_leveldb_sys as sys;

use super::ffi::Owned;

/// Writes to be applied together, in order.
pub struct Batch {
    pub(super) raw: Owned<sys::leveldb_writebatch_t>,
}

// SAFETY: a batch is plain memory of one owner. Not `Sync`: writing it changes it (see `write`).
unsafe impl Send for Batch {}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        // SAFETY: a fresh pointer and its destructor.
        let raw = unsafe { Owned::new(sys::leveldb_writebatch_create(), sys::leveldb_writebatch_destroy) };
        Self { raw }
    }

    /// Sets `key` to `value`; both are copied.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        let (batch, key_at, value_at) = (self.raw.raw(), key.as_ptr(), value.as_ptr());
        // SAFETY: a live pointer, and both slices are read for their length only.
        unsafe {
            sys::leveldb_writebatch_put(batch, key_at.cast(), key.len(), value_at.cast(), value.len());
        }
    }

    /// Removes `key`, whether or not it is there.
    pub fn delete(&mut self, key: &[u8]) {
        // SAFETY: a live pointer, and the key is read for its length only.
        unsafe { sys::leveldb_writebatch_delete(self.raw.raw(), key.as_ptr().cast(), key.len()) }
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}
