//! Processes: servers that end with their value's drop, programs that are run to their end, and what the
//! kernel has counted for either.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use crate::Failure;

/// The kernel's unit of CPU time in /proc, on all that we know.
const TICKS_PER_SECOND: f64 = 100.0;

/// How long a server may take to start: an index of any size opens within a second.
const START: Duration = Duration::from_mins(1);
/// How long one may take to end before it is killed.
const STOP: Duration = Duration::from_secs(5);
/// How often a server is looked at while it starts: what its start-up time is told by.
const START_LOOK: Duration = Duration::from_millis(1);
/// The tries to find a port that nobody else takes at the same time.
const TRIES: usize = 20;
/// How often a program is looked at for its CPU time and its memory, of which nothing is left at its end.
const LOOK: Duration = Duration::from_millis(5);

/// A server, which ends when this is dropped.
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
    /// From its start until it was ready.
    pub(crate) started_in: Duration,
}

/// A program that has ended well.
pub(crate) struct Ended {
    pub(crate) seconds: f64,
    pub(crate) cpu: f64,
    pub(crate) peak: u64,
    pub(crate) output: String,
}

impl Server {
    /// Starts it and waits until `ready` finds what it looks for, given its id and its log.
    ///
    /// # Errors
    ///
    /// Its log, where it ends before.
    pub(crate) async fn start<T>(
        mut command: Command,
        log: PathBuf,
        ready: impl Fn(u32, &str) -> Option<T>,
    ) -> Result<(Self, T), Failure> {
        prepare(&mut command);
        command.stdout(Stdio::null()).stderr(File::create(&log)?);
        let begun = Instant::now();
        let child = spawn(&mut command)?;
        // held from here on, so that a failed start leaves no process
        let mut server = Self { child, log, started_in: Duration::ZERO };
        loop {
            let said = server.said()?;
            if let Some(found) = ready(server.pid(), &said) {
                server.started_in = begun.elapsed();
                return Ok((server, found));
            }
            if let Some(status) = server.child.try_wait()? {
                return Err(
                    format!("{} ended with {status}: {}", program(&command), server.said()?.trim()).into()
                );
            }
            if begun.elapsed() > START {
                return Err(format!("{} doesn't start: {}", program(&command), said.trim()).into());
            }
            sleep(START_LOOK).await;
        }
    }

    /// Starts an nginx and waits until it has written its pid file, which it does once it has its ports.
    pub(crate) async fn start_nginx(
        command: Command,
        log: PathBuf,
        pid_file: &Path,
    ) -> Result<Self, Failure> {
        let ready = |pid: u32, _: &str| {
            fs::read_to_string(pid_file).is_ok_and(|text| text.trim() == pid.to_string()).then_some(())
        };
        Ok(Self::start(command, log, ready).await?.0)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    fn said(&self) -> Result<String, Failure> {
        Ok(fs::read_to_string(&self.log)?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // nginx has workers, which it takes along when it is asked to end, and leaves behind when killed
        for signal in [Signal::TERM, Signal::KILL] {
            if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
                let _gone: rustix::io::Result<()> = kill_process(pid, signal);
            }
            let end = Instant::now() + STOP;
            while Instant::now() < end {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    return;
                }
                std::thread::sleep(START_LOOK);
            }
        }
    }
}

/// Runs a program to its end, and watches it. What it prints is short.
///
/// # Errors
///
/// What it says, where it fails.
pub(crate) async fn run<A: AsRef<OsStr>>(
    path: &Path,
    args: impl IntoIterator<Item = A>,
) -> Result<Ended, Failure> {
    let mut command = Command::new(path);
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    prepare(&mut command);
    let begun = Instant::now();
    let name = program(&command);
    let mut command = tokio::process::Command::from(command);
    let child = command.kill_on_drop(true).spawn().map_err(|error| format!("{name}: {error}"))?;
    let pid = child.id().unwrap_or_default();
    let mut output = std::pin::pin!(child.wait_with_output());
    let (mut cpu, mut peak) = (0.0, 0);
    let output = loop {
        tokio::select! {
            output = &mut output => break output?,
            () = sleep(LOOK) => {
                cpu = cpu_seconds(pid).unwrap_or(cpu);
                peak = memory(pid, "VmHWM").unwrap_or(peak);
            }
        }
    };
    let seconds = begun.elapsed().as_secs_f64();
    if !output.status.success() {
        let said = [output.stderr, output.stdout].concat();
        return Err(format!(
            "{name} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&said).trim()
        )
        .into());
    }
    Ok(Ended { seconds, cpu, peak, output: String::from_utf8_lossy(&output.stdout).into_owned() })
}

/// User and system time of a process so far.
pub(crate) fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // PID (NAME) STATE …; the name may hold anything. utime and stime are fields 14 and 15 of all.
    let mut fields = stat.rsplit(") ").next()?.split(' ').skip(11);
    let mut next = || fields.next()?.parse::<f64>().ok();
    Some((next()? + next()?) / TICKS_PER_SECOND)
}

/// The same for a process and its children together: an nginx.
pub(crate) fn cpu_seconds_with_children(pid: u32) -> Option<f64> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let pids = children.split_whitespace().filter_map(|child| child.parse().ok());
    pids.chain([pid]).map(cpu_seconds).sum()
}

/// A line of /proc/PID/status that tells of memory, in bytes: `VmHWM` is the peak, `VmRSS` what it is now.
pub(crate) fn memory(pid: u32, line: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let rest = status.lines().find_map(|candidate| candidate.strip_prefix(line)?.strip_prefix(':'))?;
    Some(rest.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// Lets the peak of a process's memory begin anew. Where the kernel refuses, it is that of its whole life.
pub(crate) fn reset_peak(pid: u32) {
    let _refusal: std::io::Result<()> = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// Starts what listens at an address of 127.0.0.1 that nobody else takes at the same time.
pub(crate) async fn on_free_port<T>(
    start: impl AsyncFn(&str) -> Result<T, Failure>,
) -> Result<(T, String), Failure> {
    let mut failure = Failure::from("no port");
    for _ in 0..TRIES {
        let address = format!("127.0.0.1:{}", free_port()?);
        match start(&address).await {
            Ok(started) => return Ok((started, address)),
            // somebody was faster
            Err(error) if error.to_string().contains("Address already in use") => failure = error,
            Err(error) => return Err(error),
        }
    }
    Err(failure)
}

/// A port of 127.0.0.1 on which nobody listens, below those that the kernel gives to outgoing connections.
fn free_port() -> Result<u16, Failure> {
    let start = std::process::id().wrapping_mul(7919);
    let ports = (0..22_000_u32).map(|n| 10_000 + start.wrapping_add(n) % 22_000);
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.filter_map(|port| u16::try_from(port).ok()).find(free).ok_or_else(|| "no port is free".into())
}

/// The path of a program that may be installed.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|candidate| candidate.is_file())
}

pub(crate) fn spawn(command: &mut Command) -> Result<Child, Failure> {
    command.spawn().map_err(|error| format!("{}: {error}", program(command)).into())
}

/// Ctrl-C is for us alone, and flags are not from the environment.
pub(crate) fn prepare(command: &mut Command) {
    command.stdin(Stdio::null()).process_group(0);
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"DAVKV_") {
            command.env_remove(name);
        }
    }
}

fn program(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}
