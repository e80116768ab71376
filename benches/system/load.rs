//! Load from outside: `davkv-thrasher`, and `wrk` where it is installed.

use std::path::Path;

use serde_json::Value;

use crate::stage::Layout;
use crate::{Failure, process};

/// What a client has done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    /// Operations per second.
    pub(crate) rate: f64,
    pub(crate) operations: f64,
}

/// Whom the thrasher loads.
#[derive(Clone, Copy)]
pub(crate) enum Target<'a> {
    /// A master, or what answers like one.
    Url(&'a str),
    /// The volumes, a perfect master's work done by the client.
    Direct(&'a Layout),
}

/// Runs the thrasher with these flags, which are separated by spaces. Any wrong answer is an error.
pub(crate) async fn thrash(target: Target<'_>, flags: &str) -> Result<Work, Failure> {
    let mut args: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
    args.push("--json".to_owned());
    let name = match target {
        Target::Url(url) => {
            args.extend(["--url".to_owned(), url.to_owned()]);
            "master"
        }
        Target::Direct(Layout { volumes, replicas, subvolumes }) => {
            args.extend(["--direct".to_owned(), volumes.join(","), "--direct-head".to_owned()]);
            args.extend(["--replicas".to_owned(), replicas.to_string()]);
            args.extend(["--subvolumes".to_owned(), subvolumes.to_string()]);
            "direct"
        }
    };
    let ended = process::run(Path::new(env!("CARGO_BIN_EXE_davkv-thrasher")), &args).await?;
    let json: Value = serde_json::from_str(&ended.output)?;
    let run = json.get(name).ok_or("the thrasher's JSON is another")?;
    let figure = |of: &Value, name| of.get(name).and_then(Value::as_f64).ok_or("a figure is missing");
    Ok(Work {
        rate: figure(run, "per_second")?,
        operations: figure(&json, "count")? * figure(&json, "repeat")?,
    })
}

/// Runs wrk against one URL for some seconds. All answers must be redirects, or none.
pub(crate) async fn wrk(path: &Path, url: &str, connections: u32, redirects: bool) -> Result<Work, Failure> {
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
    let due = if redirects { 0.0 } else { operations };
    if output.contains("Socket errors") || (refused - due).abs() > 0.5 {
        return Err(format!("wrk met errors:\n{output}").into());
    }
    Ok(Work { rate: after("Requests/sec:").ok_or("wrk prints no rate")?, operations })
}
