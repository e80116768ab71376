//! Logs: structured lines on standard error, one per failed request.

use std::io::IsTerminal as _;

use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Starts logging; `verbose` adds the requests that went well. Of the libraries beneath only what
/// goes wrong is of interest.
pub fn start(verbose: bool) {
    let ours = if verbose { LevelFilter::DEBUG } else { LevelFilter::INFO };
    let filter = Targets::new().with_default(LevelFilter::WARN).with_target("davkv", ours);
    let lines = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
}
