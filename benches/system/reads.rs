//! Workloads that read from the index: redirects, missing keys and lists.

use hyper::StatusCode;

use crate::baseline;
use crate::load::{thrash, wrk};
use crate::objects::{Objects, new_seed};
use crate::process;
use crate::report::{Row, Sample};
use crate::rounds::{if_wanted, measure};
use crate::settings::{Result, Settings};
use crate::stage::{Stage, VOLUMES};

/// Connections that ask for redirects, as wrk's users have them.
const READERS: u32 = 100;
/// How often they ask where wrk isn't installed; wrk asks for a time.
const READS: u32 = 60_000;
/// Keys of a large index that are asked for, spread over all of it. They alone have files.
const ASKED: u64 = 50_000;
/// Keys of a small index.
const FEW: u64 = 10_000;

/// GETs of one key, which exists (and are redirected) or doesn't.
pub(crate) async fn one_key(settings: &Settings, name: &str, existing: bool) -> Result<Vec<Row>> {
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
        let limit = if_wanted(limits, ask(baseline)).await?;
        let row = Row::new(name, "GETs/s", stage.measure(ask(stage.host()?)).await?);
        let client = if client.is_some() { "by wrk" } else { "by the thrasher" };
        Ok(vec![row.against("baseline", limit.map(|work| work.rate)).note(client.to_owned())])
    };
    measure(settings, prepare, round).await
}

/// Lists of so many keys.
pub(crate) async fn list(
    settings: &Settings,
    name: &str,
    keys: u64,
    times: u32,
    clients: u32,
) -> Result<Vec<Row>> {
    let seed = new_seed();
    let prepare = async |settings: &Settings| {
        let stage = Stage::usual(settings).await?;
        let prefix = format!("/benchmark-{seed}/");
        Objects { prefix, ..Objects::new(seed, keys, 0) }.make(&stage, VOLUMES).await?;
        stage.start_master(&[]).await
    };
    let flags = format!("--mode list --existing --count {keys} --repeat {times} --seed {seed}");
    let flags = format!("{flags} --concurrency {clients}");
    let round =
        async |stage: &Stage, _: bool| Ok(vec![Row::new(name, "keys/s", stage.thrash(&flags).await?)]);
    measure(settings, prepare, round).await
}

/// GETs, not followed, of random keys of a large index, beside those of a small one.
pub(crate) async fn index(settings: &Settings, name: &str, keys: u64) -> Result<Vec<Row>> {
    let prepare =
        async |settings: &Settings| Ok([with_index(settings, FEW).await?, with_index(settings, keys).await?]);
    let round = async |[(small, few), (large, many)]: &[(Stage, String); 2], limits: bool| {
        let limit = if_wanted(limits, small.thrash(few)).await?;
        let row = Row::new(name, "GETs/s", large.thrash(many).await?);
        let row = row.against("of 10k", limit.map(|sample| sample.rate));
        let milliseconds = large.master()?.started_in.as_secs_f64() * 1e3;
        let start = Row::new(&format!("{name}-start"), "ms", Sample::new(milliseconds, 0.0));
        Ok(vec![row, start])
    };
    measure(settings, prepare, round).await
}

/// A master with so many keys in its index, and the flags that ask for [`ASKED`] random ones.
async fn with_index(settings: &Settings, keys: u64) -> Result<(Stage, String)> {
    let (stage, seed, asked) = (Stage::usual(settings).await?, new_seed(), keys.min(ASKED));
    Objects::new(seed, keys, asked).make(&stage, VOLUMES).await?;
    let repeat = ASKED / asked;
    let flags = format!("--mode redirect --existing --count {asked} --repeat {repeat} --seed {seed}");
    Ok((stage.start_master(&[]).await?, format!("{flags} --concurrency 64")))
}
