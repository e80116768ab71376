//! One attempt to write a key: what it intends is in the index before it happens, and what comes of
//! it is one atomic batch.

use std::time::Duration;

use super::claims::Claim;
use super::{Inner, MAX_INTENTS};
use crate::error::{Error, Result};
use crate::index::Entry;
use crate::key::{Key, Name};
use crate::record::{Intent, Record, Replica};
use crate::volume::VolumeError;

/// An attempt that has the key's claim.
pub(super) struct Attempt<'a> {
    store: &'a Inner,
    claim: &'a Claim,
    /// What the index holds of the key.
    entry: Entry,
    /// The attempt's number: of its intent, and of its generation names.
    id: u64,
    /// Whether every request that failed was answered.
    certain: bool,
}

impl<'a> Attempt<'a> {
    /// Begins an attempt on a key of which the index holds `entry`. Writes nothing yet.
    pub(super) async fn begin(store: &'a Inner, claim: &'a Claim, entry: Entry) -> Result<Self> {
        if entry.intents.len() >= MAX_INTENTS {
            return Err(Error::Unsettled);
        }
        let id = store.index.generation().await?;
        Ok(Self { store, claim, entry, id, certain: true })
    }

    pub(super) fn key(&self) -> &'a Key {
        self.claim.key()
    }

    /// The name that no other attempt has.
    pub(super) fn own_name(&self) -> Name {
        Name::Generation(self.id)
    }

    /// *Index write 1*: files of these names may lie on these volumes from now on.
    pub(super) async fn intend(&mut self, files: &[Replica]) -> Result<()> {
        let mut after = self.entry.clone();
        match after.intents.iter_mut().find(|intent| intent.id == self.id) {
            Some(intent) => intent.files.extend_from_slice(files),
            None => after.intents.push(Intent { id: self.id, files: files.to_vec() }),
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
    /// the files that it replaces in.
    ///
    /// When the index fails here, nobody knows whether the record counts: nothing is deleted, and the
    /// next start finds either the record or the intent.
    pub(super) async fn commit(self, record: Record) -> Result<()> {
        let Self { store, claim, entry: before, id, certain } = self;
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
        store.index.commit(claim.key(), &before, &after, true).await?;
        if after.intents.iter().any(|intent| intent.id == id) {
            store.reaper.add(claim.key(), id, certain, Duration::ZERO);
        }
        match surplus {
            Some(surplus) if store.options.reader_grace.is_zero() => {
                store.settle(claim, &after, surplus, true).await;
            }
            Some(surplus) => store.reaper.add(claim.key(), surplus, true, store.options.reader_grace),
            None => {}
        }
        Ok(())
    }

    /// Closes the intent: deletes what was written, and leaves the rest to the reaper.
    pub(super) async fn abandon(self) {
        self.store.settle(self.claim, &self.entry, self.id, self.certain).await;
    }
}
