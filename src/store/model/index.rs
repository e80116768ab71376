//! The index that the store sees: the simulated engine on the world's rows, where every call can fail.

use futures_util::future::BoxFuture;

use super::calls::World;
use super::fault::{Fault, Kind};
use super::world;
use crate::index::IndexError;
use crate::index::simulated::{Decide, Read, Rows, Stage};
use crate::index::steps::Effect;

/// So small that reservations are among the calls of every scenario.
const NUMBER_BLOCK: u64 = 2;

impl Stage for World {
    fn read(&self, read: Read) -> BoxFuture<'_, Result<(), IndexError>> {
        Box::pin(async move {
            let (kind, failure) = match read {
                Read::Row => (Kind::Get, "a block can't be read"),
                Read::Page => (Kind::Page, "a scan failed"),
            };
            if self.meet(kind, "").await.is_some() {
                return Err(IndexError::new(failure));
            }
            if self.state().index.opened == world::Opened::Closed {
                return Err(IndexError::new("the index is closed"));
            }
            if read == Read::Page {
                self.linger_scanning().await;
            }
            Ok(())
        })
    }

    fn return_read(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let late = self.state().reads_return_late;
            if late {
                self.linger().await;
            }
        })
    }

    fn show(&self, look: &mut dyn FnMut(&Rows<'_>)) {
        let world = self.state();
        look(&world.index_rows());
    }

    /// What is written survives the store's end, durable or not.
    fn write(&self, decide: Decide) -> BoxFuture<'_, Result<Effect, IndexError>> {
        Box::pin(async move {
            let fault = self.meet(Kind::Commit, "").await;
            self.linger().await;
            self.wrote(fault, |world| world.commit(decide, fault)).await
        })
    }

    fn number(&self) -> BoxFuture<'_, Result<u64, IndexError>> {
        Box::pin(async move {
            if self.state().index.reserved.is_empty() {
                let fault = self.meet(Kind::Reserve, "").await;
                let first = self.first_unreserved();
                let end = first + NUMBER_BLOCK;
                self.wrote(fault, |world| world.reserve(end, fault)).await?;
                self.state().index.reserved = first..end;
            } else {
                self.meet(Kind::Generation, "").await;
            }
            let next = self.state().index.reserved.next();
            Ok(next.expect("some are reserved"))
        })
    }

    fn first_unreserved(&self) -> u64 {
        self.state().index.first_unreserved.max(1)
    }

    fn reserve_beyond(&self, seen: u64) -> BoxFuture<'_, Result<(), IndexError>> {
        Box::pin(async move {
            let fault = self.meet(Kind::Reserve, "").await;
            self.wrote(fault, |world| world.reserve(seen + NUMBER_BLOCK, fault)).await
        })
    }

    fn home(&self) -> String {
        format!("place {}", self.who())
    }

    fn take_written(&self) -> bool {
        std::mem::take(&mut self.state().index.written)
    }

    fn is_fresh(&self) -> bool {
        !self.state().is_read_only()
    }

    fn failed(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.write_failed())
    }

    fn reopen(&self) -> BoxFuture<'_, Result<(), IndexError>> {
        Box::pin(async move {
            let fault = self.meet(Kind::Reopen, "").await;
            self.linger().await;
            match fault {
                Some(Fault::Fails) => return Err(IndexError::new("the disk is full")),
                Some(Fault::StaysClosed) => {
                    self.state().index.opened = world::Opened::Closed;
                    return Err(IndexError::new("the disk is full, and the index closed"));
                }
                _ => self.state().open(),
            }
            if fault.is_some_and(Fault::is_stop) {
                self.stop().await;
            }
            Ok(())
        })
    }
}

impl World {
    /// Ends a write: the store may not live to see it.
    async fn wrote<T>(
        &self,
        fault: Option<Fault>,
        write: impl FnOnce(&mut world::State) -> Result<T, &'static str>,
    ) -> Result<T, IndexError> {
        let written = {
            let mut world = self.state();
            if world.has_stopped() { Err("") } else { write(&mut world) }
        };
        self.wrote_one();
        if fault.is_some_and(Fault::is_stop) || self.state().has_stopped() {
            self.stop().await;
        }
        written.map_err(IndexError::new)
    }
}
