//! REBALANCE: moves a value to where its placement wants it, and replaces replicas that are missing, torn or
//! stale.

use futures_util::future::join_all;

use super::attempt::{Attempt, ClaimMode};
use super::claims::Claim;
use super::copy::{CopyError, Fingerprint};
use super::core::Core;
use super::replicas::path;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::index::Entry;
use crate::index::steps::{Conditions, Precondition};
use crate::key::{Key, Name};
use crate::record::{Record, Replica};

/// What a rebalance changed, or would change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rebalanced {
    /// Length of the value in bytes.
    pub size: u64,
    /// Replicas copied to volumes that had none.
    pub moved: u64,
    /// Replicas copied because the one in the record is missing, torn or stale.
    pub repaired: u64,
    /// Files that the record names no more.
    pub removed: u64,
}

/// The work of one rebalance.
struct Plan {
    /// Whole replicas, to copy from.
    sources: Vec<Replica>,
    /// The replicas that the value shall have, by rank.
    wanted: Vec<Replica>,
    /// Those of them that are still to be written.
    missing: Vec<Replica>,
    fingerprint: Fingerprint,
    summary: Rebalanced,
}

impl Plan {
    /// Plans a copy, under that name, in the place of each replica that was to be kept and is no source any more.
    fn replace_rotten(&mut self, record: &Record, fresh: Name) -> Vec<Replica> {
        let mut copies = Vec::new();
        for wanted in &mut self.wanted {
            if !self.sources.contains(wanted) && !self.missing.contains(wanted) {
                wanted.name = fresh;
                copies.push(wanted.clone());
            }
        }
        self.missing.extend_from_slice(&copies);
        self.summary.repaired += copies.len() as u64;
        self.summary.removed = self.count_removed(record);
        copies
    }

    /// The number of files that the record names no more.
    fn count_removed(&self, record: &Record) -> u64 {
        record.replicas.iter().filter(|replica| !self.wanted.contains(replica)).count() as u64
    }
}

impl Core {
    /// What [`Core::rebalance`] would do now.
    pub(super) async fn plan_rebalance(&self, key: &Key) -> Result<Rebalanced> {
        let entry = self.index.entry(key).await?;
        let record = entry.record.as_ref().ok_or(Error::NotFound)?;
        // 0 is the number of no attempt: this plan is never carried out
        Ok(self.plan(key, &entry, record, Name::Generation(0)).await?.summary)
    }

    /// Drops the files on forgotten volumes from all intents, and what is known of these volumes; returns how many
    /// files those were.
    pub(super) async fn forget(&self) -> Result<u64> {
        let forgotten = &self.options.forgotten;
        let (mut start, mut dropped) = (Vec::new(), 0);
        loop {
            let page = self.index.intents_page(&start).await?;
            for (key, intents) in page.rows {
                let files = intents.iter().flat_map(|intent| &intent.files);
                let gone = files.filter(|file| forgotten.contains(file.place.volume())).count() as u64;
                if gone > 0 {
                    self.index.forget(&key, &forgotten.0).await?;
                    dropped += gone;
                }
            }
            match page.next {
                Some(next) => start = next,
                None => break,
            }
        }
        for volume in &forgotten.0 {
            self.index.forget_volume(volume).await?;
        }
        Ok(dropped)
    }

    /// Moves the value to where the volumes want it.
    pub(super) async fn rebalance(&self, claim: &Claim) -> Result<Rebalanced> {
        let key = claim.key();
        let entry = self.index.entry(key).await?;
        let record = entry.record.clone().ok_or(Error::NotFound)?;
        let conditions = Conditions::on(Precondition::Unchanged(Box::new(record.clone())));
        let mut attempt = Attempt::begin(self, key, ClaimMode::WholeAttempt(claim), conditions).await?;
        let mut plan = self.plan(key, &entry, &record, attempt.own_name()).await?;
        if plan.wanted == record.replicas {
            return Ok(plan.summary);
        }
        if !plan.missing.is_empty() {
            attempt.intend(&plan.missing).await?;
        }
        match self.copy_missing(&mut attempt, &record, &mut plan).await {
            Ok(fingerprint) => {
                let Fingerprint { size, md5 } = fingerprint;
                let record = Record { replicas: plan.wanted, size, md5, ..record };
                attempt.take_effect(record).await?;
                Ok(plan.summary)
            }
            Err(error) => {
                attempt.abandon().await;
                Err(error)
            }
        }
    }

    /// Checks all replicas and plans what to copy and what to drop.
    async fn plan(&self, key: &Key, entry: &Entry, record: &Record, fresh: Name) -> Result<Plan> {
        let checks = record.replicas.iter().map(|replica| async move {
            if self.options.forgotten.contains(replica.place.volume()) {
                return Ok(None);
            }
            self.check(key, replica, record).await
        });
        let found = join_all(checks).await;
        let places = self.options.placement.wanted(key);
        let mut sources = Vec::new();
        let (mut unknown, mut needed_unknown) = (false, false);
        for (replica, found) in record.replicas.iter().zip(&found) {
            match found {
                Ok(Some(size)) => sources.push((replica.clone(), *size)),
                Ok(None) => {}
                Err(_) => {
                    unknown = true;
                    needed_unknown |= places.contains(&replica.place);
                }
            }
        }
        if needed_unknown || (sources.is_empty() && unknown) {
            return Err(Error::Unreachable);
        }
        let fingerprint = self.fingerprint(key, record, &mut sources).await?;
        let sources: Vec<Replica> = sources.into_iter().map(|(replica, _)| replica).collect();
        let Some(best) = sources.first() else { return Err(Error::Damaged) };

        let mut summary = Rebalanced { size: fingerprint.size.unwrap_or(0), ..Rebalanced::default() };
        let (mut wanted, mut missing) = (Vec::new(), Vec::new());
        for place in places {
            if let Some(kept) = sources.iter().find(|replica| replica.place == place) {
                wanted.push(kept.clone());
                continue;
            }
            let same = Replica { place: place.clone(), name: best.name };
            let named = entry.intents.iter().any(|intent| intent.files.contains(&same));
            let damaged = record.replicas.iter().any(|replica| replica.place == place);
            if damaged {
                summary.repaired += 1;
            } else {
                summary.moved += 1;
            }
            let free = !named && !damaged && !self.options.generation_names;
            let name = if free && self.is_free(key, &same).await? { best.name } else { fresh };
            let replica = Replica { place, name };
            wanted.push(replica.clone());
            missing.push(replica);
        }
        let mut plan = Plan { sources, wanted, missing, fingerprint, summary };
        plan.summary.removed = plan.count_removed(record);
        Ok(plan)
    }

    /// Whether the volume has no file of that name. The index rules one out, unless a volume is now addressed
    /// by another name: then it holds the very file that is to be moved. A copy would overwrite its own source,
    /// and deleting the source would delete both.
    async fn is_free(&self, key: &Key, target: &Replica) -> Result<bool> {
        let volume = self.volume(target);
        let found = volume.head(&path(key, target)).await.map_err(|_error| Error::Unreachable)?;
        if found.is_some() {
            tracing::warn!(%key, place = %target.place, "a file of that name exists already: was the volume's address changed?");
        }
        Ok(found.is_none())
    }

    /// The value's size and MD5. Where minikeyvalue's record has no size and the sizes of the replicas differ,
    /// only replicas with the record's MD5 stay sources.
    async fn fingerprint(
        &self,
        key: &Key,
        record: &Record,
        sources: &mut Vec<(Replica, u64)>,
    ) -> Result<Fingerprint> {
        let known = Fingerprint { size: record.size, md5: record.md5 };
        let Some(&(_, size)) = sources.first() else { return Ok(known) };
        if known.size.is_some() || sources.iter().all(|(_, other)| *other == size) {
            return Ok(Fingerprint { size: Some(size), ..known });
        }
        let mut whole = Vec::new();
        for (replica, size) in sources.drain(..) {
            let md5 = self.volume(&replica).md5(&path(key, &replica)).await;
            let md5 = md5.map_err(|_error| Error::Unreachable)?;
            if record.md5 == Some(md5) {
                whole.push((replica, size));
            }
        }
        *sources = whole;
        let Some((_, size)) = sources.first() else { return Err(Error::Damaged) };
        Ok(Fingerprint { size: Some(*size), ..known })
    }

    /// Whether a value that stays where it is has as many whole replicas as it should have, on volumes that stay in use.
    fn keeps_all(&self, plan: &Plan) -> bool {
        let placement = &self.options.placement;
        let is_used = |replica: &&Replica| placement.volumes().any(|name| name == replica.place.volume());
        plan.sources.iter().filter(is_used).count() >= placement.replicas
    }

    /// Copies what is missing, each from the first source that serves. A replica that turns out to be rotten when it
    /// is read is missing as well.
    async fn copy_missing(
        &self,
        attempt: &mut Attempt<'_>,
        record: &Record,
        plan: &mut Plan,
    ) -> Result<Fingerprint> {
        let key = attempt.key();
        let modified = record.modified.unwrap_or_else(Timestamp::now).seconds();
        let mut fingerprint = plan.fingerprint;
        let mut next = 0;
        while let Some(target) = plan.missing.get(next) {
            match self.copy_from_any(key, &mut plan.sources, target, fingerprint, modified).await {
                // with --md5sum false, a record without an MD5 stays without one
                Ok(copied) => fingerprint = if self.options.md5 { copied } else { fingerprint },
                // a part of the copy may still be on its way to the target
                Err(CopyError::Damaged) => {
                    attempt.doubt();
                    return Err(Error::Damaged);
                }
                Err(CopyError::Source(_)) => {
                    attempt.doubt();
                    return Err(Error::Unreachable);
                }
                Err(CopyError::Target(error)) => {
                    attempt.failed(target, &error);
                    return Err(match error.is_full() {
                        true if self.keeps_all(plan) => {
                            Error::Unbalanced { full: target.place.volume().to_owned() }
                        }
                        true => Error::Full,
                        false => Error::Unreachable,
                    });
                }
            }
            next += 1;
            let rotten = plan.replace_rotten(record, attempt.own_name());
            if !rotten.is_empty() {
                attempt.intend(&rotten).await?;
            }
        }
        Ok(fingerprint)
    }
}
