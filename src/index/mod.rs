//! The index: keys and their records, and the intents of the write protocol.
//!
//! [`Index`] is an enum over its engines, so that a call costs no boxed future. LevelDB's quick path (a read by
//! key, a step that waits neither for the disk nor for another write) runs on the caller's thread and completes
//! without suspending. All methods but `open`, `is_fresh` and `close` are `async`, so that an engine may ask over a
//! network; `is_fresh` is answered from memory.
//!
//! | file | what it holds |
//! |---|---|
//! | [`steps`] | what each step of the write protocol requires and changes, without an engine |
//! | [`notes`], `facts`, [`fold`], [`dump`] | rows beside the keys, listings with folders, the form of a dump |
//! | `leveldb` | the engine: rows, scans, the one writer |
//! | `types`, `error` | entries, pages and options; why the index failed |
//! | [`scratch`] | the files that a rebuild has found, in a database of their own |
//! | `simulated`, `contract` | tests: an engine in memory, and the promises that every engine keeps |
//!
//! **A new engine** is one more variant of [`Index`] and a folder beside `leveldb`, and passes `contract`, which
//! lists the engines. It needs its own way to be opened, and a variant of [`Dump`]; `load_dump` and `scratch` stay
//! LevelDB's, as only a rebuild uses them.

#[cfg(test)]
mod contract;
pub mod dump;
mod error;
pub(crate) mod facts;
pub mod fold;
mod leveldb;
pub mod notes;
pub mod scratch;
#[cfg(test)]
pub(crate) mod simulated;
pub mod steps;
mod types;

use std::path::Path;

use crate::key::Key;
use crate::record::{Intent, Record, Replica, State};

pub use error::IndexError;
use fold::{Folded, Item};
pub use leveldb::{Dump, LevelDb, load_dump};
use notes::{Note, Notes};
use steps::{Action, Conditions, Effect, Resolved, Step, Surplus};
pub use types::{Entry, Listed, Loaded, Options, Page, number_floor};

/// An open index.
pub enum Index {
    /// LevelDB in a directory of this machine, for one process.
    Embedded(LevelDb),
    /// In memory, where every call may fail.
    #[cfg(test)]
    Simulated(simulated::Simulated),
}

/// Runs a method of the engine.
macro_rules! engine {
    ($index:expr, $engine:ident => $call:expr) => {
        match $index {
            Index::Embedded($engine) => $call,
            #[cfg(test)]
            Index::Simulated($engine) => $call,
        }
    };
}

use engine;

/// Reading and the steps of the write protocol.
impl Index {
    /// Opens the index of that directory. Blocking.
    ///
    /// # Errors
    ///
    /// One line for the operator: the index is in use, not there, or not an index.
    pub fn open(path: &Path, options: Options) -> Result<Self, IndexError> {
        LevelDb::open(path, options).map(Self::Embedded)
    }

    /// Whether opening that directory would make a new index: nothing is there, and its parent is.
    #[must_use]
    pub fn would_be_new(path: &Path) -> bool {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let is_empty = || path.read_dir().is_ok_and(|mut entries| entries.next().is_none());
        if path.exists() { is_empty() } else { parent.is_dir() }
    }

    /// The key's record.
    ///
    /// # Errors
    ///
    /// The index can't be read, or the row is damaged: damage is never reported as a missing key.
    pub async fn look(&self, key: &Key) -> Result<Option<Record>, IndexError> {
        engine!(self, engine => engine.look(key).await)
    }

    /// The key's record and its intents.
    ///
    /// # Errors
    ///
    /// As [`Index::look`].
    pub async fn entry(&self, key: &Key) -> Result<Entry, IndexError> {
        engine!(self, engine => engine.entry(key).await)
    }

    /// Names the first files of an attempt, before any of them may exist.
    ///
    /// Answers `Done`, `Refused` (`Unsettled` where the key has too many intents), or `NotFree`.
    ///
    /// # Errors
    ///
    /// The step may or may not have been carried out.
    pub async fn begin(
        &self,
        key: &Key,
        intent: Intent,
        conditions: Conditions,
    ) -> Result<Effect, IndexError> {
        self.carry_out(key, Action::Begin { intent, conditions }).await
    }

    /// Names further files of the attempt that has the number of `intent`.
    ///
    /// Answers `Done`, `NotFree`, or `Fenced`.
    ///
    /// # Errors
    ///
    /// As [`Index::begin`].
    pub async fn extend(&self, key: &Key, intent: Intent) -> Result<Effect, IndexError> {
        self.carry_out(key, Action::Extend { intent }).await
    }

    /// Makes the attempt's value visible. Stores the record, removes its files from the attempt's intent, moves the
    /// files that it replaces to the intent of `surplus`, and deletes the required note if this step ends it.
    ///
    /// Each file of the record is one of the attempt's or of the record that it replaces. Answers `Done` with
    /// the replaced record, `Refused`, `Fenced`, or `Overtaken`.
    ///
    /// # Errors
    ///
    /// As [`Index::begin`]; [`Index::resolve`] tells what became of it.
    pub async fn take_effect(
        &self,
        key: &Key,
        id: u64,
        record: Record,
        conditions: Conditions,
        surplus: Surplus,
    ) -> Result<Effect, IndexError> {
        let record = Box::new(record);
        self.carry_out(key, Action::TakeEffect { id, record, conditions, surplus }).await
    }

    /// Removes the record, and moves its files to the intent `id`.
    ///
    /// Answers `Done` with the removed record, or `Refused`.
    ///
    /// # Errors
    ///
    /// As [`Index::begin`].
    pub async fn remove(&self, key: &Key, id: u64, conditions: Conditions) -> Result<Effect, IndexError> {
        self.carry_out(key, Action::Remove { id, conditions }).await
    }

    /// Hides the key's value, or shows it again.
    ///
    /// Answers `Done`, or `Refused` with `NotFound` where there is no record in the other state.
    ///
    /// # Errors
    ///
    /// As [`Index::begin`].
    pub async fn set_state(&self, key: &Key, state: State) -> Result<Effect, IndexError> {
        self.carry_out(key, Action::SetState(state)).await
    }

    /// Drops the files on volumes that are gone for good from all intents of the key.
    ///
    /// # Errors
    ///
    /// As [`Index::begin`].
    pub async fn forget(&self, key: &Key, volumes: &[String]) -> Result<(), IndexError> {
        self.carry_out(key, Action::Forget(volumes.to_vec())).await.map(drop)
    }

    /// Ends an intent whose files are gone. It need not be durable: an intent that is found again is settled
    /// again.
    ///
    /// Answers `Done`, or `Fenced` where the key has no such intent with exactly these files.
    ///
    /// # Errors
    ///
    /// As [`Index::begin`].
    pub async fn end(&self, key: &Key, intent: Intent) -> Result<Effect, IndexError> {
        self.carry_out(key, Action::End(intent)).await
    }

    /// The fate of an attempt whose last step failed or got no answer. The answer is final: if it says that the
    /// attempt is closed, the attempt never takes effect.
    ///
    /// # Errors
    ///
    /// The index can't tell, as long as it is not [fresh](Self::is_fresh).
    pub async fn resolve(&self, key: &Key, id: u64, files: &[Replica]) -> Result<Resolved, IndexError> {
        if !self.is_fresh() {
            return Err(IndexError::new(
                "a write failed: what came of it shows when the index is opened again",
            ));
        }
        Ok(self.entry(key).await?.resolve(id, files))
    }

    /// Whether reads show what is on the disk. After a write that failed they may not: the next opening may find that
    /// the write happened. No file may be deleted because of what is read then, because a record may name it.
    ///
    /// Whoever deletes files asks *before* it reads what it decides on. Asked afterwards, the index may have been
    /// opened again in between.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        engine!(self, engine => engine.is_fresh())
    }

    /// Returns once a write has failed, at once if one has.
    pub async fn failed(&self) {
        engine!(self, engine => engine.failed().await);
    }

    /// Opens the index again after a write that failed: from then on, reads show what came of it, and writes may
    /// succeed. Reads wait for the moment that this takes, and dumps that were begun end with an error.
    ///
    /// # Errors
    ///
    /// The index can't be written yet: nothing has changed, and reads go on. Or it could be closed and not be opened:
    /// everything fails until a later call succeeds.
    pub async fn reopen(&self) -> Result<(), IndexError> {
        engine!(self, engine => engine.reopen().await)
    }

    /// A new number: no attempt has had it, and none will get it again.
    ///
    /// # Errors
    ///
    /// The reservation of further numbers couldn't be made durable.
    pub async fn number(&self) -> Result<u64, IndexError> {
        engine!(self, engine => engine.number().await)
    }

    /// The first number that was never reserved: all that were given out are below it.
    ///
    /// # Errors
    ///
    /// As [`Index::look`].
    pub async fn first_unreserved(&self) -> Result<u64, IndexError> {
        engine!(self, engine => engine.first_unreserved().await)
    }

    /// Whether numbers were ever reserved: whether anything was ever written.
    ///
    /// # Errors
    ///
    /// As [`Index::look`].
    pub async fn has_numbers(&self) -> Result<bool, IndexError> {
        engine!(self, engine => engine.has_numbers().await)
    }

    async fn carry_out(&self, key: &Key, action: Action) -> Result<Effect, IndexError> {
        let step = Step { key: key.clone(), action };
        engine!(self, engine => engine.carry_out(step).await)
    }
}

/// Notes: rows that stand for no value.
impl Index {
    /// What is noted.
    ///
    /// # Errors
    ///
    /// As [`Index::look`].
    pub async fn note(&self, note: &Note) -> Result<Option<Record>, IndexError> {
        engine!(self, engine => engine.note(note).await)
    }

    /// Stores the note; `None` deletes it.
    ///
    /// # Errors
    ///
    /// The write may or may not have happened.
    pub async fn set_note(&self, note: &Note, record: Option<&Record>) -> Result<(), IndexError> {
        engine!(self, engine => engine.set_note(note, record).await)
    }

    /// Deletes the note, and tells whether it was there: if several callers ask at once, exactly one gets `true`.
    ///
    /// # Errors
    ///
    /// As [`Index::set_note`].
    pub async fn end_note(&self, note: &Note) -> Result<bool, IndexError> {
        engine!(self, engine => engine.end_note(note).await)
    }

    /// A page of the notes that begin with `prefix` (the name of a bucket, the key of an upload), from `start` on;
    /// `start` need not exist.
    ///
    /// # Errors
    ///
    /// As [`Index::page`].
    pub async fn notes_page(
        &self,
        notes: Notes,
        prefix: &[u8],
        start: Option<&Note>,
    ) -> Result<Page<(Note, Record)>, IndexError> {
        engine!(self, engine => engine.notes_page(notes, prefix, start).await)
    }
}

/// Scans, in pages.
impl Index {
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
        engine!(self, engine => engine.page(prefix, start, state).await)
    }

    /// Calls `write`, which appends to `text`, for each key of a page from `start` on; returns the text and the
    /// start of the next page, if there is one.
    ///
    /// For listings of any length: keys are written from the engine's blocks straight into the text.
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
        engine!(self, engine => engine.text(listed, start, text, write).await)
    }

    /// Skips `count` keys of that state under `prefix`, from `start` on, and returns the next one.
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
        engine!(self, engine => engine.after(prefix, start, state, count).await)
    }

    /// A page of live keys and folders from the key `start` on, at most `most` of them. The
    /// next page never repeats a folder of this one.
    ///
    /// # Errors
    ///
    /// As [`Index::page`].
    pub async fn items(&self, folded: &Folded, start: &[u8], most: usize) -> Result<Page<Item>, IndexError> {
        engine!(self, engine => engine.items(folded, start, most).await)
    }

    /// A page of the keys that have intents, with them. `start` is the `next` of the page before.
    ///
    /// # Errors
    ///
    /// As [`Index::page`].
    pub async fn intents_page(&self, start: &[u8]) -> Result<Page<(Key, Vec<Intent>)>, IndexError> {
        engine!(self, engine => engine.intents_page(start).await)
    }
}

/// The index as a whole.
impl Index {
    /// Begins a dump of what the index holds now. `is_open(key, id)` says whether the attempt of that intent may
    /// still be under way.
    ///
    /// # Errors
    ///
    /// As [`Index::page`].
    pub async fn dump(
        &self,
        is_open: impl Fn(&Key, u64) -> bool + Send + 'static,
    ) -> Result<Dump, IndexError> {
        engine!(self, engine => engine.dump(is_open).await)
    }

    /// Stores entries of keys that the index doesn't hold yet: the bulk load of a rebuild.
    ///
    /// # Errors
    ///
    /// The index can't be written.
    pub async fn load(&self, rows: Vec<(Key, Loaded)>) -> Result<(), IndexError> {
        engine!(self, engine => engine.load(rows).await)
    }

    /// Notes many things that aren't noted yet, with their records in a stored form: the bulk load of a rebuild.
    ///
    /// # Errors
    ///
    /// The index can't be written.
    pub async fn load_notes(&self, notes: Vec<(Note, Vec<u8>)>) -> Result<(), IndexError> {
        engine!(self, engine => engine.load_notes(notes).await)
    }

    /// Gives out only numbers above `seen` from now on, and leaves a gap: a PUT that is still on its way may have a
    /// number that no file on the volumes shows yet.
    ///
    /// # Errors
    ///
    /// The index can't be written, or too few numbers are left.
    pub async fn reserve_beyond(&self, seen: u64) -> Result<(), IndexError> {
        engine!(self, engine => engine.reserve_beyond(seen).await)
    }

    /// Carries out what was begun, and leaves the index in a form that minikeyvalue can open, or logs that it
    /// couldn't. Blocking.
    pub fn close(self) {
        engine!(self, engine => engine.close());
    }

    /// As [`Index::close`], though others may still have the index: what they ask for from now on fails.
    ///
    /// # Errors
    ///
    /// The runtime is shutting down.
    pub async fn shut(&self) -> Result<(), IndexError> {
        engine!(self, engine => engine.shut().await)
    }
}
