//! The S3 API: beside an nginx that passes the same files on, and beside the native API.

use std::fs;

use bytes::Bytes;
use davkv::key::{Key, Name};

use crate::load::{Caller, Exchange, credentials, exchanges};
use crate::objects::{Objects, new_seed};
use crate::process::{self, Process};
use crate::report::{Row, Sample};
use crate::settings::{Failure, Result, Rows, Settings};
use crate::stage::{Stage, VOLUMES};

/// Connections of those who put.
const CONNECTIONS: usize = 16;
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

/// GETs of one large object by so many clients, and so many by all.
pub(crate) async fn get(settings: &Settings, name: &str, mib: u32, clients: usize, count: u32) -> Rows {
    let bytes = mib as usize * 1024 * 1024;
    let name = if clients == 1 { name.to_owned() } else { format!("{name}-{clients}") };
    let ask = async |caller: Caller, host: &str, target: &str| {
        let get = Exchange { least: bytes, ..Exchange::new(caller, "GET", target.to_owned()) };
        Ok(exchanges(host, clients, count, |_| get.clone()).await?.of_values(mib))
    };
    let prepare = async |settings: &Settings| {
        let stage = with_credentials(Stage::new(settings, 1, 10).await?).await?;
        let body = Bytes::from(vec![0; bytes]);
        let put = Exchange { body, ..Exchange::new(Caller::Native, "PUT", LARGE.to_owned()) };
        exchanges(&stage.master()?.host, 1, 1, |_| put.clone()).await?;
        let key = Key::new(LARGE.as_bytes());
        let place = stage.placement(1).wanted(&key).remove(0);
        let proxies =
            [proxy(&stage, place.volume(), "on").await?, proxy(&stage, place.volume(), "off").await?];
        Ok((stage, proxies, format!("{}{}", place.directory(), key.path(Name::Plain))))
    };
    let round = async |(stage, proxies, file): &(Stage, [Process; 2], String), limits: bool| {
        let (mut rows, mut passed_on) = (Vec::new(), Vec::new());
        for (proxy, how) in proxies.iter().zip(["proxy_pass", "unbuffered"]).filter(|_| limits) {
            let get = async |host: &str| ask(Caller::Anonymous, host, file).await;
            let sample = stage.measure(proxy, get).await?;
            passed_on.push(sample.rate);
            // its workers have the memory
            let sample = Sample { peak: None, ..sample };
            rows.push(Row::new(&format!("{name} {how}"), "MiB/s", sample).note("no davkv"));
        }
        let ours = stage.measure(stage.master()?, async |host| ask(Caller::S3, host, LARGE).await).await?;
        let row = Row::new(&name, "MiB/s", ours).against("proxy_pass", passed_on.first().copied());
        rows.insert(0, row);
        Ok(rows)
    };
    settings.measure(prepare, round).await
}

/// Starts an nginx in front of that volume: as Debian configures it, as far as it matters here.
async fn proxy(stage: &Stage, volume: &str, buffering: &str) -> Result<Process> {
    let (host, directory) = (process::free_host(), stage.path(&format!("proxy-{buffering}")));
    fs::create_dir(&directory)?;
    let config = directory.join("nginx.conf");
    let text = include_str!("proxy.conf").replace("ADDRESS", &host).replace("VOLUME", volume);
    fs::write(&config, text.replace("BUFFERING", buffering))?;
    let mut command = process::command("nginx");
    command.args(["-e", "stderr", "-p"]).arg(&directory).arg("-c").arg(&config);
    Process::serve_nginx(command, &host, &directory).await
}

/// PUTs of new keys by the callers of different rows, beside those by the native API: of small values the
/// master's CPU, of large ones the rate.
pub(crate) async fn put(settings: &Settings, count: u32, bytes: usize, runs: &[(String, Caller)]) -> Rows {
    let value = Bytes::from(vec![7; bytes]);
    let mib = u32::try_from(bytes >> 20)?;
    let prepare = async |settings: &Settings| {
        let locked = with_credentials(Stage::usual(settings).await?).await?;
        Ok([locked, Stage::with_master(settings).await?])
    };
    let round = async |[locked, open]: &[Stage; 2], limits: bool| {
        let put = async |caller: Caller| {
            let (stage, seed) = (if caller == Caller::Anonymous { open } else { locked }, new_seed());
            let exchange = |method, n: u32| Exchange::new(caller, method, format!("/bench/{seed}-{n}"));
            let put = |n| Exchange { body: value.clone(), ..exchange("PUT", n) };
            let master = stage.master()?;
            let puts = async |host: &str| exchanges(host, CONNECTIONS, count, put).await;
            let sample = stage.measure(master, puts).await?;
            if mib == 0 {
                return Ok::<_, Failure>(Sample { rate: sample.cpu.unwrap_or_default(), ..sample });
            }
            exchanges(&master.host, CONNECTIONS, count, |n| exchange("DELETE", n)).await?;
            Ok(sample.of_values(mib))
        };
        let limit = if limits { Some(put(Caller::Native).await?.rate) } else { None };
        let mut rows = Vec::new();
        for (name, caller) in runs {
            let unit = if mib == 0 { "CPU s" } else { "MiB/s" };
            rows.push(Row::new(name, unit, put(*caller).await?).against("native", limit));
        }
        Ok(rows)
    };
    settings.measure(prepare, round).await
}

/// Listings of some folders that hold so many keys together.
pub(crate) async fn list(settings: &Settings, name: &str, folders: u64, keys: u64) -> Rows {
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
        let target = "/bench?delimiter=%2F&list-type=2".to_owned();
        let get = Exchange { least: 500, ..Exchange::new(Caller::S3, "GET", target) };
        let lists = async |host: &str| exchanges(host, 1, LISTS, |_| get.clone()).await;
        let sample = stage.measure(stage.master()?, lists).await?;
        Ok(vec![Row::new(name, "ms", Sample { rate: 1e3 / sample.rate, ..sample })])
    };
    settings.measure(prepare, round).await
}
