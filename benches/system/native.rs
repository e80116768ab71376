//! Workloads of the native API, beside the volumes directly, a bare server, or a store of another size.

use hyper::StatusCode;
use serde::Deserialize;

use crate::baseline;
use crate::load::{thrash, wrk};
use crate::objects::{Objects, new_seed};
use crate::process;
use crate::report::{Row, Sample};
use crate::settings::{Rows, Settings};
use crate::stage::{Stage, VOLUMES};

/// Connections that ask for one key, as wrk's users have them.
const READERS: u32 = 100;
/// How often they ask where wrk isn't installed; wrk asks for a time.
const READS: u32 = 60_000;

/// A store, and what the thrasher does to it.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Store {
    /// Keys that are in the index beforehand, how many of them have files, and how they begin.
    keys: u64,
    files: u64,
    prefix: String,
    /// Runs of the thrasher with one seed: the row that shows it ("" for none), and flags.
    runs: Vec<(String, String)>,
    unit: String,
    /// The size of each value, where they are so large that MiB are counted instead of keys.
    mib: Option<u32>,
    /// The limit: `direct`, `scan`, or a name for the first store, or nothing.
    beside: String,
    /// The row that shows how long the master takes to start.
    start: Option<String>,
}

/// Runs the thrasher against several stores, each with a master of its own: what many clients leave behind in
/// a master is no cost of few.
pub(crate) async fn stores(settings: &Settings, stores: &[Store]) -> Rows {
    let prepare = async |settings: &Settings| {
        let mut stages = Vec::new();
        for Store { keys, files, prefix, beside, .. } in stores {
            let (mut stage, seed) = (Stage::usual(settings).await?, new_seed());
            if *keys > 0 {
                stage = stage.marked().await?;
            }
            let prefix = prefix.replace("SEED", &seed.to_string());
            Objects { seed, prefix, count: *keys, files: *files }.make(&stage, VOLUMES).await?;
            if beside == "scan" {
                stage.copy_index()?;
            }
            stages.push((stage.start_master(&[]).await?, seed));
        }
        Ok(stages)
    };
    let round = async |stages: &Vec<(Stage, u64)>, limits: bool| {
        let (mut rows, mut first) = (Vec::new(), None);
        for (store, (stage, seed)) in stores.iter().zip(stages) {
            // keys that the runs themselves make are new ones in each round
            let seed = if store.keys > 0 { *seed } else { new_seed() };
            let counted = |sample: Sample| store.mib.map_or(sample, |mib| sample.of_values(mib));
            let mut limit_of = Vec::new();
            for (_, flags) in store.runs.iter().filter(|_| limits && store.beside == "direct") {
                limit_of.push(counted(stage.thrash_directly(&format!("{flags} --seed {seed}")).await?).rate);
            }
            if limits && store.beside == "scan" {
                limit_of.push(stage.scan_the_copy()?);
            }
            for (n, (name, flags)) in store.runs.iter().enumerate() {
                let sample = counted(stage.thrash(&format!("{flags} --seed {seed}")).await?);
                let limit = limit_of.get(n).copied().or(first.filter(|_| limits && !store.beside.is_empty()));
                rows.push(Row::new(name, &store.unit, sample).against(&store.beside, limit));
                first = first.or(Some(sample.rate));
            }
            if let Some(name) = &store.start {
                let milliseconds = stage.master()?.started_in.as_secs_f64() * 1e3;
                rows.push(Row::new(name, "ms", Sample::new(milliseconds, 0.0)));
            }
        }
        rows.retain(|row| !row.workload.is_empty());
        Ok(rows)
    };
    settings.measure(prepare, round).await
}

/// GETs of one key, which exists (and are redirected) or doesn't.
pub(crate) async fn one_key(settings: &Settings, name: &str, existing: bool) -> Rows {
    let (seed, client) = (new_seed(), process::find("wrk"));
    let prepare = async |settings: &Settings| {
        let stage = Stage::with_master(settings).await?;
        if existing {
            stage.thrash(&format!("--mode put --count 1 --seed {seed}")).await?;
        }
        Ok((stage, baseline::start(if existing { StatusCode::FOUND } else { StatusCode::NOT_FOUND })?))
    };
    let ask = async |host: &str| {
        if let Some(client) = &client {
            let url = format!("http://{host}{}", Objects::new(seed, 1, 0).key(0));
            return wrk(client, &url, READERS, existing).await;
        }
        let mode = if existing { "redirect --existing" } else { "missing" };
        let flags = format!("--mode {mode} --count 1 --repeat {READS} --concurrency {READERS}");
        thrash(&format!("--url http://{host}"), &format!("{flags} --seed {seed}")).await
    };
    let round = async |(stage, baseline): &(Stage, String), limits: bool| {
        let limit = if limits { Some(ask(baseline).await?.rate) } else { None };
        let row = Row::new(name, "GETs/s", stage.measure(stage.master()?, &ask).await?);
        let client = if client.is_some() { "by wrk" } else { "by the thrasher" };
        Ok(vec![row.against("baseline", limit).note(client)])
    };
    settings.measure(prepare, round).await
}
