//! The system calls that the master makes, by `strace -c`, which slows it down: they are counted, not timed.

use std::fs;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use crate::load::{Target, thrash};
use crate::process::Server;
use crate::report::{Of, Row};
use crate::stage::Stage;
use crate::workloads::new_seed;
use crate::{Failure, Settings, process};

const KEYS: u32 = 4_000;
/// Calls that are told by name: the most frequent.
const TOLD: usize = 6;
/// What each operation may cost, by the thrasher's mode.
const WANTED: [(&str, f64); 3] = [("put", 12.0), ("redirect", 5.0), ("delete", 11.0)];

/// Counts them for PUT, GET and DELETE, each alone.
pub(crate) async fn count(settings: &Settings) -> Result<Vec<Row>, Failure> {
    let strace = process::find("strace").ok_or("strace isn't installed; type: apt install strace")?;
    let stage = Stage::usual(settings).await?.with_master().await?;
    // connections are there when it begins
    thrash(Target::Url(stage.url()?), "--count 200").await?;
    let seed = new_seed();
    let mut rows = Vec::new();
    for (mode, most) in WANTED {
        let summary = stage.path(&format!("{mode}.strace"));
        let mut command = Command::new(&strace);
        command.args(["-c", "-f", "-p", &stage.master()?.pid().to_string(), "-o"]).arg(&summary);
        let log = stage.path("strace.log");
        let attached = |_, said: &str| said.contains("attached").then_some(());
        let (tracer, ()) = Server::start(command, log, attached).await?;
        let existing = if mode == "put" { "" } else { "--existing" };
        let flags = format!("--mode {mode} {existing} --count {KEYS} --seed {seed}");
        thrash(Target::Url(stage.url()?), &flags).await?;
        end(tracer)?;
        let (total, most_frequent) = read(&fs::read_to_string(&summary)?)?;
        let row = Row::single(&format!("syscalls {mode}"), "calls", total).at_most(Of::Figure, most);
        rows.push(row.note(most_frequent));
    }
    Ok(rows)
}

/// It writes its summary when it is interrupted, before it ends.
fn end(tracer: Server) -> Result<(), Failure> {
    let pid = i32::try_from(tracer.pid()).ok().and_then(Pid::from_raw).ok_or("strace is gone")?;
    kill_process(pid, Signal::INT)?;
    drop(tracer);
    Ok(())
}

/// All calls per operation, and the most frequent ones by name.
fn read(summary: &str) -> Result<(f64, String), Failure> {
    // % time, seconds, usecs/call, calls, [errors,] name
    let mut calls: Vec<(f64, &str)> = summary
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let calls: f64 = fields.nth(3)?.parse().ok()?;
            Some((calls / f64::from(KEYS), fields.last()?))
        })
        .filter(|(_, name)| *name != "total")
        .collect();
    if calls.is_empty() {
        return Err(format!("strace has counted nothing: {summary}").into());
    }
    calls.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let told = calls.iter().take(TOLD).map(|(calls, name)| format!("{name} {calls:.2}"));
    let told = told.collect::<Vec<_>>().join(", ");
    Ok((calls.iter().map(|(calls, _)| calls).sum(), told))
}
