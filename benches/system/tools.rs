//! The offline tools: how they scale with volumes and `--jobs`.

use std::fs;

use crate::machine::check_room;
use crate::objects::{Objects, new_seed};
use crate::process::{self, Ended};
use crate::report::{Row, Sample};
use crate::rounds::measure;
use crate::settings::{Result, Settings};
use crate::stage::Stage;

/// A number of volumes, and the `--jobs` to try on them.
pub(crate) type Scale = (usize, Vec<u16>);

const MOST_REPLICAS: usize = 3;
/// A full store has many values in each directory. (With the usual 10 subvolumes, most of 100,000 values
/// would be alone in theirs.)
const SUBVOLUMES: u32 = 1;

/// Measures a tool, `rebuild` or `rebalance`, on stores whose objects are all in place.
pub(crate) async fn whole_store(
    settings: &Settings,
    tool: &str,
    count: u32,
    scales: &[Scale],
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (volumes, jobs) in scales {
        let replicas = *volumes.min(&MOST_REPLICAS);
        let prepare = async |settings: &Settings| {
            // files, and two levels of directories
            check_room(&settings.volumes_on, (u64::from(count) + 2 * 256 * 256) * replicas as u64)?;
            let stage = Stage::new(settings, *volumes, SUBVOLUMES).await?;
            Objects::new(new_seed(), count.into(), count.into()).make(&stage, *volumes).await?;
            Ok(stage)
        };
        let (thousands, s) = (count / 1000, if *volumes == 1 { "" } else { "s" });
        let round = async |stage: &Stage, _: bool| {
            let mut rows = Vec::new();
            for jobs in jobs {
                let sample = run(stage, tool, *volumes, *jobs, ("objects", Some(count))).await?;
                let what = if tool == "rebalance" { "look" } else { tool };
                let name = format!("{what} {thousands}k, {volumes} volume{s}, {jobs} jobs");
                rows.push(Row::new(&name, "objects/s", sample));
            }
            Ok(rows)
        };
        rows.extend(measure(settings, prepare, round).await?);
    }
    Ok(rows)
}

/// Measures rebalances when a fourth volume comes, and, in turn, when it goes.
pub(crate) async fn moves(settings: &Settings, count: u32) -> Result<Vec<Row>> {
    let prepare = async |settings: &Settings| {
        let stage = Stage::new(settings, 4, SUBVOLUMES).await?;
        Objects::new(new_seed(), count.into(), count.into()).make(&stage, 3).await?;
        Ok(stage)
    };
    let round = async |stage: &Stage, _: bool| {
        let mut rows = Vec::new();
        for volumes in [4, 3] {
            let sample = run(stage, "rebalance", volumes, 16, ("moved", None)).await?;
            rows.push(Row::new("move 3⇄4 volumes, 16 jobs", "replicas/s", sample));
        }
        Ok(rows.into_iter().reduce(Row::merge).into_iter().collect())
    };
    measure(settings, prepare, round).await
}

/// Runs a tool. Its operations are the number behind a word in its summary, which must be the expected one,
/// where one is expected, and never zero.
async fn run(
    stage: &Stage,
    tool: &str,
    volumes: usize,
    jobs: u16,
    (counted, expected): (&str, Option<u32>),
) -> Result<Sample> {
    let db = if tool == "rebuild" { stage.path("rebuilt") } else { stage.db() };
    let mut flags = stage.flags(&db, volumes);
    flags.extend(["--jobs".to_owned(), jobs.to_string()]);
    let before = stage.volumes_cpu()?;
    let tool = stage.tool(&format!("davkv-{tool}"));
    let Ended { seconds, cpu, peak, output } = process::run(&tool, flags).await?;
    let volumes_cpu = stage.volumes_cpu()? - before;
    if db != stage.db() {
        fs::remove_dir_all(db)?;
    }
    let line = output.lines().find_map(|line| line.strip_prefix(counted));
    let number = line.and_then(|rest| rest.trim().split([' ', ',']).next()?.parse::<u32>().ok());
    let number = number.filter(|number| *number > 0 && expected.is_none_or(|expected| expected == *number));
    let number =
        number.ok_or_else(|| format!("{} prints a wrong number of {counted}: {output}", tool.display()))?;
    let sample = Sample::new(f64::from(number) / seconds, f64::from(number));
    Ok(sample.costing(cpu, volumes_cpu, peak))
}
