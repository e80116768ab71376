//! What all verbs of the store share: its parts, and how a write is run.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::caller::Caller;
use super::claims::{Claim, Claims};
use super::queue::{Job, Queue};
use super::recent::Recent;
use super::repeats::Repeats;
use super::run_to_end::RunToEnd;
use super::under_way::UnderWay;
use crate::error::{Error, Result};
use crate::identity::Owner;
use crate::index::steps::{Effect, RequiredNote};
use crate::index::{Index, IndexError};
use crate::key::Key;
use crate::placement::Placement;
use crate::record::{Intent, Record, State};
use crate::volume::{Timeouts, Volumes};

/// The intents of a key whose writer panicked are looked at after this.
const AFTER_PANIC: Duration = Duration::from_mins(1);

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
    /// How long a request may linger on its way to a volume: an intent is kept for this long after a request of
    /// its attempt went unanswered.
    pub quarantine: Duration,
    /// For how long replaced files stay, to which readers may have been sent.
    pub reader_grace: Duration,
    /// A replica that was seen whole this recently isn't looked at again for the next reader; zero: each time.
    pub recheck: Duration,
    /// Uploads in parts are aborted this long after they were begun; zero: never.
    pub upload_expiry: Duration,
    /// How often parts of uploads are looked for that have been left behind.
    pub sweep_every: Duration,
    /// How often the number of the run rises while the index is written.
    pub raise_every: Duration,
    /// Volumes that are gone for good.
    pub forgotten: Forgotten,
    /// Names of volumes whose disks were replaced by empty ones.
    pub replaced: Vec<String>,
}

/// Volumes that are gone for good, with all that was on them: nothing on them is asked for, or
/// waited for.
#[derive(Clone, Debug, Default)]
pub struct Forgotten(pub Vec<String>);

impl Forgotten {
    /// Whether the volume at that address is one of them.
    #[must_use]
    pub fn contains(&self, volume: &str) -> bool {
        self.0.iter().any(|forgotten| forgotten == volume)
    }
}

/// The parts of a store.
pub(super) struct Core {
    pub(super) index: Index,
    pub(super) volumes: Volumes,
    /// How often a check found a replica missing, torn or stale. A replica counts each time it is seen.
    pub(super) damage: AtomicU64,
    /// What the log was told of replicas.
    pub(super) repeats: Repeats,
    pub(super) options: Options,
    /// Whose index this is, in this run; `None` where volumes are taken as they are.
    owner: Mutex<Option<Owner>>,
    /// That of the owner: each PUT asks for it.
    own_from: AtomicU64,
    /// Whether the index was written since the number of the run rose, as far as that was looked at.
    pub(super) unraised: AtomicBool,
    /// Cancelled when another program has taken the volumes over.
    pub(super) taken: CancellationToken,
    /// A source of numbers to spread load with.
    pub(super) random: fn() -> u64,
    pub(super) claims: Arc<Claims>,
    /// Keys that were deleted.
    pub(super) deleted: Recent,
    /// Replicas that were seen whole.
    pub(super) seen_whole: Recent,
    /// Closed intents, for the reaper.
    pub(super) queue: Queue,
    pub(super) under_way: UnderWay,
    /// Has the sweep for parts of uploads run now.
    pub(super) sweep_now: Notify,
    /// Writes that run, and the reaper.
    pub(super) tasks: TaskTracker,
    pub(super) stopping: CancellationToken,
}

impl Core {
    pub(super) fn new(index: Index, volumes: Volumes, options: Options, random: fn() -> u64) -> Self {
        Self {
            index,
            volumes,
            damage: AtomicU64::new(0),
            repeats: Repeats::default(),
            deleted: Recent::new(options.reader_grace, true),
            // remembered for up to two periods
            seen_whole: Recent::new(options.recheck / 2, false),
            options,
            owner: Mutex::default(),
            own_from: AtomicU64::new(0),
            unraised: AtomicBool::new(false),
            taken: CancellationToken::new(),
            random,
            claims: Arc::default(),
            queue: Queue::default(),
            under_way: UnderWay::default(),
            sweep_now: Notify::new(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
        }
    }

    /// Fails once another program has taken the volumes over: its index wouldn't have what this one acknowledges.
    pub(super) fn check_not_taken(&self) -> Result<()> {
        if self.taken.is_cancelled() { Err(Error::Unreachable) } else { Ok(()) }
    }

    /// The key's record, where it is live.
    pub(super) async fn live(&self, key: &Key) -> Result<Record> {
        let record = self.index.look(key).await?;
        record.filter(|record| record.state == State::Live).ok_or(Error::NotFound)
    }

    /// Whether a live value of the key is protected. Keys of parts are internal, and never are.
    pub(super) fn protects(&self, key: &Key) -> bool {
        self.options.protect && key.as_part().is_none()
    }

    /// Whether the required note is there.
    pub(super) async fn is_noted(&self, required: Option<&RequiredNote>) -> Result<bool> {
        match required {
            Some(required) => Ok(self.index.note(&required.note).await?.is_some()),
            None => Ok(false),
        }
    }

    /// Claims the key and runs the write, which ends even when nobody waits.
    pub(super) async fn write<T, F>(
        self: &Arc<Self>,
        key: &Key,
        caller: &Caller,
        write: impl FnOnce(Arc<Self>, Claim) -> F + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let claim = self.claims.take(key, caller).await?;
        self.run(key, |store| write(store, claim)).await
    }

    /// Runs a write of the key, which ends even when nobody waits.
    pub(super) async fn run<T, F>(
        self: &Arc<Self>,
        key: &Key,
        write: impl FnOnce(Arc<Self>) -> F + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let (core, key) = (Arc::clone(self), key.clone());
        let write = async move {
            match AssertUnwindSafe(write(Arc::clone(&core))).catch_unwind().await {
                Ok(written) => written,
                Err(_payload) => {
                    tracing::error!(%key, "a write panicked");
                    core.hand_over(&key).await;
                    Err(Error::Panicked)
                }
            }
        };
        RunToEnd::new(&self.tasks, write).await
    }

    /// Queues the intents of a key whose writer or reaper panicked.
    pub(super) async fn hand_over(&self, key: &Key) {
        match self.index.entry(key).await {
            Ok(entry) => {
                for intent in entry.intents {
                    let job = Job::of_unknown_end(key, intent.id);
                    self.queue.push(job.closed + AFTER_PANIC, job);
                }
            }
            Err(error) => tracing::error!(%key, %error, "intents stay until the index is opened again"),
        }
    }

    /// Attempts with lower numbers may be those of another copy of the index.
    pub(super) fn own_from(&self) -> u64 {
        self.own_from.load(Ordering::Relaxed)
    }

    /// Whose index this is, in this run; `None` where volumes are taken as they are.
    pub(super) fn owner(&self) -> Option<Owner> {
        self.owner.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_owner(&self, owner: Owner) {
        self.own_from.store(owner.own_from, Ordering::Relaxed);
        *self.owner.lock().unwrap_or_else(PoisonError::into_inner) = Some(owner);
    }

    /// Queues all intents of the index that aren't queued yet, due after `delay`, and returns how many intents
    /// the index has. The outcome of their requests is unknown.
    pub(super) async fn take_up_intents(&self, delay: Duration) -> std::result::Result<usize, IndexError> {
        let queued = self.queue.ids();
        let (mut start, mut found) = (Vec::new(), 0);
        loop {
            let page = self.index.intents_page(&start).await?;
            for (key, intents) in page.rows {
                found += intents.len();
                // the files of another copy's attempt may be those of a value by now
                let is_ours = |intent: &Intent| intent.id >= self.own_from() && !queued.contains(&intent.id);
                for intent in intents.into_iter().filter(is_ours) {
                    let job = Job::of_unknown_end(&key, intent.id);
                    self.queue.push(job.closed + delay, job);
                }
            }
            match page.next {
                Some(next) => start = next,
                None => return Ok(found),
            }
        }
    }
}

/// The result of a step that only the key's state may refuse.
pub(super) fn carried_out(effect: Effect) -> Result<crate::index::steps::Done> {
    match effect {
        Effect::Done(done) => Ok(done),
        Effect::Refused(error) => Err(error),
        other => Err(unforeseen(&other)),
    }
}

/// The error for an answer that the protocol rules out: another program writes to the index, or there is a bug.
pub(super) fn unforeseen(effect: &Effect) -> Error {
    let what = match effect {
        Effect::NotFree => "a name that an attempt was given is another one's",
        Effect::Fenced => "an intent ended before its attempt",
        Effect::Overtaken | Effect::Done(_) | Effect::Refused(_) => "an answer that no step has",
    };
    Error::Index(what.into())
}

/// A number to spread load with, from the standard library's per-process random keys.
pub(super) fn random() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(())
}
