//! Operations and their requests. Each answer is checked to its last byte.

use std::fmt;

use davkv::key::Key;
use hyper::body::Incoming;
use hyper::{Method, Response, StatusCode, Uri, header};

use crate::client::{Client, describe, finish, next_bytes, printable};
use crate::listing::Listing;
use crate::value::Value;

/// How much of a wrong value is shown.
const SHOWN_BYTES: usize = 16;

/// One thing to do with a key, and what its latency covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    /// Upload the value: until the 201 has arrived.
    Put,
    /// Download the value: asking the master, following its redirect, and the whole body, compared.
    Get,
    /// Delete the value: until the 204.
    Delete,
    /// Ask where the value is: until the 302, which isn't followed.
    Redirect,
    /// Ask for a key that isn't there: until the 404.
    Missing,
    /// List all the keys: until the last byte of the list.
    List,
}

impl Operation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Put => "PUT",
            Self::Get => "GET",
            Self::Delete => "DELETE",
            Self::Redirect => "REDIRECT",
            Self::Missing => "MISSING",
            Self::List => "LIST",
        }
    }
}

/// The requests of one operation on one key.
pub(crate) struct Request<'a> {
    pub(crate) client: &'a Client,
    pub(crate) operation: Operation,
    pub(crate) key: &'a Key,
}

/// An operation got a wrong answer, or none. Its `Display` is one line.
#[derive(Debug)]
pub(crate) struct OperationError {
    operation: &'static str,
    key: String,
    url: String,
    expected: String,
    got: String,
}

impl Request<'_> {
    /// Uploads the value. Only 201 is right: the key is new.
    pub(crate) async fn put(&self, url: &str, value: Value) -> Result<(), OperationError> {
        let answer = self.client.put(url, value).await.map_err(|got| self.error(url, "201", got))?;
        self.finish(url, StatusCode::CREATED, answer).await
    }

    /// Sends a request without a body, and expects this status.
    pub(crate) async fn expect(
        &self,
        method: Method,
        url: &str,
        status: StatusCode,
    ) -> Result<(), OperationError> {
        let answer = self.send(method, url, status.as_str()).await?;
        self.finish(url, status, answer).await
    }

    /// Checks by HEAD that a volume has the value, as a master does before it redirects.
    pub(crate) async fn head(&self, url: &str, value: Value) -> Result<(), OperationError> {
        let expected = format!("200 with Content-Length {}", value.size);
        let answer = self.send(Method::HEAD, url, &expected).await?;
        let length = answer.headers().get(header::CONTENT_LENGTH).map(header::HeaderValue::as_bytes);
        if answer.status() == StatusCode::OK && length == Some(value.size.to_string().as_bytes()) {
            return Ok(());
        }
        let length = length.map_or_else(|| "none".to_owned(), printable);
        Err(self.error(url, expected, format!("{} with Content-Length {length}", answer.status())))
    }

    /// Downloads the value, comparing it while it arrives.
    pub(crate) async fn get(&self, url: &str, value: Value) -> Result<(), OperationError> {
        let expected = format!("200 and the value of {} bytes", value.size);
        let mut answer = self.send(Method::GET, url, &expected).await?;
        if answer.status() != StatusCode::OK {
            return Err(self.error(url, expected, describe(answer).await));
        }
        let mut offset = 0;
        loop {
            let bytes = match next_bytes(&mut answer).await {
                Ok(Some(bytes)) => bytes,
                Ok(None) if offset == value.size => return Ok(()),
                Ok(None) => return Err(self.error(url, expected, format!("200 and {offset} bytes"))),
                Err(error) => {
                    return Err(self.error(url, expected, format!("200, {offset} bytes, then {error}")));
                }
            };
            if let Some(at) = value.first_difference(offset, &bytes) {
                let wrong = usize::try_from(at - offset).ok().and_then(|from| bytes.get(from..));
                let wrong = wrong.unwrap_or_default();
                let shown = wrong.get(..SHOWN_BYTES).unwrap_or(wrong).escape_ascii();
                return Err(self.error(url, expected, format!("200 and, from byte {at} on, \"{shown}\"")));
            }
            offset += bytes.len() as u64;
        }
    }

    /// Where the master redirects to.
    pub(crate) async fn location(&self, url: &str) -> Result<String, OperationError> {
        let expected = "302 with an http:// URL as its Location";
        let answer = self.send(Method::GET, url, expected).await?;
        let location = answer.headers().get(header::LOCATION).cloned();
        if answer.status() != StatusCode::FOUND {
            return Err(self.error(url, expected, describe(answer).await));
        }
        finish(answer).await.map_err(|got| self.error(url, expected, got))?;
        let Some(location) = location else {
            return Err(self.error(url, expected, "302 without a Location"));
        };
        match Uri::try_from(location.as_bytes()) {
            Ok(uri) if uri.scheme_str() == Some("http") => Ok(uri.to_string()),
            _ => Err(self.error(url, expected, format!("302 to {}", printable(location.as_bytes())))),
        }
    }

    /// Lists keys and counts them while they arrive.
    pub(crate) async fn list(&self, url: &str, count: u64) -> Result<(), OperationError> {
        let expected = format!("200 and a list of {count} keys");
        let mut answer = self.send(Method::GET, url, &expected).await?;
        if answer.status() != StatusCode::OK {
            return Err(self.error(url, expected, describe(answer).await));
        }
        let mut listing = Listing::default();
        loop {
            match next_bytes(&mut answer).await {
                Ok(Some(bytes)) => listing.read(&bytes),
                Ok(None) if listing.whole() == Some(count) => return Ok(()),
                Ok(None) => return Err(self.error(url, expected, format!("200 and {listing}"))),
                Err(error) => {
                    return Err(self.error(url, expected, format!("200 and {listing}, then {error}")));
                }
            }
        }
    }

    /// The error of an operation that the target doesn't have. Flags that ask for one are refused earlier.
    pub(crate) fn unsupported(&self) -> OperationError {
        self.error("nowhere", "a target that can do this", "one that can't")
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        expected: &str,
    ) -> Result<Response<Incoming>, OperationError> {
        self.client.send(method, url).await.map_err(|got| self.error(url, expected, got))
    }

    /// Checks the status of an answer and reads it to its end.
    async fn finish(
        &self,
        url: &str,
        status: StatusCode,
        answer: Response<Incoming>,
    ) -> Result<(), OperationError> {
        let expected = status.as_str();
        if answer.status() != status {
            return Err(self.error(url, expected, describe(answer).await));
        }
        finish(answer).await.map_err(|got| self.error(url, expected, got))
    }

    fn error(&self, url: &str, expected: impl Into<String>, got: impl Into<String>) -> OperationError {
        OperationError {
            operation: self.operation.name(),
            key: self.key.to_string(),
            url: url.to_owned(),
            expected: expected.into(),
            got: got.into(),
        }
    }
}

impl fmt::Display for OperationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, key, url, expected, got } = self;
        write!(f, "{operation} {key} at {url}: expected {expected}, got {got}")
    }
}
