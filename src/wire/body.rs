//! The bodies of requests and answers.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::mpsc;

/// The longest body that is stored, in bytes: no file is longer.
pub(crate) const LONGEST_VALUE: u64 = i64::MAX.cast_unsigned();

/// A refused body is read away up to this many bytes, …
const DRAIN_BYTES: u64 = 16 * 1024 * 1024;
/// … and this long, so that a client that is still sending reads the refusal instead of a reset.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// The body of a request. When it is dropped before its end, the rest is read away in the background, within
/// bounds: the refusal goes out at once, and reaches even a client that sends first and reads later.
pub(crate) struct ClientBody {
    body: Option<Incoming>,
    /// The client waits for a 100 before it sends.
    asks_first: bool,
    read: bool,
}

impl ClientBody {
    pub(crate) fn new(body: Incoming, asks_first: bool) -> Self {
        Self { body: Some(body), asks_first, read: false }
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.read = true;
        match &mut self.body {
            Some(body) => {
                let frame = Pin::new(body).poll_frame(context);
                if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
                    self.body = None;
                }
                frame
            }
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        let Some(mut body) = self.body.take_if(|body| !body.is_end_stream()) else { return };
        if self.asks_first && !self.read {
            // it was told the answer instead of a 100, and sends nothing
            return;
        }
        tokio::spawn(tokio::time::timeout(DRAIN_TIME, async move {
            let mut left = DRAIN_BYTES;
            while let Some(Ok(frame)) = body.frame().await {
                left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.len() as u64));
                if left == 0 {
                    break;
                }
            }
        }));
    }
}

/// The body of an answer.
#[derive(Debug)]
pub enum Outgoing {
    /// Short text, or nothing.
    Text(Option<Bytes>),
    /// Pages of a listing, or of a dump.
    Pages(mpsc::Receiver<Result<Bytes, BodyError>>),
}

/// An answer that couldn't be finished: the connection is cut, so that it doesn't look whole. Why is in the
/// log.
#[derive(Debug)]
pub struct BodyError;

impl std::fmt::Display for BodyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the answer broke off")
    }
}

impl std::error::Error for BodyError {}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Pages(pages) => pages.poll_recv(context).map(|page| Some(page?.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Text(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Self::Pages(_) => SizeHint::default(),
        }
    }
}
