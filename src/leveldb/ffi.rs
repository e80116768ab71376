//! C functions of LevelDB that the bindings lack, owners of its objects, and checks of its calls.

use std::ffi::{CStr, c_char, c_int};
use std::{ptr, slice};

use cruzbit_leveldb_sys as sys;

use super::error::Error;

// The bindings lack the first function, and declare the three of the iterator with `const` out-parameters,
// though C++ writes through them.
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

/// An owned C++ object, with its destructor.
pub(super) struct Owned<T> {
    raw: *mut T,
    free: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// # Safety
    ///
    /// `raw` is live, nothing else frees it, and `free` is its destructor.
    pub(super) unsafe fn new(raw: *mut T, free: unsafe extern "C" fn(*mut T)) -> Self {
        Self { raw, free }
    }

    pub(super) fn raw(&self) -> *mut T {
        self.raw
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: guaranteed by the caller of `new`.
        unsafe { (self.free)(self.raw) }
    }
}

pub(super) fn read_options(fill_cache: bool) -> Owned<sys::leveldb_readoptions_t> {
    // SAFETY: a fresh pointer with its destructor, live while it is set up.
    unsafe {
        let raw = sys::leveldb_readoptions_create();
        // makes damage an error; with a million records, this costs gets and scans 9 %
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

/// Calls LevelDB with an out-parameter for an error message, and turns the message into an error.
pub(super) fn checked<T>(call: impl FnOnce(*mut *mut c_char) -> T) -> Result<T, Error> {
    let mut message = ptr::null_mut();
    let answer = call(&raw mut message);
    if message.is_null() {
        return Ok(answer);
    }
    // SAFETY: LevelDB stores a NUL-terminated string, which we own and free once.
    unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().replace(['\n', '\r'], " ");
        sys::leveldb_free(message.cast());
        Err(Error(text))
    }
}

/// # Safety
///
/// The `len` bytes at `bytes` are valid and unchanged while the slice lives.
pub(super) unsafe fn lent<'a>(bytes: *const c_char, len: usize) -> &'a [u8] {
    if len == 0 {
        return &[]; // C++ may return null for no bytes, but a Rust slice must not be null
    }
    // SAFETY: guaranteed by the caller.
    unsafe { slice::from_raw_parts(bytes.cast(), len) }
}

/// A C function that lends the key or the value of an iterator's current record.
pub(super) type IterPart = unsafe extern "C" fn(*const sys::leveldb_iterator_t, *mut usize) -> *const c_char;
