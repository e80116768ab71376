//! The thread through which all writes of the index go: it gathers what is waiting into one batch and
//! one fsync.

use std::collections::HashSet;
use std::sync::mpsc;

use tokio::sync::oneshot;

use super::Failure;
use crate::leveldb::{Batch, Database};

/// At most so many writes share one batch: enough to spread an fsync, few enough to answer soon.
const GROUP: usize = 512;

/// One write, on its way to the writer thread.
pub(super) struct Write {
    pub(super) puts: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) deletes: Vec<Vec<u8>>,
    /// A row and what it must hold when the write is carried out.
    pub(super) condition: Option<(Vec<u8>, Option<Vec<u8>>)>,
    pub(super) durability: Durability,
    pub(super) reply: oneshot::Sender<Result<(), Failure>>,
}

/// What a write must survive when it is answered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Durability {
    /// The end of this process.
    Process,
    /// A loss of power, where the index was opened with `sync`.
    AsOpened,
    /// A loss of power.
    Power,
}

/// The writer thread: carries out writes in the order of their arrival until the index is closed.
pub(super) fn write_all(database: &Database, writes: &mpsc::Receiver<Write>, sync: bool) {
    let mut next = writes.recv().ok();
    while let Some(first) = next.take() {
        let mut group = Group {
            batch: Batch::new(),
            rows: HashSet::new(),
            durability: Durability::Process,
            replies: vec![],
        };
        group.add(database, first);
        while group.replies.len() < GROUP {
            match writes.try_recv() {
                // a condition is on what the batches before have left in the index
                Ok(write) if group.touches(&write) => {
                    next = Some(write);
                    break;
                }
                Ok(write) => group.add(database, write),
                Err(_) => break,
            }
        }
        group.finish(database, sync);
        next = next.or_else(|| writes.recv().ok());
    }
}

/// Writes that share a batch.
struct Group {
    batch: Batch,
    /// The rows that the batch writes.
    rows: HashSet<Vec<u8>>,
    durability: Durability,
    replies: Vec<oneshot::Sender<Result<(), Failure>>>,
}

impl Group {
    fn touches(&self, write: &Write) -> bool {
        write.condition.as_ref().is_some_and(|(row, _)| self.rows.contains(row))
    }

    fn add(&mut self, database: &Database, write: Write) {
        if let Some((row, expected)) = &write.condition {
            let refusal = match database.get(row) {
                Ok(found) if found == *expected => None,
                Ok(_) => Some(Failure("another attempt on the key came between".into())),
                Err(error) => Some(error.into()),
            };
            if let Some(refusal) = refusal {
                return answer(write.reply, Err(refusal));
            }
        }
        for (row, value) in &write.puts {
            self.batch.put(row, value);
        }
        for row in &write.deletes {
            self.batch.delete(row);
        }
        self.rows.extend(write.puts.into_iter().map(|(row, _)| row).chain(write.deletes));
        self.durability = self.durability.max(write.durability);
        self.replies.push(write.reply);
    }

    fn finish(self, database: &Database, sync: bool) {
        let sync = match self.durability {
            Durability::Process => false,
            Durability::AsOpened => sync,
            Durability::Power => true,
        };
        let result = database.write(&self.batch, sync);
        if let Err(error) = &result {
            tracing::error!(%error, "the index can't be written: nothing is written or deleted before the next start");
        }
        for reply in self.replies {
            let failure = result.as_ref().err().map(|error| Failure(error.to_string()));
            answer(reply, failure.map_or(Ok(()), Err));
        }
    }
}

/// Nobody may wait for the answer any more, which is fine.
fn answer(reply: oneshot::Sender<Result<(), Failure>>, result: Result<(), Failure>) {
    drop(reply.send(result));
}
