//! A run: operations on each key, by several clients at once, and how long they take.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use davkv::key::Key;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::request::{Operation, OperationError};
use crate::target::Target;
use crate::value::{Item, Size};

/// The range of latencies that the histograms resolve, in nanoseconds; others count as the nearest bound.
const LATENCIES_NS: std::ops::RangeInclusive<u64> = 1_000..=3_600_000_000_000;
/// Significant digits of a latency in the histograms.
const DIGITS: u8 = 3;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// PUT, GET (following the redirect, comparing the bytes), DELETE of each key
    Thrash,
    /// PUT only; the values stay
    Put,
    /// DELETE only, of values put before
    Delete,
    /// GET following the redirect, of values put before and deleted afterwards
    Get,
    /// GET of keys that don't exist
    Missing,
    /// GET up to the redirect, of values put before and deleted afterwards
    Redirect,
    /// A list of all keys, which are put before and deleted afterwards
    List,
}

/// The load that the flags ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) mode: Mode,
    /// Number of keys.
    pub(crate) count: u64,
    /// How often the timed part is done with each key.
    pub(crate) repeat: u64,
    /// Whether the keys were put by an earlier run with the same seed, and stay.
    pub(crate) existing: bool,
    /// Clients at work at once, each on one key at a time.
    pub(crate) concurrency: usize,
    pub(crate) size: Size,
    pub(crate) seed: u64,
}

/// The figures of a run.
pub(crate) struct Outcome {
    pub(crate) target: &'static str,
    /// From the first request of the timed part to the last answer.
    pub(crate) elapsed: Duration,
    pub(crate) latencies: Latencies,
}

/// The latencies of each operation, in nanoseconds.
pub(crate) type Latencies = BTreeMap<Operation, Histogram<u64>>;

impl Load {
    /// The number of keys in the timed part, each repetition counted.
    pub(crate) fn keys(&self) -> u64 {
        self.count.saturating_mul(self.repeat)
    }
}

impl Mode {
    /// The operations on each key: before the timed part, in it, after it.
    fn parts(self) -> [&'static [Operation]; 3] {
        use Operation::{Delete, Get, List, Missing, Put, Redirect};
        match self {
            Self::Thrash => [&[], &[Put, Get, Delete], &[]],
            Self::Put => [&[], &[Put], &[]],
            Self::Delete => [&[Put], &[Delete], &[]],
            Self::Get => [&[Put], &[Get], &[Delete]],
            Self::Missing => [&[], &[Missing], &[]],
            Self::Redirect => [&[Put], &[Redirect], &[Delete]],
            Self::List => [&[Put], &[List], &[Delete]],
        }
    }

    /// Whether the timed part can be done again with the same key.
    pub(crate) fn can_repeat(self) -> bool {
        matches!(self, Self::Get | Self::Missing | Self::Redirect | Self::List)
    }

    /// Whether the timed part needs keys that exist.
    pub(crate) fn needs_keys(self) -> bool {
        let [before, ..] = self.parts();
        !before.is_empty()
    }

    /// Whether the timed part moves values.
    pub(crate) fn moves_values(self) -> bool {
        matches!(self, Self::Thrash | Self::Put | Self::Get)
    }
}

/// Runs the load against the target. The first wrong answer ends it, and leaves what was put.
///
/// # Errors
///
/// The wrong answer.
pub(crate) async fn run(load: Load, target: Target) -> Result<Outcome, OperationError> {
    let run = Arc::new(Run::new(load, target));
    let [mut before, timed, mut after] = load.mode.parts();
    if load.existing {
        (before, after) = (&[], &[]);
    }
    run.all(before, load.count).await?;
    run.take_latencies();
    let start = Instant::now();
    // one list covers all keys
    run.all(timed, if load.mode == Mode::List { load.repeat } else { load.keys() }).await?;
    let elapsed = start.elapsed();
    let latencies = run.take_latencies();
    run.all(after, load.count).await?;
    Ok(Outcome { target: run.target.name(), elapsed, latencies })
}

/// What the clients of a run share.
struct Run {
    load: Load,
    target: Target,
    client: Client,
    prefix: String,
    latencies: Mutex<Latencies>,
}

impl Run {
    fn new(load: Load, target: Target) -> Self {
        let prefix = match load.mode {
            Mode::List => format!("{}{}/", target.prefix(), load.seed),
            _ => target.prefix().to_owned(),
        };
        Self { load, target, client: Client::new(), prefix, latencies: Mutex::default() }
    }

    /// Does these operations, in order, on so many keys: after the last key comes the first again. The
    /// clients take the keys in any order.
    async fn all(
        self: &Arc<Self>,
        operations: &'static [Operation],
        times: u64,
    ) -> Result<(), OperationError> {
        if operations.is_empty() {
            return Ok(());
        }
        let next = Arc::new(AtomicU64::new(0));
        let mut clients = JoinSet::new();
        for _ in 0..self.load.concurrency {
            clients.spawn(Arc::clone(self).work(operations, Arc::clone(&next), times));
        }
        while let Some(ended) = clients.join_next().await {
            match ended {
                Ok(result) => result?,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        Ok(())
    }

    /// One client, which takes one key after the other until none is left.
    async fn work(
        self: Arc<Self>,
        operations: &[Operation],
        next: Arc<AtomicU64>,
        times: u64,
    ) -> Result<(), OperationError> {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= times {
                return Ok(());
            }
            let item = Item::new(&self.prefix, self.load.seed, n % self.load.count, self.load.size);
            for &operation in operations {
                self.time(operation, self.perform(operation, &item)).await?;
            }
        }
    }

    async fn perform(&self, operation: Operation, item: &Item) -> Result<(), OperationError> {
        if operation == Operation::List {
            let prefix = Key::new(self.prefix.as_bytes());
            return self.target.list(&self.client, &prefix, self.load.count).await;
        }
        self.target.perform(&self.client, operation, item).await
    }

    /// Records the latency of an operation that succeeds.
    async fn time(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<(), OperationError>>,
    ) -> Result<(), OperationError> {
        let start = Instant::now();
        work.await?;
        let nanoseconds = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        latencies.entry(operation).or_insert_with(histogram).saturating_record(nanoseconds);
        Ok(())
    }

    /// The latencies so far; those that follow are counted anew.
    fn take_latencies(&self) -> Latencies {
        std::mem::take(&mut *self.latencies.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[allow(clippy::expect_used, reason = "the bounds are constants that HDR histograms accept")]
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(*LATENCIES_NS.start(), *LATENCIES_NS.end(), DIGITS).expect("valid bounds")
}
