//! Keys and values: the write protocol, in which the index and the volumes are written.
//!
//! Two invariants carry it:
//!
//! 1. **The index names every volume that may hold bytes of a key, before it does**: in the key's
//!    record, or in an intent.
//! 2. **A name on a volume is the target of one attempt only.** nginx ignores conditions on PUT and
//!    DELETE, so only unique names keep a delayed request from touching a newer value. The plain name
//!    is free for an attempt where the index knows neither a record nor an intent of the key; every
//!    other attempt takes a fresh generation name.
//!
//! An intent is *open* while the attempt that wrote it holds the key's claim, or goes on without one, and
//! *closed* from then on; whatever intent is found at start-up is closed. The reaper deletes the files of closed ones.
//!
//! Every write runs to its end, so that a client who leaves cuts the attempt short
//! nowhere but at its body.

mod attempt;
mod claims;
mod copy;
mod dump;
mod fanout;
#[cfg(test)]
mod model;
mod put;
mod read;
mod reaper;
mod rebalance;
mod recent;
mod run_to_end;
mod splice;
mod uploads;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::{Error, Result};
// Every call of the protocol can fail, and can be the last one: the unit tests put a world in the place
// of LevelDB, and of the network below the volumes, in which each does.
#[cfg(not(test))]
use crate::index::Index;
use crate::index::{Entry, IndexError};
use crate::key::{Key, Name};
use crate::placement::{Place, Placement};
use crate::record::{Intent, Record, Replica, State};
use crate::volume::{FileInfo, Timeouts, Volume, VolumeError, Volumes};

use claims::{Claim, Claims};
#[cfg(test)]
use model::Index;
pub use put::{Incoming, Precondition, Received};
pub use read::Reading;
use reaper::Reaper;
pub use rebalance::{Forgotten, Rebalanced};
use recent::Recent;
use run_to_end::RunToEnd;
pub use splice::{Piece, Spliced};

/// How a store behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where values go.
    pub placement: Placement,
    /// How long volumes are waited for.
    pub timeouts: Timeouts,
    /// How long the next byte of a client's body is waited for.
    pub client_idle: Duration,
    /// Whether MD5s of values are computed and stored.
    pub md5: bool,
    /// Whether a key must be unlinked before it can be deleted.
    pub protect: bool,
    /// Whether new values never get plain names.
    pub generation_names: bool,
    /// How long a request may linger on its way to a volume: for so long after one went unanswered,
    /// its intent is kept.
    pub quarantine: Duration,
    /// For how long files that readers may have been sent to are left after they were replaced.
    pub reader_grace: Duration,
    /// A replica that was seen whole so recently isn't looked at again for the next reader; zero: each time.
    pub recheck: Duration,
    /// So long after they were begun, uploads in parts are aborted; zero: never.
    pub upload_expiry: Duration,
    /// How often parts of uploads are looked for that have been left behind.
    pub sweep_every: Duration,
    /// Volumes that are gone for good.
    pub forgotten: Forgotten,
}

/// The key-value store. Cheap to clone; all clones are the same one.
#[derive(Clone)]
pub struct Store(Arc<Core>);

struct Core {
    index: Index,
    volumes: Volumes,
    /// Replicas that were found to be missing, torn or stale.
    damage: AtomicU64,
    options: Options,
    /// Numbers to spread load with.
    random: fn() -> u64,
    claims: Arc<Claims>,
    /// Keys that were deleted.
    deleted: Recent,
    /// Replicas that were seen whole.
    seen_whole: Recent,
    reaper: Reaper,
    /// Writes that run, and the reaper.
    tasks: TaskTracker,
    stopping: CancellationToken,
}

/// Where a value can be read.
#[derive(Debug)]
pub struct Located {
    /// The URL of a replica that was seen to be whole, within [`Options::recheck`].
    pub url: String,
    /// What the index knows of the value.
    pub record: Record,
    /// Whether it lies where the volumes want it.
    pub balanced: bool,
}

/// Room for so many unfinished attempts on one key; more come only from writing it again and again
/// while volumes are down.
const MAX_INTENTS: usize = 64;

/// How long the next write to the index waits for whoever has the key, where others may write it meanwhile.
const CLAIM_TIMEOUT: Duration = Duration::from_mins(1);

/// A value is looked for again when its record changed meanwhile, at most so often.
const LOCATE_TRIES: usize = 5;

impl Store {
    /// A store over that index and those volumes. Nothing runs in the background before
    /// [`Store::start`].
    #[must_use]
    pub fn new(index: Index, volumes: Volumes, options: Options) -> Self {
        Self::with_random(index, volumes, options, random)
    }

    /// As [`Store::new`], with another source of randomness.
    fn with_random(index: Index, volumes: Volumes, options: Options, random: fn() -> u64) -> Self {
        Self(Arc::new(Core {
            index,
            volumes,
            damage: AtomicU64::new(0),
            deleted: Recent::new(options.reader_grace, true),
            // remembered for up to two periods
            seen_whole: Recent::new(options.recheck / 2, false),
            options,
            random,
            claims: Arc::default(),
            reaper: Reaper::default(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
        }))
    }

    /// Takes up the intents that an earlier run left, and reaps in the background from then on.
    ///
    /// # Errors
    ///
    /// The index can't be read.
    pub async fn start(&self) -> std::result::Result<(), IndexError> {
        if self.0.index.first_unreserved()? > 1 {
            self.0.deleted.note_any();
        }
        let found = self.0.take_up_intents(Duration::ZERO).await?;
        if found > 0 {
            tracing::info!(intents = found, "taking up unfinished attempts of an earlier run");
        }
        self.0.tasks.spawn(reaper::run(Arc::clone(&self.0)));
        self.0.tasks.spawn(uploads::sweep_often(Arc::clone(&self.0)));
        Ok(())
    }

    /// Deletes the files of all unfinished attempts, for a program that runs no longer than that, and
    /// returns the number of those that no volume confirmed to be gone.
    ///
    /// # Errors
    ///
    /// The index can't be read.
    pub async fn reap_once(&self) -> std::result::Result<u64, IndexError> {
        self.0.reap_once().await
    }

    /// Lets what runs finish, for at most so long, and closes the index.
    pub async fn stop(self, grace: Duration) {
        self.0.stopping.cancel();
        self.0.tasks.close();
        if tokio::time::timeout(grace, self.0.tasks.wait()).await.is_err() {
            tracing::warn!("writes were cut off; the next start cleans up after them");
        }
        match Arc::try_unwrap(self.0) {
            Ok(inner) => {
                if let Err(error) = tokio::task::spawn_blocking(move || inner.index.close()).await {
                    tracing::error!(%error, "the index wasn't closed cleanly");
                }
            }
            Err(_shared) => tracing::debug!("the index is closed by the end of the process"),
        }
    }

    /// The index, to be listed.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.0.index
    }

    /// How it behaves.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.0.options
    }

    /// Finds a whole replica of the key's value.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Unreachable` when some volume couldn't be asked and no other had the value;
    /// `Damaged` when all were asked.
    pub async fn locate(&self, key: &Key) -> Result<Located> {
        let mut record = self.0.live(key)?;
        for _ in 0..LOCATE_TRIES {
            let error = match self.0.whole_replica(key, &record).await {
                Ok(replica) => {
                    let url = format!("http://{}{}", replica.place.volume(), path(key, replica));
                    let balanced = self.0.options.placement.wants(key, places(&record.replicas));
                    return Ok(Located { url, record, balanced });
                }
                Err(error) => error,
            };
            // files go after the record that named them: only an unchanged record accuses its volumes
            let now = self.0.live(key)?;
            if now == record {
                return Err(error);
            }
            record = now;
        }
        Err(Error::Unreachable)
    }

    /// Removes the key: it is never served or listed again.
    ///
    /// # Errors
    ///
    /// `NotFound`, `Busy`, `Protected` (live, and the store protects).
    pub async fn delete(&self, key: &Key) -> Result<()> {
        self.write(key, |store, claim| async move { store.delete(&claim, &Precondition::Always).await }).await
    }

    /// Removes whatever the key holds, if `when` allows that at that moment. Waits for others who write it.
    ///
    /// # Errors
    ///
    /// As [`Store::delete`], and those of `when`.
    pub async fn remove(&self, key: &Key, when: Precondition) -> Result<()> {
        let removed = key.clone();
        self.run(key, |store| async move {
            let claim = store.claims.wait(&removed, CLAIM_TIMEOUT).await.ok_or(Error::Busy)?;
            store.delete(&claim, &when).await
        })
        .await
    }

    /// Hides the key, or with `Live` undoes that.
    ///
    /// # Errors
    ///
    /// `NotFound` when there is no such key in the other state, `Busy`.
    pub async fn set_state(&self, key: &Key, state: State) -> Result<()> {
        self.write(key, move |store, claim| async move {
            let before = store.index.get(claim.key())?;
            let mut after = before.clone();
            match &mut after.record {
                Some(record) if record.state != state => record.state = state,
                _ => return Err(Error::NotFound),
            }
            Ok(store.index.commit(claim.key(), &before, &after, true).await?)
        })
        .await
    }

    /// Claims the key and runs the write, which ends even when nobody waits.
    async fn write<T, F>(
        &self,
        key: &Key,
        write: impl FnOnce(Arc<Core>, Claim) -> F + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let claim = self.0.claims.take(key).await.ok_or(Error::Busy)?;
        self.run(key, |store| write(store, claim)).await
    }

    /// Runs a write of the key, which ends even when nobody waits.
    async fn run<T, F>(&self, key: &Key, write: impl FnOnce(Arc<Core>) -> F + Send + 'static) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let (inner, key) = (Arc::clone(&self.0), key.clone());
        let write = async move {
            let written = AssertUnwindSafe(write(Arc::clone(&inner))).catch_unwind().await;
            written.unwrap_or_else(|_payload| {
                tracing::error!(%key, "a write panicked");
                inner.hand_over(&key);
                Err(Error::Panicked)
            })
        };
        RunToEnd::new(&self.0.tasks, write).await
    }
}

impl Core {
    /// The key's record, where it is live.
    fn live(&self, key: &Key) -> Result<Record> {
        let record = self.index.record(key)?;
        record.filter(|record| record.state == State::Live).ok_or(Error::NotFound)
    }

    /// Whether a value may take the place of what the key holds, or be deleted. What holds parts of uploads
    /// is the store's own.
    fn check_replaceable(&self, key: &Key, record: Option<&Record>) -> Result<()> {
        let live = record.is_some_and(|record| record.state == State::Live);
        let protected = live && self.options.protect && key.as_part().is_none();
        if protected { Err(Error::Protected) } else { Ok(()) }
    }

    fn volume(&self, replica: &Replica) -> Arc<Volume> {
        self.volumes.at(replica.place.volume())
    }

    /// The record's replicas in the order in which readers try them, each with whether its volume failed
    /// of late: the good ones first, each order of equals as likely as any other, so that reads spread.
    fn by_likelihood<'a>(&self, record: &'a Record) -> impl Iterator<Item = (bool, &'a Replica)> + use<'a> {
        let suspect = |replica| !self.volume(replica).is_good();
        let mut replicas: Vec<(bool, u64, &Replica)> =
            record.replicas.iter().map(|replica| (suspect(replica), (self.random)(), replica)).collect();
        replicas.sort_by_key(|(suspect, random, _)| (*suspect, *random));
        replicas.into_iter().map(|(suspect, _, replica)| (suspect, replica))
    }

    /// The first replica that a volume confirms.
    async fn whole_replica<'a>(&self, key: &Key, record: &'a Record) -> Result<&'a Replica> {
        let mut verdict = Error::Damaged;
        for (suspect, replica) in self.by_likelihood(record) {
            if !suspect && self.seen_whole.has(&(key, replica)) {
                return Ok(replica);
            }
            // in a box, as most readers need none of it
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

    /// The size of the replica in bytes, if it is there and is what the record knows.
    async fn check(
        &self,
        key: &Key,
        replica: &Replica,
        record: &Record,
    ) -> std::result::Result<Option<u64>, VolumeError> {
        if !can_be_file(key, replica) {
            return Ok(None);
        }
        let volume = self.volume(replica);
        if volume.is_down() {
            // the volume is probed all the time: asking now would only cost the reader a deadline
            return Err(VolumeError::Unreachable("it is down".into()));
        }
        let found = volume.head(&path(key, replica)).await.inspect_err(|error| {
            tracing::debug!(%key, place = %replica.place, %error, "replica passed over");
        })?;
        let whole = found.filter(|seen| is_whole(*seen, record));
        if whole.is_none() {
            self.note_damage(key, &replica.place, found, record);
        }
        Ok(whole.map(|seen| seen.size))
    }

    fn note_damage(&self, key: &Key, place: &Place, found: Option<FileInfo>, record: &Record) {
        let so_far = self.damage.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let (size, modified) = (record.size, record.modified);
        tracing::warn!(%key, %place, ?found, ?size, ?modified, so_far, "replica missing, torn or stale");
    }

    async fn delete(&self, claim: &Claim, when: &Precondition) -> Result<()> {
        let key = claim.key();
        let before = self.index.get(key)?;
        let Some(record) = &before.record else { return Err(Error::NotFound) };
        when.check(Some(record))?;
        self.check_replaceable(key, Some(record))?;
        let mut after = before.clone();
        let intent = Intent { id: self.index.generation().await?, files: record.replicas.clone() };
        let id = intent.id;
        after.record = None;
        after.intents.push(intent);
        self.index.commit(key, &before, &after, true).await?;
        self.deleted.note(key);
        // the key is gone; the files that can't be deleted now are the reaper's
        self.settle(claim, &after, id, true).await;
        Ok(())
    }

    /// Deletes the files of the attempt, and ends its intent if that is certain to be the last word;
    /// hands it to the reaper otherwise. `certain`: every request of the attempt was answered.
    async fn settle(&self, claim: &Claim, entry: &Entry, id: u64, certain: bool) {
        let key = claim.key();
        let Some(intent) = entry.intents.iter().find(|intent| intent.id == id) else { return };
        let round = self.delete_files(key, &intent.files).await;
        if certain && round.left.is_empty() {
            if let Err(error) = self.end_intent(key, entry, id).await {
                tracing::error!(%key, %error, "an intent stays until the next start");
            }
        } else {
            self.reaper.add(key, id, certain && round.certain, Duration::ZERO);
        }
    }

    /// Takes the intent out of the index. It need not be durable: found again, it is settled again.
    async fn end_intent(&self, key: &Key, entry: &Entry, id: u64) -> std::result::Result<(), IndexError> {
        let mut after = entry.clone();
        after.intents.retain(|intent| intent.id != id);
        self.index.commit(key, entry, &after, false).await
    }

    /// Asks the volumes, all at once, to delete files.
    async fn delete_files(&self, key: &Key, files: &[Replica]) -> Round {
        // what the index shows is no reason any more: the next start may find that a write that failed
        // happened, and a record in the place of an intent
        if self.index.has_failed() {
            return Round { left: files.to_vec(), certain: true };
        }
        let deletions = files.iter().filter(|file| can_be_file(key, file)).map(|file| async move {
            let volume = self.volume(file);
            if volume.is_down() {
                return Err((file, true));
            }
            volume.delete(&path(key, file)).await.map_err(|error| {
                tracing::debug!(%key, place = %file.place, %error, "file not deleted yet");
                (file, error.is_certain())
            })
        });
        let mut round = Round { left: Vec::new(), certain: true };
        for (file, certain) in join_all(deletions).await.into_iter().filter_map(std::result::Result::err) {
            round.left.push(file.clone());
            round.certain &= certain;
        }
        round
    }
}

/// Whether a file is what the record knows. minikeyvalue's records know no size, but an empty value was
/// never stored.
///
/// nginx never fsyncs, so a volume that loses its power may forget a deletion and what was written to the
/// same name later: what it has then is whole, and older than the value. (That a file is younger than its
/// record means nothing: somebody may have copied the volume.)
fn is_whole(seen: FileInfo, record: &Record) -> bool {
    let same_size = record.size.map_or(seen.size > 0, |size| size == seen.size);
    let stale = matches!((seen.modified, record.modified), (Some(seen), Some(written)) if seen < written);
    same_size && !stale
}

/// What came of asking volumes to delete an attempt's files.
struct Round {
    /// Those that may still be there.
    left: Vec<Replica>,
    /// All requests were answered (or never sent): none can take effect later.
    certain: bool,
}

/// A plain name that ends in `/` names a directory: minikeyvalue's records may hold it, there is no
/// file of that name, and a DELETE would take what is in the directory.
fn can_be_file(key: &Key, replica: &Replica) -> bool {
    replica.name != Name::Plain || key.has_plain_name()
}

/// The path of the file on its volume.
fn path(key: &Key, replica: &Replica) -> String {
    format!("{}{}", replica.place.directory(), key.path(replica.name))
}

fn places(replicas: &[Replica]) -> impl Iterator<Item = &Place> {
    replicas.iter().map(|replica| &replica.place)
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A number to spread load with, from the standard library's per-process random keys.
fn random() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(())
}
