//! Logging: structured lines on standard error, one per failed request.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{IsTerminal as _, Write as _};
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The number of panics in this process.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// Starts logging; `verbose` adds successful requests. Libraries log warnings and errors only.
pub fn start(verbose: bool) {
    start_at(if verbose { LevelFilter::DEBUG } else { LevelFilter::INFO });
}

/// Starts logging for a program that prints a summary: only errors, unless `verbose`.
pub fn start_for_a_tool(verbose: bool) {
    start_at(if verbose { LevelFilter::DEBUG } else { LevelFilter::ERROR });
}

fn start_at(ours: LevelFilter) {
    let filter = Targets::new()
        .with_default(LevelFilter::WARN.min(ours))
        .with_target("davkv", ours)
        // s3s logs each refusal as an error; the S3 API logs them itself
        .with_target("s3s", LevelFilter::OFF);
    let lines = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        // standard error may be closed, and reporting that would panic
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
    std::panic::set_hook(Box::new(log_panic));
}

/// Logs a panic with its place and the number of panics so far. A panic is a bug, but ends only its task.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let panics = PANICS.fetch_add(1, Ordering::Relaxed) + 1;
    let at = panic.location().map(ToString::to_string);
    // quoted, because the message may contain bytes that a client sent
    tracing::error!(at, why = ?panic.payload_as_str().unwrap_or_default(), panics, "panicked");
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        drop(writeln!(std::io::stderr(), "{trace}"));
    }
}

/// How often a line of one cause is logged at most.
const SELDOM: Duration = Duration::from_mins(1);

/// Lets a line through that would be logged again and again: once a minute at most.
pub(crate) struct Seldom(Mutex<Line>);

struct Line {
    last: Option<Instant>,
    /// How often it was to be logged since.
    times: u64,
}

impl Seldom {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Line { last: None, times: 0 }))
    }

    /// Whether the line is to be logged now: how often it was to be logged since it last was, this time included.
    pub(crate) fn due(&self) -> Option<u64> {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        line.times += 1;
        if line.last.is_some_and(|last| last.elapsed() < SELDOM) {
            return None;
        }
        line.last = Some(Instant::now());
        Some(std::mem::take(&mut line.times))
    }
}

/// What is logged while a test listens.
#[cfg(test)]
#[derive(Clone, Default)]
pub(crate) struct Lines(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

#[cfg(test)]
impl Lines {
    pub(crate) fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "the test panics on purpose")]

    use super::*;
    use std::panic::{catch_unwind, set_hook, take_hook};

    #[tokio::test(start_paused = true)]
    async fn a_line_that_would_come_again_and_again_comes_once_a_minute_with_its_number() {
        let line = Seldom::new();
        assert_eq!(line.due(), Some(1));
        assert_eq!((line.due(), line.due()), (None, None));
        tokio::time::advance(SELDOM).await;
        assert_eq!((line.due(), line.due()), (Some(3), None));
    }

    #[test]
    fn a_panic_is_logged_in_one_line_with_its_place_and_the_number_of_panics() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let before = take_hook();
        set_hook(Box::new(log_panic));
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..2 {
                catch_unwind(|| panic!("bad\r\nbytes")).unwrap_err();
            }
        });
        set_hook(before);
        let log = lines.text();
        let mut counts = Vec::new();
        for line in log.lines() {
            assert!(line.contains("panicked at=\"src/logs.rs:"), "{log}");
            let (_, count) = line.split_once("why=\"bad\\r\\nbytes\" panics=").unwrap();
            counts.push(count.parse::<u64>().unwrap());
        }
        // other tests may panic in between
        assert!(matches!(counts[..], [first, second] if first < second), "{log}");
    }
}
