//! What is measured, and how.

use std::sync::atomic::{AtomicU64, Ordering};

use clap::ValueEnum;

use crate::load::{Target, thrash, wrk};
use crate::objects::Objects;
use crate::report::{Of, Row};
#[cfg(feature = "s3")]
use crate::s3;
use crate::stage::{Sample, Stage, per_gib};
use crate::{Failure, Settings, process, syscalls, tools, yardstick};

/// Connections that ask for redirects, as wrk's users have them.
const READERS: u32 = 100;
/// How often they ask where there is no wrk, which goes by time.
const READS: u32 = 60_000;
/// The numbers of connections that are compared; the first is what the others are compared with.
const CONNECTIONS: [u32; 4] = [16, 1, 256, 2000];
/// Keys of a large index that are asked for, all over it. They are the ones that have files.
const ASKED: u64 = 50_000;
/// Keys of a small index.
const FEW: u64 = 10_000;

/// The workloads, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// PUT, GET followed, DELETE of each key; 16 bytes, 16 clients
    #[value(name = "thrash-16")]
    Thrash16,
    /// the same with 4 KiB
    #[value(name = "thrash-4k")]
    Thrash4k,
    /// the same with 1 MiB
    #[value(name = "thrash-1m")]
    Thrash1m,
    /// PUT alone, and DELETE alone; 16 bytes, 16 clients
    PutDelete,
    /// GET of one existing key, not followed, on 100 connections
    Redirect,
    /// GET of a key that doesn't exist, on 100 connections
    Missing,
    /// lists of one key
    #[value(name = "list-1")]
    List1,
    /// lists of 1,000 keys
    #[value(name = "list-1k")]
    List1k,
    /// a list of 1,000,000 keys
    #[value(name = "list-1m")]
    List1m,
    /// PUT of one value of 1 GiB
    #[value(name = "upload-1g")]
    Upload1g,
    /// PUT of 16 values of 64 MiB at once
    #[value(name = "upload-16x64m")]
    Upload16x64m,
    /// thrash-16 on 1, 16, 256 and 2,000 connections
    Connections,
    /// GET, not followed, of random keys of an index of 1 million, beside one of 10 thousand
    #[value(name = "index-1m")]
    Index1m,
    /// the same of 30 million
    #[value(name = "index-30m")]
    Index30m,
    /// rebuild of 100,000 objects, by volumes and --jobs
    Rebuild,
    /// rebuild of 1,000,000 objects
    #[value(name = "rebuild-1m")]
    Rebuild1m,
    /// rebalance of 100,000 objects that are all in place, and of 20,000 when a volume comes and goes
    Rebalance,
    /// rebalance of 1,000,000 objects that are all in place
    #[value(name = "rebalance-1m")]
    Rebalance1m,
    /// GET of one value of 64 MiB by the S3 API, on 1 connection and on 16, beside an nginx that passes it on
    #[cfg(feature = "s3")]
    #[value(name = "s3-get-64m")]
    S3Get64m,
    /// the same of 1 GiB
    #[cfg(feature = "s3")]
    #[value(name = "s3-get-1g")]
    S3Get1g,
    /// CPU of signed PUTs by the S3 API, beside native ones; 16 bytes, 16 clients
    #[cfg(feature = "s3")]
    #[value(name = "s3-put-16")]
    S3Put16,
    /// the same with 4 KiB
    #[cfg(feature = "s3")]
    #[value(name = "s3-put-4k")]
    S3Put4k,
    /// PUT of 16 values of 64 MiB at once by the S3 API, beside native ones
    #[cfg(feature = "s3")]
    S3Uploads,
    /// a listing by the S3 API of 10 folders, which hold 1,000,000 keys
    #[cfg(feature = "s3")]
    #[value(name = "s3-list-1m")]
    S3List1m,
    /// system calls of the master per PUT, GET, DELETE; by strace
    Syscalls,
}

impl Workload {
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    pub(crate) fn about(self) -> String {
        let value = self.to_possible_value();
        value.and_then(|value| value.get_help().map(ToString::to_string)).unwrap_or_default()
    }

    /// Whether it belongs to what is measured when nothing is asked for.
    pub(crate) fn is_quick(self) -> bool {
        use Workload::{Index30m, Rebalance, Rebalance1m, Rebuild, Rebuild1m, Syscalls};
        #[cfg(feature = "s3")]
        if self == Self::S3Get1g {
            return false;
        }
        !matches!(self, Index30m | Rebuild | Rebuild1m | Rebalance | Rebalance1m | Syscalls)
    }

    /// Measures it.
    pub(crate) async fn run(self, settings: &Settings) -> Result<Vec<Row>, Failure> {
        let name = self.name();
        match self {
            Self::Thrash16 => thrash_keys(settings, &name, "--size 16 --count 5000").await,
            Self::Thrash4k => thrash_keys(settings, &name, "--size 4KiB --count 4000").await,
            Self::Thrash1m => thrash_keys(settings, &name, "--size 1MiB --count 300").await,
            Self::PutDelete => put_delete(settings).await,
            Self::Redirect => readers(settings, &name, true).await,
            Self::Missing => readers(settings, &name, false).await,
            Self::List1 => list(settings, &name, 1, 20_000).await,
            Self::List1k => list(settings, &name, 1_000, 1_000).await,
            Self::List1m => {
                let rows = list(settings, &name, 1_000_000, 2).await?;
                Ok(rows.into_iter().map(|row| row.at_least(Of::Figure, 3e6)).collect())
            }
            Self::Upload1g => upload(settings, &name, 1, 1024).await,
            Self::Upload16x64m => upload(settings, &name, 16, 64).await,
            Self::Connections => connections(settings).await,
            Self::Index1m => index(settings, &name, 1_000_000).await,
            Self::Index30m => index(settings, &name, 30_000_000).await,
            Self::Rebuild => tools::rebuild(settings, 100_000, &tools::SCALES).await,
            Self::Rebuild1m => tools::rebuild(settings, 1_000_000, &tools::LARGE).await,
            Self::Rebalance => {
                let mut rows = tools::rebalance(settings, 100_000, &tools::SCALES).await?;
                rows.extend(tools::moves(settings, 20_000).await?);
                Ok(rows)
            }
            Self::Rebalance1m => tools::rebalance(settings, 1_000_000, &tools::LARGE).await,
            #[cfg(feature = "s3")]
            Self::S3Get64m => s3::get(settings, &name, 64, [16, 48]).await,
            #[cfg(feature = "s3")]
            Self::S3Get1g => s3::get(settings, &name, 1024, [2, 16]).await,
            #[cfg(feature = "s3")]
            Self::S3Put16 => s3::put(settings, &name, 16).await,
            #[cfg(feature = "s3")]
            Self::S3Put4k => s3::put(settings, &name, 4096).await,
            #[cfg(feature = "s3")]
            Self::S3Uploads => s3::uploads(settings, &name).await,
            #[cfg(feature = "s3")]
            Self::S3List1m => s3::list(settings, &name).await,
            Self::Syscalls => syscalls::count(settings).await,
        }
    }
}

/// Does it once for nothing, and then once for each round.
pub(crate) async fn rounds<T>(
    settings: &Settings,
    mut one: impl AsyncFnMut() -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    one().await?;
    let mut results = Vec::new();
    for _ in 0..settings.rounds {
        results.push(one().await?);
    }
    Ok(results)
}

/// A seed that was never used before: no key comes twice, as a master would give it another name.
pub(crate) fn new_seed() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

async fn thrash_keys(settings: &Settings, name: &str, flags: &str) -> Result<Vec<Row>, Failure> {
    let stage = Stage::usual(settings).await?.with_master().await?;
    let results = rounds(settings, async || {
        let limit = thrash(Target::Direct(&stage.layout), flags).await?;
        let sample = stage.measure(thrash(Target::Url(stage.url()?), flags)).await?;
        Ok((limit.rate, sample))
    });
    let (limits, samples): (_, Vec<_>) = results.await?.into_iter().unzip();
    let row = Row::new(name, "keys/s", &samples).against("direct", limits).at_least(Of::Ratio, 0.8);
    // of large values, MD5 alone takes more
    Ok(vec![if name == "thrash-1m" { row } else { row.at_most(Of::Cpu, 0.12) }])
}

/// PUTs new values, and then DELETEs them.
async fn put_and_delete(stage: &Stage, target: Target<'_>, flags: &str) -> Result<[Sample; 2], Failure> {
    let flags = format!("{flags} --seed {}", new_seed());
    let put = stage.measure(thrash(target, &format!("--mode put {flags}"))).await?;
    let delete = stage.measure(thrash(target, &format!("--mode delete --existing {flags}"))).await?;
    Ok([put, delete])
}

async fn put_delete(settings: &Settings) -> Result<Vec<Row>, Failure> {
    let stage = Stage::usual(settings).await?.with_master().await?;
    let results = rounds(settings, async || {
        let limits = put_and_delete(&stage, Target::Direct(&stage.layout), "--count 5000").await?;
        let samples = put_and_delete(&stage, Target::Url(stage.url()?), "--count 5000").await?;
        Ok((limits, samples))
    });
    let (limits, samples): (Vec<_>, Vec<_>) = results.await?.into_iter().unzip();
    let row = |name, which: fn([Sample; 2]) -> Sample| {
        let samples: Vec<_> = samples.iter().copied().map(which).collect();
        let limits = limits.iter().copied().map(which).map(|sample| sample.rate).collect();
        Row::new(name, "keys/s", &samples).against("direct", limits)
    };
    Ok(vec![row("put", |[put, _]| put), row("delete", |[_, delete]| delete)])
}

async fn readers(settings: &Settings, name: &str, existing: bool) -> Result<Vec<Row>, Failure> {
    let stage = Stage::usual(settings).await?.with_master().await?;
    let (status, least) = if existing { (302, 0.6) } else { (404, 0.8) };
    let (_yardstick, bare) = yardstick::start(status, stage.path("yardstick.log")).await?;
    let seed = new_seed();
    if existing {
        thrash(Target::Url(stage.url()?), &format!("--mode put --count 1 --seed {seed}")).await?;
    }
    let key = Objects::new(seed, 1).first()?;
    let client = process::find("wrk");
    let ask = async |url: &str| {
        if let Some(client) = &client {
            return wrk(client, &format!("{url}{key}"), READERS, existing).await;
        }
        let existing = if existing { "--existing" } else { "" };
        let flags = format!("--mode {name} {existing} --count 1 --repeat {READS} --concurrency {READERS}");
        thrash(Target::Url(url), &format!("{flags} --seed {seed}")).await
    };
    let results = rounds(settings, async || {
        let limit = ask(&bare).await?;
        Ok((limit.rate, stage.measure(ask(stage.url()?)).await?))
    });
    let (limits, samples): (_, Vec<_>) = results.await?.into_iter().unzip();
    let row = Row::new(name, "GETs/s", &samples).against("yardstick", limits).at_least(Of::Ratio, least);
    Ok(vec![row.note(if client.is_some() { "by wrk" } else { "by the thrasher" })])
}

async fn list(settings: &Settings, name: &str, count: u64, times: u32) -> Result<Vec<Row>, Failure> {
    let mut stage = Stage::usual(settings).await?;
    let seed = new_seed();
    Objects::listed(seed, count).index(&stage.db(), &stage.layout.placement()).await?;
    stage.start_master().await?;
    let before = process::memory(stage.master()?.pid(), "VmRSS").unwrap_or_default() >> 20;
    let concurrency = if count > 1_000 { 1 } else { 16 };
    let flags = format!("--mode list --existing --count {count} --repeat {times} --seed {seed}");
    let flags = format!("{flags} --concurrency {concurrency}");
    let samples = rounds(settings, async || stage.measure(thrash(Target::Url(stage.url()?), &flags)).await);
    let row = Row::new(name, "keys/s", &samples.await?);
    Ok(vec![row.note(format!("{before} MiB at the start"))])
}

async fn upload(settings: &Settings, name: &str, count: u32, mib: u32) -> Result<Vec<Row>, Failure> {
    let stage = Stage::usual(settings).await?.with_master().await?;
    let flags = format!("--count {count} --concurrency {count} --size {mib}MiB");
    let results = rounds(settings, async || {
        let [limit, _] = put_and_delete(&stage, Target::Direct(&stage.layout), &flags).await?;
        let [put, _] = put_and_delete(&stage, Target::Url(stage.url()?), &flags).await?;
        Ok((per_gib(limit, mib).rate, per_gib(put, mib)))
    });
    let (limits, samples): (_, Vec<_>) = results.await?.into_iter().unzip();
    let row = Row::new(name, "MiB/s", &samples).against("direct", limits).at_least(Of::Ratio, 0.7);
    Ok(vec![row.at_most(Of::Peak, 16.0 + 2.0 * f64::from(count))])
}

async fn connections(settings: &Settings) -> Result<Vec<Row>, Failure> {
    // each number has a store of its own: what many connections leave in a master is no cost of few
    let mut stages = Vec::new();
    for connections in CONNECTIONS {
        stages.push((connections, Stage::usual(settings).await?.with_master().await?));
    }
    let results = rounds(settings, async || {
        let mut samples = Vec::new();
        for (connections, stage) in &stages {
            // so many for each that it isn't the opening of connections that is measured
            let count = if *connections == 1 { 1_000 } else { 6_000.max(20 * connections) };
            let flags = format!("--count {count} --concurrency {connections}");
            let sample = stage.measure(thrash(Target::Url(stage.url()?), &flags)).await;
            samples.push(sample.map_err(|error| format!("on {connections} connections: {error}"))?);
        }
        Ok(samples)
    });
    let results = results.await?;
    let column = |n: usize| results.iter().filter_map(|samples| samples.get(n).copied()).collect::<Vec<_>>();
    let limits: Vec<_> = column(0).iter().map(|sample| sample.rate).collect();
    let rows = CONNECTIONS.into_iter().enumerate().map(|(n, connections)| {
        let row = Row::new(&format!("connections-{connections}"), "keys/s", &column(n));
        match connections {
            16 => row,
            2000 => row.against("on 16", limits.clone()).at_least(Of::Ratio, 0.8),
            _ => row.against("on 16", limits.clone()),
        }
    });
    Ok(rows.collect())
}

async fn index(settings: &Settings, name: &str, keys: u64) -> Result<Vec<Row>, Failure> {
    let (small, few) = with_index(settings, FEW).await?;
    let (large, many) = with_index(settings, keys).await?;
    let results = rounds(settings, async || {
        let limit = thrash(Target::Url(small.url()?), &few).await?;
        Ok((limit.rate, large.measure(thrash(Target::Url(large.url()?), &many)).await?))
    });
    let (limits, samples): (_, Vec<_>) = results.await?.into_iter().unzip();
    let row = Row::new(name, "GETs/s", &samples).against("of 10k", limits).at_least(Of::Ratio, 0.7);
    let start = large.master()?.started_in.as_secs_f64() * 1e3;
    let start = Row::single(&format!("{name}-start"), "ms", start).at_most(Of::Figure, 1e3);
    Ok(vec![row, start])
}

/// A master with so many keys in its index, and the flags that ask for [`ASKED`] random ones.
async fn with_index(settings: &Settings, keys: u64) -> Result<(Stage, String), Failure> {
    let mut stage = Stage::usual(settings).await?;
    let seed = new_seed();
    let asked = keys.min(ASKED);
    Objects::new(seed, keys).index(&stage.db(), &stage.layout.placement()).await?;
    Objects::new(seed, asked).files(&stage, &stage.layout.placement()).await?;
    stage.start_master().await?;
    let repeat = ASKED / asked;
    let flags = format!("--mode redirect --existing --count {asked} --repeat {repeat} --seed {seed}");
    Ok((stage, format!("{flags} --concurrency 64")))
}
