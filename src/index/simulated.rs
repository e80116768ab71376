//! An engine in memory for tests: it decides as every engine does, and leaves to its [`Stage`] where the rows
//! are kept, how long a call takes, and whether it fails.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;

use super::error::IndexError;
use super::facts::Fact;
use super::fold::{Folded, Item};
use super::leveldb::Dump;
use super::notes::{Note, Notes};
use super::steps::{Decision, Done, Effect, Step};
use super::types::{Entry, Listed, Loaded, Page};
use crate::key::Key;
use crate::record::{Intent, Record, State};

/// What an index holds.
pub(crate) struct Rows<'a> {
    pub(crate) entries: &'a BTreeMap<Key, Entry>,
    pub(crate) notes: &'a BTreeMap<Note, Record>,
    pub(crate) facts: &'a BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What one write changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    pub(crate) entry: Option<(Key, Entry)>,
    pub(crate) note: Option<(Note, Option<Record>)>,
    /// The row and value of a fact; without a value it is forgotten.
    pub(crate) fact: Option<(Vec<u8>, Option<Vec<u8>>)>,
}

/// Decides on a write when its turn comes.
pub(crate) type Decide = Box<dyn FnOnce(&Rows<'_>) -> (Effect, Batch) + Send>;

/// A call that reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// An entry, a record or a note.
    Row,
    /// A page of a scan.
    Page,
}

/// Where the rows are kept, and what befalls the calls.
pub(crate) trait Stage: Send + Sync {
    /// Waits for as long as the call takes, and tells whether it fails.
    fn read(&self, read: Read) -> BoxFuture<'_, Result<(), IndexError>>;

    /// Waits for as long as it takes until the caller goes on with what it has read.
    fn return_read(&self) -> BoxFuture<'_, ()>;

    /// Shows the rows as they are now.
    fn show(&self, look: &mut dyn FnMut(&Rows<'_>));

    /// Carries out a write, of which the decision is made at one moment with its effect.
    fn write(&self, decide: Decide) -> BoxFuture<'_, Result<Effect, IndexError>>;

    /// The next number.
    fn number(&self) -> BoxFuture<'_, Result<u64, IndexError>>;

    /// The first number that was never reserved.
    fn first_unreserved(&self) -> u64;

    /// Moves the counter of numbers beyond that one.
    fn reserve_beyond(&self, seen: u64) -> BoxFuture<'_, Result<(), IndexError>>;

    /// Where the index is: a copy of it is elsewhere.
    fn home(&self) -> String;

    /// Whether no write has failed since the index was opened.
    fn is_fresh(&self) -> bool;

    /// Whether anything was written since this was asked last; for all that is known.
    fn take_written(&self) -> bool {
        true
    }

    /// Returns once a write has failed.
    fn failed(&self) -> BoxFuture<'_, ()>;

    /// Opens the index again.
    fn reopen(&self) -> BoxFuture<'_, Result<(), IndexError>>;
}

/// An index on such a stage.
pub struct Simulated(pub(crate) Arc<dyn Stage>);

impl Simulated {
    pub(super) async fn look(&self, key: &Key) -> Result<Option<Record>, IndexError> {
        Ok(self.entry(key).await?.record)
    }

    pub(super) async fn entry(&self, key: &Key) -> Result<Entry, IndexError> {
        self.read(Read::Row, |rows| rows.entry(key)).await
    }

    pub(super) async fn carry_out(&self, step: Step) -> Result<Effect, IndexError> {
        let decide = |rows: &Rows<'_>| {
            let key = step.key.clone();
            let noted = step.required().is_some_and(|required| rows.notes.contains_key(&required.note));
            let ends = step.ends().cloned();
            let mut entry = rows.entry(&key);
            let Decision { effect, record, intents } = step.decide(&mut entry, noted);
            let note = ends.filter(|_| matches!(effect, Effect::Done(_))).map(|note| (note, None));
            (effect, Batch { entry: (record || intents).then_some((key, entry)), note, ..Batch::default() })
        };
        self.0.write(Box::new(decide)).await
    }

    pub(super) fn is_fresh(&self) -> bool {
        self.0.is_fresh()
    }

    pub(super) fn take_written(&self) -> bool {
        self.0.take_written()
    }

    pub(super) async fn failed(&self) {
        self.0.failed().await;
    }

    pub(super) async fn reopen(&self) -> Result<(), IndexError> {
        self.0.reopen().await
    }

    pub(super) async fn number(&self) -> Result<u64, IndexError> {
        self.0.number().await
    }

    #[allow(clippy::unnecessary_wraps, reason = "the interface of all engines")]
    pub(super) fn home(&self) -> Result<String, IndexError> {
        Ok(self.0.home())
    }

    #[allow(clippy::unused_async, reason = "the interface of all engines")]
    pub(super) async fn has_numbers(&self) -> Result<bool, IndexError> {
        Ok(self.0.first_unreserved() > 1)
    }

    #[allow(clippy::unused_async, reason = "the interface of all engines")]
    pub(super) async fn first_unreserved(&self) -> Result<u64, IndexError> {
        Ok(self.0.first_unreserved())
    }

    pub(super) async fn note(&self, note: &Note) -> Result<Option<Record>, IndexError> {
        self.read(Read::Row, |rows| rows.notes.get(note).cloned()).await
    }

    pub(super) async fn set_note(&self, note: &Note, record: Option<&Record>) -> Result<(), IndexError> {
        let note = Some((note.clone(), record.cloned()));
        let decide = |_: &Rows<'_>| (Effect::Done(Done::default()), Batch { note, ..Batch::default() });
        self.0.write(Box::new(decide)).await.map(drop)
    }

    pub(super) async fn end_note(&self, note: &Note) -> Result<bool, IndexError> {
        let note = note.clone();
        let decide = |rows: &Rows<'_>| {
            if rows.notes.contains_key(&note) {
                (Effect::Done(Done::default()), Batch { note: Some((note, None)), ..Batch::default() })
            } else {
                (Effect::Fenced, Batch::default())
            }
        };
        Ok(matches!(self.0.write(Box::new(decide)).await?, Effect::Done(_)))
    }

    pub(super) async fn fact(&self, fact: &Fact) -> Result<Option<Vec<u8>>, IndexError> {
        self.read(Read::Row, |rows| rows.facts.get(&fact.row()).cloned()).await
    }

    pub(super) async fn set_fact(&self, fact: Fact, value: Option<Vec<u8>>) -> Result<(), IndexError> {
        let fact = Some((fact.row(), value));
        let decide = |_: &Rows<'_>| (Effect::Done(Done::default()), Batch { fact, ..Batch::default() });
        self.0.write(Box::new(decide)).await.map(drop)
    }

    pub(super) async fn volume_facts(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>, IndexError> {
        let volumes = |rows: &Rows<'_>| {
            let volumes = rows.facts.iter().filter(|(row, _)| row.starts_with(Fact::VOLUMES));
            volumes.map(|(row, value)| (row.clone(), value.clone())).collect()
        };
        self.read(Read::Page, volumes).await
    }

    pub(super) async fn notes_page(
        &self,
        notes: Notes,
        prefix: &[u8],
        start: Option<&Note>,
    ) -> Result<Page<(Note, Record)>, IndexError> {
        let prefix = [notes.prefix(), prefix].concat();
        let start = start.map_or_else(Vec::new, Note::row);
        let scan = |rows: &Rows<'_>| {
            let all = rows.notes.iter().map(|(note, record)| (note.clone(), record.clone()));
            let mut all: Vec<_> =
                all.filter(|(note, _)| note.row().starts_with(&prefix) && note.row() >= start).collect();
            all.sort_by_key(|(note, _)| note.row());
            all
        };
        self.read(Read::Page, scan).await.map(|rows| first(rows, |(note, _)| note.row()))
    }

    pub(super) async fn page(
        &self,
        prefix: &[u8],
        start: &[u8],
        state: Option<State>,
    ) -> Result<Page<(Key, Record)>, IndexError> {
        let scan = |rows: &Rows<'_>| {
            let listed =
                rows.records(prefix, start).filter(|(_, record)| state.is_none_or(|s| s == record.state));
            listed.map(|(key, record)| (key.clone(), record.clone())).collect()
        };
        let rows = self.read(Read::Page, scan).await?;
        Ok(first(rows, |(key, _)| key.as_bytes().to_vec()))
    }

    /// Listings are no part of the write protocol: nothing befalls them.
    #[allow(clippy::unused_async, reason = "the interface of all engines")]
    pub(super) async fn text(
        &self,
        listed: &Listed,
        start: &[u8],
        mut text: Vec<u8>,
        mut write: impl FnMut(&mut Vec<u8>, &[u8]),
    ) -> Result<(Vec<u8>, Option<Vec<u8>>), IndexError> {
        self.show(|rows| {
            let records = rows.records(&listed.prefix, start);
            let records = records.filter(|(_, record)| record.state == listed.state);
            for (key, _) in records.take_while(|(key, _)| listed.end.as_ref().is_none_or(|end| *key < end)) {
                write(&mut text, key.as_bytes());
            }
        });
        Ok((text, None))
    }

    /// As [`Simulated::text`].
    #[allow(clippy::unused_async, reason = "the interface of all engines")]
    pub(super) async fn after(
        &self,
        prefix: &[u8],
        start: &[u8],
        state: State,
        count: u64,
    ) -> Result<Option<Key>, IndexError> {
        let nth = |rows: &Rows<'_>| {
            let mut listed = rows.records(prefix, start).filter(|(_, record)| record.state == state);
            listed.nth(usize::try_from(count).unwrap_or(usize::MAX)).map(|(key, _)| key.clone())
        };
        Ok(self.show(nth))
    }

    pub(super) async fn items(
        &self,
        folded: &Folded,
        start: &[u8],
        most: usize,
    ) -> Result<Page<Item>, IndexError> {
        let scan = |rows: &Rows<'_>| {
            let start = start.max(b"/".as_slice().min(&folded.prefix));
            let live = rows.records(&folded.prefix, start).filter(|(_, record)| record.state == State::Live);
            let mut items = live.map(|(key, record)| match folded.folder(key.as_bytes()) {
                Some(name) => Item::Folder(name),
                None => Item::Key(key.clone(), record.clone()),
            });
            let mut all: Vec<Item> = items.by_ref().collect();
            all.dedup();
            all
        };
        let mut rows = self.read(Read::Page, scan).await?;
        let next = rows.get(most).map(|item| match item {
            Item::Key(key, _) => key.as_bytes().to_vec(),
            Item::Folder(name) => name.clone(),
        });
        rows.truncate(most);
        Ok(Page { rows, next })
    }

    pub(super) async fn intents_page(&self, start: &[u8]) -> Result<Page<(Key, Vec<Intent>)>, IndexError> {
        let scan = |rows: &Rows<'_>| {
            let all = rows.entries.iter().filter(|(key, _)| key.as_bytes() >= start);
            let all = all.filter(|(_, entry)| !entry.intents.is_empty());
            all.map(|(key, entry)| (key.clone(), entry.intents.clone())).collect()
        };
        let rows = self.read(Read::Page, scan).await?;
        Ok(first(rows, |(key, _)| key.as_bytes().to_vec()))
    }

    /// Dumps are of real indexes.
    #[allow(clippy::unused_async, reason = "the interface of all engines")]
    pub(super) async fn dump(
        &self,
        _is_open: impl Fn(&Key, u64) -> bool + Send + 'static,
    ) -> Result<Dump, IndexError> {
        Err(IndexError::new("there is nothing to dump"))
    }

    #[allow(clippy::unused_async, reason = "the interface of all engines")]
    pub(super) async fn load(&self, _rows: Vec<(Key, Loaded)>) -> Result<(), IndexError> {
        Err(IndexError::new("rebuilds are of real indexes"))
    }

    #[allow(clippy::unused_async, reason = "the interface of all engines")]
    pub(super) async fn load_notes(&self, _notes: Vec<(Note, Vec<u8>)>) -> Result<(), IndexError> {
        Err(IndexError::new("rebuilds are of real indexes"))
    }

    pub(super) async fn reserve_beyond(&self, seen: u64) -> Result<(), IndexError> {
        self.0.reserve_beyond(seen).await
    }

    pub(super) fn close(self) {
        drop(self);
    }

    /// Nothing outlives a simulated store that could ask for anything.
    #[allow(clippy::unused_async, reason = "the interface of all engines")]
    pub(super) async fn shut(&self) -> Result<(), IndexError> {
        Ok(())
    }

    async fn read<T>(&self, read: Read, look: impl FnOnce(&Rows<'_>) -> T) -> Result<T, IndexError> {
        self.0.read(read).await?;
        let seen = self.show(look);
        self.0.return_read().await;
        Ok(seen)
    }

    fn show<T>(&self, look: impl FnOnce(&Rows<'_>) -> T) -> T {
        let (mut look, mut seen) = (Some(look), None);
        self.0.show(&mut |rows| seen = look.take().map(|look| look(rows)));
        seen.unwrap_or_else(|| unreachable!("a stage shows its rows once"))
    }
}

impl Rows<'_> {
    fn entry(&self, key: &Key) -> Entry {
        self.entries.get(key).cloned().unwrap_or_default()
    }

    fn records(&self, prefix: &[u8], start: &[u8]) -> impl Iterator<Item = (&Key, &Record)> {
        let (prefix, start) = (prefix.to_vec(), start.to_vec());
        let records = self.entries.iter().filter_map(|(key, entry)| Some((key, entry.record.as_ref()?)));
        records.filter(move |(key, _)| key.as_bytes().starts_with(&prefix) && key.as_bytes() >= &*start)
    }
}

/// One row a page, so that callers have to turn pages.
fn first<T>(rows: Vec<T>, start: impl Fn(&T) -> Vec<u8>) -> Page<T> {
    let next = rows.get(1).map(start);
    Page { rows: rows.into_iter().take(1).collect(), next }
}

/// A stage on which nothing fails.
#[derive(Default)]
pub(crate) struct Calm(Mutex<Held>);

#[derive(Default)]
struct Held {
    entries: BTreeMap<Key, Entry>,
    notes: BTreeMap<Note, Record>,
    facts: BTreeMap<Vec<u8>, Vec<u8>>,
    numbers: u64,
}

impl Held {
    fn rows(&self) -> Rows<'_> {
        Rows { entries: &self.entries, notes: &self.notes, facts: &self.facts }
    }
}

impl Stage for Calm {
    fn read(&self, _read: Read) -> BoxFuture<'_, Result<(), IndexError>> {
        Box::pin(async { Ok(()) })
    }

    fn return_read(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn show(&self, look: &mut dyn FnMut(&Rows<'_>)) {
        let Ok(all) = self.0.lock() else { return };
        look(&all.rows());
    }

    fn write(&self, decide: Decide) -> BoxFuture<'_, Result<Effect, IndexError>> {
        Box::pin(async move {
            let mut all = self.0.lock().map_err(|_poisoned| IndexError::new("a test panicked"))?;
            let (effect, batch) = decide(&all.rows());
            match batch.fact {
                Some((row, Some(value))) => drop(all.facts.insert(row, value)),
                Some((row, None)) => drop(all.facts.remove(&row)),
                None => {}
            }
            all.entries.extend(batch.entry);
            match batch.note {
                Some((note, Some(record))) => drop(all.notes.insert(note, record)),
                Some((note, None)) => drop(all.notes.remove(&note)),
                None => {}
            }
            Ok(effect)
        })
    }

    fn number(&self) -> BoxFuture<'_, Result<u64, IndexError>> {
        Box::pin(async {
            let mut all = self.0.lock().map_err(|_poisoned| IndexError::new("a test panicked"))?;
            all.numbers += 1;
            Ok(all.numbers)
        })
    }

    fn first_unreserved(&self) -> u64 {
        self.0.lock().map_or(1, |all| all.numbers + 1)
    }

    fn reserve_beyond(&self, seen: u64) -> BoxFuture<'_, Result<(), IndexError>> {
        Box::pin(async move {
            let mut all = self.0.lock().map_err(|_poisoned| IndexError::new("a test panicked"))?;
            all.numbers = all.numbers.max(seen);
            Ok(())
        })
    }

    fn home(&self) -> String {
        "memory".into()
    }

    fn is_fresh(&self) -> bool {
        true
    }

    fn failed(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn reopen(&self) -> BoxFuture<'_, Result<(), IndexError>> {
        Box::pin(async { Ok(()) })
    }
}
