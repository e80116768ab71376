//! The report: text for people, which ends with minikeyvalue's two lines, or one JSON object.

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::load::{Load, Mode, Outcome};

/// The percentiles shown, by name; the maximum follows them.
const PERCENTILES: [(&str, f64); 4] = [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9)];
const MAXIMUM: &str = "max";

const NS_PER_US: f64 = 1e3;
const US_PER_MS: f64 = 1e3;
/// Values of at least this size take time by their bytes; then MiB per second are shown too.
const LARGE_BYTES: u64 = 64 << 10;
/// Bytes in a MiB.
const MIB: f64 = 1_048_576.0;

/// What will be done; printed at the start.
pub(crate) fn opening(load: &Load) -> String {
    let Load { mode, count, concurrency, size, seed, .. } = load;
    let times = if load.repeat > 1 { format!(" {} times", load.repeat) } else { String::new() };
    format!(
        "starting thrasher\n{}: {count} keys{times}, values of {size}, {concurrency} clients, seed {seed}",
        mode_name(*mode)
    )
}

/// The figures of one run, as text.
pub(crate) fn text(load: &Load, outcome: &Outcome) -> String {
    let mut lines = vec![row(&format!("{} ms", outcome.target), names())];
    for (operation, histogram) in &outcome.latencies {
        let cells = latencies(histogram).into_iter().map(|(_, us)| format!("{:.3}", us / US_PER_MS));
        lines.push(row(operation.name(), cells));
    }
    if load.mode.moves_values() && load.size.0 >= LARGE_BYTES {
        lines.push(format!("{:.2} MiB/s of values", mib_per_second(load, outcome)));
    }
    lines.push(format!("{} {} in {:?}", load.keys(), done(load.mode), outcome.elapsed));
    lines.push(format!("thats {:.2}/sec", per_second(load, outcome)));
    lines.join("\n")
}

/// The ratio as text.
pub(crate) fn ratio_text(ratio: f64) -> String {
    format!("master/direct {ratio:.3} (the ratio to aim for is 1)")
}

/// The master's rate divided by the direct one, if both were measured.
pub(crate) fn ratio(load: &Load, outcomes: &[Outcome]) -> Option<f64> {
    match outcomes {
        [direct, master] => Some(per_second(load, master) / per_second(load, direct)),
        _ => None,
    }
}

/// All figures as one JSON object.
pub(crate) fn json(load: &Load, outcomes: &[Outcome]) -> Value {
    let mut object = Map::new();
    object.insert("mode".to_owned(), json!(mode_name(load.mode)));
    object.insert("count".to_owned(), json!(load.count));
    object.insert("repeat".to_owned(), json!(load.repeat));
    object.insert("concurrency".to_owned(), json!(load.concurrency));
    object.insert("size".to_owned(), json!(load.size.0));
    object.insert("seed".to_owned(), json!(load.seed));
    for outcome in outcomes {
        object.insert(outcome.target.to_owned(), run_json(load, outcome));
    }
    if let Some(ratio) = ratio(load, outcomes) {
        object.insert("master/direct".to_owned(), json!(ratio));
    }
    object.into()
}

fn run_json(load: &Load, outcome: &Outcome) -> Value {
    let operations = outcome.latencies.iter().map(|(operation, histogram)| {
        let figures = latencies(histogram).into_iter().map(|(name, value)| (name.to_owned(), json!(value)));
        (operation.name().to_owned(), figures.collect::<Map<_, _>>().into())
    });
    json!({
        "seconds": outcome.elapsed.as_secs_f64(),
        "per_second": per_second(load, outcome),
        "mib_per_second": load.mode.moves_values().then(|| mib_per_second(load, outcome)),
        "latencies_us": operations.collect::<Map<_, _>>(),
    })
}

/// The percentiles of one operation, in microseconds.
fn latencies(histogram: &Histogram<u64>) -> Vec<(&'static str, f64)> {
    let values = PERCENTILES.map(|(name, percentile)| (name, histogram.value_at_percentile(percentile)));
    let values = values.into_iter().chain([(MAXIMUM, histogram.max())]);
    values.map(|(name, nanoseconds)| (name, as_float(nanoseconds) / NS_PER_US)).collect()
}

fn names() -> impl Iterator<Item = String> {
    PERCENTILES.into_iter().map(|(name, _)| name).chain([MAXIMUM]).map(str::to_owned)
}

fn row(title: &str, cells: impl Iterator<Item = String>) -> String {
    cells.fold(format!("{title:<10}"), |line, cell| format!("{line} {cell:>11}"))
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Thrash => "thrash",
        Mode::Put => "put",
        Mode::Delete => "delete",
        Mode::Get => "get",
        Mode::Missing => "missing",
        Mode::Redirect => "redirect",
        Mode::List => "list",
    }
}

/// What was done with each key: in minikeyvalue's words, if it has any.
fn done(mode: Mode) -> &'static str {
    match mode {
        Mode::Thrash => "write/read/delete",
        Mode::Put => "write",
        Mode::Delete => "delete",
        Mode::Get => "read",
        Mode::Missing => "missing",
        Mode::Redirect => "redirect",
        Mode::List => "listed",
    }
}

/// Keys per second.
fn per_second(load: &Load, outcome: &Outcome) -> f64 {
    as_float(load.keys()) / outcome.elapsed.as_secs_f64()
}

fn mib_per_second(load: &Load, outcome: &Outcome) -> f64 {
    as_float(load.size.0) / MIB * per_second(load, outcome)
}

#[allow(clippy::cast_precision_loss, reason = "figures for people: 53 bits are plenty")]
fn as_float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "a test that fails may panic")]

    use std::time::Duration;

    use super::*;
    use crate::load::histogram;
    use crate::request::Operation;
    use crate::value::Size;

    const LOAD: Load = Load {
        mode: Mode::Thrash,
        count: 10_000,
        repeat: 1,
        existing: false,
        concurrency: 16,
        size: Size(16),
        seed: 7,
    };

    fn outcome(target: &'static str, millis: u64) -> Outcome {
        let mut latencies = histogram();
        (1..=10_000).for_each(|n| latencies.saturating_record(n * 1000));
        let latencies = [(Operation::Put, latencies)].into();
        Outcome { target, elapsed: Duration::from_millis(millis), latencies }
    }

    #[test]
    fn each_percentile_has_its_name() {
        let outcome = outcome("direct", 2500);
        let figures = outcome.latencies.values().flat_map(latencies);
        let figures: Vec<_> = figures.map(|(name, value)| (name, value.round())).collect();
        let expected =
            [("p50", 5000.0), ("p90", 9000.0), ("p99", 9900.0), ("p99.9", 9990.0), ("max", 10_000.0)];
        for ((name, value), (expected_name, expected)) in figures.iter().zip(expected) {
            assert_eq!(*name, expected_name);
            assert!((value - expected).abs() / expected < 0.002, "{name} {value}");
        }
        assert_eq!(figures.len(), expected.len());
    }

    #[test]
    fn the_closing_lines_are_minikeyvalues() {
        let text = text(&LOAD, &outcome("master", 2500));
        assert!(text.ends_with("\n10000 write/read/delete in 2.5s\nthats 4000.00/sec"), "{text}");
    }

    #[test]
    fn repetitions_are_counted() {
        let load = Load { mode: Mode::Missing, repeat: 3, ..LOAD };
        let text = text(&load, &outcome("master", 2000));
        assert!(text.ends_with("\n30000 missing in 2s\nthats 15000.00/sec"), "{text}");
    }

    #[test]
    fn json_has_both_runs_and_their_ratio() {
        let json = json(&LOAD, &[outcome("direct", 1000), outcome("master", 4000)]);
        assert_eq!(json["master/direct"], 0.25);
        assert_eq!(json["direct"]["per_second"], 10_000.0);
        assert_eq!(json["seed"], 7);
        assert!(json["master"]["latencies_us"]["PUT"]["p99.9"].is_number(), "{json}");
        assert!(super::json(&LOAD, &[outcome("direct", 1000)]).get("master/direct").is_none());
    }
}
