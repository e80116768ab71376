//! The system calls that the master makes, by `strace -c`. It slows the master down: calls are counted, not
//! timed.

use std::fs;

use crate::objects::new_seed;
use crate::process::{self, Process};
use crate::report::{Row, Sample};
use crate::settings::{Result, Rows, Settings};
use crate::stage::Stage;

/// Counts the calls of PUT, GET and DELETE of so many keys, each alone. The first round, which isn't counted,
/// opens the connections.
pub(crate) async fn count(settings: &Settings, keys: u32) -> Rows {
    let round = async |stage: &Stage, _: bool| {
        let (mut rows, seed) = (Vec::new(), new_seed());
        for (operation, mode) in
            [("put", "put"), ("redirect", "redirect --existing"), ("delete", "delete --existing")]
        {
            let summary = stage.path(&format!("{operation}.strace"));
            let mut command = process::command("strace");
            command.args(["-c", "-f", "-p", &stage.master()?.pid().to_string(), "-o"]).arg(&summary);
            let tracer = Process::serve(command, "", |output| output.contains("attached")).await?;
            stage.thrash(&format!("--mode {mode} --count {keys} --seed {seed}")).await?;
            // an interrupted strace writes its summary before it ends
            tracer.interrupt()?;
            let (rate, most_frequent) = read(&fs::read_to_string(&summary)?, keys)?;
            let row = Row::new(&format!("syscalls {operation}"), "calls", Sample::new(rate, 0.0));
            rows.push(row.note(&most_frequent));
        }
        Ok(rows)
    };
    settings.measure(Stage::with_master, round).await
}

/// All calls per operation, and the six most frequent ones by name.
fn read(summary: &str, operations: u32) -> Result<(f64, String)> {
    // % time, seconds, usecs/call, calls, [errors,] name
    let fields = summary.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let calls: f64 = fields.nth(3)?.parse().ok()?;
        Some((calls / f64::from(operations), fields.last()?))
    });
    let mut calls: Vec<_> = fields.filter(|(_, name)| *name != "total").collect();
    if calls.is_empty() {
        return Err(format!("strace has counted nothing: {summary}").into());
    }
    calls.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let named: Vec<_> = calls.iter().take(6).map(|(calls, name)| format!("{name} {calls:.2}")).collect();
    Ok((calls.iter().map(|(calls, _)| calls).sum(), named.join(", ")))
}
