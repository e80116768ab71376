//! The S3 API: beside an nginx that passes the same files on, and beside the native API.

use std::fs;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use davkv::key::{Key, Name};

use crate::client::{Request, load};
use crate::load::Work;
use crate::objects::Objects;
use crate::process::{self, Server, on_free_port};
use crate::report::{Of, Row};
use crate::signer::{Signer, UNSIGNED, keys, native_head, open_head, sha256};
use crate::stage::{Sample, Stage, per_gib};
use crate::workloads::{new_seed, rounds};
use crate::{Failure, Settings};

const CONNECTIONS: usize = 16;
/// Keys of one run of small PUTs.
const PUTS: u32 = 5_000;
/// Listings of one run.
const LISTS: u32 = 100;
const FOLDERS: u64 = 10;
/// What the master may have in memory while 16 values of 64 MiB pass through it, in MiB.
const PEAK: f64 = 96.0;

impl Stage {
    /// With a master that knows the signer's key, and nobody else's.
    async fn with_locked_master(mut self) -> Result<Self, Failure> {
        let file = self.path("keys.toml");
        fs::write(&file, keys())?;
        self.start_master_with(&["--credentials".into(), file.into()]).await?;
        Ok(self)
    }

    /// `HOST:PORT` of the master.
    fn host(&self) -> Result<&str, Failure> {
        self.url()?.strip_prefix("http://").ok_or_else(|| "the master has no address".into())
    }
}

/// GETs of one large object, so many on one connection and on 16.
pub(crate) async fn get(
    settings: &Settings,
    name: &str,
    mib: u32,
    counts: [u32; 2],
) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for (connections, count) in [1, CONNECTIONS].into_iter().zip(counts) {
        let stage = Stage::new(settings, 1, 1, 10).await?.with_locked_master().await?;
        let name = if connections == 1 { name.to_owned() } else { format!("{name}-16") };
        rows.extend(get_on(settings, &stage, &name, mib, (connections, count)).await?);
    }
    Ok(rows)
}

async fn get_on(
    settings: &Settings,
    stage: &Stage,
    name: &str,
    mib: u32,
    (connections, count): (usize, u32),
) -> Result<[Row; 3], Failure> {
    let (key, bytes) = ("/bench/large", mib as usize * 1024 * 1024);
    let (host, signer) = (stage.host()?, Signer::new()?);
    let value = Bytes::from(vec![0; bytes]);
    load(host, 1, 1, |_| {
        let head = native_head("PUT", host, key, bytes);
        Request { head, body: value.clone(), status: 201, least: 0 }
    })
    .await?;
    drop(value);
    let (place, of) = (stage.layout.placement().wanted(&Key::new(key.as_bytes())), Name::Plain);
    let place = place.first().ok_or("there is no volume")?;
    let file = format!("{}{}", place.directory(), Key::new(key.as_bytes()).path(of));
    let get = |head| Request { head, body: Bytes::new(), status: 200, least: bytes };
    let proxies =
        [Proxy::start(stage, place.volume(), "on").await?, Proxy::start(stage, place.volume(), "off").await?];
    let results = rounds(settings, async || {
        let through = async |proxy: &Proxy| {
            let request = |_| get(open_head("GET", &proxy.host, &file, 0));
            proxy.measure(load(&proxy.host, connections, count, request), mib).await
        };
        let [buffered, unbuffered] = &proxies;
        let limits = [through(buffered).await?, through(unbuffered).await?];
        let request = |_| get(signer.head("GET", host, key, 0, UNSIGNED));
        let sample = stage.measure(load(host, connections, count, request)).await?;
        Ok((limits, per_gib(sample, mib)))
    });
    let (limits, ours): (Vec<_>, Vec<_>) = results.await?.into_iter().unzip();
    let [passed, unbuffered] =
        [0, 1].map(|n| limits.iter().filter_map(|limits| limits.get(n).copied()).collect::<Vec<_>>());
    let limits = passed.iter().map(|sample| sample.rate).collect();
    let row = Row::new(name, "MiB/s", &ours).against("proxy_pass", limits);
    let without = |how, samples| Row::new(&format!("{name} {how}"), "MiB/s", samples).note("no davkv");
    Ok([
        row.at_least(Of::Ratio, 0.8).at_most(Of::Peak, PEAK),
        without("proxy_pass", &passed),
        without("unbuffered", &unbuffered),
    ])
}

/// An nginx as it comes, in front of a volume.
struct Proxy {
    server: Server,
    host: String,
}

impl Proxy {
    async fn start(stage: &Stage, volume: &str, buffering: &str) -> Result<Self, Failure> {
        let directory = stage.path(&format!("proxy-{buffering}"));
        fs::create_dir(&directory)?;
        let (config, pid_file) = (directory.join("nginx.conf"), directory.join("nginx.pid"));
        let (server, host) = on_free_port(async |address| {
            fs::write(&config, config_of_proxy(&directory, buffering, address, volume))?;
            let mut command = Command::new("nginx");
            let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/local/sbin";
            command.env("PATH", path).args(["-e", "stderr", "-p"]).arg(&directory).arg("-c").arg(&config);
            Server::start_nginx(command, stage.path(&format!("proxy-{buffering}.log")), &pid_file).await
        })
        .await?;
        Ok(Self { server, host })
    }

    /// Does some work; its rate is that of MiB, and the CPU is this proxy's.
    async fn measure(
        &self,
        work: impl Future<Output = Result<Work, Failure>>,
        mib: u32,
    ) -> Result<Sample, Failure> {
        let spent = || process::cpu_seconds_with_children(self.server.pid());
        let before = spent();
        let work = work.await?;
        let cpu = spent().zip(before).map(|(after, before)| (after - before) / work.operations * 1e3);
        Ok(per_gib(Sample { rate: work.rate, cpu, volumes_cpu: None, peak: None }, mib))
    }
}

/// The configuration that nginx comes with on Debian, as far as it matters here, and one `proxy_pass`.
fn config_of_proxy(directory: &Path, buffering: &str, address: &str, volume: &str) -> String {
    let directory = directory.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|what| format!("{what}_temp_path {directory};")).concat();
    format!(
        "user root; worker_processes auto; pid {directory}/nginx.pid; daemon off; error_log stderr;
        events {{ worker_connections 768; }}
        http {{
            access_log off; sendfile on; tcp_nopush on; {temporary}
            server {{ listen {address}; location / {{ proxy_pass http://{volume}; proxy_buffering {buffering}; }} }}
        }}\n"
    )
}

/// PUTs of small values: the master's CPU beside what the native API costs it.
pub(crate) async fn put(settings: &Settings, name: &str, bytes: usize) -> Result<Vec<Row>, Failure> {
    let stage = Stage::usual(settings).await?.with_locked_master().await?;
    let open = Stage::usual(settings).await?.with_master().await?;
    let value = Bytes::from(vec![7; bytes]);
    let hash = sha256(&value);
    let (host, open_host) = (stage.host()?, open.host()?);
    let results = rounds(settings, async || {
        let signer = Signer::new()?;
        let put = async |stage: &Stage, status: u16, head: &dyn Fn(&str) -> String| {
            let seed = new_seed();
            let request = |n| {
                let head = head(&format!("/bench/{seed}-{n}"));
                Request { head, body: value.clone(), status, least: 0 }
            };
            stage.measure(load(stage.host()?, CONNECTIONS, PUTS, request)).await
        };
        let by_s3 = |key: &str, sha256: &str| signer.head("PUT", host, key, bytes, sha256);
        Ok::<_, Failure>([
            put(&open, 201, &|key| open_head("PUT", open_host, key, bytes)).await?,
            put(&stage, 201, &|key| native_head("PUT", host, key, bytes)).await?,
            put(&stage, 200, &|key| by_s3(key, UNSIGNED)).await?,
            put(&stage, 200, &|key| by_s3(key, &hash)).await?,
        ])
    });
    let results = results.await?;
    let costs = |n: usize| -> Vec<Sample> {
        let samples = results.iter().filter_map(|samples| samples.get(n).copied());
        samples.map(|sample| Sample { rate: sample.cpu.unwrap_or_default(), ..sample }).collect()
    };
    let [open, native, unsigned, hashed] = [0, 1, 2, 3].map(costs);
    let row = |how: &str, samples: &[Sample]| {
        let limits = native.iter().map(|sample| sample.rate).collect();
        Row::new(&format!("{name}{how}"), "CPU s", samples).against("native", limits)
    };
    Ok(vec![
        row("", &unsigned).at_most(Of::Ratio, 1.5),
        row(" with SHA-256", &hashed).at_most(Of::Ratio, 1.5),
        row(" native, open", &open),
    ])
}

/// PUTs of 16 values of 64 MiB at once, beside those by the native API.
pub(crate) async fn uploads(settings: &Settings, name: &str) -> Result<Vec<Row>, Failure> {
    const MIB: u32 = 64;
    let stage = Stage::usual(settings).await?.with_locked_master().await?;
    let value = Bytes::from(vec![0; MIB as usize * 1024 * 1024]);
    let host = stage.host()?;
    let results = rounds(settings, async || {
        let signer = Signer::new()?;
        let all = async |status: u16, method: &str, head: &dyn Fn(&str, &str, usize) -> String, seed: u64| {
            let body = if method == "PUT" { value.clone() } else { Bytes::new() };
            let request = |n| {
                let head = head(method, &format!("/bench/{seed}-{n}"), body.len());
                Request { head, body: body.clone(), status, least: 0 }
            };
            stage.measure(load(host, CONNECTIONS, 16, request)).await.map(|sample| per_gib(sample, MIB))
        };
        let native = |method: &str, key: &str, length| native_head(method, host, key, length);
        let by_s3 = |method: &str, key: &str, length| signer.head(method, host, key, length, UNSIGNED);
        let (one, other) = (new_seed(), new_seed());
        let limit = all(201, "PUT", &native, one).await?;
        all(204, "DELETE", &native, one).await?;
        let sample = all(200, "PUT", &by_s3, other).await?;
        all(204, "DELETE", &by_s3, other).await?;
        Ok((limit.rate, sample))
    });
    let (limits, samples): (_, Vec<_>) = results.await?.into_iter().unzip();
    let row = Row::new(name, "MiB/s", &samples).against("native", limits);
    Ok(vec![row.at_least(Of::Ratio, 0.8).at_most(Of::Peak, PEAK)])
}

/// Listings of ten folders that hold a million keys.
pub(crate) async fn list(settings: &Settings, name: &str) -> Result<Vec<Row>, Failure> {
    let stage = Stage::usual(settings).await?;
    for folder in 0..FOLDERS {
        let objects = Objects::below(&format!("/bench/{folder}/"), new_seed(), 1_000_000 / FOLDERS);
        objects.index(&stage.db(), &stage.layout.placement()).await?;
    }
    let stage = stage.with_locked_master().await?;
    let (host, signer) = (stage.host()?, Signer::new()?);
    let target = "/bench?delimiter=%2F&list-type=2";
    let request = |_| {
        let head = signer.head("GET", host, target, 0, UNSIGNED);
        Request { head, body: Bytes::new(), status: 200, least: 500 }
    };
    let results = rounds(settings, async || {
        let sample = stage.measure(load(host, 1, LISTS, request)).await?;
        Ok(Sample { rate: 1e3 / sample.rate, ..sample })
    });
    Ok(vec![Row::new(name, "ms", &results.await?).at_most(Of::Figure, 10.0).at_most(Of::Peak, PEAK)])
}
