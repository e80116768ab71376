//! The index: keys and their records, and the intents of the write protocol, in LevelDB.
//!
//! Async, by key and by page, so that another engine can stand beside this one. What takes a few
//! microseconds runs on the caller's thread: a read by key, and a write that waits neither for the disk
//! nor for another one (see `writer`). Everything else leaves the async threads: scans go to the blocking
//! pool, and other writes to **one writer thread** that gathers what is waiting into one batch and one
//! fsync.
//!
//! Rows: keys (they begin with `/`, and those of parts of uploads with `part/`) hold records; `\0intent` ‖ key holds the key's intents;
//! `\0generation` holds the first generation number that was never reserved; `\0bucket` ‖ name and
//! `\0upload` ‖ key ‖ `\0` ‖ number hold what is noted of buckets and uploads (see `notes`).

pub mod dump;
pub mod fold;
pub mod notes;
pub mod scratch;
mod writer;

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use tokio::sync::{Mutex, oneshot};

use crate::key::{Key, MAX_GENERATION};
use crate::leveldb::{self, Database, Iter};
use crate::record::{Intent, Record, State};

use writer::{Change, Durability, Write, WriteLock, write_all};

const INTENTS: &[u8] = b"\0intent";
const GENERATION: &[u8] = b"\0generation";

/// Generation numbers are reserved by this many, so that few writes need another fsync for one.
const GENERATION_BLOCK: u64 = 1 << 16;

/// A page holds at most so many rows, …
const PAGE_ROWS: usize = 1000;
/// … comes from at most so many rows looked at, …
const PAGE_SCANNED: usize = 10_000;
/// … and ends with the row that brings its rows, or its text, to so many bytes.
const PAGE_BYTES: usize = 256 * 1024;

/// A count looks at so many rows at a time.
const COUNT_SCANNED: usize = 100_000;

/// What the index knows of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The key's value, if it exists.
    pub record: Option<Record>,
    /// Files of unfinished attempts on the key.
    pub intents: Vec<Intent>,
}

/// How an index is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Make a new index where there is none.
    pub create: bool,
    /// Memory for blocks of the index, in bytes.
    pub cache_bytes: usize,
    /// Wait with each durable write until it is on the disk, so that it survives a loss of power;
    /// otherwise it survives only the end of this process.
    pub sync: bool,
}

/// The index failed, in one line; it says nothing about the key.
#[derive(Debug)]
pub struct IndexError(pub(crate) String);

/// Some rows of a scan.
#[derive(Debug)]
pub struct Page<T> {
    /// The rows, in byte order of their keys.
    pub rows: Vec<T>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<Vec<u8>>,
}

/// The keys of a listing: those of one state under a prefix.
#[derive(Clone, Debug)]
pub struct Listed {
    /// What they begin with.
    pub prefix: Vec<u8>,
    /// The first key that isn't of interest any more; `None` for all.
    pub end: Option<Key>,
    /// Their state.
    pub state: State,
}

/// An open index.
pub struct Index {
    database: Arc<Database>,
    sync: bool,
    lock: Arc<WriteLock>,
    writer: Option<mpsc::Sender<Write>>,
    thread: Option<JoinHandle<()>>,
    /// Reserved generation numbers that were not given out yet.
    generations: Mutex<Range<u64>>,
}

impl Index {
    /// Opens the index of that directory. Blocking.
    ///
    /// # Errors
    ///
    /// One line for the operator: the index is in use, not there, or not an index.
    pub fn open(path: &Path, options: Options) -> Result<Self, IndexError> {
        let leveldb = leveldb::Options {
            create: options.create,
            cache_bytes: options.cache_bytes,
            ..leveldb::Options::default()
        };
        let database = Database::open(path, &leveldb).map_err(|error| IndexError::opening(path, &error))?;
        let database = Arc::new(database);
        let (sender, writes) = mpsc::channel();
        let (writing, lock) = (Arc::clone(&database), Arc::<WriteLock>::default());
        let (sync, writers_lock) = (options.sync, Arc::clone(&lock));
        let thread = std::thread::Builder::new()
            .name("index-writer".into())
            .spawn(move || write_all(&writing, &writers_lock, &writes, sync))
            .map_err(|error| IndexError(format!("can't start the index's writer thread: {error}")))?;
        let (thread, generations) = (Some(thread), Mutex::new(0..0));
        Ok(Self { database, sync, lock, writer: Some(sender), thread, generations })
    }

    /// What is known of the key. Cheap enough to call on an async thread.
    ///
    /// # Errors
    ///
    /// The index can't be read, or the row is damaged: never taken for absence.
    pub fn get(&self, key: &Key) -> Result<Entry, IndexError> {
        Ok(Entry { record: self.record(key)?, intents: self.intents(key)? })
    }

    /// The key's record alone.
    ///
    /// # Errors
    ///
    /// As [`Index::get`].
    pub fn record(&self, key: &Key) -> Result<Option<Record>, IndexError> {
        let row = self.database.get(key.as_bytes())?;
        row.map(|bytes| Record::decode(&bytes).map_err(|error| IndexError::damaged(key, error))).transpose()
    }

    fn intents(&self, key: &Key) -> Result<Vec<Intent>, IndexError> {
        let row = self.database.get(&intents_row(key))?;
        row.map_or_else(
            || Ok(Vec::new()),
            |bytes| Intent::decode_all(&bytes).map_err(|error| IndexError::damaged(key, error)),
        )
    }

    /// Replaces `before`, what the caller read of the key, by `after`, in one atomic batch.
    ///
    /// Conditional on the key's intents still being those of `before`. A `durable` write is on the
    /// disk when this returns, where the index was opened with `sync`.
    ///
    /// # Errors
    ///
    /// The write may or may not have happened, unless the condition failed.
    pub async fn commit(
        &self,
        key: &Key,
        before: &Entry,
        after: &Entry,
        durable: bool,
    ) -> Result<(), IndexError> {
        let durability = if durable { Durability::AsOpened } else { Durability::Process };
        self.write_soon(change(key, before, after, durability)).await.map(|_written| ())
    }

    /// Whether a write has failed: it may show at the next start, and no further one is taken before.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.database.has_failed()
    }

    /// Stores entries of keys that the index doesn't hold yet: the bulk load of a rebuild.
    ///
    /// # Errors
    ///
    /// The index can't be written.
    pub async fn load(&self, rows: Vec<(Key, Loaded)>) -> Result<(), IndexError> {
        let mut puts = Vec::with_capacity(rows.len());
        for (key, Loaded { record, intents }) in rows {
            puts.extend(record.map(|bytes| (key.as_bytes().to_vec(), bytes)));
            puts.extend(encode_intents(&intents).map(|bytes| (intents_row(&key), bytes)));
        }
        let durability = Durability::Process;
        self.write(Change { puts, durability, ..Change::default() }).await.map(|_written| ())
    }

    /// A number that no attempt on this index had or will have.
    ///
    /// # Errors
    ///
    /// The reservation of further numbers couldn't be made durable.
    pub async fn generation(&self) -> Result<u64, IndexError> {
        let mut reserved = self.generations.lock().await;
        if reserved.is_empty() {
            let first = self.first_unreserved()?;
            let end = first.saturating_add(GENERATION_BLOCK);
            if end > MAX_GENERATION {
                return Err(IndexError("the index is damaged: no generation numbers are left".into()));
            }
            self.reserve(end).await?;
            *reserved = first..end;
        }
        reserved.next().ok_or_else(|| IndexError("out of generation numbers".into()))
    }

    /// No generation number up to `seen` is given out any more, nor any that a PUT still on its way may
    /// have when `seen` is the highest on the volumes.
    ///
    /// # Errors
    ///
    /// The index can't be written, or hardly any number is left beyond.
    pub async fn reserve_beyond(&self, seen: u64) -> Result<(), IndexError> {
        let end = seen.saturating_add(GENERATION_BLOCK);
        if end.saturating_add(GENERATION_BLOCK) > MAX_GENERATION {
            return Err(IndexError(format!(
                "a file's name has the generation {seen:016x}, and no numbers are left beyond: move it away"
            )));
        }
        self.reserve(end).await
    }

    async fn reserve(&self, end: u64) -> Result<(), IndexError> {
        let puts = vec![(GENERATION.to_vec(), end.to_be_bytes().to_vec())];
        // a number that is given out twice makes one name the target of two attempts
        let durability = Durability::Power;
        self.write(Change { puts, durability, ..Change::default() }).await.map(|_written| ())
    }

    /// The first generation number that was never reserved: all that were given out are below it.
    ///
    /// # Errors
    ///
    /// The index can't be read.
    pub fn first_unreserved(&self) -> Result<u64, IndexError> {
        match self.database.get(GENERATION)? {
            // 0 is never given out, so that a number is never mistaken for a missing one
            None => Ok(1),
            Some(bytes) => <[u8; 8]>::try_from(bytes.as_slice())
                .map(u64::from_be_bytes)
                .map_err(|_length| IndexError("the index is damaged: the generation counter".into())),
        }
    }

    /// A page of the records whose keys begin with `prefix`, from the key `start` on; only those of
    /// one state, if that is given.
    ///
    /// # Errors
    ///
    /// The scan met damage: a page is never silently short.
    pub async fn page(
        &self,
        prefix: &[u8],
        start: &[u8],
        state: Option<State>,
    ) -> Result<Page<(Key, Record)>, IndexError> {
        let (prefix, start) = (prefix.to_vec(), start.max(prefix).to_vec());
        self.scan(move |database| {
            scan_page(database, &prefix, &start, |row, value| {
                let key = Key::new(row);
                let record = Record::decode(value).map_err(|error| IndexError::damaged(&key, error))?;
                Ok(state.is_none_or(|state| state == record.state).then_some((key, record)))
            })
        })
        .await
    }

    /// Appends to `text` what `write` makes of each listed key, for a page of keys from `start` on, and
    /// returns it with the start of the next page, if there is one.
    ///
    /// For listings of any length: a key goes from LevelDB's block into the text without a stop.
    ///
    /// # Errors
    ///
    /// As [`Index::page`].
    pub async fn text(
        &self,
        listed: &Listed,
        start: &[u8],
        text: Vec<u8>,
        write: impl FnMut(&mut Vec<u8>, &[u8]) + Send + 'static,
    ) -> Result<(Vec<u8>, Option<Vec<u8>>), IndexError> {
        let (listed, start) = (listed.clone(), start.max(&listed.prefix).to_vec());
        self.scan(move |database| scan_text(database, &listed, &start, text, write)).await
    }

    /// The key that follows the first `count` ones of that state from `start` on under `prefix`.
    ///
    /// # Errors
    ///
    /// As [`Index::page`].
    pub async fn after(
        &self,
        prefix: &[u8],
        start: &[u8],
        state: State,
        count: u64,
    ) -> Result<Option<Key>, IndexError> {
        let (mut left, mut start) = (count, start.max(prefix).to_vec());
        loop {
            let (prefix, from) = (prefix.to_vec(), start);
            // in steps, so that a caller who leaves ends it
            let step = self.scan(move |database| count_on(database, &prefix, &from, state, left)).await?;
            match step {
                Step::Found(key) => return Ok(Some(key)),
                Step::End => return Ok(None),
                Step::More(fewer, next) => (left, start) = (fewer, next),
            }
        }
    }

    /// A page of the keys that have intents, with them; `start` as an earlier page's `next`.
    ///
    /// # Errors
    ///
    /// As [`Index::page`].
    pub async fn intents_page(&self, start: &[u8]) -> Result<Page<(Key, Vec<Intent>)>, IndexError> {
        let start = start.max(INTENTS).to_vec();
        self.scan(move |database| {
            scan_page(database, INTENTS, &start, |row, value| {
                let key = Key::new(row.strip_prefix(INTENTS).unwrap_or_default());
                let intents = Intent::decode_all(value).map_err(|e| IndexError::damaged(&key, e))?;
                Ok(Some((key, intents)))
            })
        })
        .await
    }

    /// Carries out what was begun, and empties LevelDB's log, so that minikeyvalue's master loses
    /// nothing when it opens the index (goleveldb skips log records that are older than its
    /// manifest). Blocking.
    pub fn close(mut self) {
        self.join();
        self.database.empty_log();
    }

    fn join(&mut self) {
        self.writer = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the index's writer thread panicked");
        }
    }

    /// Writes at once, where nothing has to be waited for; tells whether it was written.
    async fn write_soon(&self, change: Change) -> Result<bool, IndexError> {
        match self.lock.try_write(&self.database, &change, self.sync) {
            Some(written) => written,
            None => self.write(change).await,
        }
    }

    /// Has the writer thread write; tells whether it did.
    async fn write(&self, change: Change) -> Result<bool, IndexError> {
        let gone = || IndexError("the index's writer thread is gone".into());
        let (reply, answer) = oneshot::channel();
        self.writer.as_ref().ok_or_else(gone)?.send(Write { change, reply }).map_err(|_closed| gone())?;
        answer.await.map_err(|_dropped| gone())?
    }

    async fn scan<T: Send + 'static>(
        &self,
        scan: impl FnOnce(&Database) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, IndexError> {
        let database = Arc::clone(&self.database);
        crate::runtime::blocking(move || scan(&database))
            .await
            .map_err(|error| IndexError(format!("a scan of the index failed: {error}")))?
    }
}

/// What a rebuild stores for a key.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The record in its stored form.
    pub record: Option<Vec<u8>>,
    /// The key's intents.
    pub intents: Vec<Intent>,
}

impl Drop for Index {
    fn drop(&mut self) {
        self.join();
    }
}

/// What replaces `before` by `after`, if the key's intents are still those of `before`.
fn change(key: &Key, before: &Entry, after: &Entry, durability: Durability) -> Change {
    let mut change = Change { durability, ..Change::default() };
    if before.record != after.record {
        match &after.record {
            Some(record) => change.puts.push((key.as_bytes().to_vec(), record.encode())),
            None => change.deletes.push(key.as_bytes().to_vec()),
        }
    }
    let row = intents_row(key);
    if before.intents != after.intents {
        match encode_intents(&after.intents) {
            Some(bytes) => change.puts.push((row.clone(), bytes)),
            None => change.deletes.push(row.clone()),
        }
    }
    change.condition = Some((row, encode_intents(&before.intents)));
    change
}

fn intents_row(key: &Key) -> Vec<u8> {
    [INTENTS, key.as_bytes()].concat()
}

fn encode_intents(intents: &[Intent]) -> Option<Vec<u8>> {
    (!intents.is_empty()).then(|| Intent::encode_all(intents))
}

/// The rows under a prefix, from one on. Scans don't fill the cache: it is for reads by key.
struct Rows<'a> {
    iter: Iter<'a>,
    prefix: &'a [u8],
}

impl<'a> Rows<'a> {
    fn new(database: &'a Database, prefix: &'a [u8], start: &[u8]) -> Self {
        let mut iter = database.iter(false);
        iter.seek(start);
        Self { iter, prefix }
    }

    fn current(&self) -> Option<(&[u8], &[u8])> {
        self.iter.current().filter(|(key, _)| key.starts_with(self.prefix))
    }

    fn advance(&mut self) {
        self.iter.next();
    }

    fn seek(&mut self, row: &[u8]) {
        self.iter.seek(row);
    }

    /// That the rows ended where they end, and not at damage.
    fn end(&self) -> Result<(), IndexError> {
        Ok(self.iter.status()?)
    }
}

/// How far a count came.
enum Step {
    /// This key comes after what was to be counted.
    Found(Key),
    /// So many are left to be counted, from this row on.
    More(u64, Vec<u8>),
    /// The rows have ended.
    End,
}

fn count_on(
    database: &Database,
    prefix: &[u8],
    start: &[u8],
    state: State,
    count: u64,
) -> Result<Step, IndexError> {
    let (mut left, mut scanned) = (count, 0);
    let mut rows = Rows::new(database, prefix, start);
    while let Some((row, value)) = rows.current() {
        if scanned == COUNT_SCANNED {
            let next = row.to_vec();
            rows.end()?;
            return Ok(Step::More(left, next));
        }
        scanned += 1;
        if state_of(row, value)? == state {
            if left == 0 {
                let key = Key::new(row);
                rows.end()?;
                return Ok(Step::Found(key));
            }
            left -= 1;
        }
        rows.advance();
    }
    rows.end().map(|()| Step::End)
}

fn scan_page<T>(
    database: &Database,
    prefix: &[u8],
    start: &[u8],
    row: impl Fn(&[u8], &[u8]) -> Result<Option<T>, IndexError>,
) -> Result<Page<T>, IndexError> {
    let mut rows = Rows::new(database, prefix, start);
    let mut page = Page { rows: Vec::new(), next: None };
    let (mut scanned, mut bytes) = (0, 0);
    while let Some((key, value)) = rows.current() {
        if page.rows.len() == PAGE_ROWS || scanned == PAGE_SCANNED || bytes >= PAGE_BYTES {
            page.next = Some(key.to_vec());
            break;
        }
        scanned += 1;
        if let Some(found) = row(key, value)? {
            bytes += key.len() + value.len();
            page.rows.push(found);
        }
        rows.advance();
    }
    rows.end()?;
    Ok(page)
}

fn scan_text(
    database: &Database,
    listed: &Listed,
    start: &[u8],
    mut text: Vec<u8>,
    mut write: impl FnMut(&mut Vec<u8>, &[u8]),
) -> Result<(Vec<u8>, Option<Vec<u8>>), IndexError> {
    let (mut scanned, mut next) = (0, None);
    let mut rows = Rows::new(database, &listed.prefix, start);
    while let Some((key, value)) = rows.current() {
        if listed.end.as_ref().is_some_and(|end| key >= end.as_bytes()) {
            break;
        }
        if scanned == PAGE_SCANNED || text.len() >= PAGE_BYTES {
            next = Some(key.to_vec());
            break;
        }
        scanned += 1;
        if state_of(key, value)? == listed.state {
            write(&mut text, key);
        }
        rows.advance();
    }
    rows.end()?;
    Ok((text, next))
}

/// The state of a row's record; damage of the record is found as ever.
fn state_of(key: &[u8], value: &[u8]) -> Result<State, IndexError> {
    State::decode(value).map_err(|error| IndexError::damaged(&Key::new(key), error))
}

impl IndexError {
    fn damaged(key: &Key, error: impl fmt::Display) -> Self {
        Self(format!("the index is damaged at {key}: {error}"))
    }

    fn opening(path: &Path, error: &leveldb::OpenError) -> Self {
        use leveldb::OpenError as E;
        let path = path.display().to_string();
        let path = path.escape_debug();
        Self(match error {
            E::InUse => format!("the index {path} is in use by another process: stop it first"),
            E::MissingParent => {
                format!("the directory that shall hold the index {path} doesn't exist: make it")
            }
            E::NotADatabase => {
                format!("{path} is not an index: --db names a LevelDB directory, or a new one")
            }
            E::Missing => format!("there is no index at {path}: check the path"),
            E::Other(message) => format!("can't open the index {path}: {message}"),
        })
    }
}

impl fmt::Display for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for IndexError {}

impl From<leveldb::Error> for IndexError {
    fn from(error: leveldb::Error) -> Self {
        Self(format!("the index failed: {error}"))
    }
}

impl From<IndexError> for crate::error::Error {
    fn from(failure: IndexError) -> Self {
        Self::Index(failure.0)
    }
}
