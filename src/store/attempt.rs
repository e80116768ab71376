//! One attempt to write a key: its files are named in the index before they exist, and its value becomes
//! visible in one atomic step.
//!
//! Some attempts hold the key's claim from their beginning to their end: of those, there is one at a time. Others
//! hold it for each of their writes to the index alone, so that nobody waits while a value streams in; each
//! may take the place of one that began before it, and none that of one that began later. As they don't know
//! each other, only generation names are for them.

use std::ops::Deref;
use std::time::Duration;

use super::caller::Caller;
use super::claims::Claim;
use super::core::{Core, carried_out, unforeseen};
use super::under_way::Guard;
use crate::error::{Error, Result};
use crate::index::IndexError;
use crate::index::steps::{Conditions, Done, Effect, Precondition, Resolved, Surplus};
use crate::key::{Key, Name};
use crate::record::{Intent, Record, Replica};
use crate::volume::VolumeError;

/// With more intents on a key, replaced files aren't kept for their readers: a key that is overwritten again
/// and again stays one that can be written.
const CROWDED: usize = 8;

/// An attempt on a key.
pub(super) struct Attempt<'a> {
    store: &'a Core,
    key: &'a Key,
    mode: ClaimMode<'a>,
    /// Without the claim, keeps the reaper off the attempt's intent.
    under_way: Option<Guard>,
    conditions: Conditions,
    /// The attempt's number: of its intent, and of its generation names.
    id: u64,
    /// The files that its intent names. None before the intent is in the index.
    files: Vec<Replica>,
    /// Whether every request that failed was answered.
    all_answered: bool,
}

/// How an attempt holds the key's claim.
#[derive(Clone, Copy)]
pub(super) enum ClaimMode<'a> {
    /// From beginning to end.
    WholeAttempt(&'a Claim),
    /// For each write of the index, for which this caller waits.
    PerWrite(&'a Caller),
}

/// The key's claim, for as long as this is.
enum CurrentClaim<'a> {
    Borrowed(&'a Claim),
    Owned(Claim),
}

impl Deref for CurrentClaim<'_> {
    type Target = Claim;

    fn deref(&self) -> &Claim {
        match self {
            Self::Borrowed(claim) => claim,
            Self::Owned(claim) => claim,
        }
    }
}

impl<'a> Attempt<'a> {
    /// Begins an attempt on a key. Writes nothing yet. Without the key's claim, others may write it meanwhile.
    pub(super) async fn begin(
        store: &'a Core,
        key: &'a Key,
        mode: ClaimMode<'a>,
        conditions: Conditions,
    ) -> Result<Self> {
        let id = store.index.number().await?;
        let under_way = match mode {
            ClaimMode::WholeAttempt(_) => None,
            ClaimMode::PerWrite(_) => Some(store.under_way.enter(key, id)),
        };
        Ok(Self { store, key, mode, under_way, conditions, id, files: Vec::new(), all_answered: true })
    }

    async fn claimed(&self) -> Result<CurrentClaim<'a>> {
        let claims = &self.store.claims;
        match self.mode {
            ClaimMode::WholeAttempt(claim) => Ok(CurrentClaim::Borrowed(claim)),
            ClaimMode::PerWrite(caller) if self.files.is_empty() => {
                claims.wait(self.key, caller).await.map(CurrentClaim::Owned)
            }
            ClaimMode::PerWrite(caller) => {
                claims.wait_to_go_on(self.key, caller).await.map(CurrentClaim::Owned)
            }
        }
    }

    pub(super) fn key(&self) -> &'a Key {
        self.key
    }

    /// The name that no other attempt has.
    pub(super) fn own_name(&self) -> Name {
        Name::Generation(self.id)
    }

    /// *Index write 1*: files of these names may lie on these volumes from now on.
    pub(super) async fn intend(&mut self, files: &[Replica]) -> Result<()> {
        let _claim = self.claimed().await?;
        let (index, intent) = (&self.store.index, Intent { id: self.id, files: files.to_vec() });
        let effect = if self.files.is_empty() {
            index.begin(self.key, intent, self.conditions.clone()).await?
        } else {
            index.extend(self.key, intent).await?
        };
        carried_out(effect)?;
        self.files.extend_from_slice(files);
        Ok(())
    }

    /// Notes that a file's PUT failed.
    pub(super) fn failed(&mut self, file: &Replica, error: &VolumeError) {
        self.store.report_not_written(self.key, &file.place, error);
        self.all_answered &= error.is_answered();
    }

    /// Notes that some request of the attempt stays unanswered.
    pub(super) fn doubt(&mut self) {
        self.all_answered = false;
    }

    /// *Index write 2*, one atomic step: the record in, its files out of the intent, an intent for
    /// the files that it replaces in, and the note out that ends with it. Where the key doesn't hold by then
    /// what the attempt requires, the attempt is abandoned.
    pub(super) async fn take_effect(self, record: Record) -> Result<()> {
        let (claim, surplus) = match self.prepare_to_take_effect().await {
            Ok(prepared) => prepared,
            Err(error) => {
                self.leave_to_the_reaper();
                return Err(error);
            }
        };
        let replicas = record.replicas.clone();
        let (index, conditions) = (&self.store.index, self.conditions.clone());
        match index.take_effect(self.key, self.id, record, conditions, surplus.clone()).await {
            Ok(Effect::Done(done)) => {
                self.tidy_up(&claim, &replicas, &surplus, &done).await;
                Ok(())
            }
            Ok(Effect::Refused(refusal)) => {
                self.settle(&claim).await;
                Err(refusal)
            }
            Ok(Effect::Overtaken) => self.end_overtaken(&claim).await,
            Ok(effect) => {
                self.leave_to_the_reaper();
                Err(unforeseen(&effect))
            }
            Err(error) => self.resolve(&claim, &surplus, error).await,
        }
    }

    async fn prepare_to_take_effect(&self) -> Result<(CurrentClaim<'a>, Surplus)> {
        let claim = self.claimed().await?;
        let id = self.store.index.number().await?;
        // last, as waiting for the claim may take a while
        self.store.check_not_taken()?;
        Ok((claim, Surplus { id, forgotten: self.store.options.forgotten.0.clone() }))
    }

    /// Deletes the files that the new record doesn't name, or queues them: those of the attempt, and those of the
    /// record that it replaced.
    async fn tidy_up(&self, claim: &Claim, replicas: &[Replica], surplus: &Surplus, done: &Done) {
        let store = self.store;
        self.overtake_earlier();
        if self.files.iter().any(|file| !replicas.contains(file)) {
            store.queue.add(self.key, self.id, self.all_answered, Duration::ZERO);
        }
        let Some(intent) = surplus.intent(done.replaced.as_ref(), replicas) else { return };
        let grace = store.options.reader_grace;
        if grace.is_zero() || done.intents > CROWDED {
            store.settle(claim, intent, true).await;
        } else {
            store.queue.add(self.key, intent.id, true, grace);
        }
    }

    /// An attempt that began later has taken effect first. If both are unconditional, this one counts as stored
    /// just before the later one, and replaced by it; otherwise it is refused.
    async fn end_overtaken(&self, claim: &Claim) -> Result<()> {
        let ended = match &self.under_way {
            Some(guard) if self.is_unconditional() && guard.is_overtaken() => match self.end_upload().await {
                Ok(true) => Ok(()),
                Ok(false) => Err(Error::NoUpload),
                Err(error) => Err(error),
            },
            _ => Err(Error::Busy),
        };
        self.settle(claim).await;
        ended
    }

    /// Notes that an unconditional write has taken effect, for those that began before it.
    fn overtake_earlier(&self) {
        if let (Some(guard), Precondition::Always) = (&self.under_way, &self.conditions.precondition) {
            guard.overtake(self.key);
        }
    }

    fn is_unconditional(&self) -> bool {
        self.conditions.precondition == Precondition::Always && !self.store.options.protect
    }

    /// Ends the upload that the attempt would have ended, if it would, and tells whether it was still noted.
    async fn end_upload(&self) -> Result<bool> {
        match self.conditions.required.as_ref().filter(|required| required.ends) {
            None => Ok(true),
            Some(required) => Ok(self.store.index.end_note(&required.note).await?),
        }
    }

    /// The index failed, and may have carried the step out. Where it can't tell, nothing is deleted, and when the
    /// index is opened again, either the record or the intent is found.
    async fn resolve(&self, claim: &Claim, surplus: &Surplus, error: IndexError) -> Result<()> {
        match self.store.index.resolve(self.key, self.id, &self.files).await {
            Ok(Resolved::TookEffect) => {
                self.overtake_earlier();
                for id in [self.id, surplus.id] {
                    self.store.queue.add(self.key, id, self.all_answered, self.store.options.reader_grace);
                }
                Ok(())
            }
            Ok(Resolved::Closed) => {
                self.settle(claim).await;
                Err(error.into())
            }
            Ok(Resolved::Gone) | Err(_) => Err(error.into()),
        }
    }

    /// Closes the intent, if there is one: deletes what was written, and leaves the rest to the reaper.
    pub(super) async fn abandon(self) {
        if self.files.is_empty() {
            return;
        }
        match self.claimed().await {
            Ok(claim) => self.settle(&claim).await,
            Err(_error) => self.leave_to_the_reaper(),
        }
    }

    async fn settle(&self, claim: &Claim) {
        let intent = Intent { id: self.id, files: self.files.clone() };
        self.store.settle(claim, intent, self.all_answered).await;
    }

    fn leave_to_the_reaper(&self) {
        if !self.files.is_empty() {
            self.store.queue.add(self.key, self.id, self.all_answered, Duration::ZERO);
        }
    }
}
