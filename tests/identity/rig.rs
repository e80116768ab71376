//! Stores, and what an operator does to them.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::common::{Cluster, Master, OWNER_FILE, Volume, eventually, free_port, request};

pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// How many volumes, replicas, and subvolumes a store has.
pub(crate) const SHAPES: [(usize, &str, &str); 4] =
    [(2, "1", "1"), (3, "1", "10"), (3, "2", "10"), (4, "3", "1")];

pub(crate) fn cluster((volumes, replicas, subvolumes): (usize, &str, &str)) -> Cluster {
    Cluster::new(volumes, &["--replicas", replicas, "--subvolumes", subvolumes])
}

pub(crate) fn keys(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("/key{number}")).collect()
}

pub(crate) fn value(key: &str) -> Vec<u8> {
    format!("the value of {key}").into_bytes()
}

pub(crate) fn store(cluster: &Cluster, keys: &[String]) {
    for key in keys {
        assert_eq!(cluster.request("PUT", key, &value(key)).status, 201, "{key}");
    }
}

/// Reads a key as curl -L does.
pub(crate) fn read(master: &Master, key: &str) -> Result<Vec<u8>, u16> {
    let answer = request(&master.addr(), "GET", key, &[], b"");
    let Some(location) = answer.header("location") else { return Err(answer.status) };
    let (host, path) = location.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let answer = request(host, "GET", format!("/{path}"), &[], b"");
    if answer.status == 200 { Ok(answer.body) } else { Err(answer.status) }
}

#[track_caller]
pub(crate) fn assert_all_there(master: &Master, keys: &[String]) {
    for key in keys {
        assert_eq!(read(master, key), Ok(value(key)), "{key}");
    }
}

pub(crate) fn addresses(volumes: &[Volume]) -> String {
    volumes.iter().map(Volume::addr).collect::<Vec<_>>().join(",")
}

/// Runs a program that is expected to end.
pub(crate) fn run(program: &str, db: &Path, volumes: &str, flags: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.arg("--db").arg(db).args(["--volumes", volumes]).args(flags);
    if program == env!("CARGO_BIN_EXE_davkv") {
        command.args(["--address", "127.0.0.1", "--port", &free_port().to_string()]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let end = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > end {
            // a master that wasn't refused runs for ever
            child.kill().unwrap();
            panic!("it goes on: {:?}", child.wait_with_output().unwrap());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

#[track_caller]
pub(crate) fn assert_refused(output: &Output, parts: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(parts.iter().all(|part| said.contains(part)), "no {parts:?} in {said}");
}

/// Puts an empty directory in the place of a volume's, as an unmounted disk leaves one; the disk is set aside.
pub(crate) fn unmount(volume: &Volume) -> PathBuf {
    let aside = volume.dir().with_extension("unmounted");
    fs::rename(volume.dir(), &aside).unwrap();
    make_as(volume.dir(), &aside);
    aside
}

/// Makes an empty directory with the owner of that other one.
pub(crate) fn make_as(directory: &Path, other: &Path) {
    fs::create_dir(directory).unwrap();
    let owner = fs::metadata(other).unwrap();
    chown(directory, Some(owner.uid()), Some(owner.gid())).unwrap();
}

/// Mounts the disk again; what was written to its mount point meanwhile is hidden by that.
pub(crate) fn mount(volume: &Volume, aside: &Path) {
    fs::remove_dir_all(volume.dir()).unwrap();
    fs::rename(aside, volume.dir()).unwrap();
}

pub(crate) fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// The owner file of a volume: the number of the run that has it, and whether that has ended.
pub(crate) fn owner(volume: &Volume) -> (u64, bool) {
    let text = fs::read(owner_file(volume)).unwrap();
    let file: serde_json::Value = serde_json::from_slice(&text).unwrap();
    (file["run"]["number"].as_u64().unwrap(), file["ended"].as_bool().unwrap())
}

/// Where it is.
pub(crate) fn owner_file(volume: &Volume) -> PathBuf {
    let first = ["", "sv00"].map(|subvolume| volume.dir().join(subvolume).join(OWNER_FILE));
    first.into_iter().find(|path| path.exists()).unwrap()
}

/// A master that is started and not waited for, killed when it is dropped.
pub(crate) struct Starting {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Starting {
    pub(crate) fn new(db: &Path, volumes: &str, flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_davkv"));
        command.arg("--db").arg(db).args(["--volumes", volumes]).args(flags);
        command.args(["--address", "127.0.0.1", "--port", &free_port().to_string()]);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (log, stderr) = (Arc::<Mutex<String>>::default(), BufReader::new(child.stderr.take().unwrap()));
        let lines = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                *lines.lock().unwrap() += &(line + "\n");
            }
        });
        Self { child, log }
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it has ended.
    pub(crate) fn end(&mut self) -> ExitStatus {
        eventually("it has ended", PATIENCE, || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap()
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        // it may have ended already
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
