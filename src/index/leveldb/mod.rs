//! The index in LevelDB: what takes a few microseconds runs on the caller's thread.
//!
//! Rows: keys hold records; they begin with `/`, those of parts of uploads with `part/`. `\0intent` ‖ key holds
//! the key's intents. `\0generation` holds the first number that was never reserved. `\0bucket` ‖ name and
//! `\0upload` ‖ key ‖ `\0` ‖ number hold what is noted of buckets and uploads; `\0store` and `\0volume` ‖ name hold
//! whose index and whose volumes they are.
//!
//! Scans go to the blocking pool. Writes that wait for the disk or for another write go to **one writer
//! thread** that gathers what is waiting into one batch and one fsync (see [`writer`]). After a write that failed,
//! the database is opened again (see [`current`]).

mod current;
mod dump;
mod facts;
mod notes;
mod scan;
#[cfg(test)]
mod tests;
mod writer;

use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use tokio::sync::{Mutex, oneshot};

use super::error::IndexError;
use super::steps::{Effect, Step};
use super::types::{Entry, Loaded, Options};
use crate::clock::Timestamp;
use crate::index::types::number_floor;
use crate::key::{Key, MAX_GENERATION};
use crate::leveldb::{self, Database, Lock};
use crate::record::{Intent, Record};

use current::Current;
pub use dump::{Dump, load as load_dump};
use writer::{Change, Durability, Tried, Write, try_write, write_all};

const INTENTS: &[u8] = b"\0intent";
const NUMBER: &[u8] = b"\0generation";

/// Numbers are reserved by this many, so that few writes need another fsync for one.
const NUMBER_BLOCK: u64 = 1 << 16;

/// An index in LevelDB.
pub struct LevelDb {
    current: Arc<Current>,
    /// The directory.
    path: PathBuf,
    sync: bool,
    writer: Option<mpsc::Sender<Write>>,
    thread: Option<JoinHandle<()>>,
    /// Reserved numbers that were not given out yet.
    numbers: Mutex<Range<u64>>,
    /// Whether anything but facts may have been written since that was asked last.
    written: AtomicBool,
}

#[allow(clippy::unused_async, reason = "the interface of all engines; what is quick here is not everywhere")]
impl LevelDb {
    pub(super) fn open(path: &Path, options: Options) -> Result<Self, IndexError> {
        let current = Arc::new(Current::open(path, options.create, options.cache_bytes)?);
        let (sender, writes) = mpsc::channel();
        let (writing, sync) = (Arc::clone(&current), options.sync);
        let thread = std::thread::Builder::new()
            .name("index-writer".into())
            .spawn(move || write_all(&writing, &writes, sync))
            .map_err(|error| IndexError::because("can't start the index's writer thread", error))?;
        let (thread, numbers, path) = (Some(thread), Mutex::new(0..0), path.to_owned());
        let written = AtomicBool::new(false);
        Ok(Self { current, path, sync, writer: Some(sender), thread, numbers, written })
    }

    pub(super) async fn look(&self, key: &Key) -> Result<Option<Record>, IndexError> {
        read_record(self.current.read().await.database()?, key)
    }

    pub(super) async fn entry(&self, key: &Key) -> Result<Entry, IndexError> {
        read_entry(self.current.read().await.database()?, key)
    }

    pub(super) async fn carry_out(&self, step: Step) -> Result<Effect, IndexError> {
        let durability = if step.is_durable() { Durability::AsOpened } else { Durability::Process };
        self.write_soon(Change::Step(step), durability).await
    }

    pub(super) fn is_fresh(&self) -> bool {
        self.current.is_fresh()
    }

    pub(super) async fn failed(&self) {
        self.current.failed().await;
    }

    pub(super) async fn reopen(&self) -> Result<(), IndexError> {
        let current = Arc::clone(&self.current);
        let reopened = crate::runtime::blocking(move || current.reopen()).await;
        reopened.map_err(|error| IndexError::because("the index wasn't opened again", error))??;
        // as at a start: the next number comes from the disk
        *self.numbers.lock().await = 0..0;
        Ok(())
    }

    pub(super) async fn number(&self) -> Result<u64, IndexError> {
        let mut reserved = self.numbers.lock().await;
        if reserved.is_empty() {
            let first = self.first_unreserved().await?;
            let end = first.saturating_add(NUMBER_BLOCK);
            if end > MAX_GENERATION {
                return Err(IndexError::new("the index is damaged: no generation numbers are left"));
            }
            self.reserve(end).await?;
            *reserved = first..end;
        }
        reserved.next().ok_or_else(|| IndexError::new("out of generation numbers"))
    }

    /// Where the index is, such that a copy is elsewhere: the directory's inode, and when that was made. Device
    /// numbers are no help, as they change when a machine starts.
    pub(super) fn home(&self) -> Result<String, IndexError> {
        let metadata = std::fs::metadata(&self.path);
        let metadata = metadata.map_err(|error| IndexError::because("can't look at the index", error))?;
        // some file systems don't know it
        let made = metadata.created().map_or(0, |made| Timestamp::from(made).millis());
        Ok(format!("{} {made}", metadata.ino()))
    }

    pub(super) async fn has_numbers(&self) -> Result<bool, IndexError> {
        Ok(self.current.read().await.database()?.get(NUMBER)?.is_some())
    }

    pub(super) async fn first_unreserved(&self) -> Result<u64, IndexError> {
        match self.current.read().await.database()?.get(NUMBER)? {
            None => Ok(number_floor(Timestamp::now())),
            Some(bytes) => <[u8; 8]>::try_from(bytes.as_slice())
                .map(u64::from_be_bytes)
                .map_err(|_length| IndexError::new("the index is damaged: the generation counter")),
        }
    }

    pub(super) async fn reserve_beyond(&self, seen: u64) -> Result<(), IndexError> {
        let end = seen.saturating_add(NUMBER_BLOCK);
        if end.saturating_add(NUMBER_BLOCK) > MAX_GENERATION {
            return Err(IndexError::new(format!(
                "a file's name has the generation {seen:016x}, and no numbers are left beyond: move it away"
            )));
        }
        self.reserve(end).await
    }

    async fn reserve(&self, end: u64) -> Result<(), IndexError> {
        let rows = vec![(NUMBER.to_vec(), end.to_be_bytes().to_vec())];
        // a number that is given out twice makes one name the target of two attempts
        self.write(Change::Rows(rows), Durability::Power).await.map(drop)
    }

    pub(super) async fn load(&self, keys: Vec<(Key, Loaded)>) -> Result<(), IndexError> {
        let mut rows = Vec::with_capacity(keys.len());
        for (key, Loaded { record, intents }) in keys {
            rows.extend(record.map(|bytes| (key.as_bytes().to_vec(), bytes)));
            rows.extend(encode_intents(&intents).map(|bytes| (intents_row(&key), bytes)));
        }
        self.write(Change::Rows(rows), Durability::Process).await.map(drop)
    }

    /// Also empties LevelDB's log, so that minikeyvalue's master loses nothing when it opens the index
    /// (goleveldb skips log records that are older than its manifest).
    pub(super) fn close(mut self) {
        self.join();
        let current = &self.current;
        // a thread of its own may wait, wherever this is called
        std::thread::scope(|threads| {
            threads.spawn(|| current.close());
        });
    }

    pub(super) async fn shut(&self) -> Result<(), IndexError> {
        let current = Arc::clone(&self.current);
        let closed = crate::runtime::blocking(move || current.close()).await;
        closed.map_err(|error| IndexError::because("the index wasn't closed", error))
    }

    fn join(&mut self) {
        self.writer = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the index's writer thread panicked");
        }
    }

    /// Writes on this thread where nothing has to be waited for, and on the writer thread otherwise.
    async fn write_soon(&self, change: Change, durability: Durability) -> Result<Effect, IndexError> {
        match try_write(&self.current, change, durability, self.sync) {
            Tried::Now(written) => {
                self.note_written();
                written
            }
            Tried::Later(change) => self.write(change, durability).await,
        }
    }

    /// Has the writer thread write.
    async fn write(&self, change: Change, durability: Durability) -> Result<Effect, IndexError> {
        let effect = self.send(change, durability).await;
        self.note_written();
        effect
    }

    /// After each write, whatever came of it: before it, the flag could be taken before the write is there.
    fn note_written(&self) {
        // all threads read it, and only the first after a while changes it
        if !self.written.load(Ordering::Relaxed) {
            self.written.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn take_written(&self) -> bool {
        self.written.swap(false, Ordering::Relaxed)
    }

    /// As [`LevelDb::write`], for what is no news to [`LevelDb::take_written`].
    async fn send(&self, change: Change, durability: Durability) -> Result<Effect, IndexError> {
        let gone = || IndexError::new("the index's writer thread is gone");
        let (reply, answer) = oneshot::channel();
        let write = Write { change, durability, reply };
        self.writer.as_ref().ok_or_else(gone)?.send(write).map_err(|_closed| gone())?;
        answer.await.map_err(|_dropped| gone())?
    }

    async fn scan<T: Send + 'static>(
        &self,
        scan: impl FnOnce(&Database) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, IndexError> {
        let current = Arc::clone(&self.current);
        crate::runtime::blocking(move || scan(current.read_blocking().database()?))
            .await
            .map_err(|error| IndexError::new(format!("a scan of the index failed: {error}")))?
    }
}

impl Drop for LevelDb {
    fn drop(&mut self) {
        self.join();
    }
}

fn read_record(database: &Database, key: &Key) -> Result<Option<Record>, IndexError> {
    let row = database.get(key.as_bytes())?;
    row.map(|bytes| Record::decode(&bytes).map_err(|error| IndexError::damaged(key, error))).transpose()
}

fn read_entry(database: &Database, key: &Key) -> Result<Entry, IndexError> {
    let record = read_record(database, key)?;
    let intents = match database.get(&intents_row(key))? {
        None => Vec::new(),
        Some(row) => Intent::decode_all(&row).map_err(|error| IndexError::damaged(key, error))?,
    };
    Ok(Entry { record, intents })
}

fn intents_row(key: &Key) -> Vec<u8> {
    [INTENTS, key.as_bytes()].concat()
}

fn encode_intents(intents: &[Intent]) -> Option<Vec<u8>> {
    (!intents.is_empty()).then(|| Intent::encode_all(intents))
}

/// Opens a LevelDB directory. Blocking.
pub(super) fn open_database(path: &Path, create: bool, cache_bytes: usize) -> Result<Database, IndexError> {
    let options = leveldb::Options { create, cache_bytes, ..leveldb::Options::default() };
    Database::open(path, &options).map_err(|error| not_opened(path, &error))
}

/// As [`open_database`], with the lock of the database that was open there; gives it back if this fails.
fn open_again(path: &Path, cache_bytes: usize, lock: Lock) -> Result<Database, (IndexError, Lock)> {
    let options = leveldb::Options { cache_bytes, ..leveldb::Options::default() };
    Database::open_again(path, &options, lock).map_err(|(error, lock)| (not_opened(path, &error), lock))
}

fn not_opened(path: &Path, error: &leveldb::OpenError) -> IndexError {
    use leveldb::OpenError as E;
    let path = path.display().to_string();
    let path = path.escape_debug();
    IndexError::new(match error {
        E::InUse => format!("the index {path} is in use by another process: stop it first"),
        E::MissingParent => format!("the directory that shall hold the index {path} doesn't exist: make it"),
        E::NotADatabase => format!("{path} is not an index: --db names a LevelDB directory, or a new one"),
        E::Missing => format!("there is no index at {path}: check the path"),
        E::Other(message) => format!("can't open the index {path}: {message}"),
    })
}
