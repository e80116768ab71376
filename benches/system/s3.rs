//! The S3 API: beside an nginx that passes the same files on, and beside the native API.

use std::fs;

use bytes::Bytes;
use davkv::key::{Key, Name};

use crate::client::{Caller, Exchange, UNSIGNED, credentials, load, sha256};
use crate::objects::{Objects, new_seed};
use crate::process::{self, Process};
use crate::report::{Row, Sample};
use crate::rounds::{if_wanted, measure};
use crate::settings::{Result, Settings};
use crate::stage::{Stage, VOLUMES};

const CONNECTIONS: usize = 16;
/// Keys of one run of small PUTs.
const PUTS: u32 = 5_000;
/// Listings of one run.
const LISTS: u32 = 100;
/// The key of the large object that is read.
const LARGE: &str = "/bench/large";

/// Starts a master that knows [`credentials`], and nobody else's.
async fn with_credentials(stage: Stage) -> Result<Stage> {
    let file = stage.path("credentials.toml");
    fs::write(&file, credentials())?;
    stage.start_master(&["--credentials", &file.display().to_string()]).await
}

/// PUTs new keys of one value, or DELETEs them again.
async fn change(
    stage: &Stage,
    (caller, method): (Caller<'_>, &str),
    (value, count, seed): (&Bytes, u32, u64),
) -> Result<Sample> {
    let exchange = |n| {
        let body = if method == "PUT" { value.clone() } else { Bytes::new() };
        Exchange { caller, method, target: format!("/bench/{seed}-{n}"), body, least: 0 }
    };
    stage.measure(load(stage.host()?, CONNECTIONS, count, exchange)).await
}

/// A GET whose answer has at least so many bytes.
fn get_exchange<'s>(caller: Caller<'s>, target: &str, least: usize) -> Exchange<'s> {
    let (target, body) = (target.to_owned(), Bytes::new());
    Exchange { caller, method: "GET", target, body, least }
}

/// GETs of one large object: so many on one connection, and so many on 16.
pub(crate) async fn get(settings: &Settings, name: &str, mib: u32, counts: [u32; 2]) -> Result<Vec<Row>> {
    let [one, many] = counts;
    let mut rows = get_on(settings, name, mib, 1, one).await?;
    rows.extend(get_on(settings, &format!("{name}-16"), mib, CONNECTIONS, many).await?);
    Ok(rows)
}

async fn get_on(
    settings: &Settings,
    name: &str,
    mib: u32,
    connections: usize,
    count: u32,
) -> Result<Vec<Row>> {
    let bytes = mib as usize * 1024 * 1024;
    let ask = async |caller: Caller<'_>, host: &str, target: &str| {
        load(host, connections, count, |_| get_exchange(caller, target, bytes)).await
    };
    let prepare = async |settings: &Settings| {
        let stage = with_large_object(settings, bytes).await?;
        let proxies = [proxy(&stage, "on").await?, proxy(&stage, "off").await?];
        Ok((stage, proxies))
    };
    let round = async |(stage, proxies): &(Stage, [Process; 2]), limits: bool| {
        let (_, file) = place(stage)?;
        let mut passed_on = Vec::new();
        for proxy in proxies.iter().filter(|_| limits) {
            let work = ask(Caller::Anonymous, &proxy.address, &file);
            let sample = stage.measure_server(proxy, work).await?.of_values(mib);
            // its memory is that of its workers
            passed_on.push(Sample { peak: None, ..sample });
        }
        let ours = stage.measure(ask(Caller::S3(UNSIGNED), stage.host()?, LARGE)).await?;
        let limit = passed_on.first().map(|sample| sample.rate);
        let mut rows = vec![Row::new(name, "MiB/s", ours.of_values(mib)).against("proxy_pass", limit)];
        for (how, sample) in ["proxy_pass", "unbuffered"].into_iter().zip(passed_on) {
            rows.push(Row::new(&format!("{name} {how}"), "MiB/s", sample).note("no davkv".to_owned()));
        }
        Ok(rows)
    };
    measure(settings, prepare, round).await
}

/// A master with one large object on one volume.
async fn with_large_object(settings: &Settings, bytes: usize) -> Result<Stage> {
    let stage = with_credentials(Stage::new(settings, 1, 10).await?).await?;
    let (body, target) = (Bytes::from(vec![0; bytes]), LARGE.to_owned());
    let put = Exchange { caller: Caller::Native, method: "PUT", target, body, least: 0 };
    load(stage.host()?, 1, 1, |_| put.clone()).await?;
    Ok(stage)
}

/// The volume that holds the large object, and its path there.
fn place(stage: &Stage) -> Result<(String, String)> {
    let key = Key::new(LARGE.as_bytes());
    let places = stage.placement(1).wanted(&key);
    let place = places.first().ok_or("there is no volume")?;
    Ok((place.volume().to_owned(), format!("{}{}", place.directory(), key.path(Name::Plain))))
}

/// Starts an nginx in front of that volume: as Debian configures it, as far as it matters here.
async fn proxy(stage: &Stage, buffering: &str) -> Result<Process> {
    let (volume, _) = place(stage)?;
    let directory = stage.path(&format!("proxy-{buffering}"));
    fs::create_dir(&directory)?;
    let config = directory.join("nginx.conf");
    let address = process::free_address();
    let text = include_str!("proxy.conf").replace("ADDRESS", &address).replace("VOLUME", &volume);
    fs::write(&config, text.replace("BUFFERING", buffering))?;
    let mut command = process::command("nginx");
    command.args(["-e", "stderr", "-p"]).arg(&directory).arg("-c").arg(&config);
    Process::serve_nginx(command, &address, &directory).await
}

/// PUTs of small values: the master's CPU beside what the native API costs it.
pub(crate) async fn put(settings: &Settings, name: &str, bytes: usize) -> Result<Vec<Row>> {
    let value = Bytes::from(vec![7; bytes]);
    let hash = sha256(&value);
    let prepare = async |settings: &Settings| {
        let locked = with_credentials(Stage::usual(settings).await?).await?;
        Ok([locked, Stage::with_master(settings).await?])
    };
    let round = async |[locked, open]: &[Stage; 2], limits: bool| {
        // the figure is the CPU time, not the rate
        let cost = async |stage: &Stage, caller: Caller<'_>| {
            let sample = change(stage, (caller, "PUT"), (&value, PUTS, new_seed())).await?;
            Ok(Sample { rate: sample.cpu.unwrap_or_default(), ..sample })
        };
        let native = if_wanted(limits, cost(locked, Caller::Native)).await?.map(|sample| sample.rate);
        let row =
            |how: &str, cost| Row::new(&format!("{name}{how}"), "CPU s", cost).against("native", native);
        Ok(vec![
            row("", cost(locked, Caller::S3(UNSIGNED)).await?),
            row(" with SHA-256", cost(locked, Caller::S3(&hash)).await?),
            row(" native, open", cost(open, Caller::Anonymous).await?),
        ])
    };
    measure(settings, prepare, round).await
}

/// PUTs of so many large values at once, beside those by the native API.
pub(crate) async fn upload(settings: &Settings, name: &str, values: u32, mib: u32) -> Result<Vec<Row>> {
    let value = Bytes::from(vec![0; mib as usize * 1024 * 1024]);
    let prepare = async |settings: &Settings| with_credentials(Stage::usual(settings).await?).await;
    let round = async |stage: &Stage, limits: bool| {
        let put_and_delete = async |caller: Caller<'_>| {
            let values = (&value, values, new_seed());
            let put = change(stage, (caller, "PUT"), values).await?;
            change(stage, (caller, "DELETE"), values).await?;
            Ok(put.of_values(mib))
        };
        let limit = if_wanted(limits, put_and_delete(Caller::Native)).await?;
        let row = Row::new(name, "MiB/s", put_and_delete(Caller::S3(UNSIGNED)).await?);
        Ok(vec![row.against("native", limit.map(|sample| sample.rate))])
    };
    measure(settings, prepare, round).await
}

/// Listings of some folders that hold so many keys together.
pub(crate) async fn list(settings: &Settings, name: &str, folders: u64, keys: u64) -> Result<Vec<Row>> {
    let prepare = async |settings: &Settings| {
        let stage = Stage::usual(settings).await?;
        for folder in 0..folders {
            let prefix = format!("/bench/{folder}/");
            let objects = Objects { prefix, ..Objects::new(new_seed(), keys / folders, 0) };
            objects.make(&stage, VOLUMES).await?;
        }
        with_credentials(stage).await
    };
    let round = async |stage: &Stage, _: bool| {
        let exchange = |_| get_exchange(Caller::S3(UNSIGNED), "/bench?delimiter=%2F&list-type=2", 500);
        let sample = stage.measure(load(stage.host()?, 1, LISTS, exchange)).await?;
        Ok(vec![Row::new(name, "ms", Sample { rate: 1e3 / sample.rate, ..sample })])
    };
    measure(settings, prepare, round).await
}
