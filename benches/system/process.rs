//! Processes: servers that end with their value's drop, programs that run to their end, and what the kernel
//! has counted for either.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::time::sleep;

use crate::settings::{Failure, Result};

// the tests' own
#[path = "../../tests/common/process.rs"]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "of the tests' parts, only the ports")]
mod ports;

/// The kernel's unit of CPU time in /proc, on all machines that we know.
const TICKS_PER_SECOND: f64 = 100.0;
/// How long a server may take to start: an index of any size opens within a second.
const START: Duration = Duration::from_mins(1);
/// How often a server is looked at while it starts: the precision of its start-up time.
const START_LOOK: Duration = Duration::from_millis(1);
/// How often a program is looked at while it runs: the kernel forgets its CPU time and memory when it ends.
const LOOK: Duration = Duration::from_millis(5);

/// A process, which ends when this is dropped. All that it prints goes to a file in memory.
pub(crate) struct Process {
    child: Child,
    name: String,
    output: File,
    begun: Instant,
    /// `HOST:PORT` of a server; nothing for other programs.
    pub(crate) host: String,
    /// From a server's start until it was ready.
    pub(crate) started_in: Duration,
}

/// A program that has ended well.
pub(crate) struct Ended {
    pub(crate) seconds: f64,
    pub(crate) cpu: f64,
    pub(crate) peak: f64,
    pub(crate) output: String,
}

impl Process {
    fn start(mut command: Command, host: &str) -> Result<Self> {
        let name = command.get_program().display().to_string();
        // in memory, so that no disk makes a server wait that logs
        let output = File::from(memfd_create("output", MemfdFlags::CLOEXEC)?);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output.try_clone()?);
        // Ctrl-C reaches the benchmark alone
        command.process_group(0);
        let begun = Instant::now();
        let child = command.spawn().map_err(|error| format!("{name}: {error}"))?;
        Ok(Self { child, name, output, begun, host: host.to_owned(), started_in: Duration::ZERO })
    }

    /// Starts a server that listens on this `HOST:PORT`, and waits until `ready`, given its output, says so.
    pub(crate) async fn serve(command: Command, host: &str, ready: impl Fn(&str) -> bool) -> Result<Self> {
        let mut server = Self::start(command, host)?;
        while server.begun.elapsed() < START && !server.has_ended()? {
            if ready(&server.output()?) {
                server.started_in = server.begun.elapsed();
                return Ok(server);
            }
            sleep(START_LOOK).await;
        }
        Err(server.failure("doesn't start"))
    }

    /// Starts an nginx and waits until its pid file has been written, which nginx does once it listens.
    pub(crate) async fn serve_nginx(command: Command, host: &str, directory: &Path) -> Result<Self> {
        let pid_file = directory.join("nginx.pid");
        Self::serve(command, host, |_| fs::metadata(&pid_file).is_ok_and(|file| file.len() > 0)).await
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

    /// Whether it has ended; a failure is an error.
    fn has_ended(&mut self) -> Result<bool> {
        match self.child.try_wait()? {
            Some(status) if !status.success() => Err(self.failure(&format!("ended with {status}"))),
            status => Ok(status.is_some()),
        }
    }

    fn output(&self) -> Result<String> {
        // opened anew, as the program goes on writing at the offset of this one
        Ok(fs::read_to_string(format!("/proc/self/fd/{}", self.output.as_raw_fd()))?)
    }

    fn failure(&self, what: &str) -> Failure {
        format!("{} {what}: {}", self.name, self.output().unwrap_or_default().trim()).into()
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

/// A command without the environment, so that no flag comes from there. It finds nginx wherever distributions
/// put it.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/local/sbin";
    command.env_clear().env("PATH", path);
    command
}

/// Runs a program to its end, and watches it. Its output is short; that of one that fails is the error.
pub(crate) async fn run<A: AsRef<OsStr>>(path: &Path, args: impl IntoIterator<Item = A>) -> Result<Ended> {
    let mut command = command(path);
    command.args(args);
    let mut process = Process::start(command, "")?;
    let (mut cpu, mut peak) = (0.0, 0.0);
    while !process.has_ended()? {
        cpu = cpu_seconds(process.pid()).unwrap_or(cpu);
        peak = peak_memory(process.pid()).unwrap_or(peak);
        sleep(LOOK).await;
    }
    Ok(Ended { seconds: process.begun.elapsed().as_secs_f64(), cpu, peak, output: process.output()? })
}

/// User and system time so far of a process and its children: of an nginx with its workers.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let mut ticks = 0.0;
    for pid in children.split_whitespace().chain([pid.to_string().as_str()]) {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // PID (NAME) STATE …; the name may hold anything. utime and stime are fields 14 and 15 of all.
        let (_, fields) = stat.rsplit_once(") ").unwrap_or_default();
        for field in fields.split(' ').skip(11).take(2) {
            ticks += field.parse::<f64>()?;
        }
    }
    Ok(ticks / TICKS_PER_SECOND)
}

/// The most MiB of memory that were resident since [`reset_peak`].
pub(crate) fn peak_memory(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    Ok(peak.ok_or("no peak of memory is known")?.parse::<f64>()? / 1024.0)
}

/// Lets the peak of a process's memory begin anew. Where the kernel refuses, it stays that of its whole life.
pub(crate) fn reset_peak(pid: u32) {
    let _refusal: std::io::Result<()> = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// A `HOST:PORT` for a server to start.
pub(crate) fn free_host() -> String {
    format!("127.0.0.1:{}", ports::free_port())
}

/// The path of a program that may be installed.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|candidate| candidate.is_file())
}
