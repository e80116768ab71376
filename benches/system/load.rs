//! Load from outside: `davkv-thrasher`, and `wrk` where it is installed.

use std::path::Path;

use serde_json::Value;

use crate::process;
use crate::report::Sample;
use crate::settings::Result;

/// Runs the thrasher against a target, `--url …` or `--direct …`, with further flags. Any wrong answer is an
/// error.
pub(crate) async fn thrash(target: &str, flags: &str) -> Result<Sample> {
    let args = target.split_whitespace().chain(flags.split_whitespace()).chain(["--json"]);
    let ended = process::run(Path::new(env!("CARGO_BIN_EXE_davkv-thrasher")), args).await?;
    let json: Value = serde_json::from_str(&ended.output)?;
    let run = json.get("master").or(json.get("direct")).ok_or("the thrasher's JSON has no figures")?;
    let figure = |of: &Value, name: &str| {
        of.get(name).and_then(Value::as_f64).ok_or(format!("the thrasher's JSON has no {name}"))
    };
    Ok(Sample::new(figure(run, "per_second")?, figure(&json, "count")? * figure(&json, "repeat")?))
}

/// Runs wrk against one URL for two seconds. All answers must be redirects, or none of them.
pub(crate) async fn wrk(path: &Path, url: &str, connections: u32, redirects: bool) -> Result<Sample> {
    let flags = format!("--threads 1 --connections {connections} --duration 2s {url}");
    let output = process::run(path, flags.split_whitespace()).await?.output;
    let after = |label: &str| -> Option<f64> {
        let (_, rest) = output.split_once(label)?;
        rest.split_whitespace().next()?.parse().ok()
    };
    let operations = output.split_once(" requests in").and_then(|(before, _)| before.rsplit(' ').next());
    let operations: f64 = operations.and_then(|number| number.parse().ok()).ok_or("wrk prints no number")?;
    // wrk counts 4xx and 5xx here
    let refused = after("Non-2xx or 3xx responses:").unwrap_or(0.0);
    let expected = if redirects { 0.0 } else { operations };
    if output.contains("Socket errors") || (refused - expected).abs() > 0.5 {
        return Err(format!("wrk met errors:\n{output}").into());
    }
    Ok(Sample::new(after("Requests/sec:").ok_or("wrk prints no rate")?, operations))
}
