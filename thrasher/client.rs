//! The thrasher's HTTP client: connections are kept and pooled per host, values are streamed both ways, and
//! every wait has a time limit.

use std::convert::Infallible;
use std::error::Error;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::{Method, Request, Response};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;

use crate::value::Value;

/// How long a server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an exchange may stand still: no byte of the request leaves, and none of the answer comes.
const IDLE: Duration = Duration::from_mins(1);
/// How long an idle connection may be used again: less than any server keeps it (nginx: 75 s).
const KEPT: Duration = Duration::from_secs(30);
/// How much of an unexpected answer is shown.
const SHOWN_BYTES: usize = 120;

/// A pool of connections. Its errors are one line saying what came instead of an answer.
pub(crate) struct Client(legacy::Client<HttpConnector, Upload>);

impl Client {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        Self(builder.pool_timer(TokioTimer::new()).pool_idle_timeout(KEPT).build(connector))
    }

    /// Sends a request without a body, and awaits the head of the answer.
    pub(crate) async fn send(&self, method: Method, url: &str) -> Result<Response<Incoming>, String> {
        self.exchange(method, url, Upload::default()).await
    }

    /// Uploads a value, and awaits the head of the answer.
    pub(crate) async fn put(&self, url: &str, value: Value) -> Result<Response<Incoming>, String> {
        self.exchange(Method::PUT, url, Upload { value: Some(value), ..Upload::default() }).await
    }

    /// Gives up after a minute in which nothing was sent and no answer came.
    async fn exchange(&self, method: Method, url: &str, body: Upload) -> Result<Response<Incoming>, String> {
        let sent = Arc::clone(&body.sent);
        let request = Request::builder().method(method).uri(url).body(body).map_err(|e| e.to_string())?;
        let mut answer = pin!(self.0.request(request));
        let mut seen = 0;
        loop {
            match timeout(IDLE, &mut answer).await {
                Ok(answer) => return answer.map_err(|error| with_causes(&error)),
                Err(_) if sent.load(Ordering::Relaxed) > seen => seen = sent.load(Ordering::Relaxed),
                Err(_) => return Err(format!("no answer in {} s", IDLE.as_secs())),
            }
        }
    }
}

/// The next bytes of an answer's body; `None` at its end.
pub(crate) async fn next_bytes(answer: &mut Response<Incoming>) -> Result<Option<Bytes>, String> {
    loop {
        let Ok(frame) = timeout(IDLE, answer.body_mut().frame()).await else {
            return Err(format!("no more bytes in {} s", IDLE.as_secs()));
        };
        match frame {
            None => return Ok(None),
            // a frame without data has trailers, which don't matter here
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
            Some(Err(error)) => return Err(with_causes(&error)),
        }
    }
}

/// Reads an answer to its end, so that its connection can be used again.
pub(crate) async fn finish(mut answer: Response<Incoming>) -> Result<(), String> {
    while next_bytes(&mut answer).await?.is_some() {}
    Ok(())
}

/// Describes an unexpected answer by its status and its first bytes.
pub(crate) async fn describe(mut answer: Response<Incoming>) -> String {
    let mut text = answer.status().to_string();
    let mut body = Vec::new();
    while body.len() < SHOWN_BYTES {
        match next_bytes(&mut answer).await {
            Ok(Some(bytes)) => body.extend_from_slice(bytes.get(..SHOWN_BYTES).unwrap_or(&bytes)),
            Ok(None) => break,
            Err(error) => {
                text = format!("{text} ({error})");
                break;
            }
        }
    }
    body.truncate(SHOWN_BYTES);
    if body.is_empty() { text } else { format!("{text}: {}", printable(&body)) }
}

/// Any bytes, made fit for a line of text.
pub(crate) fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().escape_debug().to_string()
}

/// An error and its causes: hyper's last cause says most.
fn with_causes(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", with_causes(cause)),
        None => error.to_string(),
    }
}

/// The body of a request: a value that is generated while it is sent, or nothing.
#[derive(Default)]
struct Upload {
    value: Option<Value>,
    /// Bytes handed to the connection so far. They show the sender that the request makes progress.
    sent: Arc<AtomicU64>,
}

impl Upload {
    fn remaining(&self) -> u64 {
        self.value.map_or(0, |value| value.size.saturating_sub(self.sent.load(Ordering::Relaxed)))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk =
            self.value.map_or_else(Bytes::new, |value| value.chunk(self.sent.load(Ordering::Relaxed)));
        if chunk.is_empty() {
            return Poll::Ready(None);
        }
        self.sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_fit_on_a_line() {
        assert_eq!(printable(b"no such key\n"), "no such key");
        assert_eq!(printable(b"a\r\nb\x1b[0m\xff"), "a\\r\\nb\\u{1b}[0m\u{fffd}");
    }

    #[test]
    fn an_error_names_its_causes() {
        let cause = std::io::Error::other("refused");
        assert_eq!(with_causes(&std::io::Error::other(cause)), "refused");
    }
}
