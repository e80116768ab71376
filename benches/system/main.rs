#![doc = include_str!("README.md")]

mod baseline;
mod load;
mod machine;
mod native;
mod objects;
mod process;
mod report;
mod s3;
mod settings;
mod stage;
mod syscalls;
mod tools;
mod workloads;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::report::Report;
use crate::settings::{Result, Settings};
use crate::workloads::Workload;

/// Measures davkv beside the limits of the same hardware. benches/system/README.md tells how to read the
/// table.
#[derive(Parser)]
#[command(name = "system", override_usage = "cargo bench --bench system -- [OPTIONS]")]
struct Args {
    /// What to measure, by commas [default: all that are quick]
    #[arg(long, value_delimiter = ',', value_name = "NAME,…", value_parser = workloads::find)]
    workloads: Vec<Workload>,
    /// List the workloads, and end
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    settings: Settings,
    /// Write all figures there, as JSON; - for the standard output, instead of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// What cargo gives to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

// one thread is enough: this process mostly waits for others
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // an interruption drops the work under way, which ends its processes and deletes its files; 130 is what
    // shells report then
    let done = tokio::select! {
        biased;
        () = interrupted() => Ok(ExitCode::from(130)),
        result = run(Args::parse()) => result,
    };
    done.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}

/// Measures and reports. A workload that fails doesn't stop the others.
async fn run(args: Args) -> Result<ExitCode> {
    if args.list {
        print(&workloads::list()?);
        return Ok(ExitCode::SUCCESS);
    }
    let settings = &args.settings;
    let (machine, rounds) = (machine::describe(&settings.volumes_on)?, settings.rounds);
    let mut report = Report { version: env!("CARGO_PKG_VERSION"), machine, rounds, rows: Vec::new() };
    let mut code = ExitCode::SUCCESS;
    let mut chosen = args.workloads;
    if chosen.is_empty() {
        chosen = workloads::all()?.into_iter().filter(|workload| !workload.slow).collect();
    }
    for workload in chosen {
        eprintln!("{}", workload.name);
        match workload.run(settings).await {
            Ok(rows) => report.rows.extend(rows),
            Err(error) => {
                eprintln!("{} failed: {error}", workload.name);
                code = ExitCode::FAILURE;
            }
        }
    }
    let json = serde_json::to_string_pretty(&report)?;
    match args.json {
        Some(path) if path.as_os_str() == "-" => print(&json),
        Some(path) => {
            std::fs::write(path, json + "\n")?;
            print(&report.table());
        }
        None => print(&report.table()),
    }
    Ok(code)
}

/// Returns once a signal asks the process to end.
async fn interrupted() {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let signals = kinds.into_iter().filter_map(|kind| signal(kind).ok());
    let waits = signals.map(|mut signal| Box::pin(async move { signal.recv().await }));
    futures_util::future::select_all(waits).await;
}

#[allow(clippy::print_stdout, reason = "the figures are what this command is for")]
fn print(text: &str) {
    println!("{}", text.trim_end());
}
