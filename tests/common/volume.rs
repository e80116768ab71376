//! A real volume: `volume/start` in a directory of the test.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;

use super::{eventually, free_port, http, process};

const PATIENCE: Duration = Duration::from_secs(20);

/// The path of a marker below its subvolume.
pub const MARKER: &str = "00/00/davkv,volume";

/// The path of the owner file below the first subvolume.
pub const OWNER_FILE: &str = "00/00/davkv,owner";

/// The configuration template that `volume/start` fills in.
pub fn template() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("volume/nginx.conf.template")
}

fn start() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("volume/start")
}

/// Whether it is the path of a marker or of an owner file.
pub fn is_identity(path: &str) -> bool {
    path.ends_with(MARKER) || path.ends_with(OWNER_FILE)
}

pub struct Volume {
    dir: PathBuf,
    /// `volume/start`, or a copy beside another template.
    script: PathBuf,
    port: u16,
    master: String,
    child: Option<Child>,
    /// Workers that outlived their nginx master process, and may still be alive.
    orphans: Vec<u32>,
    log: Arc<Mutex<String>>,
}

impl Volume {
    /// Starts a volume on `dir`, which is created if it is missing, for masters on this machine.
    pub fn start(dir: &Path) -> Self {
        Self::start_for("127.0.0.0/8", dir)
    }

    /// Starts a volume for masters at these addresses.
    pub fn start_for(master: &str, dir: &Path) -> Self {
        Self::start_from(start(), master, dir)
    }

    /// Starts a volume with minikeyvalue's template, which serves and takes whatever lies in the directory.
    pub fn start_as_minikeyvalue(dir: &Path) -> Self {
        let scripts = dir.with_extension("scripts");
        fs::create_dir(&scripts).unwrap();
        let template =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/minikeyvalue/nginx.conf.template");
        fs::copy(template, scripts.join("nginx.conf.template")).unwrap();
        fs::copy(start(), scripts.join("start")).unwrap();
        Self::start_from(scripts.join("start"), "127.0.0.0/8", dir)
    }

    /// Starts a volume with another template: these texts, which it has once each, are replaced. The
    /// template lies beside `dir`.
    pub fn start_edited(dir: &Path, edits: &[(&str, &str)]) -> Self {
        let mut edited = fs::read_to_string(template()).unwrap();
        for (from, to) in edits {
            assert_eq!(edited.matches(from).count(), 1, "{from}");
            edited = edited.replace(from, to);
        }
        let beside = dir.with_extension("start");
        fs::create_dir(&beside).unwrap();
        fs::write(beside.join("nginx.conf.template"), edited).unwrap();
        let script = beside.join("start");
        fs::copy(start(), &script).unwrap();
        Self::start_from(script, "127.0.0.0/8", dir)
    }

    fn start_from(script: PathBuf, master: &str, dir: &Path) -> Self {
        let mut volume = Self {
            dir: dir.to_owned(),
            script,
            port: free_port(),
            master: master.to_owned(),
            child: None,
            orphans: Vec::new(),
            log: Arc::default(),
        };
        while let Err(log) = volume.run() {
            // another process took the port; any other failure is an error
            assert!(log.contains("Address already in use"), "the volume did not start:\n{log}");
            volume.port = free_port();
        }
        volume
    }

    /// The command that serves `dir`, not started yet.
    pub fn command(dir: &Path, port: u16) -> Command {
        Self::command_of(&start(), dir, port)
    }

    fn command_of(script: &Path, dir: &Path, port: u16) -> Command {
        let mut command = Command::new(script);
        command.arg("--here").arg(dir).env("PORT", format!("127.0.0.1:{port}"));
        // two workers, so that tests notice state that workers don't share
        command.env("WORKERS", "2").env_remove("BODY_BUFFER").env_remove("MASTER");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The id of the started process, which becomes nginx's master process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the volume is down").id()
    }

    /// The output of `volume/start` and nginx so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The stored values: path below the directory, and bytes, sorted by path. Leaves out uploads under way,
    /// nginx's files, markers, the owner file, and hidden files.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let read = |path: String| match fs::read(self.dir.join(&path)) {
            Ok(bytes) => Some((path, bytes)),
            // the master has deleted it since it was listed
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => panic!("{path}: {error}"),
        };
        self.paths().into_iter().filter_map(read).collect()
    }

    /// The paths of [`Volume::files`].
    pub fn paths(&self) -> Vec<String> {
        fn walk(root: &Path, dir: &Path, paths: &mut Vec<String>) {
            for entry in fs::read_dir(dir).unwrap() {
                let entry = entry.unwrap();
                let path = entry.path();
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                let is_marker = is_identity(&name);
                if name.starts_with('.') || name == "body_temp" || name == "nginx.pid" || is_marker {
                    continue;
                }
                if entry.file_type().unwrap().is_dir() {
                    walk(root, &path, paths);
                } else {
                    paths.push(name);
                }
            }
        }
        let mut paths = Vec::new();
        walk(&self.dir, &self.dir, &mut paths);
        paths.sort();
        paths
    }

    /// Deletes the markers and the owner file, as if no master that writes any had ever had the volume.
    pub fn unmark(&self) {
        let subvolumes = (0..=0xff).map(|number| format!("sv{number:02X}"));
        for subvolume in subvolumes.chain([String::new()]) {
            for file in [MARKER, OWNER_FILE] {
                match fs::remove_file(self.dir.join(&subvolume).join(file)) {
                    Err(error) if error.kind() != ErrorKind::NotFound => panic!("{file}: {error}"),
                    _ => {}
                }
            }
        }
    }

    /// Writes markers that say nothing, for tests without a master: the volume itself asks only whether there are any.
    pub fn mark(&self, subvolumes: &[&str]) {
        let from = if self.master.contains('/') { "127.0.0.1" } else { &self.master };
        for subvolume in subvolumes {
            let slash = if subvolume.is_empty() { "" } else { "/" };
            let target = format!("{slash}{subvolume}/{MARKER}");
            let answer = http::request_from(from, &self.addr(), "PUT", &target, &[], b"marker");
            assert_eq!(answer.status, 201, "{target}: {}", answer.text());
        }
    }

    /// The number of its connections with an answer that waits for the other side to read.
    pub fn blocked_answers(&self) -> usize {
        let table = fs::read_to_string(format!("/proc/{}/net/tcp", self.pid())).unwrap();
        let local = format!("0100007F:{:04X}", self.port);
        let is_blocked = |line: &&str| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            columns[1] == local && columns[3] == "01" && !columns[4].starts_with("00000000:")
        };
        table.lines().filter(is_blocked).count()
    }

    /// The number of files in `body_temp`: uploads under way, and leftovers.
    pub fn temporary_files(&self) -> usize {
        fs::read_dir(self.dir.join("body_temp")).unwrap().count()
    }

    /// Kills nginx with all its workers, as a power cut would.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // stop the nginx master process, so that it doesn't replace killed workers
        process::signal(child.id(), Signal::STOP);
        let workers = process::children(child.id());
        for &worker in &workers {
            process::signal(worker, Signal::KILL);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        eventually("the workers are gone", PATIENCE, || !workers.iter().any(|&pid| process::alive(pid)));
    }

    /// Kills only nginx's master process, and returns its workers, which keep serving.
    pub fn kill_first_process(&mut self) -> Vec<u32> {
        let mut child = self.child.take().expect("the volume is down");
        let workers = process::children(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        self.orphans.clone_from(&workers);
        workers
    }

    /// Stops nginx with SIGTERM.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        process::signal(child.id(), Signal::TERM);
        child.wait().unwrap();
    }

    /// Stops it if it runs, and starts it again on the same directory and port.
    pub fn restart(&mut self) {
        self.stop();
        self.run().unwrap_or_else(|log| panic!("the volume did not start again:\n{log}"));
    }

    /// Stops its processes (SIGSTOP): the kernel still accepts connections, and nothing answers.
    pub fn pause(&self) {
        self.signal_all(Signal::STOP);
    }

    /// Ends [`Volume::pause`].
    pub fn resume(&self) {
        self.signal_all(Signal::CONT);
    }

    fn signal_all(&self, signal: Signal) {
        for pid in process::children(self.pid()).into_iter().chain([self.pid()]) {
            process::signal(pid, signal);
        }
    }

    /// Starts it and waits until it answers. Fails with the log.
    fn run(&mut self) -> Result<(), String> {
        let mut command = Self::command_of(&self.script, &self.dir, self.port);
        let mut child = command.env("MASTER", &self.master).spawn().expect("volume/start");
        let log = Arc::<Mutex<String>>::default();
        self.log = Arc::clone(&log);
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let reader = std::thread::spawn({
            let log = Arc::clone(&log);
            move || {
                for line in stderr.lines().map_while(Result::ok) {
                    *log.lock().unwrap() += &(line + "\n");
                }
            }
        });
        // stored before anything can fail, so that the drop kills the process
        self.child = Some(child);
        let mut failed = false;
        eventually("the volume answers", PATIENCE, || {
            // an answer alone may come from orphaned workers, or from another server on the port
            failed = self.log().contains("Address already in use")
                || self.child.as_mut().unwrap().try_wait().unwrap().is_some();
            let pid = fs::read_to_string(self.dir.join("nginx.pid")).unwrap_or_default();
            let ours = pid.trim() == self.pid().to_string();
            failed || ours && http::try_request(None, &self.addr(), "GET", b"/", &[], b"").is_ok()
        });
        if failed {
            self.kill();
            reader.join().unwrap();
            return Err(self.log());
        }
        // volume/start has ended them, and the kernel may reuse their ids
        self.orphans.clear();
        Ok(())
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        self.kill();
        for &orphan in &self.orphans {
            process::signal(orphan, Signal::KILL);
        }
    }
}
