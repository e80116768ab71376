//! A safe side of LevelDB's C interface: blocking calls on bytes, no knowledge of records.
//!
//! The only file of the crate with `unsafe`. What it keeps to:
//! - every C object has one owner, which frees it once; the order of fields is the order of closing;
//! - an [`Iter`] borrows its [`Database`] or shares in it, and the slices it lends borrow the iterator,
//!   so that neither outlives what it points into;
//! - damage is an error, never absence: every block read is checked against its checksum, and so
//!   are the log and the manifest at opening, which fails on damage rather than skip records;
//! - one process at a time has a database open, be it this one, another LevelDB or goleveldb.
#![allow(unsafe_code, reason = "LevelDB is C++; this file is the whole of our calls into it")]
#![allow(
    clippy::doc_markdown,
    clippy::missing_errors_doc,
    clippy::iter_not_returning_iterator,
    reason = "LevelDB is a name, its error types say when they come, and its iterator lends"
)]

use std::ffi::{CStr, CString, OsStr, c_char, c_int};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::marker::PhantomData;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::{Arc, Once, OnceLock};
use std::{fmt, slice};

use cruzbit_leveldb_sys as sys;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Bits per key of the Bloom filters: about one miss in a hundred reads a block.
const BLOOM_BITS: c_int = 10;

/// Beyond every key that is in use: a compaction from here to here rewrites nothing.
const BEYOND_KEYS: [u8; 8] = [0xff; 8];

// The first function is missing in the bindings, which declare the three of the iterator with
// `const` out-parameters, though C++ writes through them.
unsafe extern "C" {
    fn leveldb_options_set_max_file_size(options: *mut sys::leveldb_options_t, bytes: usize);
    fn leveldb_iter_key(iter: *const sys::leveldb_iterator_t, len: *mut usize) -> *const c_char;
    fn leveldb_iter_value(iter: *const sys::leveldb_iterator_t, len: *mut usize) -> *const c_char;
    fn leveldb_iter_get_error(iter: *const sys::leveldb_iterator_t, error: *mut *mut c_char);

    /// `static void leveldb::EnvPosixTestHelper::SetReadOnlyMMapLimit(int)`, which no C function
    /// offers.
    #[link_name = "_ZN7leveldb18EnvPosixTestHelper20SetReadOnlyMMapLimitEi"]
    fn set_read_only_mmap_limit(files: c_int);
}

/// What a database is opened with; sizes in bytes.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether to create a database where there is none.
    pub create: bool,
    /// Uncompressed blocks kept in memory.
    pub cache_bytes: usize,
    /// Writes gathered in memory (twice, while one half is written out) before they become a table.
    pub write_buffer_bytes: usize,
    /// Size at which a new table file is begun.
    pub max_file_bytes: usize,
    /// Files kept open; each holds its index and Bloom filter in memory.
    pub max_open_files: i32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            create: false,
            cache_bytes: 64 << 20,
            write_buffer_bytes: 16 << 20,
            max_file_bytes: 32 << 20,
            max_open_files: 4000,
        }
    }
}

/// LevelDB's own message for what went wrong, on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// Why a database could not be opened; the caller, who knows it, names the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenError {
    /// Another process, or this one, has it open.
    InUse,
    /// The directory it would be created in does not exist.
    MissingParent,
    /// There is something else: a file, or a directory with other things in it.
    NotADatabase,
    /// There is no database, and none was to be created.
    Missing,
    /// Anything else, damage included: the message of LevelDB or of the system.
    Other(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InUse => "in use by another process",
            Self::MissingParent => "the directory above it does not exist",
            Self::NotADatabase => "exists, but is not a LevelDB database",
            Self::Missing => "there is no database",
            Self::Other(message) => message,
        })
    }
}

impl std::error::Error for OpenError {}

/// An open database, to be shared among threads; dropping it closes it.
pub struct Database {
    // Dropped in this order: closing uses the cache and the filter, and the lock outlives them all.
    db: Owned<sys::leveldb_t>,
    read: Owned<sys::leveldb_readoptions_t>,
    read_past_cache: Owned<sys::leveldb_readoptions_t>,
    write: Owned<sys::leveldb_writeoptions_t>,
    write_synced: Owned<sys::leveldb_writeoptions_t>,
    _cache: Owned<sys::leveldb_cache_t>,
    _filter: Owned<sys::leveldb_filterpolicy_t>,
    _lock: File,
    failed_write: OnceLock<Error>,
}

// SAFETY: LevelDB documents a database as safe for concurrent use and ties it to no thread; the
// option objects are only read after opening.
unsafe impl Send for Database {}
// SAFETY: as above.
unsafe impl Sync for Database {}

impl Database {
    /// Opens the database in the directory `path`, creating it (not its parent) if `options` say so.
    pub fn open(path: &Path, options: &Options) -> Result<Self, OpenError> {
        static PREPARED: Once = Once::new();
        PREPARED.call_once(prepare_process);
        prepare_directory(path, options.create)?;
        let name = CString::new(path.as_os_str().as_bytes()).map_err(other)?;
        let lock = take_lock(path)?;
        // SAFETY: each pointer is fresh from its constructor and paired with its destructor.
        let (filter, cache, read, read_past_cache, write, write_synced, how) = unsafe {
            (
                Owned::new(
                    sys::leveldb_filterpolicy_create_bloom(BLOOM_BITS),
                    sys::leveldb_filterpolicy_destroy,
                ),
                Owned::new(sys::leveldb_cache_create_lru(options.cache_bytes), sys::leveldb_cache_destroy),
                read_options(true),
                read_options(false),
                write_options(false),
                write_options(true),
                Owned::new(sys::leveldb_options_create(), sys::leveldb_options_destroy),
            )
        };
        // SAFETY: all pointers are live; LevelDB copies `how` and keeps the cache and the filter,
        // which outlive the database by the order of the fields.
        let db = unsafe {
            let how = how.raw();
            sys::leveldb_options_set_create_if_missing(how, options.create.into());
            // Damage found at opening or while compacting is an error, not a warning in a log.
            sys::leveldb_options_set_paranoid_checks(how, 1);
            sys::leveldb_options_set_filter_policy(how, filter.raw());
            sys::leveldb_options_set_cache(how, cache.raw());
            sys::leveldb_options_set_write_buffer_size(how, options.write_buffer_bytes);
            sys::leveldb_options_set_max_open_files(how, options.max_open_files);
            sys::leveldb_options_set_compression(how, sys::Compression::Snappy);
            leveldb_options_set_max_file_size(how, options.max_file_bytes);
            let raw = checked(|error| sys::leveldb_open(how, name.as_ptr(), error));
            Owned::new(raw.map_err(refused)?, sys::leveldb_close)
        };
        Ok(Self {
            db,
            read,
            read_past_cache,
            write,
            write_synced,
            _cache: cache,
            _filter: filter,
            _lock: lock,
            failed_write: OnceLock::new(),
        })
    }

    /// The value of `key`, if there is one.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let (db, read) = (self.db.raw(), self.read.raw());
        let mut len = 0;
        // SAFETY: live pointers, and LevelDB reads `key.len()` bytes of the key.
        let value = checked(|error| unsafe {
            sys::leveldb_get(db, read, key.as_ptr().cast(), key.len(), &raw mut len, error)
        })?;
        if value.is_null() {
            return Ok(None);
        }
        // SAFETY: `value` is a copy for us of `len` bytes (not null even if empty, as malloc(0)
        // is not), freed once, after the last look at it.
        unsafe {
            let bytes = lent(value, len).to_vec();
            sys::leveldb_free(value.cast());
            Ok(Some(bytes))
        }
    }

    /// Applies the whole batch in its order, or nothing of it; `sync` waits until it is on disk.
    ///
    /// After a failure the batch may or may not be found later, and every further write fails,
    /// until the database is opened again: LevelDB would append behind the torn record (of a full
    /// disk, say), where no later opening finds what it acknowledged. For this to hold at every
    /// instant, one thread writes at a time.
    pub fn write(&self, batch: &Batch, sync: bool) -> Result<(), Error> {
        let (db, batch) = (self.db.raw(), batch.raw.raw());
        let how = if sync { &self.write_synced } else { &self.write };
        self.writable()?;
        // SAFETY: live pointers; LevelDB numbers the batch in place, and no other thread can see
        // it meanwhile, as `Batch` is not `Sync`.
        let result = checked(|error| unsafe { sys::leveldb_write(db, how.raw(), batch, error) });
        if let Err(error) = &result {
            self.failed_write.get_or_init(|| error.clone());
        }
        self.writable()
    }

    /// A view of the database as it is now, in the order of keys, which starts nowhere: seek first.
    ///
    /// Long scans leave the cache alone with `fill_cache` off. While it lives, the files it reads
    /// are kept.
    #[must_use]
    pub fn iter(&self, fill_cache: bool) -> Iter<'_> {
        let read = if fill_cache { &self.read } else { &self.read_past_cache };
        // SAFETY: live pointers; the lifetime of `Iter` ends it before the database.
        let raw = unsafe {
            Owned::new(sys::leveldb_create_iterator(self.db.raw(), read.raw()), sys::leveldb_iter_destroy)
        };
        Iter { raw, database: PhantomData, _shared: None }
    }

    /// As [`Database::iter`], for who keeps it: the database stays open as long as it lives.
    #[must_use]
    pub fn shared_iter(self: &Arc<Self>, fill_cache: bool) -> Iter<'static> {
        let Iter { raw, .. } = self.iter(fill_cache);
        // instead of the lifetime, the order of the fields ends it before the database
        Iter { raw, database: PhantomData, _shared: Some(Arc::clone(self)) }
    }

    /// Moves what the log holds into tables; to be done before every clean close, since goleveldb,
    /// opening the same directory later, skips records that it finds in LevelDB's log.
    ///
    /// If that fails, the log stays and nothing is lost; LevelDB reads it at the next opening.
    pub fn empty_log(&self) {
        let (key, len) = (BEYOND_KEYS.as_ptr().cast(), BEYOND_KEYS.len());
        // SAFETY: a live pointer, and both ends of the range are `len` bytes.
        unsafe { sys::leveldb_compact_range(self.db.raw(), key, len, key, len) }
    }

    /// Whether a write has failed since it was opened.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed_write.get().is_some()
    }

    fn writable(&self) -> Result<(), Error> {
        self.failed_write.get().map_or(Ok(()), |error| Err(error.clone()))
    }
}

/// Writes to be applied together, in order.
pub struct Batch {
    raw: Owned<sys::leveldb_writebatch_t>,
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

/// A position in the order of keys, at a record or (no longer [`valid`](Self::valid)) at none.
///
/// A damaged block is passed over, so ask [`status`](Self::status) after each scan, wherever it
/// ended: only then was nothing left out.
pub struct Iter<'a> {
    raw: Owned<sys::leveldb_iterator_t>,
    database: PhantomData<&'a Database>,
    _shared: Option<Arc<Database>>,
}

// SAFETY: LevelDB ties an iterator to no thread, it only wants one at a time.
unsafe impl Send for Iter<'_> {}

impl Iter<'_> {
    /// Moves to the first record whose key is not before `key`.
    pub fn seek(&mut self, key: &[u8]) {
        // SAFETY: a live pointer, and the key is read for its length only.
        unsafe { sys::leveldb_iter_seek(self.raw.raw(), key.as_ptr().cast(), key.len()) }
    }

    /// Moves to the first record.
    pub fn seek_to_first(&mut self) {
        // SAFETY: a live pointer.
        unsafe { sys::leveldb_iter_seek_to_first(self.raw.raw()) }
    }

    /// Moves to the next record; does nothing where there is none.
    pub fn next(&mut self) {
        if self.valid() {
            // SAFETY: a live pointer, at a record.
            unsafe { sys::leveldb_iter_next(self.raw.raw()) }
        }
    }

    /// Whether it is at a record.
    #[must_use]
    pub fn valid(&self) -> bool {
        // SAFETY: a live pointer.
        unsafe { sys::leveldb_iter_valid(self.raw.raw()) != 0 }
    }

    /// The key and the value here, if there is a record.
    #[must_use]
    pub fn current(&self) -> Option<(&[u8], &[u8])> {
        self.valid().then(|| {
            // SAFETY: it is at a record.
            unsafe { (self.part(leveldb_iter_key), self.part(leveldb_iter_value)) }
        })
    }

    /// The key here; empty where there is no record.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.current().map_or(&[], |(key, _)| key)
    }

    /// The value here; empty where there is no record.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        self.current().map_or(&[], |(_, value)| value)
    }

    /// The first damage or failure that this iterator met since it was made.
    pub fn status(&self) -> Result<(), Error> {
        // SAFETY: live pointers.
        checked(|error| unsafe { leveldb_iter_get_error(self.raw.raw(), error) })
    }

    /// # Safety
    ///
    /// It is at a record.
    unsafe fn part(&self, of: IterPart) -> &[u8] {
        let mut len = 0;
        // SAFETY: `of` is one of two functions, which lend `len` bytes of the record here until
        // the iterator moves or ends: both need more than the borrow of it that we return.
        unsafe { lent(of(self.raw.raw(), &raw mut len), len) }
    }
}

type IterPart = unsafe extern "C" fn(*const sys::leveldb_iterator_t, *mut usize) -> *const c_char;

/// A C++ object that is ours, with what frees it.
struct Owned<T> {
    raw: *mut T,
    free: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// # Safety
    ///
    /// `raw` is live, nobody else frees it, and `free` is how to.
    unsafe fn new(raw: *mut T, free: unsafe extern "C" fn(*mut T)) -> Self {
        Self { raw, free }
    }

    fn raw(&self) -> *mut T {
        self.raw
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: promised to `new`.
        unsafe { (self.free)(self.raw) }
    }
}

fn read_options(fill_cache: bool) -> Owned<sys::leveldb_readoptions_t> {
    // SAFETY: a fresh pointer with its destructor, live while it is set up.
    unsafe {
        let raw = sys::leveldb_readoptions_create();
        // Damage is then an error. Measured with a million records, it costs gets and scans 9 %.
        sys::leveldb_readoptions_set_verify_checksums(raw, 1);
        sys::leveldb_readoptions_set_fill_cache(raw, fill_cache.into());
        Owned::new(raw, sys::leveldb_readoptions_destroy)
    }
}

fn write_options(sync: bool) -> Owned<sys::leveldb_writeoptions_t> {
    // SAFETY: a fresh pointer with its destructor, live while it is set up.
    unsafe {
        let raw = sys::leveldb_writeoptions_create();
        sys::leveldb_writeoptions_set_sync(raw, sync.into());
        Owned::new(raw, sys::leveldb_writeoptions_destroy)
    }
}

/// Calls LevelDB with a place for its error message, and takes the message.
fn checked<T>(call: impl FnOnce(*mut *mut c_char) -> T) -> Result<T, Error> {
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
unsafe fn lent<'a>(bytes: *const c_char, len: usize) -> &'a [u8] {
    if len == 0 {
        return &[]; // C++ may lend nothing from null, which no Rust slice may
    }
    // SAFETY: promised by the caller.
    unsafe { slice::from_raw_parts(bytes.cast(), len) }
}

/// What holds for the whole process and LevelDB settles at its first use, so comes before.
fn prepare_process() {
    // LevelDB maps up to 1000 table files, whose pages would then count as our resident memory,
    // a whole index of them after one listing; reads by pread are the page cache's business.
    // SAFETY: it sets an integer, which nobody reads yet: LevelDB is used through `open` only.
    unsafe { set_read_only_mmap_limit(0) }
    // LevelDB keeps a fifth of the descriptor limit open and reopens other files at each read. A
    // refusal costs that and nothing else, so it is not an error.
    let mut limit: Rlimit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _refusal: rustix::io::Result<()> = setrlimit(Resource::Nofile, limit);
}

/// Sees to it that `path` is a directory with a database, or one to create it in.
fn prepare_directory(path: &Path, create: bool) -> Result<(), OpenError> {
    match fs::metadata(path) {
        Ok(meta) if !meta.is_dir() => return Err(OpenError::NotADatabase),
        Ok(_) if path.join("CURRENT").try_exists().map_err(other)? => return Ok(()),
        Ok(_) => {
            for entry in fs::read_dir(path).map_err(other)? {
                if !precedes_database(&entry.map_err(other)?.file_name()) {
                    return Err(OpenError::NotADatabase);
                }
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let parent = match path.parent() {
                Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
                Some(parent) => parent,
                None => return Err(OpenError::MissingParent),
            };
            if !parent.is_dir() {
                return Err(OpenError::MissingParent);
            }
            if create {
                fs::create_dir(path).map_err(other)?;
                // LevelDB syncs what is in the directory, not that there is one.
                File::open(parent).and_then(|parent| parent.sync_all()).map_err(other)?;
            }
        }
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            return Err(OpenError::MissingParent);
        }
        Err(error) => return Err(other(error)),
    }
    if create { Ok(()) } else { Err(OpenError::Missing) }
}

/// Whether a directory that holds this file may still become a database: it is left by a creation
/// that was cut short (before CURRENT came there was no record), or by mkfs.
fn precedes_database(name: &OsStr) -> bool {
    const NAMES: [&str; 6] = ["LOCK", "LOG", "LOG.old", "MANIFEST-000001", "000001.dbtmp", "lost+found"];
    NAMES.iter().any(|allowed| name == *allowed)
}

/// Locks the database as goleveldb does, by flock; LevelDB's own lock, by fcntl, comes on top.
///
/// The system drops a process's fcntl locks on a file when any descriptor of it is closed. So this
/// one is closed last of all, after LevelDB's. A second attempt in this process fails here and
/// drops the fcntl lock of the first when it closes its descriptor; flock, which belongs to the
/// first's own descriptor, still excludes everyone who comes through here and goleveldb.
fn take_lock(path: &Path) -> Result<File, OpenError> {
    let mut options = File::options();
    let options = options.read(true).write(true).create(true).truncate(false);
    let lock = options.open(path.join("LOCK")).map_err(other)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(Errno::WOULDBLOCK) => Err(OpenError::InUse),
        Err(error) => Err(other(error)),
    }
}

/// Another LevelDB program has the database open if its lock, by fcntl, is what failed.
fn refused(error: Error) -> OpenError {
    if error.0.starts_with("IO error: lock ") { OpenError::InUse } else { OpenError::Other(error.0) }
}

fn other(error: impl fmt::Display) -> OpenError {
    OpenError::Other(error.to_string())
}

#[cfg(test)]
mod tests;
