//! The offline tools: how they scale with volumes and `--jobs`.

use std::fs;

use serde::Deserialize;

use crate::objects::{Objects, new_seed};
use crate::process::{self, Ended};
use crate::report::{Row, Sample};
use crate::settings::{Result, Rows, Settings};
use crate::stage::Stage;

/// A full store has many values in each directory. (With the usual 10 subvolumes, most of 100,000 values
/// would be alone in theirs.)
const SUBVOLUMES: u32 = 1;

/// A tool, and a store for it.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tool {
    /// The rows that show it; the number of jobs follows.
    row: String,
    /// `rebuild` or `rebalance`.
    program: String,
    objects: u32,
    /// The numbers of volumes that it is run on, one after the other. The objects are placed for the last,
    /// so more than one number makes a rebalance move them.
    volumes: Vec<usize>,
    jobs: Vec<u16>,
}

/// Runs a tool with different numbers of jobs.
pub(crate) async fn run(settings: &Settings, tool: &Tool) -> Rows {
    let objects = u64::from(tool.objects);
    let [most, last] = [tool.volumes.iter().max(), tool.volumes.last()].map(|n| *n.unwrap_or(&1));
    let prepare = async |settings: &Settings| {
        let stage = Stage::new(settings, most, SUBVOLUMES).await?;
        Objects::new(new_seed(), objects, objects).make(&stage, last).await?;
        Ok(stage)
    };
    let unit = if tool.moves() { "replicas/s" } else { "objects/s" };
    let round = async |stage: &Stage, _: bool| {
        let mut rows = Vec::new();
        for jobs in &tool.jobs {
            let (name, mut runs) = (format!("{}, {jobs} jobs", tool.row), Vec::new());
            for volumes in &tool.volumes {
                runs.push(Row::new(&name, unit, tool.run(stage, *volumes, *jobs).await?));
            }
            rows.extend(runs.into_iter().reduce(Row::merge));
        }
        Ok(rows)
    };
    settings.measure(prepare, round).await
}

impl Tool {
    fn moves(&self) -> bool {
        self.volumes.len() > 1
    }

    /// Runs it once. Its summary tells the number of its operations: all objects, or some that it has moved.
    async fn run(&self, stage: &Stage, volumes: usize, jobs: u16) -> Result<Sample> {
        let db = if self.program == "rebuild" { stage.path("rebuilt") } else { stage.path("db") };
        let mut flags = stage.flags(&db, volumes);
        flags.extend(["--jobs".to_owned(), jobs.to_string()]);
        let program = stage.program.with_file_name(format!("davkv-{}", self.program));
        let before = stage.volumes_cpu()?;
        let Ended { seconds, cpu, peak, output } = process::run(&program, flags).await?;
        let volumes_cpu = stage.volumes_cpu()? - before;
        if db != stage.path("db") {
            fs::remove_dir_all(db)?;
        }
        let counted = if self.moves() { "moved" } else { "objects" };
        let rest = output.lines().find_map(|line| line.strip_prefix(counted)).unwrap_or_default();
        let number = rest.trim().split([' ', ',']).next().unwrap_or_default().parse::<u32>().unwrap_or(0);
        if number == 0 || (number != self.objects && !self.moves()) {
            return Err(format!("{} prints a wrong number of {counted}: {output}", self.program).into());
        }
        let sample = Sample::new(f64::from(number) / seconds, number.into());
        Ok(sample.costing(cpu, volumes_cpu, peak))
    }
}
