//! One attempt to write a key: what it intends is in the index before it happens, and what comes of
//! it is one atomic batch.
//!
//! Some attempts have the key's claim from their beginning to their end: of those, one at a time. Others
//! take it for each of their writes to the index alone, so that nobody waits while a value streams in; each
//! may take the place of one that began before it, and none that of one that began later. As they don't know
//! each other, only generation names are for them.

use std::ops::Deref;
use std::time::Duration;

use super::claims::Claim;
use super::put::Precondition;
use super::reaper::Open;
use super::{CLAIM_TIMEOUT, Core, MAX_INTENTS};
use crate::error::{Error, Result};
use crate::index::Entry;
use crate::index::notes::RequiredNote;
use crate::key::{Key, Name};
use crate::record::{Intent, Record, Replica};
use crate::volume::VolumeError;

/// With more intents on a key, files that were replaced aren't kept for their readers: a key that is
/// overwritten again and again stays one that can be written.
const CROWDED: usize = 8;

/// An attempt on a key.
pub(super) struct Attempt<'a> {
    store: &'a Core,
    key: &'a Key,
    hold: Hold<'a>,
    /// What the index holds of the key, or held when it was last claimed.
    entry: Entry,
    /// The attempt's number: of its intent, and of its generation names.
    id: u64,
    /// Whether every request that failed was answered.
    certain: bool,
}

/// How an attempt has the key.
enum Hold<'a> {
    /// By its claim, from beginning to end.
    Throughout(&'a Claim),
    /// By a claim of its own for each write of the index; in between, this keeps the reaper off its intent.
    AtTimes(Open),
}

/// The key's claim, for as long as this is.
enum Held<'a> {
    Throughout(&'a Claim),
    Briefly(Claim),
}

impl Deref for Held<'_> {
    type Target = Claim;

    fn deref(&self) -> &Claim {
        match self {
            Self::Throughout(claim) => claim,
            Self::Briefly(claim) => claim,
        }
    }
}

impl<'a> Attempt<'a> {
    /// Begins an attempt on a key of which the index holds `entry`. Writes nothing yet. Without the key's
    /// claim, others may write it meanwhile.
    pub(super) async fn begin(
        store: &'a Core,
        key: &'a Key,
        claim: Option<&'a Claim>,
        entry: Entry,
    ) -> Result<Self> {
        check_room(&entry)?;
        let id = store.index.generation().await?;
        let at_times = || Hold::AtTimes(store.reaper.keep_off(key, id));
        let hold = claim.map_or_else(at_times, Hold::Throughout);
        Ok(Self { store, key, hold, entry, id, certain: true })
    }

    /// The key's claim; `entry` is what the index holds as long as it is held.
    async fn claimed(&mut self) -> Result<Held<'a>> {
        if let Hold::Throughout(claim) = self.hold {
            return Ok(Held::Throughout(claim));
        }
        let claim = self.store.claims.wait(self.key, CLAIM_TIMEOUT).await.ok_or(Error::Busy)?;
        self.entry = self.store.index.get(self.key)?;
        Ok(Held::Briefly(claim))
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
        let mut after = self.entry.clone();
        if let Some(intent) = after.intents.iter_mut().find(|intent| intent.id == self.id) {
            intent.files.extend_from_slice(files);
        } else {
            check_room(&self.entry)?;
            after.intents.push(Intent { id: self.id, files: files.to_vec() });
        }
        self.store.index.commit(self.key(), &self.entry, &after, true).await?;
        self.entry = after;
        Ok(())
    }

    /// Notes that a file's PUT failed.
    pub(super) fn failed(&mut self, file: &Replica, error: &VolumeError) {
        tracing::warn!(key = %self.key(), place = %file.place, %error, "replica not written");
        self.certain &= error.is_certain();
    }

    /// Notes that some request of the attempt stays unanswered.
    pub(super) fn doubt(&mut self) {
        self.certain = false;
    }

    /// *Index write 2*, one atomic batch: the record in, its files out of the intent, an intent for
    /// the files that it replaces in, and the note out that ends with it. Where the key doesn't hold what it
    /// must by then, or what must be noted isn't, the attempt is abandoned.
    ///
    /// When the index fails here, nobody knows whether the record counts: nothing is deleted, and the
    /// next start finds either the record or the intent.
    pub(super) async fn commit(
        mut self,
        record: Record,
        when: &Precondition,
        required: Option<&RequiredNote>,
    ) -> Result<()> {
        let claim = match self.claimed().await {
            Ok(claim) => claim,
            Err(error) => {
                self.leave_to_the_reaper();
                return Err(error);
            }
        };
        if let Err(refusal) = self.check_unclaimed(when, required) {
            let overtaken = matches!(refusal, Error::Busy) && self.is_overtaken(when);
            let ended = overtaken && self.end_upload(required).await?;
            self.settle(&claim).await;
            return match (overtaken, ended) {
                (true, true) => Ok(()),
                // somebody else ended its upload
                (true, false) => Err(Error::NoUpload),
                (false, _) => Err(refusal),
            };
        }
        let Self { store, hold, entry: before, id, certain, .. } = self;
        let mut after = before.clone();
        for intent in &mut after.intents {
            if intent.id == id {
                intent.files.retain(|file| !record.replicas.contains(file));
            }
        }
        after.intents.retain(|intent| !intent.files.is_empty());
        let replaced: Vec<Replica> = before.record.iter().flat_map(|old| old.replicas.clone()).collect();
        let replaced: Vec<Replica> = replaced
            .into_iter()
            .filter(|file| {
                !record.replicas.contains(file) && !store.options.forgotten.contains(file.place.volume())
            })
            .collect();
        let mut surplus = None;
        if !replaced.is_empty() {
            let intent = Intent { id: store.index.generation().await?, files: replaced };
            surplus = Some(intent.id);
            after.intents.push(intent);
        }
        after.record = Some(record);
        let committed = match required {
            None => store.index.commit(claim.key(), &before, &after, true).await.map(|()| true),
            Some(required) => store.index.commit_if(claim.key(), &before, &after, required).await,
        };
        if !committed? {
            store.settle(&claim, &before, id, certain).await;
            return Err(Error::NoUpload);
        }
        if let (Hold::AtTimes(open), Precondition::Always) = (&hold, when) {
            open.overtake(claim.key());
        }
        if after.intents.iter().any(|intent| intent.id == id) {
            store.reaper.add(claim.key(), id, certain, Duration::ZERO);
        }
        match surplus {
            Some(surplus) if store.options.reader_grace.is_zero() || after.intents.len() > CROWDED => {
                store.settle(&claim, &after, surplus, true).await;
            }
            Some(surplus) => store.reaper.add(claim.key(), surplus, true, store.options.reader_grace),
            None => {}
        }
        Ok(())
    }

    /// Whether the record may take effect, after others could write the key.
    fn check_unclaimed(&self, when: &Precondition, required: Option<&RequiredNote>) -> Result<()> {
        if matches!(self.hold, Hold::Throughout(_)) {
            return Ok(());
        }
        let record = self.entry.record.as_ref();
        self.store.check_noted(required)?;
        when.check(record)?;
        self.store.check_replaceable(self.key, record)?;
        // a rebuild takes the highest number for the newest value
        let newer = |replica: &Replica| matches!(replica.name, Name::Generation(number) if number > self.id);
        if record.is_some_and(|record| record.replicas.iter().any(newer)) {
            return Err(Error::Busy);
        }
        let intended = self.entry.intents.iter().any(|intent| intent.id == self.id);
        if intended { Ok(()) } else { Err(Error::Index("an intent ended before its attempt".into())) }
    }

    /// Whether the attempt may be taken for one that took effect just before a later one, which replaced it:
    /// neither made the other's a condition.
    fn is_overtaken(&self, when: &Precondition) -> bool {
        let Hold::AtTimes(open) = &self.hold else { return false };
        *when == Precondition::Always && !self.store.options.protect && open.is_overtaken()
    }

    /// Ends the upload that the attempt would have ended, if it would, and tells whether it was still noted.
    async fn end_upload(&self, required: Option<&RequiredNote>) -> Result<bool> {
        match required.filter(|required| required.ends) {
            None => Ok(true),
            Some(required) => Ok(self.store.index.end_note(&required.note).await?),
        }
    }

    /// Closes the intent: deletes what was written, and leaves the rest to the reaper.
    pub(super) async fn abandon(mut self) {
        match self.claimed().await {
            Ok(claim) => self.settle(&claim).await,
            Err(_error) => self.leave_to_the_reaper(),
        }
    }

    async fn settle(&self, claim: &Claim) {
        self.store.settle(claim, &self.entry, self.id, self.certain).await;
    }

    fn leave_to_the_reaper(&self) {
        self.store.reaper.add(self.key, self.id, self.certain, Duration::ZERO);
    }
}

fn check_room(entry: &Entry) -> Result<()> {
    if entry.intents.len() < MAX_INTENTS { Ok(()) } else { Err(Error::Unsettled) }
}
