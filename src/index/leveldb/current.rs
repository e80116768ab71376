//! The database that is open, which a failed write makes one that is only read, until it is opened again.
//!
//! Reads hold the slot's lock for as long as they take, and never across a wait. Writes hold the write lock, and
//! the slot's from the first row that they read to the last that they write, so that what a write decides on is
//! what it changes. Opening the database again takes both: LevelDB allows a directory to be open once, so
//! the old database has to be closed first. Reads wait meanwhile.

use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};

use tokio::sync::{RwLock, RwLockReadGuard, watch};

use super::{open_again, open_database};
use crate::index::error::IndexError;
use crate::leveldb::{Batch, Database, Iter, Lock};

/// The database of one index. Its callers, the writer thread and scans share it.
pub(super) struct Current {
    path: PathBuf,
    cache_bytes: usize,
    /// Held by whoever writes, from the first row that it reads on.
    write_lock: Mutex<()>,
    slot: RwLock<Slot>,
    /// Whether reads show what is on the disk: no write has failed since the database was opened.
    fresh: watch::Sender<bool>,
    /// The snapshots of dumps, which keep the database open.
    snapshots: Mutex<Vec<Weak<Mutex<Option<Snapshot>>>>>,
}

/// The rows of a dump that are still to be written. LevelDB keeps their files as long as this lives.
pub(super) struct Snapshot {
    pub(super) rows: Iter<'static>,
    pub(super) database: Arc<Database>,
}

/// A snapshot, which is taken away from its dump when the database must be closed.
pub(super) type Held = Arc<Mutex<Option<Snapshot>>>;

/// The place for the database.
pub(super) enum Slot {
    /// It is open.
    Open(Arc<Database>),
    /// It was closed, and can't be opened again now; says why.
    Broken(String, Lock),
    /// It is closed for good.
    Closed,
}

/// The right to write, and the database to write to.
pub(super) struct Writing<'a> {
    current: &'a Current,
    slot: RwLockReadGuard<'a, Slot>,
    _write_lock: MutexGuard<'a, ()>,
}

impl Slot {
    pub(super) fn database(&self) -> Result<&Arc<Database>, IndexError> {
        match self {
            Self::Open(database) => Ok(database),
            Self::Broken(why, _) => Err(IndexError::new(why.clone())),
            Self::Closed => Err(IndexError::new("the index is closed")),
        }
    }
}

impl Current {
    /// Opens the database. Blocking.
    pub(super) fn open(path: &Path, create: bool, cache_bytes: usize) -> Result<Self, IndexError> {
        let database = Arc::new(open_database(path, create, cache_bytes)?);
        Ok(Self {
            path: path.to_owned(),
            cache_bytes,
            write_lock: Mutex::default(),
            slot: RwLock::new(Slot::Open(database)),
            fresh: watch::Sender::new(true),
            snapshots: Mutex::default(),
        })
    }

    /// The slot, for a read that takes a moment.
    pub(super) async fn read(&self) -> RwLockReadGuard<'_, Slot> {
        match self.slot.try_read() {
            Ok(slot) => slot,
            Err(_reopening) => self.slot.read().await,
        }
    }

    /// As [`Current::read`], on a thread that may block.
    pub(super) fn read_blocking(&self) -> RwLockReadGuard<'_, Slot> {
        self.slot.blocking_read()
    }

    /// The right to write, if nobody else has it.
    pub(super) fn try_writing(&self) -> Option<Writing<'_>> {
        let write_lock = match self.write_lock.try_lock() {
            Ok(lock) => lock,
            Err(TryLockError::Poisoned(lock)) => lock.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        // whoever takes the slot from readers has the write lock
        let slot = self.slot.try_read().ok()?;
        Some(Writing { current: self, slot, _write_lock: write_lock })
    }

    /// The right to write, on a thread that may block.
    pub(super) fn writing(&self) -> Writing<'_> {
        let write_lock = self.take_write_lock();
        Writing { current: self, slot: self.slot.blocking_read(), _write_lock: write_lock }
    }

    pub(super) fn is_fresh(&self) -> bool {
        *self.fresh.borrow()
    }

    /// Returns once a write has failed, at once if one has.
    pub(super) async fn failed(&self) {
        // the sender lives in `self`, so waiting can't fail
        drop(self.fresh.subscribe().wait_for(|fresh| !fresh).await);
    }

    /// Opens the database again after a write that failed: only this shows what came of the write. Blocking.
    ///
    /// As long as the directory can't take what an opening writes, nothing changes, and reads go on. If the opening
    /// fails all the same, reads fail until a later one succeeds.
    pub(super) fn reopen(&self) -> Result<(), IndexError> {
        let checked = match &*self.slot.blocking_read() {
            Slot::Open(database) => database.lock().check_reopening(&self.path),
            Slot::Broken(_, lock) => lock.check_reopening(&self.path),
            Slot::Closed => Ok(()),
        };
        let cannot = || format!("the index {} can't be written", self.path.display());
        checked.map_err(|error| IndexError::because(cannot(), error))?;
        let _write_lock = self.take_write_lock();
        let mut slot = self.slot.blocking_write();
        self.take_snapshots();
        let lock = match mem::replace(&mut *slot, Slot::Closed) {
            Slot::Open(database) => match Arc::try_unwrap(database) {
                Ok(database) => database.release(),
                Err(in_use) => {
                    *slot = Slot::Open(in_use);
                    return Err(IndexError::new("the index is still being read"));
                }
            },
            Slot::Broken(_, lock) => lock,
            Slot::Closed => return slot.database().map(drop),
        };
        match open_again(&self.path, self.cache_bytes, lock) {
            Ok(database) => {
                *slot = Slot::Open(Arc::new(database));
                self.fresh.send_replace(true);
                Ok(())
            }
            Err((error, lock)) => {
                *slot = Slot::Broken(error.to_string(), lock);
                Err(error)
            }
        }
    }

    /// Closes the database, whoever still has the index: what they ask for from now on fails. Leaves it in a form
    /// that minikeyvalue can open, or logs that this failed. Blocking.
    pub(super) fn close(&self) {
        let _write_lock = self.take_write_lock();
        self.fresh.send_replace(false);
        let mut slot = self.slot.blocking_write();
        self.take_snapshots();
        let closed = match mem::replace(&mut *slot, Slot::Closed) {
            Slot::Open(database) => match Arc::into_inner(database) {
                Some(database) => database.close().map_err(IndexError::from),
                None => Err(IndexError::new("it is still being read")),
            },
            Slot::Broken(why, _lock) => Err(IndexError::new(why)),
            Slot::Closed => Ok(()),
        };
        if let Err(error) = closed {
            let path = self.path.display();
            tracing::error!(
                %error,
                "the index {path} keeps writes in LevelDB's log, which davkv reads and minikeyvalue skips: before \
                 minikeyvalue opens it, start and stop davkv once more"
            );
        }
    }

    /// Keeps the snapshot of a dump, from which the dump is taken when the database must be closed. The caller
    /// holds the slot.
    pub(super) fn hold(&self, snapshot: Snapshot) -> Held {
        let held = Arc::new(Mutex::new(Some(snapshot)));
        let mut snapshots = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        snapshots.retain(|snapshot| snapshot.strong_count() > 0);
        snapshots.push(Arc::downgrade(&held));
        held
    }

    /// Ends all dumps; one that writes a page finishes that first.
    fn take_snapshots(&self) {
        let mut snapshots = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        for held in snapshots.drain(..).filter_map(|snapshot| snapshot.upgrade()) {
            drop(held.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }

    fn take_write_lock(&self) -> MutexGuard<'_, ()> {
        self.write_lock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writing<'_> {
    pub(super) fn database(&self) -> Result<&Database, IndexError> {
        self.slot.database().map(Arc::as_ref)
    }

    /// Writes the batch. After a failure, nothing more is written until the database is opened again.
    pub(super) fn write(&self, batch: &Batch, fsync: bool) -> Result<(), IndexError> {
        self.database()?.write(batch, fsync).map_err(|error| {
            let error = IndexError::because("the index can't be written", error);
            if self.current.fresh.send_replace(false) {
                tracing::error!(%error, "nothing is written or deleted until the index can be opened again");
            }
            error
        })
    }
}
