//! The offline tools: how they scale with volumes and `--jobs`.

use std::fs;

use crate::machine::check_room;
use crate::objects::Objects;
use crate::process::{self, Ended};
use crate::report::{Of, Row};
use crate::stage::{Layout, Sample, Stage};
use crate::workloads::{new_seed, rounds};
use crate::{Failure, Settings};

/// Volumes, and the `--jobs` to try on them.
pub(crate) type Scale = (usize, &'static [u16]);
pub(crate) const SCALES: [Scale; 3] = [(1, &[16]), (3, &[1, 16, 64]), (5, &[16])];
pub(crate) const LARGE: [Scale; 2] = [(1, &[16]), (3, &[16])];

/// From this number of objects on a store is large.
const MANY: u64 = 1_000_000;
const MOST_REPLICAS: usize = 3;
/// What a full store is to have: many values in each directory. (With the usual 10, most of 100,000 values
/// would be alone in theirs.)
const SUBVOLUMES: u32 = 1;

/// The files and directories that so many objects on so many volumes come to.
fn files(objects: u64, volumes: usize) -> u64 {
    let replicas = volumes.min(MOST_REPLICAS) as u64;
    (objects + 2 * 256 * 256) * replicas
}

/// Rebuilds of stores with so many objects.
pub(crate) async fn rebuild(settings: &Settings, count: u64, scales: &[Scale]) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for &(volumes, jobs) in scales {
        check_room(&settings.volumes_on, files(count, volumes))?;
        let stage = Stage::new(settings, volumes, volumes.min(MOST_REPLICAS), SUBVOLUMES).await?;
        Objects::new(new_seed(), count).files(&stage, &stage.layout.placement()).await?;
        for jobs in jobs {
            let samples = rounds(settings, async || {
                let db = stage.path("rebuilt");
                let flags = stage.flags(&db, &stage.layout.volumes);
                let (ended, volumes_cpu) = watched(&stage, "davkv-rebuild", flags, *jobs).await?;
                fs::remove_dir_all(db)?;
                sample(&ended, volumes_cpu, counted(&ended, "objects")?, count)
            });
            let row = row("rebuild", count, volumes, *jobs, &samples.await?);
            // what is wanted is wanted of a large store, with many values in each directory
            rows.push(if count < MANY { row } else { row.at_least(Of::Figure, 20_000.0) });
        }
    }
    Ok(rows)
}

/// Rebalances that look at so many objects, and move none.
pub(crate) async fn rebalance(
    settings: &Settings,
    count: u64,
    scales: &[Scale],
) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for &(volumes, jobs) in scales {
        check_room(&settings.volumes_on, files(count, volumes))?;
        let stage = Stage::new(settings, volumes, volumes.min(MOST_REPLICAS), SUBVOLUMES).await?;
        let objects = Objects::new(new_seed(), count);
        objects.index(&stage.db(), &stage.layout.placement()).await?;
        objects.files(&stage, &stage.layout.placement()).await?;
        for jobs in jobs {
            let samples = rounds(settings, async || {
                let flags = stage.flags(&stage.db(), &stage.layout.volumes);
                let (ended, volumes_cpu) = watched(&stage, "davkv-rebalance", flags, *jobs).await?;
                sample(&ended, volumes_cpu, counted(&ended, "objects")?, count)
            });
            rows.push(row("look", count, volumes, *jobs, &samples.await?));
        }
    }
    Ok(rows)
}

/// Rebalances when a fourth volume comes, and, in turn, when it goes.
pub(crate) async fn moves(settings: &Settings, count: u64) -> Result<Vec<Row>, Failure> {
    let stage = Stage::new(settings, 4, MOST_REPLICAS, SUBVOLUMES).await?;
    let all = &stage.layout.volumes;
    let three: Vec<_> = all.iter().take(3).cloned().collect();
    let placement = Layout { volumes: three.clone(), ..stage.layout.clone() }.placement();
    let objects = Objects::new(new_seed(), count);
    objects.index(&stage.db(), &placement).await?;
    objects.files(&stage, &placement).await?;
    let samples = rounds(settings, async || {
        let mut samples = Vec::new();
        for volumes in [all, &three] {
            let flags = stage.flags(&stage.db(), volumes);
            let (ended, volumes_cpu) = watched(&stage, "davkv-rebalance", flags, 16).await?;
            let moved = counted(&ended, "moved")?;
            samples.push(sample(&ended, volumes_cpu, moved, moved)?);
        }
        Ok(samples)
    });
    let samples: Vec<_> = samples.await?.into_iter().flatten().collect();
    Ok(vec![Row::new("move 3⇄4 volumes, 16 jobs", "replicas/s", &samples)])
}

/// Runs a tool; what it has shown, and the CPU seconds that it has cost the volumes.
async fn watched(
    stage: &Stage,
    tool: &str,
    mut flags: Vec<String>,
    jobs: u16,
) -> Result<(Ended, Option<f64>), Failure> {
    flags.extend(["--jobs".to_owned(), jobs.to_string()]);
    let before = stage.volumes_cpu();
    let ended = process::run(&stage.tool(tool), flags).await?;
    let spent = stage.volumes_cpu().zip(before).map(|(after, before)| after - before);
    Ok((ended, spent))
}

/// The number that stands behind that word in the tool's summary.
fn counted(ended: &Ended, word: &str) -> Result<u64, Failure> {
    let line = ended.output.lines().find_map(|line| line.strip_prefix(word));
    let number = line.and_then(|rest| rest.trim().split([' ', ',']).next()?.parse().ok());
    number.ok_or_else(|| format!("no number of {word} in {:?}", ended.output).into())
}

fn sample(ended: &Ended, volumes_cpu: Option<f64>, count: u64, wanted: u64) -> Result<Sample, Failure> {
    if count != wanted || count == 0 {
        return Err(format!("{count} of {wanted} were dealt with").into());
    }
    let thousands = as_float(count) / 1e3;
    Ok(Sample {
        rate: thousands * 1e3 / ended.seconds,
        cpu: Some(ended.cpu / thousands),
        volumes_cpu: volumes_cpu.map(|cpu| cpu / thousands),
        peak: Some(ended.peak),
    })
}

fn row(what: &str, count: u64, volumes: usize, jobs: u16, samples: &[Sample]) -> Row {
    let thousands = count / 1000;
    let s = if volumes == 1 { "" } else { "s" };
    Row::new(&format!("{what} {thousands}k, {volumes} volume{s}, {jobs} jobs"), "objects/s", samples)
}

#[allow(clippy::cast_precision_loss, reason = "a count of this size fits")]
fn as_float(number: u64) -> f64 {
    number as f64
}
