//! A database, and iterators over it.

use std::ffi::{CString, c_int};
use std::fs::File;
use std::marker::PhantomData;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Once, OnceLock};

use cruzbit_leveldb_sys as sys;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::batch::Batch;
use super::directory::{prepare_directory, take_lock};
use super::error::{Error, OpenError, other, refused};
use super::ffi::{
    IterPart, Owned, checked, lent, leveldb_iter_get_error, leveldb_iter_key, leveldb_iter_value,
    leveldb_options_set_max_file_size, read_options, set_read_only_mmap_limit, write_options,
};

/// Bits per key of the Bloom filters: about one miss in a hundred reads a block.
const BLOOM_BITS: c_int = 10;

/// Beyond every key that is in use: a compaction from here to here rewrites nothing.
const BEYOND_KEYS: [u8; 8] = [0xff; 8];

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

    /// As [`Database::iter`], but without a borrow: the iterator keeps the database open.
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

/// Settings of the whole process, which LevelDB reads at its first use.
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
