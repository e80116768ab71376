//! The C functions of LevelDB that the bindings lack, and owners and checks for calls of all of them.

use std::ffi::{CStr, c_char, c_int};
use std::{ptr, slice};

use cruzbit_leveldb_sys as sys;

use super::error::Error;

// The first function is missing in the bindings, which declare the three of the iterator with
// `const` out-parameters, though C++ writes through them.
unsafe extern "C" {
    pub(super) fn leveldb_options_set_max_file_size(options: *mut sys::leveldb_options_t, bytes: usize);
    pub(super) fn leveldb_iter_key(iter: *const sys::leveldb_iterator_t, len: *mut usize) -> *const c_char;
    pub(super) fn leveldb_iter_value(iter: *const sys::leveldb_iterator_t, len: *mut usize) -> *const c_char;
    pub(super) fn leveldb_iter_get_error(iter: *const sys::leveldb_iterator_t, error: *mut *mut c_char);

    /// `static void leveldb::EnvPosixTestHelper::SetReadOnlyMMapLimit(int)`, which no C function
    /// offers.
    #[link_name = "_ZN7leveldb18EnvPosixTestHelper20SetReadOnlyMMapLimitEi"]
    pub(super) fn set_read_only_mmap_limit(files: c_int);
}

/// A C++ object that is ours, with what frees it.
pub(super) struct Owned<T> {
    raw: *mut T,
    free: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// # Safety
    ///
    /// `raw` is live, nobody else frees it, and `free` is how to.
    pub(super) unsafe fn new(raw: *mut T, free: unsafe extern "C" fn(*mut T)) -> Self {
        Self { raw, free }
    }

    pub(super) fn raw(&self) -> *mut T {
        self.raw
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: promised to `new`.
        unsafe { (self.free)(self.raw) }
    }
}

pub(super) fn read_options(fill_cache: bool) -> Owned<sys::leveldb_readoptions_t> {
    // SAFETY: a fresh pointer with its destructor, live while it is set up.
    unsafe {
        let raw = sys::leveldb_readoptions_create();
        // Damage is then an error. Measured with a million records, it costs gets and scans 9 %.
        sys::leveldb_readoptions_set_verify_checksums(raw, 1);
        sys::leveldb_readoptions_set_fill_cache(raw, fill_cache.into());
        Owned::new(raw, sys::leveldb_readoptions_destroy)
    }
}

pub(super) fn write_options(sync: bool) -> Owned<sys::leveldb_writeoptions_t> {
    // SAFETY: a fresh pointer with its destructor, live while it is set up.
    unsafe {
        let raw = sys::leveldb_writeoptions_create();
        sys::leveldb_writeoptions_set_sync(raw, sync.into());
        Owned::new(raw, sys::leveldb_writeoptions_destroy)
    }
}

/// Calls LevelDB with a place for its error message, and takes the message.
pub(super) fn checked<T>(call: impl FnOnce(*mut *mut c_char) -> T) -> Result<T, Error> {
    let mut message = ptr::null_mut();
    let answer = call(&raw mut message);
    if message.is_null() {
        return Ok(answer);
    }
    // SAFETY: LevelDB puts there only a NUL-terminated string for us to free, here, once.
    unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().replace(['\n', '\r'], " ");
        sys::leveldb_free(message.cast());
        Err(Error(text))
    }
}

/// # Safety
///
/// `len` bytes from `bytes` on stay as they are while the slice lives.
pub(super) unsafe fn lent<'a>(bytes: *const c_char, len: usize) -> &'a [u8] {
    if len == 0 {
        return &[]; // C++ may lend nothing from null, which no Rust slice may
    }
    // SAFETY: promised by the caller.
    unsafe { slice::from_raw_parts(bytes.cast(), len) }
}

/// A C function that lends the key, or the value, of the record at which an iterator is.
pub(super) type IterPart = unsafe extern "C" fn(*const sys::leveldb_iterator_t, *mut usize) -> *const c_char;
