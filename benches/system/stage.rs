//! Volumes and a master, in a directory of their own; all gone with their value's drop.

use std::ffi::OsString;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use davkv::placement::Placement;

use crate::load::Work;
use crate::process::{self, Server, on_free_port};
use crate::{Failure, Settings};

/// What a store is made of.
pub(crate) struct Stage {
    // in this order: processes end before the directory goes
    master: Option<Master>,
    volumes: Vec<Volume>,
    pub(crate) layout: Layout,
    program: PathBuf,
    directory: tempfile::TempDir,
}

struct Master {
    server: Server,
    url: String,
}

/// Where values go.
#[derive(Clone)]
pub(crate) struct Layout {
    pub(crate) volumes: Vec<String>,
    pub(crate) replicas: usize,
    pub(crate) subvolumes: u32,
}

impl Layout {
    pub(crate) fn placement(&self) -> Placement {
        Placement::new(self.volumes.clone(), self.replicas, self.subvolumes)
    }
}

struct Volume {
    server: Server,
    directory: PathBuf,
}

/// What one run has shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) rate: f64,
    /// CPU seconds of what is measured, per 1,000 operations.
    pub(crate) cpu: Option<f64>,
    /// The same of the volumes.
    pub(crate) volumes_cpu: Option<f64>,
    /// The most bytes that were resident meanwhile.
    pub(crate) peak: Option<u64>,
}

impl Stage {
    /// The defaults: 5 volumes of 10 subvolumes, 3 replicas.
    pub(crate) async fn usual(settings: &Settings) -> Result<Self, Failure> {
        Self::new(settings, 5, 3, 10).await
    }

    /// Volumes, and no master yet.
    pub(crate) async fn new(
        settings: &Settings,
        volumes: usize,
        replicas: usize,
        subvolumes: u32,
    ) -> Result<Self, Failure> {
        // ours alone: else volumes that root starts would belong to another user, who can't delete the files
        // that are put there without them
        let ours = Permissions::from_mode(0o700);
        let mut builder = tempfile::Builder::new();
        let directory = builder.prefix("davkv-bench-").permissions(ours).tempdir_in(&settings.volumes_on)?;
        let layout = Layout { volumes: Vec::new(), replicas, subvolumes };
        let program = settings.master.clone();
        let mut stage = Self { master: None, volumes: Vec::new(), layout, program, directory };
        for n in 1..=volumes {
            let (volume, address) = stage.start_volume(n).await?;
            stage.volumes.push(volume);
            stage.layout.volumes.push(address);
        }
        Ok(stage)
    }

    /// With a master on an empty index.
    pub(crate) async fn with_master(mut self) -> Result<Self, Failure> {
        self.start_master().await?;
        Ok(self)
    }

    /// Starts a master on the index at [`Stage::db`].
    pub(crate) async fn start_master(&mut self) -> Result<(), Failure> {
        self.start_master_with(&[]).await
    }

    /// The same, with further flags.
    pub(crate) async fn start_master_with(&mut self, flags: &[OsString]) -> Result<(), Failure> {
        self.master = None;
        let mut command = Command::new(&self.program);
        command.args(self.flags(&self.db(), &self.layout.volumes));
        command.args(["--address", "127.0.0.1", "--port", "0"]).args(flags);
        let log = self.directory.path().join("master.log");
        let (server, url) = Server::start(command, log, |_, said| listening(said)).await?;
        self.master = Some(Master { server, url });
        Ok(())
    }

    /// Flags that master and tools share.
    pub(crate) fn flags(&self, db: &Path, volumes: &[String]) -> Vec<String> {
        let Layout { replicas, subvolumes, .. } = &self.layout;
        let flags = [("--db", db.display().to_string()), ("--volumes", volumes.join(","))];
        let numbers = [("--replicas", replicas.to_string()), ("--subvolumes", subvolumes.to_string())];
        flags.into_iter().chain(numbers).flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
    }

    /// Where the index is.
    pub(crate) fn db(&self) -> PathBuf {
        self.path("db")
    }

    /// A path in the directory of all this.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The program of that name which belongs to the master.
    pub(crate) fn tool(&self, name: &str) -> PathBuf {
        self.program.with_file_name(name)
    }

    /// The directory of the volume with this address.
    pub(crate) fn directory_of(&self, address: &str) -> Option<&Path> {
        let mut pairs = self.layout.volumes.iter().zip(&self.volumes);
        pairs.find(|(volume, _)| *volume == address).map(|(_, volume)| volume.directory.as_path())
    }

    /// The master's process.
    pub(crate) fn master(&self) -> Result<&Server, Failure> {
        self.master.as_ref().map(|master| &master.server).ok_or_else(|| "there is no master".into())
    }

    pub(crate) fn url(&self) -> Result<&str, Failure> {
        self.master.as_ref().map(|master| master.url.as_str()).ok_or_else(|| "there is no master".into())
    }

    /// Does some work, and tells what it has cost the master and the volumes.
    pub(crate) async fn measure(
        &self,
        work: impl Future<Output = Result<Work, Failure>>,
    ) -> Result<Sample, Failure> {
        let pid = self.master()?.pid();
        process::reset_peak(pid);
        let (master, volumes) = (process::cpu_seconds(pid), self.volumes_cpu());
        let work = work.await?;
        let spent =
            |before: Option<f64>, after: Option<f64>| Some((after? - before?) / work.operations * 1e3);
        Ok(Sample {
            rate: work.rate,
            cpu: spent(master, process::cpu_seconds(pid)),
            volumes_cpu: spent(volumes, self.volumes_cpu()),
            peak: process::memory(pid, "VmHWM"),
        })
    }

    /// CPU seconds of all volumes so far.
    pub(crate) fn volumes_cpu(&self) -> Option<f64> {
        self.volumes.iter().map(|volume| process::cpu_seconds_with_children(volume.server.pid())).sum()
    }

    async fn start_volume(&self, n: usize) -> Result<(Volume, String), Failure> {
        // short, as nginx tries to create each component of a path, from the root on
        let directory = self.path(&format!("v{n}"));
        let (server, address) = on_free_port(async |address| {
            let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/volume/start"));
            command.arg(&directory).env("PORT", address).env("WORKERS", "1");
            command.env_remove("MASTER").env_remove("BODY_BUFFER");
            Server::start_nginx(command, self.path(&format!("v{n}.log")), &directory.join("nginx.pid")).await
        })
        .await?;
        Ok((Volume { server, directory }, address))
    }
}

/// The same sample, of values of that size: its rate is that of MiB, its CPU that of a GiB.
pub(crate) fn per_gib(sample: Sample, mib: u32) -> Sample {
    let mib = f64::from(mib);
    let per_gib = |cpu: f64| cpu / 1e3 * 1024.0 / mib;
    let (cpu, volumes_cpu) = (sample.cpu.map(per_gib), sample.volumes_cpu.map(per_gib));
    Sample { rate: sample.rate * mib, cpu, volumes_cpu, ..sample }
}

/// The URL that a server's log tells of, once the line is whole.
pub(crate) fn listening(said: &str) -> Option<String> {
    let (_, after) = said.split_once("listening on ")?;
    let (line, _) = after.split_once('\n')?;
    line.split_whitespace().next().map(|address| format!("http://{address}"))
}
