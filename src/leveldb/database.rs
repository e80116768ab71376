//! A database, and iterators over it.

use std::ffi::{CString, c_int};
use std::marker::PhantomData;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once, OnceLock};

use cruzbit_leveldb_sys as sys;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::batch::Batch;
use super::directory::{Lock, has_log, prepare_directory, take_lock};
use super::error::{Error, OpenError, failed, other, refused};
use super::ffi::{
    IterPart, Owned, checked, lent, leveldb_iter_get_error, leveldb_iter_key, leveldb_iter_value,
    leveldb_options_set_max_file_size, read_options, set_read_only_mmap_limit, write_options,
};

/// Bits per key of the Bloom filters: about one in a hundred lookups of missing keys reads a block.
const BLOOM_BITS: c_int = 10;

/// Greater than every key in use: a compaction of the range from this key to itself rewrites nothing.
const BEYOND_KEYS: [u8; 8] = [0xff; 8];

/// Options for opening a database; sizes in bytes.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether to create a database where there is none.
    pub create: bool,
    /// Memory for uncompressed blocks.
    pub cache_bytes: usize,
    /// Writes gathered in memory before they become a table; twice this while one is written out.
    pub write_buffer_bytes: usize,
    /// Size at which a new table file begins.
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

/// An open database, which threads can share; dropping it closes it.
pub struct Database {
    // Fields are dropped in this order: closing uses the cache and the filter, and the lock is released last.
    db: Owned<sys::leveldb_t>,
    read: Owned<sys::leveldb_readoptions_t>,
    read_past_cache: Owned<sys::leveldb_readoptions_t>,
    write: Owned<sys::leveldb_writeoptions_t>,
    write_synced: Owned<sys::leveldb_writeoptions_t>,
    cache: Owned<sys::leveldb_cache_t>,
    filter: Owned<sys::leveldb_filterpolicy_t>,
    lock: Lock,
    path: PathBuf,
    failed_write: OnceLock<Error>,
}

// SAFETY: LevelDB documents a database as safe for concurrent use from any thread; the option objects are
// only read after opening.
unsafe impl Send for Database {}
// SAFETY: as above.
unsafe impl Sync for Database {}

impl Database {
    /// Opens the database in the directory `path`, and creates it (but not its parent) if `options` say so.
    pub fn open(path: &Path, options: &Options) -> Result<Self, OpenError> {
        static PREPARED: Once = Once::new();
        PREPARED.call_once(prepare_process);
        prepare_directory(path, options.create)?;
        let lock = take_lock(path)?;
        Self::open_locked(path, options, lock).map_err(|(error, _lock)| error)
    }

    /// As [`Database::open`], with the lock of a database that was [released](Self::release); gives it back if
    /// this fails.
    pub fn open_again(path: &Path, options: &Options, lock: Lock) -> Result<Self, (OpenError, Lock)> {
        match prepare_directory(path, false) {
            Ok(()) => Self::open_locked(path, options, lock),
            Err(error) => Err((error, lock)),
        }
    }

    fn open_locked(path: &Path, options: &Options, lock: Lock) -> Result<Self, (OpenError, Lock)> {
        let name = match CString::new(path.as_os_str().as_bytes()) {
            Ok(name) => name,
            Err(error) => return Err((other(error), lock)),
        };
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
            // damage found at opening or while compacting is an error, not a warning in LevelDB's log
            sys::leveldb_options_set_paranoid_checks(how, 1);
            sys::leveldb_options_set_filter_policy(how, filter.raw());
            sys::leveldb_options_set_cache(how, cache.raw());
            sys::leveldb_options_set_write_buffer_size(how, options.write_buffer_bytes);
            sys::leveldb_options_set_max_open_files(how, options.max_open_files);
            sys::leveldb_options_set_compression(how, sys::Compression::Snappy);
            leveldb_options_set_max_file_size(how, options.max_file_bytes);
            match checked(|error| sys::leveldb_open(how, name.as_ptr(), error)) {
                Ok(raw) => Owned::new(raw, sys::leveldb_close),
                Err(error) => return Err((refused(error), lock)),
            }
        };
        Ok(Self {
            db,
            read,
            read_past_cache,
            write,
            write_synced,
            cache,
            filter,
            lock,
            path: path.to_owned(),
            failed_write: OnceLock::new(),
        })
    }

    /// The value of `key`, if it has one.
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
        // SAFETY: `value` is our copy of `len` bytes (not null even if empty, because malloc(0)
        // isn't), freed once, after its last use.
        unsafe {
            let bytes = lent(value, len).to_vec();
            sys::leveldb_free(value.cast());
            Ok(Some(bytes))
        }
    }

    /// Applies the whole batch in its order, or nothing of it; `sync` waits until it is on disk.
    ///
    /// After a failure the batch may or may not take effect at the next opening, and every further write fails
    /// until then: LevelDB would append after the torn record (of a full
    /// disk, for example), and the next opening would lose those writes, though LevelDB acknowledged them.
    /// This holds only if one thread writes at a time.
    pub fn write(&self, batch: &Batch, sync: bool) -> Result<(), Error> {
        let (db, batch) = (self.db.raw(), batch.raw.raw());
        let how = if sync { &self.write_synced } else { &self.write };
        self.writable()?;
        // SAFETY: live pointers; LevelDB writes a sequence number into the batch, which no other thread
        // can access, because `Batch` is not `Sync`.
        let result = checked(|error| unsafe { sys::leveldb_write(db, how.raw(), batch, error) });
        if let Err(error) = &result {
            self.failed_write.get_or_init(|| error.clone());
        }
        self.writable()
    }

    /// An iterator over a snapshot of the database, in the order of keys. It has no position until it is sought.
    ///
    /// Long scans should turn `fill_cache` off, which keeps the cache's contents. LevelDB keeps the snapshot's
    /// files until the iterator is dropped.
    #[must_use]
    pub fn iter(&self, fill_cache: bool) -> Iter<'_> {
        let read = if fill_cache { &self.read } else { &self.read_past_cache };
        // SAFETY: live pointers; by its lifetime, `Iter` is dropped before the database.
        let raw = unsafe {
            Owned::new(sys::leveldb_create_iterator(self.db.raw(), read.raw()), sys::leveldb_iter_destroy)
        };
        Iter { raw, database: PhantomData, _shared: None }
    }

    /// As [`Database::iter`], but the iterator owns a reference that keeps the database open.
    #[must_use]
    pub fn shared_iter(self: &Arc<Self>, fill_cache: bool) -> Iter<'static> {
        let Iter { raw, .. } = self.iter(fill_cache);
        // by the order of the fields, the iterator is dropped before the database
        Iter { raw, database: PhantomData, _shared: Some(Arc::clone(self)) }
    }

    /// Moves the log's contents into tables. If this fails, the log stays and nothing is lost; LevelDB reads it at
    /// the next opening.
    pub fn empty_log(&self) {
        let (key, len) = (BEYOND_KEYS.as_ptr().cast(), BEYOND_KEYS.len());
        // SAFETY: a live pointer, and both ends of the range have `len` bytes.
        unsafe { sys::leveldb_compact_range(self.db.raw(), key, len, key, len) }
    }

    /// Empties the log and closes the database, so that goleveldb may open the directory: it skips records in
    /// LevelDB's log.
    ///
    /// If this fails, the database is closed all the same, and its log is as [`Database::empty_log`] says.
    pub fn close(self) -> Result<(), Error> {
        let same = self.lock.check_identity(&self.path);
        if same.is_ok() {
            self.empty_log();
        }
        let Self { db, cache, filter, lock, path, .. } = self;
        // closing waits for LevelDB's thread, which deletes the old log, and uses the other two
        drop(db);
        drop((cache, filter));
        let has_log = same.and_then(|()| has_log(&path).map_err(failed))?;
        drop(lock);
        if has_log { Err(Error("the log could not be emptied".into())) } else { Ok(()) }
    }

    /// Closes the database as it is, and keeps its lock, so that nobody else opens it before it is opened again.
    #[must_use]
    pub fn release(self) -> Lock {
        let Self { db, cache, filter, lock, .. } = self;
        drop(db);
        drop((cache, filter));
        lock
    }

    /// Its lock.
    #[must_use]
    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    fn writable(&self) -> Result<(), Error> {
        self.failed_write.get().map_or(Ok(()), |error| Err(error.clone()))
    }
}

/// A position in the order of keys: at a record if [`valid`](Self::valid), or at none.
///
/// The iterator skips damaged blocks, so check [`status`](Self::status) after each scan: only if it is `Ok`
/// was nothing left out.
pub struct Iter<'a> {
    raw: Owned<sys::leveldb_iterator_t>,
    database: PhantomData<&'a Database>,
    _shared: Option<Arc<Database>>,
}

// SAFETY: LevelDB allows an iterator on any thread, but only on one at a time.
unsafe impl Send for Iter<'_> {}

impl Iter<'_> {
    /// Moves to the first record whose key is not before `key`.
    pub fn seek(&mut self, key: &[u8]) {
        // SAFETY: a live pointer, and LevelDB reads no further than the end of the key.
        unsafe { sys::leveldb_iter_seek(self.raw.raw(), key.as_ptr().cast(), key.len()) }
    }

    /// Moves to the first record.
    pub fn seek_to_first(&mut self) {
        // SAFETY: a live pointer.
        unsafe { sys::leveldb_iter_seek_to_first(self.raw.raw()) }
    }

    /// Moves to the next record; does nothing if the iterator is at none.
    pub fn next(&mut self) {
        if self.valid() {
            // SAFETY: a live pointer, at a record.
            unsafe { sys::leveldb_iter_next(self.raw.raw()) }
        }
    }

    /// Whether the iterator is at a record.
    #[must_use]
    pub fn valid(&self) -> bool {
        // SAFETY: a live pointer.
        unsafe { sys::leveldb_iter_valid(self.raw.raw()) != 0 }
    }

    /// The key and the value of the current record, if any.
    #[must_use]
    pub fn current(&self) -> Option<(&[u8], &[u8])> {
        self.valid().then(|| {
            // SAFETY: the iterator is at a record.
            unsafe { (self.part(leveldb_iter_key), self.part(leveldb_iter_value)) }
        })
    }

    /// The key of the current record; empty if there is none.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.current().map_or(&[], |(key, _)| key)
    }

    /// The value of the current record; empty if there is none.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        self.current().map_or(&[], |(_, value)| value)
    }

    /// The first damage or failure that this iterator met.
    pub fn status(&self) -> Result<(), Error> {
        // SAFETY: live pointers.
        checked(|error| unsafe { leveldb_iter_get_error(self.raw.raw(), error) })
    }

    /// # Safety
    ///
    /// The iterator is at a record.
    unsafe fn part(&self, of: IterPart) -> &[u8] {
        let mut len = 0;
        // SAFETY: `of` is one of two functions, which lend `len` bytes of the current record until the
        // iterator moves or is dropped; the returned borrow prevents both.
        unsafe { lent(of(self.raw.raw(), &raw mut len), len) }
    }
}

/// Changes settings of the whole process, which LevelDB reads at its first use.
fn prepare_process() {
    // LevelDB maps up to 1000 table files, whose pages would count as our resident memory: after one
    // listing, the whole index. Without maps LevelDB uses pread.
    // SAFETY: this sets an integer that nothing reads yet, because LevelDB is used through `open` only.
    unsafe { set_read_only_mmap_limit(0) }
    // LevelDB keeps a fifth of the descriptor limit open and reopens other files at each read. If the
    // limit can't be raised, only speed is lost, so that is no error.
    let mut limit: Rlimit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _refusal: rustix::io::Result<()> = setrlimit(Resource::Nofile, limit);
}
