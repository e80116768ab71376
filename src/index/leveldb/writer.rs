//! How writes reach LevelDB: one at a time, under the write lock.
//!
//! A write that needs no fsync and finds the lock free is carried out at once, on its own thread: that takes some
//! microseconds, and waking another thread and waiting for it takes several times as long. Every other write
//! goes to the writer thread, which gathers what is waiting into one batch and one fsync. So a write that
//! hangs, because the disk does, holds up at most one of the threads that serve requests.

use std::collections::HashSet;
use std::sync::mpsc;

use tokio::sync::oneshot;

use super::current::{Current, Writing};
use super::{encode_intents, intents_row, read_entry};
use crate::index::error::IndexError;
use crate::index::notes::Note;
use crate::index::steps::{Decision, Done, Effect, Step};
use crate::leveldb::{Batch, Database};

/// At most this many writes share one batch: enough to spread an fsync, few enough to answer soon.
const GROUP: usize = 512;

/// What one write does.
pub(super) enum Change {
    /// A step of the write protocol.
    Step(Step),
    /// Notes the bytes, or with `None` forgets the note.
    Note(Note, Option<Vec<u8>>),
    /// Forgets the note, and answers `Fenced` where it isn't there.
    EndNote(Note),
    /// Puts the row of a fact, or with `None` deletes it.
    Fact(Vec<u8>, Option<Vec<u8>>),
    /// Puts these rows.
    Rows(Vec<(Vec<u8>, Vec<u8>)>),
}

/// One write, on its way to the writer thread.
pub(super) struct Write {
    pub(super) change: Change,
    pub(super) durability: Durability,
    pub(super) reply: Reply,
}

/// For what came of a write.
type Reply = oneshot::Sender<Result<Effect, IndexError>>;

/// What a write must survive when it is answered.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Durability {
    /// The end of this process.
    #[default]
    Process,
    /// A loss of power, where the index was opened with `sync`.
    AsOpened,
    /// A loss of power.
    Power,
}

/// What came of trying to write at once.
pub(super) enum Tried {
    /// It was written, or failed.
    Now(Result<Effect, IndexError>),
    /// It is for the writer thread.
    Later(Change),
}

/// Writes at once, if nobody else is writing and `sync` says that no fsync is needed; gives the change back
/// otherwise.
pub(super) fn try_write(current: &Current, change: Change, durability: Durability, sync: bool) -> Tried {
    if durability.needs_fsync(sync) {
        return Tried::Later(change);
    }
    let Some(writing) = current.try_writing() else { return Tried::Later(change) };
    Tried::Now(write_one(&writing, change))
}

fn write_one(writing: &Writing<'_>, change: Change) -> Result<Effect, IndexError> {
    let mut rows = Rows::default();
    let effect = change.carry_out(writing.database()?, &mut rows)?;
    if !rows.is_empty {
        writing.write(&rows.batch, false)?;
    }
    Ok(effect)
}

/// The writer thread: carries out writes in the order of their arrival until the index is closed.
pub(super) fn write_all(current: &Current, writes: &mpsc::Receiver<Write>, sync: bool) {
    let mut next = writes.recv().ok();
    while let Some(first) = next.take() {
        let writing = current.writing();
        let mut group = Group::default();
        group.add(&writing, first);
        while group.replies.len() < GROUP {
            match writes.try_recv() {
                // it reads what the batch of this group changes
                Ok(write) if group.touches(&write.change) => {
                    next = Some(write);
                    break;
                }
                Ok(write) => group.add(&writing, write),
                Err(_) => break,
            }
        }
        group.finish(&writing, sync);
        drop(writing);
        next = next.or_else(|| writes.recv().ok());
    }
}

impl Durability {
    fn needs_fsync(self, sync: bool) -> bool {
        match self {
            Self::Process => false,
            Self::AsOpened => sync,
            Self::Power => true,
        }
    }
}

impl Change {
    /// The rows that the change depends on.
    fn reads(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Step(step) => {
                let note = step.required().map(|required| required.note.row());
                [step.key.as_bytes().to_vec(), intents_row(&step.key)].into_iter().chain(note).collect()
            }
            Self::EndNote(note) => vec![note.row()],
            Self::Note(..) | Self::Fact(..) | Self::Rows(_) => Vec::new(),
        }
    }

    /// Reads, decides, and puts what is to be written into `rows`.
    fn carry_out(self, database: &Database, rows: &mut Rows) -> Result<Effect, IndexError> {
        match self {
            Self::Step(step) => return carry_out_step(step, database, rows),
            Self::Note(note, Some(bytes)) => rows.put(note.row(), &bytes),
            Self::Note(note, None) => rows.delete(note.row()),
            Self::EndNote(note) => {
                let row = note.row();
                if database.get(&row)?.is_none() {
                    return Ok(Effect::Fenced);
                }
                rows.delete(row);
            }
            Self::Fact(row, Some(value)) => rows.put(row, &value),
            Self::Fact(row, None) => rows.delete(row),
            Self::Rows(puts) => puts.into_iter().for_each(|(row, value)| rows.put(row, &value)),
        }
        Ok(Effect::Done(Done::default()))
    }
}

fn carry_out_step(step: Step, database: &Database, rows: &mut Rows) -> Result<Effect, IndexError> {
    let key = step.key.clone();
    let noted = match step.required() {
        Some(required) => database.get(&required.note.row())?.is_some(),
        None => false,
    };
    let ends = step.ends().map(Note::row);
    let mut entry = read_entry(database, &key)?;
    let Decision { effect, record, intents } = step.decide(&mut entry, noted);
    if record {
        match &entry.record {
            Some(record) => rows.put(key.as_bytes().to_vec(), &record.encode()),
            None => rows.delete(key.as_bytes().to_vec()),
        }
    }
    if intents {
        match encode_intents(&entry.intents) {
            Some(bytes) => rows.put(intents_row(&key), &bytes),
            None => rows.delete(intents_row(&key)),
        }
    }
    if let Some(note) = ends.filter(|_| matches!(effect, Effect::Done(_))) {
        rows.delete(note);
    }
    Ok(effect)
}

/// Rows to be written in one batch.
struct Rows {
    batch: Batch,
    is_empty: bool,
    /// Which rows the batch writes, where somebody asks.
    written: Option<HashSet<Vec<u8>>>,
}

impl Default for Rows {
    fn default() -> Self {
        Self { batch: Batch::new(), is_empty: true, written: None }
    }
}

impl Rows {
    fn put(&mut self, row: Vec<u8>, value: &[u8]) {
        self.batch.put(&row, value);
        self.note(row);
    }

    fn delete(&mut self, row: Vec<u8>) {
        self.batch.delete(&row);
        self.note(row);
    }

    fn note(&mut self, row: Vec<u8>) {
        self.is_empty = false;
        if let Some(written) = &mut self.written {
            written.insert(row);
        }
    }
}

/// Writes that share a batch.
struct Group {
    rows: Rows,
    durability: Durability,
    replies: Vec<(Reply, Effect)>,
}

impl Default for Group {
    fn default() -> Self {
        let rows = Rows { written: Some(HashSet::new()), ..Rows::default() };
        Self { rows, durability: Durability::Process, replies: Vec::new() }
    }
}

impl Group {
    fn touches(&self, change: &Change) -> bool {
        let written = self.rows.written.as_ref();
        written.is_some_and(|written| change.reads().iter().any(|row| written.contains(row)))
    }

    fn add(&mut self, writing: &Writing<'_>, Write { change, durability, reply }: Write) {
        let effect = writing.database().and_then(|database| change.carry_out(database, &mut self.rows));
        match effect {
            // nothing was written: there is nothing to wait for
            Ok(effect @ (Effect::Refused(_) | Effect::NotFree | Effect::Fenced | Effect::Overtaken)) => {
                answer(reply, Ok(effect));
            }
            Ok(effect) => {
                self.durability = self.durability.max(durability);
                self.replies.push((reply, effect));
            }
            failed => answer(reply, failed),
        }
    }

    fn finish(self, writing: &Writing<'_>, sync: bool) {
        let written = if self.rows.is_empty {
            Ok(())
        } else {
            writing.write(&self.rows.batch, self.durability.needs_fsync(sync))
        };
        for (reply, effect) in self.replies {
            let failed = written.as_ref().err().map(|error| IndexError::new(error.to_string()));
            answer(reply, failed.map_or(Ok(effect), Err));
        }
    }
}

/// Nobody may wait for the answer any more, which is fine.
fn answer(reply: Reply, result: Result<Effect, IndexError>) {
    drop(reply.send(result));
}
