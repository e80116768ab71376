//! `davkv-thrasher`: puts load on a store from outside, checks the answers, and measures.
//!
//! Everything goes over HTTP as any client's would. Each latency is that of one operation as its
//! client sees it (see [`request::Operation`]); the rate is keys over the time from the first request
//! of the timed part to its last answer. Clients send their next request when the last is answered
//! (a closed loop): latencies are those at full load, and a slower server gets fewer requests.

mod args;
mod client;
mod direct;
mod listing;
mod load;
mod report;
mod request;
mod target;
mod value;

use std::process::ExitCode;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::runtime::Runtime;

use crate::args::Args;
use crate::load::Load;
use crate::target::Target;

const FAILED: u8 = 1;
const WRONG_FLAGS: u8 = 2;
/// As a shell reports a process that ended by SIGINT.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let args = match Args::read(std::env::args_os()) {
        Ok(args) => args,
        Err((help, true)) => {
            print(&help);
            return ExitCode::SUCCESS;
        }
        Err((message, false)) => return complain(&message, WRONG_FLAGS),
    };
    let targets = match args.targets() {
        Ok(targets) => targets,
        Err(message) => return complain(&message, WRONG_FLAGS),
    };
    raise_descriptor_limit();
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error.to_string(), FAILED),
    };
    let ended = runtime.block_on(async {
        tokio::select! {
            result = run(args.load(), targets, args.json) => Some(result),
            _ = tokio::signal::ctrl_c() => None,
        }
    });
    // requests in flight, and names being resolved, aren't waited for
    runtime.shutdown_background();
    match ended {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(message)) => complain(&message, FAILED),
        None => ExitCode::from(INTERRUPTED),
    }
}

/// Each client may hold a connection to every volume, which soon exceeds the usual limit of 1,024. If the
/// limit can't be raised, a connection fails with an error that says so.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _refusal: rustix::io::Result<()> = setrlimit(Resource::Nofile, limit);
}

/// Runs the load against each target in turn, and prints the figures.
async fn run(load: Load, targets: Vec<Target>, json: bool) -> Result<(), String> {
    if !json {
        print(&report::opening(&load));
    }
    let mut outcomes = Vec::new();
    for target in targets {
        let outcome = load::run(load, target).await.map_err(|error| error.to_string())?;
        if !json {
            print(&report::text(&load, &outcome));
        }
        outcomes.push(outcome);
    }
    if json {
        print(&report::json(&load, &outcomes).to_string());
    } else if let Some(ratio) = report::ratio(&load, &outcomes) {
        print(&report::ratio_text(ratio));
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the figures are what this command is for")]
fn print(text: &str) {
    println!("{}", text.trim_end());
}

fn complain(message: &str, code: u8) -> ExitCode {
    eprintln!("davkv-thrasher: {message}");
    ExitCode::from(code)
}
