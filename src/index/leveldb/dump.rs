//! Dumps of LevelDB, from one snapshot, and an index made of a dump.

use std::io::Read;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use super::current::{Held, Snapshot};
use super::scan::PAGE_BYTES;
use super::{INTENTS, LevelDb, NUMBER, encode_intents, open_database};
use crate::clock::Timestamp;
use crate::index::dump::{DumpError, MAX_BYTES, Writer, read};
use crate::index::error::IndexError;
use crate::index::facts;
use crate::index::types::Options;
use crate::key::Key;
use crate::leveldb::{Batch, Database};
use crate::record::{Intent, Record};

/// Tells, for a key and an intent's number, whether the attempt may be under way.
type IsOpen = dyn Fn(&Key, u64) -> bool + Send;

/// A dump that is being written.
pub struct Dump {
    snapshot: Held,
    pages: Pages,
}

/// What was written of a dump.
struct Pages {
    is_open: Box<IsOpen>,
    writer: Writer,
    text: Vec<u8>,
}

impl LevelDb {
    /// Begins a dump of what the index holds now. `is_open` tells of the key and the number of an intent
    /// whether its attempt may be under way.
    ///
    /// # Errors
    ///
    /// As [`crate::index::Index::page`].
    pub(in crate::index) async fn dump(
        &self,
        is_open: impl Fn(&Key, u64) -> bool + Send + 'static,
    ) -> Result<Dump, IndexError> {
        let (current, is_open) = (Arc::clone(&self.current), Box::new(is_open));
        crate::runtime::blocking(move || {
            let slot = current.read_blocking();
            let database = Arc::clone(slot.database()?);
            // before the snapshot: it holds nothing that is younger than that second
            let taken = Timestamp::now().seconds();
            let mut rows = database.shared_iter(false);
            rows.seek_to_first();
            let (writer, text) = Writer::begin(taken);
            let snapshot = current.hold(Snapshot { rows, database });
            Ok(Dump { snapshot, pages: Pages { is_open, writer, text } })
        })
        .await
        .map_err(|error| IndexError::new(format!("a dump of the index failed: {error}")))?
    }
}

impl Dump {
    /// The next bytes, some hundreds of KiB, and the rest of the dump, if there is more.
    ///
    /// # Errors
    ///
    /// The index is damaged, can't be read, or was opened again meanwhile: what was written so far is no dump.
    pub async fn page(mut self) -> Result<(Vec<u8>, Option<Self>), IndexError> {
        crate::runtime::blocking(move || {
            let held = Arc::clone(&self.snapshot);
            let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(snapshot) = &mut *held else {
                return Err(IndexError::new("the index was closed while it was dumped: ask for a new dump"));
            };
            while self.pages.text.len() < PAGE_BYTES {
                if !self.pages.step(snapshot)? {
                    snapshot.rows.status()?;
                    self.pages.writer.end(&mut self.pages.text);
                    return Ok((self.pages.text, None));
                }
            }
            Ok((std::mem::take(&mut self.pages.text), Some(self)))
        })
        .await
        .map_err(|error| IndexError::new(format!("a dump of the index failed: {error}")))?
    }
}

impl Pages {
    /// Writes a row; false after the last.
    fn step(&mut self, snapshot: &mut Snapshot) -> Result<bool, IndexError> {
        let Snapshot { rows, database } = snapshot;
        let Some((row, value)) = rows.current() else { return Ok(false) };
        let bytes = row.len().max(value.len());
        if bytes > MAX_BYTES {
            return Err(IndexError::new(format!("the index is damaged: a row has {bytes} bytes")));
        }
        if let Some(key) = row.strip_prefix(INTENTS) {
            if let Some(value) = self.closed(database, row, &Key::new(key), value)? {
                self.writer.row(row, &value, &mut self.text);
            }
        } else {
            // else the damage would show when the dump is needed
            if facts::is_fact(row) {
                facts::check(row, value)?;
            } else if row != NUMBER {
                Record::check(value).map_err(|error| IndexError::damaged(&Key::new(row), error))?;
            }
            self.writer.row(row, value, &mut self.text);
        }
        rows.next();
        Ok(true)
    }

    /// What is left of a key's intents without those whose attempts were under way at the snapshot.
    fn closed(
        &self,
        database: &Database,
        row: &[u8],
        key: &Key,
        value: &[u8],
    ) -> Result<Option<Vec<u8>>, IndexError> {
        let decode =
            |bytes: &[u8]| Intent::decode_all(bytes).map_err(|error| IndexError::damaged(key, error));
        let mut then = decode(value)?;
        // First this, and then a look at the index: an attempt that is over has written what came of it.
        then.retain(|intent| !(self.is_open)(key, intent.id));
        let mut now = database.get(row)?.map_or_else(|| Ok(Vec::new()), |bytes| decode(&bytes))?;
        now.retain(|intent| then.iter().any(|one| one.id == intent.id));
        Ok(encode_intents(&now))
    }
}

/// Makes an index of a dump, at a path where there is none, and returns when the dump was taken. `loaded` is
/// called with the number of rows of each batch. Blocking.
///
/// # Errors
///
/// The dump is cut short, damaged or unreadable. An incomplete index may be left at that path.
pub fn load(
    dump: impl Read,
    path: &Path,
    options: Options,
    mut loaded: impl FnMut(u64),
) -> Result<u64, DumpError> {
    let database = open_database(path, true, options.cache_bytes)?;
    let (mut batch, mut rows, mut bytes) = (Batch::new(), 0, 0);
    let taken = read(dump, |row, value| {
        batch.put(row, value);
        rows += 1;
        bytes += row.len() + value.len();
        if bytes >= PAGE_BYTES {
            database.write(&std::mem::take(&mut batch), false).map_err(IndexError::from)?;
            loaded(rows);
            (rows, bytes) = (0, 0);
        }
        Ok(())
    })?;
    database.write(&batch, false).map_err(IndexError::from)?;
    loaded(rows);
    Ok(taken)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

    use std::collections::HashSet;
    use std::sync::Mutex;

    use super::*;
    use crate::index::notes::Note;
    use crate::index::steps::{Conditions, Precondition};
    use crate::index::{Entry, Index, Loaded};
    use crate::placement::Place;
    use crate::record::{Record, Replica, State};

    fn record(modified: u64, headers: usize) -> Record {
        let modified = Some(Timestamp::from_millis(modified));
        let (state, md5, size) = (State::Live, Some([7; 16]), Some(1));
        let headers = vec![("x-amz-meta-long".to_owned(), "x".repeat(headers))];
        Record { state, replicas: Vec::new(), md5, size, modified, headers }
    }

    fn intent(id: u64, files: u64) -> Intent {
        let file = |number| Replica { place: Place::new("a:1"), name: crate::key::Name::Generation(number) };
        Intent { id, files: (0..files).map(file).collect() }
    }

    type Rows = Vec<(Vec<u8>, Vec<u8>)>;

    fn rows_of(dump: &[u8]) -> Rows {
        let mut rows = Rows::new();
        let taken = read(dump, |row, value| {
            rows.push((row.to_vec(), value.to_vec()));
            Ok(())
        });
        taken.unwrap();
        rows
    }

    fn options() -> Options {
        Options { create: true, cache_bytes: 1 << 20, sync: false }
    }

    /// The dump's bytes from its first page on, and how many pages they were.
    async fn rest((mut bytes, mut more): (Vec<u8>, Option<Dump>)) -> (Vec<u8>, usize) {
        let mut pages = 1;
        while let Some(dump) = more {
            let (page, next) = dump.page().await.unwrap();
            assert!(page.len() < PAGE_BYTES * 2, "pages are bounded");
            (pages, more) = (pages + 1, next);
            bytes.extend(page);
        }
        (bytes, pages)
    }

    #[tokio::test]
    async fn an_index_comes_back_as_it_was_when_its_dump_began() {
        let tempdir = tempfile::tempdir().unwrap();
        let index = Index::open(&tempdir.path().join("db"), options()).unwrap();
        let keys: Vec<Key> = (0..400).map(|n| Key::new(format!("/{n:03}").as_bytes())).collect();
        let rows = keys.iter().map(|key| {
            let (record, intents) = (Some(record(1, 2000).encode()), vec![intent(5, 3)]);
            (key.clone(), Loaded { record, intents })
        });
        index.load(rows.collect()).await.unwrap();
        index.reserve_beyond(1000).await.unwrap();
        let note = Note::Upload(keys[0].clone(), 7);
        index.set_note(&note, Some(&record(2, 3))).await.unwrap();
        let first = index.dump(|_, _| false).await.unwrap().page().await.unwrap();
        index.remove(&keys[399], 900, Conditions::on(Precondition::Always)).await.unwrap();
        index.set_note(&note, None).await.unwrap();
        let (dump, pages) = rest(first).await;
        assert!(pages > 2, "{pages}");

        let (path, mut loaded) = (tempdir.path().join("again"), 0);
        load(&*dump, &path, options(), |rows| loaded += rows).unwrap();
        assert_eq!(loaded, 802);
        let again = Index::open(&path, options()).unwrap();
        for key in &keys {
            let expected = Entry { record: Some(record(1, 2000)), intents: vec![intent(5, 3)] };
            assert_eq!(again.entry(key).await.unwrap(), expected, "{key}");
        }
        assert_eq!(again.note(&note).await.unwrap(), Some(record(2, 3)));
        let unreserved = index.first_unreserved().await.unwrap();
        assert_eq!(again.first_unreserved().await.unwrap(), unreserved);
    }

    /// The intents of a key: those of the snapshot that are closed, with the files that they have by then.
    #[tokio::test]
    async fn intents_of_attempts_under_way_are_left_out() {
        let tempdir = tempfile::tempdir().unwrap();
        let index = Index::open(&tempdir.path().join("db"), options()).unwrap();
        let key = Key::new(b"/key");
        let put = async |intents: Vec<Intent>| {
            index.load(vec![(key.clone(), Loaded { record: None, intents })]).await.unwrap();
        };
        put(vec![intent(1, 3), intent(2, 3), intent(3, 3), intent(4, 4)]).await;
        let open = Arc::new(Mutex::new(HashSet::from([2, 3, 4])));
        let is_open = {
            let open = Arc::clone(&open);
            move |_: &Key, id| open.lock().unwrap().contains(&id)
        };
        let dump = index.dump(is_open).await.unwrap();
        // Of those that were under way, one goes on, one is over and left nothing, and one left a file.
        put(vec![intent(1, 3), intent(2, 3), intent(4, 1), intent(5, 2)]).await;
        open.lock().unwrap().retain(|id| *id == 2);
        let (dump, _) = rest(dump.page().await.unwrap()).await;
        let rows = rows_of(&dump);
        let [(row, value)] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!(*row, [INTENTS, b"/key"].concat());
        assert_eq!(Intent::decode_all(value).unwrap(), [intent(1, 3), intent(4, 1)]);
    }

    /// Between the two looks at it, the one at who is under way and the one at the index.
    #[tokio::test]
    async fn an_attempt_that_ends_while_it_is_asked_about_leaves_no_intent() {
        let tempdir = tempfile::tempdir().unwrap();
        let index = LevelDb::open(&tempdir.path().join("db"), options()).unwrap();
        let key = Key::new(b"/key");
        let loaded = Loaded { record: None, intents: vec![intent(1, 3)] };
        index.load(vec![(key.clone(), loaded)]).await.unwrap();
        let database = Arc::clone(index.current.read().await.database().unwrap());
        let dump = index.dump(move |key, _| {
            let mut batch = Batch::new();
            batch.put(key.as_bytes(), &record(1, 0).encode());
            batch.delete(&[INTENTS, key.as_bytes()].concat());
            database.write(&batch, false).unwrap();
            false
        });
        let (dump, _) = rest(dump.await.unwrap().page().await.unwrap()).await;
        assert_eq!(rows_of(&dump), []);
    }

    #[tokio::test]
    async fn a_damaged_record_is_not_dumped() {
        for row in [b"/key".as_slice(), b"\0bucketphotos", b"\0intent/key"] {
            let tempdir = tempfile::tempdir().unwrap();
            let index = LevelDb::open(&tempdir.path().join("db"), options()).unwrap();
            let mut batch = Batch::new();
            batch.put(row, b"\x01\x10");
            index.current.try_writing().unwrap().write(&batch, false).unwrap();
            let dump = index.dump(|_, _| false).await.unwrap();
            assert!(dump.page().await.is_err(), "{}", row.escape_ascii());
        }
    }
}
