//! Workloads of the thrasher that write: against the master, and against the volumes directly.

use serde::Deserialize;

use crate::objects::new_seed;
use crate::report::Row;
use crate::rounds::measure;
use crate::settings::{Result, Settings};
use crate::stage::Stage;

/// A run of the thrasher.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Run {
    /// The row that shows it, if that isn't called as the workload; "" for none.
    row: Option<String>,
    flags: String,
    /// The size of each value, where they are so large that MiB are counted instead of keys.
    mib: Option<u32>,
}

/// Runs the thrasher several times in a round, with one seed: directly first, which is the limit, and then
/// against the master.
pub(crate) async fn runs(settings: &Settings, name: &str, runs: &[Run]) -> Result<Vec<Row>> {
    let round = async |stage: &Stage, limits: bool| {
        let seed = new_seed();
        let (mut direct, mut rows) = (Vec::new(), Vec::new());
        for run in runs.iter().filter(|_| limits) {
            direct.push(stage.thrash_directly(&format!("{} --seed {seed}", run.flags)).await?);
        }
        for (n, Run { row, flags, mib }) in runs.iter().enumerate() {
            let sample = stage.thrash(&format!("{flags} --seed {seed}")).await?;
            let limit = direct.get(n).map(|rate| rate * f64::from(mib.unwrap_or(1)));
            let (unit, sample) = mib.map_or(("keys/s", sample), |mib| ("MiB/s", sample.of_values(mib)));
            rows.push(Row::new(row.as_deref().unwrap_or(name), unit, sample).against("direct", limit));
        }
        rows.retain(|row| !row.workload.is_empty());
        Ok(rows)
    };
    measure(settings, Stage::with_master, round).await
}

/// PUT, GET and DELETE of each key by different numbers of clients, the others beside the first.
pub(crate) async fn connections(settings: &Settings, clients: &[u32]) -> Result<Vec<Row>> {
    // each number has a store of its own: what many clients leave behind in a master is no cost of few
    let prepare = async |settings: &Settings| {
        let mut stages = Vec::new();
        for clients in clients {
            stages.push((*clients, Stage::with_master(settings).await?));
        }
        Ok(stages)
    };
    let round = async |stages: &Vec<(u32, Stage)>, limits: bool| {
        let (mut rows, mut first) = (Vec::new(), None);
        for (clients, stage) in stages {
            // enough keys for each that the opening of connections doesn't count
            let count = if *clients == 1 { 1_000 } else { 6_000.max(20 * clients) };
            let sample = stage.thrash(&format!("--count {count} --concurrency {clients}")).await;
            let sample = sample.map_err(|error| format!("on {clients} connections: {error}"))?;
            let row = Row::new(&format!("connections-{clients}"), "keys/s", sample);
            rows.push(match first {
                Some((first, rate)) if limits => row.against(&format!("on {first}"), Some(rate)),
                _ => row,
            });
            first = first.or(Some((clients, sample.rate)));
        }
        Ok(rows)
    };
    measure(settings, prepare, round).await
}
