//! The real master: the program `davkv`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

use super::{eventually, free_port, process};

const START: Duration = Duration::from_secs(20);
/// Longer than the grace that the master gives to requests under way.
const STOP: Duration = Duration::from_secs(40);

/// For [`Master::limit_files`]: a write beyond the limit fails, and doesn't kill.
const LIMITABLE: &str = "trap '' XFSZ;";

/// Makes the socket on standard input the one that systemd would pass.
const TAKE_SOCKET: &str = "exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$;";

pub struct Master {
    port: u16,
    flags: Vec<String>,
    /// The socket that it is started with, as systemd does.
    socket: Option<TcpListener>,
    child: Option<Child>,
    log: Arc<Mutex<String>>,
}

impl Master {
    /// Starts a master with this index over these volumes, with additional `flags`. It keeps its port over
    /// restarts; see [`free_port`] for why the kernel doesn't choose it.
    pub fn start(db: &Path, volumes: &[String], flags: &[&str]) -> Self {
        Self::start_on(free_port(), None, db, volumes, flags)
    }

    /// As [`Master::start`], with a socket of systemd's, which stays open over restarts.
    pub fn start_with(socket: TcpListener, db: &Path, volumes: &[String], flags: &[&str]) -> Self {
        Self::start_on(socket.local_addr().unwrap().port(), Some(socket), db, volumes, flags)
    }

    fn start_on(
        port: u16,
        socket: Option<TcpListener>,
        db: &Path,
        volumes: &[String],
        flags: &[&str],
    ) -> Self {
        let (db, volumes, port_flag) = (db.to_str().unwrap(), volumes.join(","), port.to_string());
        let mut all = vec!["--address", "127.0.0.1", "--port", &port_flag, "--db", db, "--volumes", &volumes];
        all.extend(flags);
        let flags = all.into_iter().map(str::to_owned).collect();
        let mut master = Self { port, flags, socket, child: None, log: Arc::default() };
        master.run();
        master
    }

    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the master is down").id()
    }

    /// The master's log since its last start.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Kills it (SIGKILL), as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let panicked = self.log().lines().find(|line| line.contains("panicked")).map(str::to_owned);
        assert!(panicked.is_none() || std::thread::panicking(), "{}", panicked.unwrap_or_default());
    }

    /// Stops its process (SIGSTOP): the kernel still accepts connections, and nothing answers.
    pub fn pause(&self) {
        process::signal(self.pid(), Signal::STOP);
    }

    /// Ends [`Master::pause`].
    pub fn resume(&self) {
        process::signal(self.pid(), Signal::CONT);
    }

    /// Sends SIGTERM, and waits for the exit.
    pub fn terminate(&mut self) -> ExitStatus {
        self.ask_to_end();
        self.wait()
    }

    /// Sends SIGTERM.
    pub fn ask_to_end(&self) {
        process::signal(self.pid(), Signal::TERM);
    }

    /// Sends SIGHUP.
    pub fn hang_up(&self) {
        process::signal(self.pid(), Signal::HUP);
    }

    /// No file of it may grow beyond so many bytes, as if its disk were full; `None` for any number.
    pub fn limit_files(&self, bytes: Option<u64>) {
        let limit = Rlimit { current: bytes, maximum: None };
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap());
        prlimit(pid, Resource::Fsize, limit).unwrap();
    }

    /// It opens no descriptor of this number or a higher one; `None` for as many as it may have.
    pub fn limit_descriptors(&self, number: Option<u64>) {
        let maximum = getrlimit(Resource::Nofile).maximum;
        let limit = Rlimit { current: number.or(maximum), maximum };
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap());
        prlimit(pid, Resource::Nofile, limit).unwrap();
    }

    /// Waits for the exit.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the master has ended", STOP, || {
            status = self.child.as_mut().expect("the master is down").try_wait().unwrap();
            status.is_some()
        });
        self.child = None;
        status.unwrap()
    }

    /// Restarts it with the same flags, after a graceful stop if it runs.
    pub fn restart(&mut self) {
        if self.child.is_some() {
            let status = self.terminate();
            assert!(status.success(), "the master ended with {status}:\n{}", self.log());
        }
        self.run();
    }

    /// The peak of its resident memory, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// Its resident memory now, in bytes.
    pub fn resident_memory(&self) -> u64 {
        self.memory("VmRSS:")
    }

    fn memory(&self, which: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(which)).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Starts it and waits until it logs that it listens.
    fn run(&mut self) {
        let (prelude, stdin) = match &self.socket {
            None => ("", Stdio::null()),
            Some(socket) => (TAKE_SOCKET, OwnedFd::from(socket.try_clone().unwrap()).into()),
        };
        let mut child = Command::new("sh")
            .args(["-c", &format!("{LIMITABLE} {prelude} exec \"$0\" \"$@\"")])
            .arg(env!("CARGO_BIN_EXE_davkv"))
            .args(&self.flags)
            // tests damage replicas and expect the next read to notice; a flag can override this
            .env("DAVKV_RECHECK", "0s")
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::<Mutex<String>>::default();
        self.log = Arc::clone(&log);
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                *log.lock().unwrap() += &(line + "\n");
            }
        });
        // stored before anything can fail, so that the drop kills the process
        self.child = Some(child);
        let ready = format!("listening on {}", self.addr());
        eventually("the master listens", START, || {
            let status = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(status.is_none(), "the master did not start ({status:?}):\n{}", self.log());
            self.log().contains(&ready)
        });
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("-- the master's log:\n{}", self.log());
        }
    }
}
