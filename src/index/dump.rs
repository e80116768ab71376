//! Dumps: all that an index holds at one moment, as a stream of bytes.
//!
//! ```text
//! "davkv index dump 1\n"  taken: 8  rows × (01  length: 4  row  length: 4  value)  00  rows: 8  md5: 16
//! ```
//!
//! Integers are big-endian. `taken` is in seconds since 1970, the rows are those of the index in their order
//! and their form (see [`super`]; records are in whatever version the index has them, see [`crate::record`]),
//! and the MD5 is that of all bytes before it: a dump that was cut short or
//! damaged has no end that fits. Nothing comes after it.
//!
//! The master goes on while it is dumped, from one snapshot. Intents of attempts that were under way at that
//! moment are left out: what came of those isn't known to the snapshot, and what is found on the volumes later
//! tells it better than an intent, which dooms its files. So the intents of a dump are those of the snapshot
//! that are closed, and that the index still has, when their row is written.

use std::fmt;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

use md5::{Digest as _, Md5};

use super::{GENERATION, INTENTS, Index, IndexError, Options, PAGE_BYTES, encode_intents, state_of};
use crate::clock::Timestamp;
use crate::key::Key;
use crate::leveldb::{self, Batch, Database, Iter};
use crate::record::Intent;

const MAGIC: &[u8] = b"davkv index dump 1\n";

const ROW: u8 = 1;
const END: u8 = 0;

/// The longest row and the longest value that are believed, in bytes: none that we write comes near.
const MAX_BYTES: usize = 16 << 20;

/// Tells of the key and the number of an intent whether its attempt may be under way.
type IsOpen = dyn Fn(&Key, u64) -> bool + Send;

/// A dump on its way out.
pub struct Dump {
    rows: Iter<'static>,
    database: Arc<Database>,
    is_open: Box<IsOpen>,
    writer: Writer,
    text: Vec<u8>,
}

impl Index {
    /// Begins a dump of what the index holds now. `is_open` tells of the key and the number of an intent
    /// whether its attempt may be under way.
    ///
    /// # Errors
    ///
    /// As [`Index::page`].
    pub async fn dump(
        &self,
        is_open: impl Fn(&Key, u64) -> bool + Send + 'static,
    ) -> Result<Dump, IndexError> {
        let (database, is_open) = (Arc::clone(&self.database), Box::new(is_open));
        crate::blocking(move || {
            // before the snapshot: it holds nothing that is younger than that second
            let taken = Timestamp::now().seconds();
            let mut rows = database.shared_iter(false);
            rows.seek_to_first();
            let (writer, text) = Writer::begin(taken);
            Dump { rows, database, is_open, writer, text }
        })
        .await
        .map_err(|error| IndexError(format!("a dump of the index failed: {error}")))
    }
}

impl Dump {
    /// The next bytes, some hundreds of KiB, and the rest of the dump, if there is more.
    ///
    /// # Errors
    ///
    /// The index is damaged, or can't be read: what was written so far is no dump.
    pub async fn page(mut self) -> Result<(Vec<u8>, Option<Self>), IndexError> {
        crate::blocking(move || {
            while self.text.len() < PAGE_BYTES {
                if !self.step()? {
                    self.rows.status()?;
                    self.writer.end(&mut self.text);
                    return Ok((self.text, None));
                }
            }
            Ok((std::mem::take(&mut self.text), Some(self)))
        })
        .await
        .map_err(|error| IndexError(format!("a dump of the index failed: {error}")))?
    }

    /// Writes a row; false after the last.
    fn step(&mut self) -> Result<bool, IndexError> {
        let Some((row, value)) = self.rows.current() else { return Ok(false) };
        let bytes = row.len().max(value.len());
        if bytes > MAX_BYTES {
            return Err(IndexError(format!("the index is damaged: a row has {bytes} bytes")));
        }
        if let Some(key) = row.strip_prefix(INTENTS) {
            if let Some(value) = self.closed(row, &Key::new(key), value)? {
                self.writer.row(row, &value, &mut self.text);
            }
        } else {
            // else the damage would show when the dump is needed
            if row != GENERATION {
                state_of(row, value)?;
            }
            self.writer.row(row, value, &mut self.text);
        }
        self.rows.next();
        Ok(true)
    }

    /// What is left of a key's intents without those whose attempts were under way at the snapshot.
    fn closed(&self, row: &[u8], key: &Key, value: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        let decode =
            |bytes: &[u8]| Intent::decode_all(bytes).map_err(|error| IndexError::damaged(key, error));
        let mut then = decode(value)?;
        // First this, and then a look at the index: an attempt that is over has written what came of it.
        then.retain(|intent| !(self.is_open)(key, intent.id));
        let mut now = self.database.get(row)?.map_or_else(|| Ok(Vec::new()), |bytes| decode(&bytes))?;
        now.retain(|intent| then.iter().any(|one| one.id == intent.id));
        Ok(encode_intents(&now))
    }
}

/// Writes the form.
struct Writer {
    /// Of what was written.
    md5: Md5,
    rows: u64,
}

impl Writer {
    /// Also what a dump begins with.
    fn begin(taken: u64) -> (Self, Vec<u8>) {
        let (mut writer, mut out) = (Self { md5: Md5::new(), rows: 0 }, Vec::new());
        writer.put(&[MAGIC, &taken.to_be_bytes()], &mut out);
        (writer, out)
    }

    fn row(&mut self, row: &[u8], value: &[u8], out: &mut Vec<u8>) {
        self.rows += 1;
        self.put(&[&[ROW], &length(row), row, &length(value), value], out);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.put(&[&[END], &self.rows.to_be_bytes()], out);
        out.extend(self.md5.finalize_reset());
    }

    fn put(&mut self, pieces: &[&[u8]], out: &mut Vec<u8>) {
        for piece in pieces {
            self.md5.update(piece);
            out.extend_from_slice(piece);
        }
    }
}

fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len())
        .unwrap_or_else(|_| unreachable!("{} bytes in a row", bytes.len()))
        .to_be_bytes()
}

/// Why bytes are no whole dump.
#[derive(Debug)]
pub enum DumpError {
    /// They begin otherwise.
    NoDump,
    /// They end before the dump does.
    CutShort,
    /// They aren't what was written; says what shows it.
    Damaged(&'static str),
    /// They can't be read.
    Unreadable(std::io::Error),
    /// They can't be stored.
    Unstored(IndexError),
}

impl fmt::Display for DumpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDump => f.write_str("it is no dump of an index that this program knows"),
            Self::CutShort => f.write_str("it is cut short"),
            Self::Damaged(what) => write!(f, "it is damaged: {what}"),
            Self::Unreadable(error) => error.fmt(f),
            Self::Unstored(failure) => failure.fmt(f),
        }
    }
}

impl std::error::Error for DumpError {}

impl From<IndexError> for DumpError {
    fn from(failure: IndexError) -> Self {
        Self::Unstored(failure)
    }
}

impl From<leveldb::Error> for DumpError {
    fn from(error: leveldb::Error) -> Self {
        Self::Unstored(error.into())
    }
}

/// Makes an index of a dump, at a path where there is none, and tells when the dump was taken. `loaded` hears of
/// the rows, so many at a time. Blocking.
///
/// # Errors
///
/// There may be an index at that path, and it is of no use.
pub fn load(
    dump: impl Read,
    path: &Path,
    options: Options,
    mut loaded: impl FnMut(u64),
) -> Result<u64, DumpError> {
    let (create, cache_bytes) = (true, options.cache_bytes);
    let leveldb = leveldb::Options { create, cache_bytes, ..leveldb::Options::default() };
    let database = Database::open(path, &leveldb).map_err(|error| IndexError::opening(path, &error))?;
    let (mut batch, mut rows, mut bytes) = (Batch::new(), 0, 0);
    let taken = read(dump, |row, value| {
        batch.put(row, value);
        rows += 1;
        bytes += row.len() + value.len();
        if bytes >= PAGE_BYTES {
            database.write(&std::mem::take(&mut batch), false)?;
            loaded(rows);
            (rows, bytes) = (0, 0);
        }
        Ok(())
    })?;
    database.write(&batch, false)?;
    loaded(rows);
    Ok(taken)
}

/// Hands over the rows of a dump, of which none counts before the end was reached, and tells when it was taken.
fn read(
    dump: impl Read,
    mut take: impl FnMut(&[u8], &[u8]) -> Result<(), DumpError>,
) -> Result<u64, DumpError> {
    let mut reader = Reader { dump, md5: Md5::new() };
    match reader.bytes(MAGIC.len()) {
        Ok(magic) if magic == MAGIC => {}
        Err(flaw @ DumpError::Unreadable(_)) => return Err(flaw),
        _ => return Err(DumpError::NoDump),
    }
    let taken = u64::from_be_bytes(reader.array()?);
    let mut rows: u64 = 0;
    loop {
        match reader.array()? {
            [ROW] => {
                let (row, value) = (reader.counted()?, reader.counted()?);
                take(&row, &value)?;
                rows += 1;
            }
            [END] => break,
            _ => return Err(DumpError::Damaged("there is something else between its rows")),
        }
    }
    if u64::from_be_bytes(reader.array()?) != rows {
        return Err(DumpError::Damaged("it hasn't as many rows as it says"));
    }
    let md5: [u8; 16] = reader.md5.clone().finalize().into();
    if reader.array()? != md5 {
        return Err(DumpError::Damaged("it hasn't the MD5 that it says"));
    }
    match reader.array::<1>() {
        Err(DumpError::CutShort) => Ok(taken),
        Err(flaw) => Err(flaw),
        Ok(_) => Err(DumpError::Damaged("something comes after its end")),
    }
}

/// Reads the form.
struct Reader<R> {
    dump: R,
    /// Of what was read.
    md5: Md5,
}

impl<R: Read> Reader<R> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DumpError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn counted(&mut self) -> Result<Vec<u8>, DumpError> {
        let length = usize::try_from(u32::from_be_bytes(self.array()?)).unwrap_or(usize::MAX);
        if length > MAX_BYTES {
            return Err(DumpError::Damaged("a row is too long"));
        }
        self.bytes(length)
    }

    fn bytes(&mut self, length: usize) -> Result<Vec<u8>, DumpError> {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), DumpError> {
        self.dump.read_exact(bytes).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => DumpError::CutShort,
            _ => DumpError::Unreadable(error),
        })?;
        self.md5.update(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

    use std::collections::HashSet;
    use std::sync::Mutex;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::index::notes::Note;
    use crate::index::{Entry, Loaded};
    use crate::placement::Place;
    use crate::record::{Record, Replica, State};

    type Rows = Vec<(Vec<u8>, Vec<u8>)>;

    fn written(taken: u64, rows: &Rows) -> Vec<u8> {
        let (mut writer, mut out) = Writer::begin(taken);
        for (row, value) in rows {
            writer.row(row, value, &mut out);
        }
        writer.end(&mut out);
        out
    }

    fn read_all(dump: &[u8]) -> Result<(u64, Rows), DumpError> {
        let mut rows = Rows::new();
        let taken = read(dump, |row, value| {
            rows.push((row.to_vec(), value.to_vec()));
            Ok(())
        })?;
        Ok((taken, rows))
    }

    fn rows() -> impl Strategy<Value = Rows> {
        vec((vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..200)), 0..20)
    }

    /// A dump outlives the program that wrote it.
    #[test]
    fn the_form_is_pinned() {
        let rows = vec![(b"/a".to_vec(), b"1".to_vec()), (b"/b".to_vec(), Vec::new())];
        let mut expected = b"davkv index dump 1\n\0\0\0\0\0\0\x01\x02\
            \x01\0\0\0\x02/a\0\0\0\x011\
            \x01\0\0\0\x02/b\0\0\0\0\
            \0\0\0\0\0\0\0\0\x02"
            .to_vec();
        expected.extend(Md5::digest(&expected));
        assert_eq!(written(258, &rows), expected);
        assert_eq!(read_all(&expected).unwrap(), (258, rows));
    }

    proptest! {
        #[test]
        fn dump_and_back(taken: u64, rows in rows()) {
            prop_assert_eq!(read_all(&written(taken, &rows)).unwrap(), (taken, rows));
        }

        #[test]
        fn no_part_of_a_dump_is_one(rows in rows(), end: prop::sample::Index) {
            let dump = written(7, &rows);
            prop_assert!(read_all(&dump[..end.index(dump.len())]).is_err());
        }

        #[test]
        fn no_dump_with_another_bit_is_one(rows in rows(), at: prop::sample::Index, bit in 0..8_u8) {
            let mut dump = written(7, &rows);
            let at = at.index(dump.len());
            dump[at] ^= 1 << bit;
            prop_assert!(read_all(&dump).is_err());
        }

        #[test]
        fn nothing_comes_after_a_dump(rows in rows(), tail in vec(any::<u8>(), 1..40)) {
            let dump = [written(7, &rows), tail].concat();
            prop_assert!(read_all(&dump).is_err());
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            drop(read_all(&bytes));
            drop(read_all(&[MAGIC, &bytes].concat()));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let dump = written(7, &vec![(b"/a".to_vec(), b"1".to_vec())]);
        let said = |dump: &[u8]| read_all(dump).unwrap_err().to_string();
        assert_eq!(said(b""), "it is no dump of an index that this program knows");
        assert_eq!(said(b"davkv index dump 2\n"), "it is no dump of an index that this program knows");
        assert_eq!(said(&dump[..dump.len() - 1]), "it is cut short");
        assert_eq!(said(&[&dump, b"\n".as_slice()].concat()), "it is damaged: something comes after its end");
    }

    /// No memory is asked for that the file doesn't have.
    #[test]
    fn a_row_of_four_gigabytes_is_not_believed() {
        let dump = [MAGIC, &[0; 8], &[ROW], &[0xff; 4]].concat();
        assert_eq!(read_all(&dump).unwrap_err().to_string(), "it is damaged: a row is too long");
    }

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
        let before = index.get(&keys[399]).unwrap();
        let after = Entry { record: None, ..before.clone() };
        index.commit(&keys[399], &before, &after, false).await.unwrap();
        index.set_note(&note, None).await.unwrap();
        let (dump, pages) = rest(first).await;
        assert!(pages > 2, "{pages}");

        let (path, mut loaded) = (tempdir.path().join("again"), 0);
        load(&*dump, &path, options(), |rows| loaded += rows).unwrap();
        assert_eq!(loaded, 802);
        let again = Index::open(&path, options()).unwrap();
        for key in &keys {
            let expected = Entry { record: Some(record(1, 2000)), intents: vec![intent(5, 3)] };
            assert_eq!(again.get(key).unwrap(), expected, "{key}");
        }
        assert_eq!(again.note(&note).unwrap(), Some(record(2, 3)));
        assert_eq!(again.first_unreserved().unwrap(), index.first_unreserved().unwrap());
    }

    /// The intents of a key: those of the snapshot that are closed, with the files that they have by then.
    #[tokio::test]
    async fn intents_of_attempts_under_way_are_left_out() {
        let tempdir = tempfile::tempdir().unwrap();
        let index = Index::open(&tempdir.path().join("db"), options()).unwrap();
        let key = Key::new(b"/key");
        let mut entry = Entry::default();
        let mut commit = async |intents: Vec<Intent>| {
            let after = Entry { record: None, intents };
            index.commit(&key, &entry, &after, false).await.unwrap();
            entry = after;
        };
        commit(vec![intent(1, 3), intent(2, 3), intent(3, 3), intent(4, 4)]).await;
        let open = Arc::new(Mutex::new(HashSet::from([2, 3, 4])));
        let is_open = {
            let open = Arc::clone(&open);
            move |_: &Key, id| open.lock().unwrap().contains(&id)
        };
        let dump = index.dump(is_open).await.unwrap();
        // Of those that were under way, one goes on, one is over and left nothing, and one left a file.
        commit(vec![intent(1, 3), intent(2, 3), intent(4, 1), intent(5, 2)]).await;
        open.lock().unwrap().retain(|id| *id == 2);
        let (dump, _) = rest(dump.page().await.unwrap()).await;
        let (_, rows) = read_all(&dump).unwrap();
        let [(row, value)] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!(*row, [INTENTS, b"/key"].concat());
        assert_eq!(Intent::decode_all(value).unwrap(), [intent(1, 3), intent(4, 1)]);
    }

    /// Between the two looks at it, the one at who is under way and the one at the index.
    #[tokio::test]
    async fn an_attempt_that_ends_while_it_is_asked_about_leaves_no_intent() {
        let tempdir = tempfile::tempdir().unwrap();
        let index = Index::open(&tempdir.path().join("db"), options()).unwrap();
        let key = Key::new(b"/key");
        let loaded = Loaded { record: None, intents: vec![intent(1, 3)] };
        index.load(vec![(key.clone(), loaded)]).await.unwrap();
        let database = Arc::clone(&index.database);
        let dump = index.dump(move |key, _| {
            let mut batch = Batch::new();
            batch.put(key.as_bytes(), &record(1, 0).encode());
            batch.delete(&[INTENTS, key.as_bytes()].concat());
            database.write(&batch, false).unwrap();
            false
        });
        let (dump, _) = rest(dump.await.unwrap().page().await.unwrap()).await;
        assert_eq!(read_all(&dump).unwrap().1, []);
    }

    #[tokio::test]
    async fn a_damaged_record_is_not_dumped() {
        for row in [b"/key".as_slice(), b"\0bucketphotos", b"\0intent/key"] {
            let tempdir = tempfile::tempdir().unwrap();
            let index = Index::open(&tempdir.path().join("db"), options()).unwrap();
            let mut batch = Batch::new();
            batch.put(row, b"\x01\x10");
            index.database.write(&batch, false).unwrap();
            let dump = index.dump(|_, _| false).await.unwrap();
            assert!(dump.page().await.is_err(), "{}", row.escape_ascii());
        }
    }
}
