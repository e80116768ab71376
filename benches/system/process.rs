//! Processes: servers that end with their value's drop, programs that run to their end, and what the kernel
//! has counted for either.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::time::sleep;

use crate::settings::{Failure, Result};

/// The kernel's unit of CPU time in /proc, on all machines that we know.
const TICKS_PER_SECOND: f64 = 100.0;
/// How long a server may take to start: an index of any size opens within a second.
const START: Duration = Duration::from_mins(1);
/// How often a server is looked at while it starts: the precision of its start-up time.
const START_LOOK: Duration = Duration::from_millis(1);
/// How often a program is looked at while it runs: the kernel forgets its CPU time and memory when it ends.
const LOOK: Duration = Duration::from_millis(5);
/// Attempts to find a port that no other process takes at the same time.
const TRIES: usize = 20;

/// A process, which ends when this is dropped. All that it prints goes to a file in memory.
pub(crate) struct Process {
    command: Command,
    child: Child,
    output: File,
    begun: Instant,
    /// `HOST:PORT` of a server that is ready.
    pub(crate) address: String,
    /// From a server's start until it was ready.
    pub(crate) started_in: Duration,
}

/// A program that has ended well.
pub(crate) struct Ended {
    pub(crate) seconds: f64,
    pub(crate) cpu: f64,
    pub(crate) peak: u64,
    pub(crate) output: String,
}

impl Process {
    fn start(mut command: Command) -> Result<Self> {
        // in memory, so that no disk makes a server wait that logs
        let output = File::from(memfd_create("output", MemfdFlags::CLOEXEC)?);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output.try_clone()?);
        // Ctrl-C reaches the benchmark alone, and no flag comes from the environment
        command.process_group(0);
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"DAVKV_") {
                command.env_remove(name);
            }
        }
        let begun = Instant::now();
        let child = command.spawn();
        let child = child.map_err(|error| format!("{}: {error}", command.get_program().display()))?;
        let (address, started_in) = (String::new(), Duration::ZERO);
        Ok(Self { command, child, output, begun, address, started_in })
    }

    /// Starts a server and waits until `ready`, given its id and its output, returns its address.
    ///
    /// # Errors
    ///
    /// The output of a server that ends instead.
    pub(crate) async fn serve(command: Command, ready: impl Fn(u32, &str) -> Option<String>) -> Result<Self> {
        let mut server = Self::start(command)?;
        while server.begun.elapsed() < START {
            let ended = server.child.try_wait()?;
            if let Some(address) = ready(server.pid(), &server.output()?) {
                server.started_in = server.begun.elapsed();
                server.address = address;
                return Ok(server);
            }
            if let Some(status) = ended {
                return Err(server.failure(&format!("ended with {status}")));
            }
            sleep(START_LOOK).await;
        }
        Err(server.failure("doesn't start"))
    }

    /// Starts a server that chooses its own port and logs its address.
    pub(crate) async fn serve_and_log(command: Command) -> Result<Self> {
        let address = |_, output: &str| {
            let (line, _) = output.split_once("listening on ")?.1.split_once('\n')?;
            line.split_whitespace().next().map(str::to_owned)
        };
        Self::serve(command, address).await
    }

    /// Starts an nginx at a free address of 127.0.0.1, which the command is made for, and waits until it has
    /// written its pid file: it does so once it listens.
    pub(crate) async fn serve_nginx(
        pid_file: &Path,
        command: impl Fn(&str) -> Result<Command>,
    ) -> Result<Self> {
        for _ in 0..TRIES {
            let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.to_string();
            let ready = |pid: u32, _: &str| {
                (fs::read_to_string(pid_file).ok()?.trim() == pid.to_string()).then(|| address.clone())
            };
            match Self::serve(command(&address)?, ready).await {
                // another process has taken the port meanwhile
                Err(error) if error.to_string().contains("Address already in use") => {}
                started => return started,
            }
        }
        Err("no port is free".into())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Interrupts it, and waits until it has ended.
    pub(crate) fn interrupt(mut self) -> Result<()> {
        self.signal(Signal::INT);
        self.child.wait()?;
        Ok(())
    }

    /// Sends a signal to the process and its children, which are one group.
    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            let _gone: rustix::io::Result<()> = kill_process_group(pid, signal);
        }
    }

    fn output(&self) -> Result<String> {
        // opened anew, as the program goes on writing at the offset of this one
        Ok(fs::read_to_string(format!("/proc/self/fd/{}", self.output.as_raw_fd()))?)
    }

    fn failure(&self, what: &str) -> Failure {
        let output = self.output().unwrap_or_default();
        format!("{} {what}: {}", self.command.get_program().display(), output.trim()).into()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // the id of a process that has ended may be another's by now
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::KILL);
            let _ended: std::io::Result<ExitStatus> = self.child.wait();
        }
    }
}

/// Runs a program to its end, and watches it. Its output is short.
///
/// # Errors
///
/// The output of a program that fails.
pub(crate) async fn run<A: AsRef<OsStr>>(path: &Path, args: impl IntoIterator<Item = A>) -> Result<Ended> {
    let mut command = Command::new(path);
    command.args(args);
    let mut process = Process::start(command)?;
    let (mut cpu, mut peak) = (0.0, 0);
    let status = loop {
        if let Some(status) = process.child.try_wait()? {
            break status;
        }
        cpu = cpu_seconds(process.pid()).unwrap_or(cpu);
        peak = memory(process.pid(), "VmHWM").unwrap_or(peak);
        sleep(LOOK).await;
    };
    let seconds = process.begun.elapsed().as_secs_f64();
    if !status.success() {
        return Err(process.failure(&format!("ended with {status}")));
    }
    Ok(Ended { seconds, cpu, peak, output: process.output()? })
}

/// User and system time so far of a process and its children: of an nginx with its workers.
pub(crate) fn cpu_seconds(pid: u32) -> Option<f64> {
    let own = |pid: &str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // PID (NAME) STATE …; the name may hold anything. utime and stime are fields 14 and 15 of all.
        let mut fields = stat.rsplit(") ").next()?.split(' ').skip(11);
        let mut next = || fields.next()?.parse::<f64>().ok();
        Some((next()? + next()?) / TICKS_PER_SECOND)
    };
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().chain([pid.to_string().as_str()]).map(own).sum()
}

/// A line of /proc/PID/status about memory, in bytes: `VmHWM` is the peak, `VmRSS` the present.
pub(crate) fn memory(pid: u32, line: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let rest = status.lines().find_map(|candidate| candidate.strip_prefix(line)?.strip_prefix(':'))?;
    Some(rest.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// Lets the peak of a process's memory begin anew. Where the kernel refuses, it stays that of its whole life.
pub(crate) fn reset_peak(pid: u32) {
    let _refusal: std::io::Result<()> = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// The path of a program that may be installed.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|candidate| candidate.is_file())
}

/// The command `nginx`, wherever distributions put it.
pub(crate) fn nginx() -> Command {
    let mut command = Command::new("nginx");
    command.env("PATH", std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/local/sbin");
    command
}
