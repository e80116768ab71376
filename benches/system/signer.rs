//! Heads of requests, signed as S3's clients sign them (AWS Signature Version 4).

use std::fmt::Write as _;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::Failure;

/// What stands for the SHA-256 of a body that isn't signed.
pub(crate) const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

const ACCESS: &str = "BENCH";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const SIGNED: &str = "host;x-amz-content-sha256;x-amz-date";
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The file of keys that holds ours, for `--credentials`.
pub(crate) fn keys() -> String {
    format!("[[key]]\naccess = {ACCESS:?}\nsecret = {SECRET:?}\nbuckets = [\"*\"]\nallow = [\"admin\"]\n")
}

/// A head without credentials, up to its empty line.
pub(crate) fn open_head(method: &str, host: &str, target: &str, length: usize) -> String {
    format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n")
}

/// A head of the native API, with the credentials that it knows.
pub(crate) fn native_head(method: &str, host: &str, target: &str, length: usize) -> String {
    let credentials = STANDARD.encode(format!("{ACCESS}:{SECRET}"));
    open_head(method, host, target, length) + &format!("authorization: Basic {credentials}\r\n")
}

/// Signs requests of the next quarter of an hour.
pub(crate) struct Signer {
    key: Hmac<Sha256>,
    /// As 20130524T000000Z.
    date: String,
    scope: String,
}

impl Signer {
    pub(crate) fn new() -> Result<Self, Failure> {
        let date = now()?;
        let day = date.get(..8).unwrap_or_default();
        let mut key = Hmac::new_from_slice(format!("AWS4{SECRET}").as_bytes())?;
        for part in [day, "us-east-1", "s3", "aws4_request"] {
            key.update(part.as_bytes());
            key = Hmac::new_from_slice(&key.finalize().into_bytes())?;
        }
        let scope = format!("{day}/us-east-1/s3/aws4_request");
        Ok(Self { key, date, scope })
    }

    /// A signed head, up to its empty line. Path and query are as the signature has them: encoded, and the
    /// query by name.
    pub(crate) fn head(&self, method: &str, host: &str, target: &str, length: usize, sha256: &str) -> String {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let Self { date, scope, .. } = self;
        let canonical = format!(
            "{method}\n{path}\n{query}\nhost:{host}\nx-amz-content-sha256:{sha256}\nx-amz-date:{date}\n\n{SIGNED}\n{sha256}"
        );
        let mut signature = self.key.clone();
        let canonical = hex(&Sha256::digest(canonical));
        signature.update(format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{canonical}").as_bytes());
        let signature = hex(&signature.finalize().into_bytes());
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={ACCESS}/{scope}, SignedHeaders={SIGNED}, Signature={signature}"
        );
        open_head(method, host, target, length)
            + &format!(
                "x-amz-content-sha256: {sha256}\r\nx-amz-date: {date}\r\nauthorization: {authorization}\r\n"
            )
    }
}

/// The SHA-256 of a body, as its request names it.
pub(crate) fn sha256(body: &[u8]) -> String {
    hex(&Sha256::digest(body))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// The time, as 20130524T000000Z.
fn now() -> Result<String, Failure> {
    // Fri, 24 May 2013 00:00:00 GMT
    let date = httpdate::fmt_http_date(SystemTime::now());
    let mut fields = date.split([' ', ':']).skip(1);
    let mut next = || fields.next().ok_or("a date has fewer fields");
    let (day, name, year, hour, minute, second) = (next()?, next()?, next()?, next()?, next()?, next()?);
    let month = MONTHS.iter().position(|month| *month == name).ok_or("a month has another name")? + 1;
    Ok(format!("{year}{month:02}{day}T{hour}{minute}{second}Z"))
}
