//! Writes that are applied together.

use cruzbit_leveldb_sys as sys;

use super::ffi::Owned;

/// Writes that are applied together, in order.
pub struct Batch {
    pub(super) raw: Owned<sys::leveldb_writebatch_t>,
}

// SAFETY: a batch is plain memory with one owner. Not `Sync`: `write` changes the batch.
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
        // SAFETY: a live pointer, and LevelDB reads no further than the end of each slice.
        unsafe {
            sys::leveldb_writebatch_put(batch, key_at.cast(), key.len(), value_at.cast(), value.len());
        }
    }

    /// Removes `key`, whether or not it is there.
    pub fn delete(&mut self, key: &[u8]) {
        // SAFETY: a live pointer, and LevelDB reads no further than the end of the key.
        unsafe { sys::leveldb_writebatch_delete(self.raw.raw(), key.as_ptr().cast(), key.len()) }
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}
