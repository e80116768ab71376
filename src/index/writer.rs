//! How writes reach LevelDB: one at a time, under the lock.
//!
//! Who needs no fsync and finds the lock free writes at once, on its own thread: that takes some
//! microseconds, and waking another thread and waiting for it takes several times as long. Everybody else
//! asks the writer thread, which gathers what is waiting into one batch and one fsync. So a write that
//! hangs, because the disk does, holds up one of the threads that serve requests at most.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError, TryLockError, mpsc};

use tokio::sync::oneshot;

use super::IndexError;
use crate::leveldb::{Batch, Database};

/// At most so many writes share one batch: enough to spread an fsync, few enough to answer soon.
const GROUP: usize = 512;

/// What one write changes.
#[derive(Default)]
pub(super) struct Change {
    pub(super) puts: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) deletes: Vec<Vec<u8>>,
    /// A row and what it must hold when the write is carried out.
    pub(super) condition: Option<(Vec<u8>, Option<Vec<u8>>)>,
    /// A row that must be there then; if it isn't, nothing is written, and that is no failure.
    pub(super) required: Option<Vec<u8>>,
    pub(super) durability: Durability,
}

/// One write, on its way to the writer thread.
pub(super) struct Write {
    pub(super) change: Change,
    pub(super) reply: Reply,
}

/// For whether it was written.
type Reply = oneshot::Sender<Result<bool, IndexError>>;

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

/// The right to write.
#[derive(Default)]
pub(super) struct WriteLock(Mutex<()>);

impl WriteLock {
    /// Writes at once, if nobody else is writing and `sync` says that no fsync is needed.
    pub(super) fn try_write(
        &self,
        database: &Database,
        change: &Change,
        sync: bool,
    ) -> Option<Result<bool, IndexError>> {
        if change.durability.needs_fsync(sync) {
            return None;
        }
        let _pen = match self.0.try_lock() {
            Ok(lock) => lock,
            Err(TryLockError::Poisoned(lock)) => lock.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let mut batch = Batch::new();
        Some(change.check(database).and_then(|applies| {
            if applies {
                change.add_to(&mut batch);
                write(database, &batch, false)?;
            }
            Ok(applies)
        }))
    }
}

/// The writer thread: carries out writes in the order of their arrival until the index is closed.
pub(super) fn write_all(database: &Database, lock: &WriteLock, writes: &mpsc::Receiver<Write>, sync: bool) {
    let mut next = writes.recv().ok();
    while let Some(first) = next.take() {
        let lock = lock.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut group = Group::default();
        group.add(database, first);
        while group.replies.len() < GROUP {
            match writes.try_recv() {
                // a condition is on what the batches before have left in the index
                Ok(write) if group.touches(&write.change) => {
                    next = Some(write);
                    break;
                }
                Ok(write) => group.add(database, write),
                Err(_) => break,
            }
        }
        group.finish(database, sync);
        drop(lock);
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
    /// Whether the row is there that must be.
    fn check(&self, database: &Database) -> Result<bool, IndexError> {
        if let Some(row) = &self.required
            && database.get(row)?.is_none()
        {
            return Ok(false);
        }
        let Some((row, expected)) = &self.condition else { return Ok(true) };
        if database.get(row)? == *expected {
            Ok(true)
        } else {
            Err(IndexError("another attempt on the key came between".into()))
        }
    }

    fn add_to(&self, batch: &mut Batch) {
        for (row, value) in &self.puts {
            batch.put(row, value);
        }
        for row in &self.deletes {
            batch.delete(row);
        }
    }
}

/// Writes that share a batch.
struct Group {
    batch: Batch,
    /// The rows that the batch writes.
    rows: HashSet<Vec<u8>>,
    durability: Durability,
    replies: Vec<Reply>,
}

impl Default for Group {
    fn default() -> Self {
        let (rows, replies) = (HashSet::new(), Vec::new());
        Self { batch: Batch::new(), rows, durability: Durability::Process, replies }
    }
}

impl Group {
    fn touches(&self, change: &Change) -> bool {
        let condition = change.condition.as_ref().map(|(row, _)| row);
        condition.into_iter().chain(&change.required).any(|row| self.rows.contains(row))
    }

    fn add(&mut self, database: &Database, Write { change, reply }: Write) {
        match change.check(database) {
            Ok(true) => {}
            refused => return answer(reply, refused),
        }
        change.add_to(&mut self.batch);
        self.rows.extend(change.puts.into_iter().map(|(row, _)| row).chain(change.deletes));
        self.durability = self.durability.max(change.durability);
        self.replies.push(reply);
    }

    fn finish(self, database: &Database, sync: bool) {
        let result = write(database, &self.batch, self.durability.needs_fsync(sync));
        for reply in self.replies {
            let failure = result.as_ref().err().map(|error| IndexError(error.0.clone()));
            answer(reply, failure.map_or(Ok(true), Err));
        }
    }
}

fn write(database: &Database, batch: &Batch, fsync: bool) -> Result<(), IndexError> {
    database.write(batch, fsync).map_err(|error| {
        tracing::error!(%error, "the index can't be written: nothing is written or deleted before the next start");
        IndexError(error.to_string())
    })
}

/// Nobody may wait for the answer any more, which is fine.
fn answer(reply: Reply, result: Result<bool, IndexError>) {
    drop(reply.send(result));
}
