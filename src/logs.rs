//! Logs: structured lines on standard error, one per failed request.

use std::io::IsTerminal as _;

use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Starts logging; `verbose` adds the requests that went well. Of the libraries beneath only what
/// goes wrong is of interest.
pub fn start(verbose: bool) {
    start_at(if verbose { LevelFilter::DEBUG } else { LevelFilter::INFO });
}

/// Starts logging for a program whose summary tells what it met and mended: only errors, unless
/// `verbose`.
pub fn start_for_a_tool(verbose: bool) {
    start_at(if verbose { LevelFilter::DEBUG } else { LevelFilter::ERROR });
}

fn start_at(ours: LevelFilter) {
    let filter = Targets::new().with_default(LevelFilter::WARN.min(ours)).with_target("davkv", ours);
    let lines = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
}
