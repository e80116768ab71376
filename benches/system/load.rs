//! Load from outside: by `davkv-thrasher`, by `wrk` where it is installed, and by requests that neither can
//! make, with the credentials of S3's clients (AWS Signature Version 4) or of the native API's.

use std::path::Path;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::Value;

use crate::process;
use crate::report::Sample;
use crate::settings::Result;

// the tests' own
#[path = "../../tests/s3/signer.rs"]
#[allow(
    dead_code,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "written for tests, which panic, and use more of it"
)]
mod signer;

const ACCESS: &str = "BENCH";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// Runs the thrasher against a target, `--url …` or `--direct …`, with further flags. A wrong answer is an
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

/// The file of credentials that the master gets, for `--credentials`.
pub(crate) fn credentials() -> String {
    format!("[[key]]\naccess = {ACCESS:?}\nsecret = {SECRET:?}\nbuckets = [\"*\"]\nallow = [\"admin\"]\n")
}

/// How a request says whose it is.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Caller {
    /// It doesn't.
    Anonymous,
    /// By a name and a password, as the native API has it.
    Native,
    /// By a signature, as the S3 API has it, which leaves out the body.
    S3,
    /// By a signature that covers the SHA-256 of the body.
    S3Sha256,
}

/// A request, which must succeed.
#[derive(Clone)]
pub(crate) struct Exchange {
    pub(crate) caller: Caller,
    pub(crate) method: &'static str,
    /// Path and query, percent-encoded as signatures need them.
    pub(crate) target: String,
    pub(crate) body: Bytes,
    /// The minimum length of the answer's body.
    pub(crate) least: usize,
}

/// Makes `count` requests to `HOST:PORT`, so many at a time. A wrong answer is an error.
pub(crate) async fn exchanges(
    host: &str,
    connections: usize,
    count: u32,
    exchange: impl Fn(u32) -> Exchange,
) -> Result<Sample> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let begun = Instant::now();
    let exchanges = stream::iter(0..count).map(|n| Ok(exchange(n)));
    exchanges.try_for_each_concurrent(connections, |exchange| exchange.make(&client, host)).await?;
    let operations = f64::from(count);
    Ok(Sample::new(operations / begun.elapsed().as_secs_f64(), operations))
}

impl Exchange {
    /// Without a body, and with any answer.
    pub(crate) fn new(caller: Caller, method: &'static str, target: String) -> Self {
        Self { caller, method, target, body: Bytes::new(), least: 0 }
    }

    async fn make(self, client: &Client<HttpConnector, Full<Bytes>>, host: &str) -> Result<()> {
        let mut answer = client.request(self.request(host)?).await?;
        let status = answer.status();
        if !status.is_success() {
            let text = answer.collect().await?.to_bytes();
            return Err(format!("{status}: {}", String::from_utf8_lossy(&text)).into());
        }
        let mut length = 0;
        while let Some(frame) = answer.frame().await {
            length += frame?.data_ref().map_or(0, Bytes::len);
        }
        if length < self.least {
            return Err(format!("an answer of {length} bytes, where {} are due", self.least).into());
        }
        Ok(())
    }

    fn request(&self, host: &str) -> Result<Request<Full<Bytes>>> {
        let Self { method, target, .. } = self;
        let mut headers = signer::Headers::new();
        match self.caller {
            Caller::Anonymous => {}
            Caller::Native => {
                let credentials = STANDARD.encode(format!("{ACCESS}:{SECRET}"));
                headers.push(("authorization".to_owned(), format!("Basic {credentials}")));
            }
            Caller::S3 | Caller::S3Sha256 => {
                let hash = (self.caller == Caller::S3Sha256).then(|| signer::sha256(&self.body));
                let payload = hash.as_deref().unwrap_or(signer::UNSIGNED);
                signer::Signer::new(ACCESS, SECRET).sign(method, host, target, &mut headers, payload);
            }
        }
        let mut request = Request::builder().method(*method).uri(format!("http://{host}{target}"));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        Ok(request.body(Full::new(self.body.clone()))?)
    }
}
