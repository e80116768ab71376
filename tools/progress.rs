//! Shows the progress of a run: a bar on a terminal, a line every ten seconds elsewhere.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use davkv::progress::{Progress, Snapshot};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use tokio::time::{MissedTickBehavior, interval};

/// How often the bar moves.
const TICK: Duration = Duration::from_millis(200);

/// How often a line is printed where there is no terminal.
const LINE: Duration = Duration::from_secs(10);

const STYLE: &str = "{msg} {wide_bar} {pos}/{len} {per_sec}, {eta} left";

/// Runs the work and shows its progress.
pub(crate) async fn shown<T>(progress: &Progress, work: impl Future<Output = T>) -> T {
    let display: &mut dyn FnMut(Snapshot) = if std::io::stderr().is_terminal() {
        let bar = ProgressBar::no_length();
        bar.set_style(ProgressStyle::with_template(STYLE).unwrap_or_else(|_| ProgressStyle::default_bar()));
        &mut bar_display(bar)
    } else {
        &mut line_display()
    };
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(work);
    loop {
        tokio::select! {
            result = &mut work => return result,
            _ = ticks.tick() => display(progress.now()),
        }
    }
}

fn bar_display(bar: ProgressBar) -> impl FnMut(Snapshot) {
    let mut stage = "";
    let clear = ClearOnDrop(bar);
    move |now| {
        let bar = &clear.0;
        if now.stage != stage {
            stage = now.stage;
            bar.reset();
            bar.set_message(stage);
        }
        bar.set_length(now.total.max(now.done));
        bar.set_position(now.done);
    }
}

/// Clears the bar when dropped, so that it doesn't mix with later output.
struct ClearOnDrop(ProgressBar);

impl Drop for ClearOnDrop {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn line_display() -> impl FnMut(Snapshot) {
    let mut stage = "";
    let mut begun = Instant::now();
    let mut next = begun + LINE;
    move |now| {
        if now.stage != stage {
            stage = now.stage;
            begun = Instant::now();
            next = begun + LINE;
        }
        if Instant::now() < next {
            return;
        }
        next += LINE;
        let seconds = begun.elapsed().as_secs().max(1);
        let rate = now.done / seconds;
        let left = now.total.saturating_sub(now.done).checked_div(rate).filter(|_| now.total > 0);
        let left = left.map_or_else(String::new, |left| {
            format!(", {} left", humantime::format_duration(Duration::from_secs(left)))
        });
        eprintln!("{stage}: {} of {}, {rate}/s{left}", now.done, now.total);
    }
}

/// A number of bytes, with a unit and exactly: `1.00 KiB (1024 bytes)`.
pub(crate) fn bytes(bytes: u64) -> String {
    format!("{} ({bytes} bytes)", HumanBytes(bytes))
}

/// A progress shared by the work and the display.
pub(crate) fn new() -> Arc<Progress> {
    Arc::default()
}
