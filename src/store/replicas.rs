//! The files of a key on its volumes: which of them are whole, and how they are deleted.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::claims::Claim;
use super::core::Core;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::index::steps::Effect;
use crate::key::Key;
use crate::key::Name;
use crate::placement::Place;
use crate::record::{Intent, Record, Replica};
use crate::volume::{FileInfo, Volume, VolumeError};

/// Where a value can be read.
#[derive(Debug)]
pub struct Located {
    /// The URL of a replica that was seen to be whole, within [`Options::recheck`](super::Options::recheck).
    pub url: String,
    /// What the index knows of the value.
    pub record: Record,
    /// Whether the replicas are where the placement puts them.
    pub balanced: bool,
}

/// A value is located again when its record changed meanwhile, at most this often.
const LOCATE_TRIES: usize = 5;

/// An intent that couldn't be ended is worked again after this, or when the index is opened again.
const END_AGAIN: Duration = Duration::from_secs(1);

/// What came of asking volumes to delete an attempt's files.
pub(super) struct Round {
    /// Those that may still be there.
    pub(super) left: Vec<Replica>,
    /// All requests were answered (or never sent): none can take effect later.
    pub(super) all_answered: bool,
}

impl Core {
    /// Finds a whole replica of the key's value.
    pub(super) async fn locate(&self, key: &Key) -> Result<Located> {
        let mut record = self.live(key).await?;
        for _ in 0..LOCATE_TRIES {
            let error = match self.whole_replica(key, &record).await {
                Ok(replica) => {
                    let address = self.volumes.addresses().of(replica.place.volume());
                    let url = format!("http://{address}{}", path(key, replica));
                    let balanced = self.options.placement.wants(key, places(&record.replicas));
                    return Ok(Located { url, record, balanced });
                }
                Err(error) => error,
            };
            // files are deleted after their record is replaced: a missing file counts against a volume only if
            // the record is unchanged
            let now = self.live(key).await?;
            if now == record {
                return Err(error);
            }
            record = now;
        }
        Err(Error::Unreachable)
    }

    /// The size of the value, as shown by the first whole replica.
    pub(super) async fn size_of(&self, key: &Key, record: &Record) -> Result<u64> {
        let mut verdict = Error::Damaged;
        for replica in &record.replicas {
            match self.check(key, replica, record).await {
                Ok(None) => {}
                Ok(Some(size)) => return Ok(size),
                Err(_) => verdict = Error::Unreachable,
            }
        }
        Err(verdict)
    }

    pub(super) fn volume(&self, replica: &Replica) -> Arc<Volume> {
        self.volumes.named(replica.place.volume())
    }

    /// The record's replicas in the order in which readers try them, each with whether its volume, or this
    /// file on it, failed of late: the good ones first, and equals shuffled, so that reads spread.
    pub(super) fn by_likelihood<'a>(
        &self,
        key: &Key,
        record: &'a Record,
    ) -> impl Iterator<Item = (bool, &'a Replica)> + use<'a> {
        let suspect = |replica| {
            let volume = self.volume(replica);
            !volume.is_good() || volume.failed_for(|| path(key, replica))
        };
        let mut replicas: Vec<(bool, u64, &Replica)> =
            record.replicas.iter().map(|replica| (suspect(replica), (self.random)(), replica)).collect();
        replicas.sort_by_key(|(suspect, random, _)| (*suspect, *random));
        replicas.into_iter().map(|(suspect, _, replica)| (suspect, replica))
    }

    /// The first replica that a volume confirms.
    async fn whole_replica<'a>(&self, key: &Key, record: &'a Record) -> Result<&'a Replica> {
        let mut verdict = Error::Damaged;
        for (suspect, replica) in self.by_likelihood(key, record) {
            if !suspect && self.seen_whole.has(&(key, replica)) {
                return Ok(replica);
            }
            // boxed, because most readers need none of it
            match Box::pin(self.check(key, replica, record)).await {
                Ok(Some(_)) => {
                    self.seen_whole.note(&(key, replica));
                    return Ok(replica);
                }
                Ok(None) => {}
                Err(_) => verdict = Error::Unreachable,
            }
        }
        Err(verdict)
    }

    /// Asks the volume for the replica. `Some` is the size in bytes of a whole one. `None` means that it is damaged,
    /// which is logged and counted (unless there can be no such file). An error means that the volume can't tell.
    pub(super) async fn check(
        &self,
        key: &Key,
        replica: &Replica,
        record: &Record,
    ) -> std::result::Result<Option<u64>, VolumeError> {
        if !can_be_file(key, replica) {
            return Ok(None);
        }
        let volume = self.volume(replica);
        if volume.is_silent() {
            // the volume is probed anyway: asking it now would only cost the reader a deadline
            return Err(VolumeError::Unreachable("it is down".into()));
        }
        let found = volume.head(&path(key, replica)).await.inspect_err(|error| {
            tracing::debug!(%key, place = %replica.place, %error, "replica passed over");
        })?;
        let whole = found.filter(|seen| is_whole(*seen, record));
        if whole.is_none() {
            match found {
                Some(seen) => self.report_damage(key, &replica.place, &seen, record).await,
                None => self.report_damage(key, &replica.place, &"no file", record).await,
            }
        }
        Ok(whole.map(|seen| seen.size))
    }

    /// Deletes the files of a closed intent, and ends it if no late request can bring the files back; hands it to
    /// the reaper otherwise. `all_answered`: every request of the attempt was answered.
    pub(super) async fn settle(&self, claim: &Claim, intent: Intent, all_answered: bool) {
        let key = claim.key();
        if intent.files.is_empty() {
            return;
        }
        let round = self.delete_files(key, &intent.files).await;
        if all_answered && round.left.is_empty() {
            self.end_intent(key, intent).await;
        } else {
            self.queue.add(key, intent.id, all_answered && round.all_answered, Duration::ZERO);
        }
    }

    /// Ends an intent whose files are gone.
    pub(super) async fn end_intent(&self, key: &Key, intent: Intent) {
        let id = intent.id;
        match self.index.end(key, intent).await {
            Ok(Effect::Done(_)) => return,
            // a write that failed added files to it, or ended it, which showed when the index was opened again
            Ok(_changed) => tracing::debug!(%key, "an intent changed before it was ended"),
            Err(error) => tracing::error!(%key, %error, "an intent can't be ended now"),
        }
        // no request of it is without an answer any more
        self.queue.add(key, id, true, END_AGAIN);
    }

    /// Asks the volumes, all at once, to delete files of a closed intent.
    ///
    /// The caller knows that no record names them: from a step that was carried out, or from an entry that was read
    /// after the index was seen to be [fresh](super::Index::is_fresh).
    pub(super) async fn delete_files(&self, key: &Key, files: &[Replica]) -> Round {
        if !self.index.is_fresh() {
            return Round { left: files.to_vec(), all_answered: true };
        }
        let deletions = files.iter().filter(|file| can_be_file(key, file)).map(|file| async move {
            let volume = self.volume(file);
            if volume.is_down() {
                return Err((file, true));
            }
            volume.delete(&path(key, file)).await.map_err(|error| {
                tracing::debug!(%key, place = %file.place, %error, "file not deleted yet");
                (file, error.is_answered())
            })
        });
        let mut round = Round { left: Vec::new(), all_answered: true };
        for (file, answered) in join_all(deletions).await.into_iter().filter_map(std::result::Result::err) {
            round.left.push(file.clone());
            round.all_answered &= answered;
        }
        round
    }
}

/// Whether a file matches its record. minikeyvalue's records know no size, but an empty value was
/// never stored.
///
/// nginx never fsyncs, so a volume that loses its power may forget a deletion and what was written to the
/// same name later: what it has then is whole, and older than the value. (A file that is younger than its
/// record means nothing: somebody may have copied the volume.)
pub(super) fn is_whole(seen: FileInfo, record: &Record) -> bool {
    let same_size = record.size.map_or(seen.size > 0, |size| size == seen.size);
    let written = record.modified.map(Timestamp::seconds);
    let stale = matches!((seen.modified, written), (Some(seen), Some(written)) if seen < written);
    same_size && !stale
}

/// A plain name that ends in `/` names a directory: minikeyvalue's records may hold it, there is no
/// file of that name, and a DELETE would take what is in the directory.
pub(super) fn can_be_file(key: &Key, replica: &Replica) -> bool {
    replica.name != Name::Plain || key.has_plain_name()
}

/// The path of the file on its volume.
pub(super) fn path(key: &Key, replica: &Replica) -> String {
    format!("{}{}", replica.place.directory(), key.path(replica.name))
}

fn places(replicas: &[Replica]) -> impl Iterator<Item = &Place> {
    replicas.iter().map(|replica| &replica.place)
}
