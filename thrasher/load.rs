//! A run: what is done with each key, by how many clients at once, and how long it took.

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
use crate::request::Failure;
use crate::target::{Operation, Target};
use crate::value::{Item, Size};

/// The bounds of the latencies that are told apart, in nanoseconds; others count as the nearest bound.
const LATENCIES_NS: std::ops::RangeInclusive<u64> = 1_000..=3_600_000_000_000;
/// The digits of a latency that are kept.
const DIGITS: u8 = 3;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// PUT, GET (following the redirect, comparing the bytes), DELETE of each key
    Thrash,
    /// PUT only; the values stay
    Put,
    /// GET following the redirect, of values put before and deleted afterwards
    Get,
    /// GET of keys that don't exist
    Missing,
    /// GET up to the redirect, of values put before and deleted afterwards
    Redirect,
    /// One list of all keys, which are put before and deleted afterwards
    List,
}

/// How much of what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) mode: Mode,
    /// Number of keys.
    pub(crate) count: u64,
    /// Clients at work at once, each on one key at a time.
    pub(crate) concurrency: usize,
    pub(crate) size: Size,
    pub(crate) seed: u64,
}

/// What a run has shown.
pub(crate) struct Outcome {
    pub(crate) target: &'static str,
    /// From the first request of the timed part to the last answer.
    pub(crate) elapsed: Duration,
    pub(crate) latencies: Latencies,
}

/// The latencies of each operation, in nanoseconds.
pub(crate) type Latencies = BTreeMap<Operation, Histogram<u64>>;

impl Mode {
    /// What is done with each key: before the timed part, in it, after it.
    fn parts(self) -> [&'static [Operation]; 3] {
        use Operation::{Delete, Get, List, Missing, Put, Redirect};
        match self {
            Self::Thrash => [&[], &[Put, Get, Delete], &[]],
            Self::Put => [&[], &[Put], &[]],
            Self::Get => [&[Put], &[Get], &[Delete]],
            Self::Missing => [&[], &[Missing], &[]],
            Self::Redirect => [&[Put], &[Redirect], &[Delete]],
            Self::List => [&[Put], &[List], &[Delete]],
        }
    }

    /// Whether the timed part moves values (once in each direction it moves them in).
    pub(crate) fn moves_values(self) -> bool {
        matches!(self, Self::Thrash | Self::Put | Self::Get)
    }
}

/// Runs the load against the target. The first wrong answer ends it, and leaves what was put.
///
/// # Errors
///
/// The wrong answer.
pub(crate) async fn run(load: Load, target: Target) -> Result<Outcome, Failure> {
    let run = Arc::new(Run::new(load, target));
    let [before, timed, after] = load.mode.parts();
    run.all(before).await?;
    run.forget();
    let start = Instant::now();
    if load.mode == Mode::List {
        run.list().await?;
    } else {
        run.all(timed).await?;
    }
    let elapsed = start.elapsed();
    let latencies = run.forget();
    run.all(after).await?;
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

    /// Does these operations on each key, in order; the keys in any order.
    async fn all(self: &Arc<Self>, operations: &'static [Operation]) -> Result<(), Failure> {
        if operations.is_empty() {
            return Ok(());
        }
        let next = Arc::new(AtomicU64::new(0));
        let mut clients = JoinSet::new();
        for _ in 0..self.load.concurrency {
            clients.spawn(Arc::clone(self).work(operations, Arc::clone(&next)));
        }
        while let Some(ended) = clients.join_next().await {
            match ended {
                Ok(result) => result?,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        Ok(())
    }

    /// One client: takes key after key until none is left.
    async fn work(self: Arc<Self>, operations: &[Operation], next: Arc<AtomicU64>) -> Result<(), Failure> {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= self.load.count {
                return Ok(());
            }
            let item = Item::new(&self.prefix, self.load.seed, n, self.load.size);
            for &operation in operations {
                self.time(operation, self.target.perform(&self.client, operation, &item)).await?;
            }
        }
    }

    /// Lists all keys, once.
    async fn list(&self) -> Result<(), Failure> {
        let prefix = Key::new(self.prefix.as_bytes());
        self.time(Operation::List, self.target.list(&self.client, &prefix, self.load.count)).await
    }

    /// Records how long an operation takes that succeeds.
    async fn time(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<(), Failure>>,
    ) -> Result<(), Failure> {
        let start = Instant::now();
        work.await?;
        let nanoseconds = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        latencies.entry(operation).or_insert_with(histogram).saturating_record(nanoseconds);
        Ok(())
    }

    /// The latencies so far, which are then forgotten.
    fn forget(&self) -> Latencies {
        std::mem::take(&mut *self.latencies.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[allow(clippy::expect_used, reason = "the bounds are constants that HDR histograms accept")]
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(*LATENCIES_NS.start(), *LATENCIES_NS.end(), DIGITS).expect("valid bounds")
}
