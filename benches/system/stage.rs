//! A store to measure: volumes and a master in a directory of their own, which end with the value's drop.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use davkv::leveldb::{Database, Options};
use davkv::placement::Placement;

use crate::load::thrash;
use crate::process::{self, Process, cpu_seconds};
use crate::report::Sample;
use crate::settings::{Result, Settings};

/// The usual number of volumes.
pub(crate) const VOLUMES: usize = 5;
/// Replicas of each value, or as many as there are volumes.
const REPLICAS: usize = 3;

pub(crate) struct Stage {
    // in this order: processes end before the directory goes
    master: Option<Process>,
    volumes: Vec<Process>,
    replicas: usize,
    subvolumes: u32,
    /// The davkv to measure, beside which its tools lie.
    pub(crate) program: PathBuf,
    directory: tempfile::TempDir,
}

impl Stage {
    /// The defaults, 5 volumes of 10 subvolumes and 3 replicas, without a master yet.
    pub(crate) async fn usual(settings: &Settings) -> Result<Self> {
        Self::new(settings, VOLUMES, 10).await
    }

    /// The defaults, with a master on an empty index.
    pub(crate) async fn with_master(settings: &Settings) -> Result<Self> {
        Self::usual(settings).await?.start_master(&[]).await
    }

    /// So many volumes, without a master.
    pub(crate) async fn new(settings: &Settings, volumes: usize, subvolumes: u32) -> Result<Self> {
        // root's nginx works as another user where it may enter the directory; it could then not delete files
        // that are put there without it
        let ours_alone = Permissions::from_mode(0o700);
        let directory = tempfile::Builder::new()
            .prefix("davkv-bench-")
            .permissions(ours_alone)
            .tempdir_in(&settings.volumes_on)?;
        let (program, replicas) = (settings.master.clone(), volumes.min(REPLICAS));
        let mut stage = Self { master: None, volumes: Vec::new(), replicas, subvolumes, program, directory };
        for _ in 0..volumes {
            let host = process::free_host();
            let directory = stage.path(&host);
            let mut command = process::command(concat!(env!("CARGO_MANIFEST_DIR"), "/volume/start"));
            command.args(["--here".as_ref(), directory.as_os_str()]).env("PORT", &host).env("WORKERS", "1");
            stage.volumes.push(Process::serve_nginx(command, &host, &directory).await?);
        }
        Ok(stage)
    }

    /// Has a master make the index and mark the volumes, and ends it. A master takes no volumes for its own on which it
    /// misses the files of its index.
    pub(crate) async fn marked(self) -> Result<Self> {
        let mut stage = self.start_master(&[]).await?;
        stage.master = None;
        Ok(stage)
    }

    /// Starts a master on the index, with further flags.
    pub(crate) async fn start_master(mut self, flags: &[&str]) -> Result<Self> {
        let host = process::free_host();
        let (address, port) = host.split_once(':').unwrap_or_default();
        let mut command = process::command(&self.program);
        command.args(self.flags(&self.path("db"), self.volumes.len()));
        command.args(["--address", address, "--port", port]).args(flags);
        let ready = |output: &str| output.contains("listening on ");
        self.master = Some(Process::serve(command, &host, ready).await?);
        Ok(self)
    }

    /// Flags that master and tools share, for an index and the first so many volumes.
    pub(crate) fn flags(&self, db: &Path, volumes: usize) -> Vec<String> {
        let flags = [
            ("--db", db.display().to_string()),
            ("--volumes", self.addresses(volumes).join(",")),
            ("--replicas", self.replicas.to_string()),
            ("--subvolumes", self.subvolumes.to_string()),
        ];
        flags.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
    }

    /// Where values go if there are only the first so many volumes.
    pub(crate) fn placement(&self, volumes: usize) -> Placement {
        Placement::new(self.addresses(volumes), self.replicas, self.subvolumes)
    }

    fn addresses(&self, volumes: usize) -> Vec<String> {
        self.volumes.iter().take(volumes).map(|server| server.host.clone()).collect()
    }

    /// A path in the directory of the store: `db` is the index, and a volume's `HOST:PORT` is its directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn master(&self) -> Result<&Process> {
        self.master.as_ref().ok_or_else(|| "there is no master".into())
    }

    /// Runs the thrasher against the master.
    pub(crate) async fn thrash(&self, flags: &str) -> Result<Sample> {
        self.measure(self.master()?, async |host| thrash(&format!("--url http://{host}"), flags).await).await
    }

    /// Runs the thrasher against the volumes: it does a perfect master's work itself.
    pub(crate) async fn thrash_directly(&self, flags: &str) -> Result<Sample> {
        let (volumes, replicas) = (self.addresses(self.volumes.len()).join(","), self.replicas);
        let target = format!("--direct {volumes} --direct-head --replicas {replicas} --subvolumes");
        thrash(&format!("{target} {}", self.subvolumes), flags).await
    }

    /// Copies the index, which no process may have open, for [`Stage::scan_the_copy`].
    pub(crate) fn copy_index(&self) -> Result<()> {
        let copy = self.path("copy");
        fs::create_dir(&copy)?;
        for file in fs::read_dir(self.path("db"))? {
            let file = file?;
            fs::copy(file.path(), copy.join(file.file_name()))?;
        }
        Ok(())
    }

    /// Reads all rows of the copy, as LevelDB gives them, and does nothing with them: rows per second.
    pub(crate) fn scan_the_copy(&self) -> Result<f64> {
        let database = Database::open(&self.path("copy"), &Options::default())?;
        // once to open the tables, which a running master has open
        scan(&database);
        let begun = Instant::now();
        let rows = scan(&database);
        Ok(f64::from(rows) / begun.elapsed().as_secs_f64())
    }

    /// Puts some work on a server, given its address, and adds what that has cost it and the volumes.
    pub(crate) async fn measure(
        &self,
        server: &Process,
        work: impl AsyncFnOnce(&str) -> Result<Sample>,
    ) -> Result<Sample> {
        let pid = server.pid();
        process::reset_peak(pid);
        let (cpu, volumes_cpu) = (cpu_seconds(pid)?, self.volumes_cpu()?);
        let sample = work(&server.host).await?;
        let (cpu, volumes_cpu) = (cpu_seconds(pid)? - cpu, self.volumes_cpu()? - volumes_cpu);
        Ok(sample.costing(cpu, volumes_cpu, process::peak_memory(pid)?))
    }

    /// CPU seconds of all volumes so far.
    pub(crate) fn volumes_cpu(&self) -> Result<f64> {
        self.volumes.iter().map(|server| cpu_seconds(server.pid())).sum()
    }
}

/// The number of rows, each of which is looked at.
fn scan(database: &Database) -> u32 {
    let (mut rows, mut iter) = (0, database.iter(false));
    iter.seek_to_first();
    while let Some(row) = iter.current() {
        std::hint::black_box(row);
        rows += 1;
        iter.next();
    }
    rows
}
