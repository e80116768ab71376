//! Whose index this is, and which run of a program has the volumes.
//!
//! The index and the owner file of each volume hold the line of the index and the number of the run. The number rises at
//! each start, and at most once a minute while the index is written: first in the index, and then in the files. So an
//! older state of the index (a snapshot of its disk, a copy, or an index that was rebuilt while a master went on writing)
//! has a lower number than the files, and is refused when it is used.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use tokio::time::sleep;

use super::core::Core;
use super::standing::IdentifyError;
use super::survey::Look;
use crate::clock::Timestamp;
use crate::identity::{Id, Owner, OwnerFile, Run, Seen};
use crate::index::{IndexError, number_floor};
use crate::volume::Volume;

impl Core {
    /// Whose index this is in this run, and whether another program may still have the volumes.
    pub(super) async fn next_owner(&self, looks: &[(String, Look)]) -> Result<(Owner, bool), IdentifyError> {
        let home = self.index.home()?;
        let new_line = || Run { line: self.random_id(), number: 1 };
        let Some(last) = self.last_owner(looks).await? else {
            let (store, since, run) = (self.random_id(), Timestamp::now(), new_line());
            let owner = Owner { store, since, run, home, ended: false, own_from: 0, ancestors: Vec::new() };
            return Ok((owner, false));
        };
        let is_copy = last.home != home && !last.ended;
        let owner = if last.home == home {
            Owner { run: Run { number: last.run.number.saturating_add(1), ..last.run }, ended: false, ..last }
        } else {
            // the next copy of the place where it was must be told from this one
            let ancestors = last.ancestors_of_a_new_line();
            let own_from = if is_copy { self.numbers_from_here().await? } else { last.own_from };
            Owner { run: new_line(), home, ended: false, own_from, ancestors, ..last }
        };
        let may_be_anothers =
            |file: Option<OwnerFile>| file.is_none_or(|file| !file.ended && file.run.line != owner.run.line);
        let is_contested = files(looks, owner.store).any(may_be_anothers);
        Ok((owner, is_contested))
    }

    /// What the index knows of itself; `None` if it was made before there were identities.
    ///
    /// # Errors
    ///
    /// The volumes were last written with another index, or with a later state of this one.
    pub(super) async fn last_owner(&self, looks: &[(String, Look)]) -> Result<Option<Owner>, IdentifyError> {
        let Some(last) = self.index.owner().await? else {
            // An index of minikeyvalue or of davkv 0.1. Even if it comes after that of the store, nothing tells it from
            // one that comes before.
            let mut markers =
                seen(looks).flat_map(|(name, seen)| seen.markers().map(move |marker| (name, marker)));
            return match markers.next() {
                None => Ok(None),
                Some((volume, marker)) => {
                    Err(IdentifyError::WithoutIdentity { volume: volume.to_owned(), store: marker.store })
                }
            };
        };
        if files(looks, last.store).flatten().all(|file| last.knows(file.run)) {
            Ok(Some(last))
        } else {
            Err(IdentifyError::Outdated)
        }
    }

    /// Makes numbers that no other copy of the index has given out, and returns the first of them.
    async fn numbers_from_here(&self) -> Result<u64, IndexError> {
        let next = self.index.first_unreserved().await?.max(number_floor(Timestamp::now()));
        self.index.reserve_beyond(next).await?;
        self.index.first_unreserved().await
    }

    /// Raises the number of the run now and then, if the index was written since, until the store stops.
    pub(super) async fn raise_often(self: Arc<Self>) {
        loop {
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => return,
                () = sleep(self.options.raise_every) => {}
            }
            if self.is_to_rise()
                && let Err(error) = self.raise(false).await
            {
                tracing::warn!(%error, "the index can't note that it was written: a copy of it that is older may pass");
            }
        }
    }

    /// Whether the index was written since the number rose.
    fn is_to_rise(&self) -> bool {
        if self.index.take_written() {
            self.unraised.store(true, Ordering::Relaxed);
        }
        self.unraised.load(Ordering::Relaxed)
    }

    /// Raises the number of the run, and notes whether the run has ended.
    async fn raise(&self, ended: bool) -> Result<(), IndexError> {
        let Some(owner) = self.owner() else { return Ok(()) };
        let Some(volumes) = self.owned_volumes().await? else { return Ok(()) };
        let number = owner.run.number.saturating_add(1);
        let owner = Owner { run: Run { number, ..owner.run }, ended, ..owner };
        self.index.set_owner(&owner).await?;
        self.unraised.store(false, Ordering::Relaxed);
        self.set_owner(owner.clone());
        write_files(&volumes, &owner, ended).await;
        Ok(())
    }

    /// Says in the index and on the volumes that this run has ended, unless some of its writes were cut off.
    pub(super) async fn release(&self, were_cut_off: bool) {
        if self.taken.is_cancelled() {
            return;
        }
        let (ended, rises) = (!were_cut_off, self.is_to_rise() || were_cut_off);
        let released = if rises { self.raise(ended).await } else { self.end().await };
        if let Err(error) = released {
            tracing::error!(%error, "the index can't note that it was closed");
        }
    }

    /// Notes that the run has ended, and wrote nothing since its number rose.
    async fn end(&self) -> Result<(), IndexError> {
        let Some(owner) = self.owner() else { return Ok(()) };
        let Some(volumes) = self.owned_volumes().await? else { return Ok(()) };
        let owner = Owner { ended: true, ..owner };
        self.index.set_owner(&owner).await?;
        write_files(&volumes, &owner, true).await;
        Ok(())
    }

    /// The volumes that this run has; `None` if another program has taken one of them: then its number may be the one
    /// that ours would rise to.
    async fn owned_volumes(&self) -> Result<Option<Vec<Arc<Volume>>>, IndexError> {
        let known = self.index.known_volumes().await?;
        let volumes: Vec<_> = known.keys().map(|name| self.volumes.named(name)).collect();
        let mut are_taken = false;
        let looks = join_all(volumes.iter().map(|volume| volume.is_taken())).await;
        for (volume, _) in volumes.iter().zip(looks).filter(|(_, is_taken)| *is_taken) {
            are_taken = true;
            volume.bar();
        }
        Ok((!are_taken).then_some(volumes))
    }

    pub(super) fn random_id(&self) -> Id {
        let halves = [(self.random)(), (self.random)()];
        let mut bytes = [0; 16];
        for (part, half) in bytes.chunks_exact_mut(8).zip(halves) {
            part.copy_from_slice(&half.to_be_bytes());
        }
        Id::new(bytes)
    }
}

/// Has the owner files written of the volumes that take part. One that can't be asked now is written when it can.
async fn write_files(volumes: &[Arc<Volume>], owner: &Owner, ended: bool) {
    join_all(volumes.iter().filter(|volume| !volume.is_out()).map(|volume| async move {
        volume.change_owner(owner, ended);
        if !volume.is_down()
            && let Err(error) = volume.verify().await
        {
            tracing::debug!(volume = volume.name(), %error, "its owner file isn't written now");
        }
    }))
    .await;
}

/// What was seen of the volumes that could be looked at.
fn seen(looks: &[(String, Look)]) -> impl Iterator<Item = (&str, &Seen)> {
    looks.iter().filter_map(|(name, look)| Some((name.as_str(), look.as_ref().ok()?)))
}

/// The owner files of the volumes of that store.
fn files(looks: &[(String, Look)], store: Id) -> impl Iterator<Item = Option<OwnerFile>> {
    seen(looks).filter(move |(_, seen)| seen.is_of(store)).map(|(_, seen)| seen.owner)
}
