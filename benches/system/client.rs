//! Requests that the thrasher can't make: with the credentials of S3's clients (AWS Signature Version 4), of
//! the native API's, or of nobody.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::Utc;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use sha2::{Digest as _, Sha256};

use crate::report::Work;
use crate::settings::Result;

/// Stands for the SHA-256 of a body that isn't signed.
pub(crate) const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

const ACCESS: &str = "BENCH";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const SIGNED: &str = "host;x-amz-content-sha256;x-amz-date";

/// The file of credentials that the master gets, for `--credentials`.
pub(crate) fn credentials() -> String {
    format!("[[key]]\naccess = {ACCESS:?}\nsecret = {SECRET:?}\nbuckets = [\"*\"]\nallow = [\"admin\"]\n")
}

/// How a request says whose it is.
#[derive(Clone, Copy)]
pub(crate) enum Signer<'s> {
    /// It doesn't.
    Anonymous,
    /// By a name and a password, as the native API has it.
    Native,
    /// By a signature, as the S3 API has it, which covers this SHA-256 of the body (or [`UNSIGNED`]).
    S3(&'s str),
}

/// A request, and the answer that it must get.
#[derive(Clone)]
pub(crate) struct Exchange<'s> {
    pub(crate) signer: Signer<'s>,
    pub(crate) method: &'s str,
    /// Path and query as signatures need them: encoded, and the query sorted by name.
    pub(crate) target: String,
    pub(crate) body: Bytes,
    pub(crate) status: u16,
    /// The least length of the answer's body.
    pub(crate) least: usize,
}

/// Makes `count` requests to `HOST:PORT`, so many at a time. A wrong answer is an error.
pub(crate) async fn load<'s>(
    host: &str,
    connections: usize,
    count: u32,
    exchange: impl Fn(u32) -> Exchange<'s>,
) -> Result<Work> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let begun = Instant::now();
    let exchanges = stream::iter(0..count).map(|n| Ok(exchange(n)));
    exchanges.try_for_each_concurrent(connections, |exchange| exchange.make(&client, host)).await?;
    let operations = f64::from(count);
    Ok(Work { rate: operations / begun.elapsed().as_secs_f64(), operations })
}

type HttpClient = Client<hyper_util::client::legacy::connect::HttpConnector, Full<Bytes>>;

impl Exchange<'_> {
    async fn make(self, client: &HttpClient, host: &str) -> Result<()> {
        let mut answer = client.request(self.request(host)?).await?;
        let (mut start, mut length) = (Bytes::new(), 0);
        while let Some(frame) = answer.frame().await {
            let bytes = frame?.into_data().unwrap_or_default();
            length += bytes.len();
            if start.is_empty() {
                start = bytes;
            }
        }
        if answer.status() != self.status || length < self.least {
            let start = String::from_utf8_lossy(start.get(..200).unwrap_or(&start)).into_owned();
            return Err(format!("{} with {length} bytes: {start}", answer.status()).into());
        }
        Ok(())
    }

    fn request(&self, host: &str) -> Result<Request<Full<Bytes>>> {
        let Self { method, target, .. } = self;
        let mut request = Request::builder().method(*method).uri(format!("http://{host}{target}"));
        match self.signer {
            Signer::Anonymous => {}
            Signer::Native => {
                let credentials = STANDARD.encode(format!("{ACCESS}:{SECRET}"));
                request = request.header("authorization", format!("Basic {credentials}"));
            }
            Signer::S3(sha256) => {
                let date = Utc::now().format("%Y%m%dT%H%M%SZ").to_string();
                let authorization = sign(&date, method, host, target, sha256)?;
                request = request.header("x-amz-date", date).header("x-amz-content-sha256", sha256);
                request = request.header("authorization", authorization);
            }
        }
        Ok(request.body(Full::new(self.body.clone()))?)
    }
}

/// The header `Authorization` of a request with the headers [`SIGNED`].
fn sign(date: &str, method: &str, host: &str, target: &str, sha256: &str) -> Result<String> {
    let (day, _) = date.split_once('T').unwrap_or_default();
    let scope = format!("{day}/us-east-1/s3/aws4_request");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers = format!("host:{host}\nx-amz-content-sha256:{sha256}\nx-amz-date:{date}\n");
    let canonical = hash(format!("{method}\n{path}\n{query}\n{headers}\n{SIGNED}\n{sha256}").as_bytes());
    let mut mac = Hmac::<Sha256>::new_from_slice(format!("AWS4{SECRET}").as_bytes())?;
    for part in scope.split('/') {
        mac.update(part.as_bytes());
        mac = Hmac::new_from_slice(&mac.finalize().into_bytes())?;
    }
    mac.update(format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{canonical}").as_bytes());
    let signature = hex(&mac.finalize().into_bytes());
    let credential = format!("{ACCESS}/{scope}");
    Ok(format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={SIGNED}, Signature={signature}"))
}

/// The SHA-256 of a body, in hex.
pub(crate) fn hash(body: &[u8]) -> String {
    hex(&Sha256::digest(body))
}

fn hex(bytes: &[u8]) -> String {
    format!("{:x}", Bytes::copy_from_slice(bytes))
}
