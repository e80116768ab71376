//! `davkv-rebalance`: moves every value to its placement on the given volumes.

mod progress;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use davkv::config::{self, Rebalance};
use davkv::error::Error;
use davkv::index::Index;
use davkv::key::{Key, PARTS};
use davkv::progress::Progress;
use davkv::record::Record;
use davkv::runtime;
use davkv::store::{self, Forgotten, Options, Rebalanced, Standing, Store};
use davkv::volume::Volumes;
use futures_util::stream::{self, StreamExt as _};

/// How long writes may take to finish after a failure.
const GRACE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let flags = match config::parse::<Rebalance>() {
        Ok(flags) => flags,
        Err(code) => return code,
    };
    davkv::logs::start_for_a_tool(flags.common.verbose);
    let dry_run = flags.dry_run;
    match runtime::run(run(flags)) {
        Ok(summary) => {
            report(&summary, dry_run);
            if summary.failures + summary.pending == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("davkv-rebalance: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the run did, or would do (`--dry-run`).
#[derive(Default)]
struct Summary {
    objects: u64,
    bytes: u64,
    moved: u64,
    repaired: u64,
    dropped: u64,
    /// Bytes that were, or would be, copied.
    copied: u64,
    forgotten: u64,
    /// Values that stay where they are, with all their replicas, for want of room.
    unbalanced: u64,
    /// The volumes that have none.
    full: BTreeSet<String>,
    pending: u64,
    failures: u64,
}

async fn run(flags: Rebalance) -> Result<Summary, String> {
    let Rebalance { common, dry_run, forget, jobs } = flags;
    let (db, addresses, options) = (common.db.clone(), common.addresses(), common.index(false));
    let index =
        runtime::blocking(move || Index::open(&db, options)).await?.map_err(|error| error.to_string())?;
    // the master is down and redirects no readers, so replaced files can be deleted at once
    let options = Options { forgotten: Forgotten(forget), ..common.store(Duration::ZERO) };
    let addresses = store::follow(&index, &options.placement, addresses, options.timeouts).await;
    let volumes = Volumes::new(addresses.map_err(|error| error.to_string())?, options.timeouts);
    let store = Store::new(index, volumes.verified(), options);
    let result = match check(&store, dry_run).await {
        Ok(()) => rebalance_all(&store, dry_run, jobs.jobs.into()).await,
        Err(error) => Err(error),
    };
    store.stop(GRACE).await;
    result
}

/// Checks that each volume of these that answers is the one that is meant, before anything is copied.
async fn check(store: &Store, dry_run: bool) -> Result<(), String> {
    let standings = if dry_run { store.inspect().await } else { store.identify().await };
    for (name, standing) in standings.map_err(|error| error.to_string())? {
        let is_used = store.options().placement.volumes().any(|used| used == name);
        if let Standing::Refused { .. } = standing
            && is_used
        {
            return Err(format!("the volume {name}: {standing}"));
        }
    }
    Ok(())
}

async fn rebalance_all(store: &Store, dry_run: bool, jobs: usize) -> Result<Summary, String> {
    let progress = progress::new();
    let mut summary = Summary::default();
    if !dry_run {
        summary.forgotten = store.forget().await.map_err(|error| error.to_string())?;
    }
    progress::shown(&progress, move_all(store, dry_run, jobs, &progress, &mut summary)).await?;
    if !dry_run {
        // files that this run, or an earlier one that was killed, couldn't delete
        summary.pending = store.reap_once().await.map_err(|error| error.to_string())?;
    }
    Ok(summary)
}

async fn move_all(
    store: &Store,
    dry_run: bool,
    jobs: usize,
    progress: &Arc<Progress>,
    summary: &mut Summary,
) -> Result<(), String> {
    progress.begin("counting (objects)", 0);
    let mut total = 0;
    let mut unused = store.options().forgotten.0.clone();
    each_page(store, async |rows| {
        total += rows.len() as u64;
        progress.step(rows.len() as u64);
        unused.retain(|gone| {
            let mut replicas = rows.iter().flat_map(|(_, record)| &record.replicas);
            !replicas.any(|replica| replica.place.volume() == gone)
        });
    })
    .await?;
    if summary.forgotten == 0 {
        for gone in unused {
            eprintln!("--forget {gone}: no value has a replica there; is the name right?");
        }
    }
    progress.begin(if dry_run { "checking (objects)" } else { "rebalancing (objects)" }, total);
    each_page(store, async |rows| {
        let keys = rows.into_iter().map(|(key, _)| key);
        let mut done = stream::iter(keys.map(|key| one(store, key, dry_run))).buffer_unordered(jobs);
        while let Some((key, result)) = done.next().await {
            progress.step(1);
            summary.add(&key, result);
        }
    })
    .await
}

/// Passes all keys and records, including parts of uploads, to `take`, page by page.
async fn each_page(store: &Store, mut take: impl AsyncFnMut(Vec<(Key, Record)>)) -> Result<(), String> {
    for prefix in [b"/", PARTS] {
        let mut start = Some(Vec::new());
        while let Some(from) = start {
            let page = store.records(prefix, &from).await.map_err(|error| error.to_string())?;
            take(page.rows).await;
            start = page.next;
        }
    }
    Ok(())
}

/// Rebalances one key in a task of its own, so that all cores are used.
async fn one(store: &Store, key: Key, dry_run: bool) -> (Key, Result<Rebalanced, Error>) {
    let (store, named) = (store.clone(), key.clone());
    let task = tokio::spawn(async move {
        if dry_run { store.plan_rebalance(&key).await } else { store.rebalance(&key).await }
    });
    (named, task.await.unwrap_or(Err(Error::Panicked)))
}

impl Summary {
    fn add(&mut self, key: &Key, result: Result<Rebalanced, Error>) {
        self.objects += 1;
        match result {
            Ok(done) => {
                self.bytes += done.size;
                self.moved += done.moved;
                self.repaired += done.repaired;
                self.dropped += done.removed;
                self.copied += done.size * (done.moved + done.repaired);
            }
            Err(Error::Unbalanced { full }) => {
                self.unbalanced += 1;
                self.full.insert(full);
            }
            Err(error) => {
                self.failures += 1;
                let cause =
                    if let Error::Index(cause) = &error { cause.to_string() } else { error.to_string() };
                eprintln!("failed: {key}: {cause}");
            }
        }
    }
}

#[allow(clippy::print_stdout, reason = "the summary is what the program is run for")]
fn report(summary: &Summary, dry_run: bool) {
    let (would, copied) = if dry_run { ("would be ", "to copy ") } else { ("", "copied  ") };
    println!("objects   {}", summary.objects);
    println!("bytes     {}", progress::bytes(summary.bytes));
    println!("moved     {} replicas {would}copied to volumes that had none", summary.moved);
    println!("repaired  {} replicas {would}copied in place of missing, torn or stale ones", summary.repaired);
    println!("dropped   {} replicas {would}removed from the index, with their files", summary.dropped);
    println!("{copied}  {}", progress::bytes(summary.copied));
    if summary.forgotten > 0 {
        println!("forgotten {} files to be deleted on forgotten volumes", summary.forgotten);
    }
    if summary.unbalanced > 0 {
        let full: Vec<&str> = summary.full.iter().map(String::as_str).collect();
        println!(
            "unbalanced {} objects, which stay where they are with all their replicas: full, or can't be written: {}",
            summary.unbalanced,
            full.join(", ")
        );
    }
    if summary.pending > 0 {
        println!(
            "pending   {} files that could not be deleted: run this again when their volumes answer, or",
            summary.pending
        );
        println!("          leave them to the master; if a volume is gone for good, use --forget");
    }
    println!("failures  {}", summary.failures);
}
