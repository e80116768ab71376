//! The body of an upload: takes the value out of its framing, and checks it against the headers.
//!
//! Nothing is buffered: bytes are passed on before the signature or checksum that covers them arrives. This is
//! safe because the last bytes of a value of known length are held back until everything was checked. A body
//! that doesn't match its headers ends in an error instead, which [`Outcome`] reports, too.

mod announced;
mod checks;
mod chunked;
mod error;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::checksum::Sum;
use super::signature::ChunkSigner;
use announced::Framing;
use checks::Checks;
use chunked::{Chunks, Piece, Trailer};

pub(super) use announced::Announced;
pub(super) use error::PayloadError;

/// The value in a request's body.
pub(super) struct Payload<B> {
    body: B,
    /// Of a body in chunks.
    chunked: Option<Chunked>,
    checks: Checks,
    outcome: Outcome,
}

/// A body in chunks.
struct Chunked {
    chunks: Chunks,
    /// Received bytes that were not parsed yet.
    received: Bytes,
    /// The value's last bytes, held back until the rest of the body was read.
    last: Bytes,
    signer: Option<ChunkSigner>,
    trailers: Vec<Trailer>,
}

/// The outcome of a [`Payload`].
#[derive(Clone, Default)]
pub(super) struct Outcome(Arc<OnceLock<Result<Vec<Sum>, PayloadError>>>);

impl Outcome {
    /// The announced and requested checksums of the complete value.
    ///
    /// # Errors
    ///
    /// The body doesn't match its headers; `Short` if it wasn't read to its end.
    pub(super) fn finish(&self) -> Result<Vec<Sum>, PayloadError> {
        self.0.get().cloned().unwrap_or(Err(PayloadError::Short))
    }
}

/// Why a [`Payload`] broke off.
#[derive(Debug)]
pub(super) enum ReadError<E> {
    /// The client's connection broke off.
    Body(E),
    Payload(PayloadError),
}

impl<E: std::fmt::Display> std::fmt::Display for ReadError<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Body(error) => error.fmt(f),
            Self::Payload(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for ReadError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Body(error) => Some(error),
            Self::Payload(error) => Some(error),
        }
    }
}

impl<B> Payload<B> {
    /// The value in the body. Without a `signer` the signatures of chunks are ignored.
    pub(super) fn new(body: B, announced: Announced, signer: Option<ChunkSigner>) -> (Self, Outcome) {
        let framing = announced.framing;
        let chunked = (framing != Framing::Plain).then(|| Chunked {
            chunks: Chunks::new(),
            received: Bytes::new(),
            last: Bytes::new(),
            signer: signer.filter(|_| framing == Framing::SignedChunks),
            trailers: Vec::new(),
        });
        let outcome = Outcome::default();
        (Self { body, chunked, checks: Checks::new(announced), outcome: outcome.clone() }, outcome)
    }

    /// Takes the value's bytes from the data.
    fn pass(&mut self, data: Bytes) -> Result<Option<Bytes>, PayloadError> {
        let Some(chunked) = &mut self.chunked else {
            self.checks.take(&data)?;
            if self.checks.left() == Some(0) {
                self.settle()?;
            }
            return Ok(Some(data));
        };
        chunked.received = data;
        self.decode()
    }

    /// Takes the value's bytes from the received chunks.
    fn decode(&mut self) -> Result<Option<Bytes>, PayloadError> {
        let Some(chunked) = &mut self.chunked else { return Ok(None) };
        loop {
            match chunked.chunks.take(&mut chunked.received)? {
                Piece::Data(data) => {
                    self.checks.take(&data)?;
                    if let Some(signer) = &mut chunked.signer {
                        signer.update(&data);
                    }
                    if self.checks.left() != Some(0) {
                        return Ok(Some(data));
                    }
                    chunked.last = data;
                }
                Piece::ChunkEnd(signature) => {
                    let Some(signer) = &mut chunked.signer else { continue };
                    if !signature.is_some_and(|signature| signer.is_chunk(&signature)) {
                        return Err(PayloadError::Signature);
                    }
                }
                Piece::Trailer(trailer) => chunked.trailers.push(trailer),
                Piece::Wanted => return Ok(None),
            }
        }
    }

    /// Called at the body's end: returns the bytes that were held back, if everything matches.
    fn end(&mut self) -> Result<Option<Bytes>, PayloadError> {
        if self.outcome.0.get().is_some() {
            return Ok(None);
        }
        let mut last = Bytes::new();
        if let Some(chunked) = &mut self.chunked {
            chunked.trailers.extend(chunked.chunks.end()?);
            last = std::mem::take(&mut chunked.last);
            let trailers = std::mem::take(&mut chunked.trailers);
            self.checks.take_trailers(trailers, chunked.signer.as_mut())?;
        }
        self.settle()?;
        Ok(Some(last).filter(|last| !last.is_empty()))
    }

    /// Called at the value's end: checks it against the headers.
    fn settle(&mut self) -> Result<(), PayloadError> {
        let sums = self.checks.settle()?;
        self.outcome.0.get_or_init(|| Ok(sums));
        Ok(())
    }
}

impl<B: Body<Data = Bytes> + Unpin> Payload<B> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ReadError<B::Error>>> {
        // chunks that came together
        let mut data = self.decode().map_err(ReadError::Payload)?;
        while data.is_none() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                None => return Poll::Ready(self.end().map_err(ReadError::Payload)),
                Some(frame) => frame.map_err(ReadError::Body)?,
            };
            // HTTP's own trailers are ignored
            let received = frame.into_data().unwrap_or_default();
            if !received.is_empty() {
                data = self.pass(received).map_err(ReadError::Payload)?;
            }
        }
        Poll::Ready(Ok(data))
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Payload<B> {
    type Data = Bytes;
    type Error = ReadError<B::Error>;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        match this.outcome.0.get() {
            Some(Err(wrong)) => return Poll::Ready(Some(Err(ReadError::Payload(wrong.clone())))),
            // the value was checked before its last bytes were passed on
            Some(Ok(_)) if this.chunked.is_some() => return Poll::Ready(None),
            _ => {}
        }
        let polled = ready!(this.poll(context));
        if let Err(broken) = &polled {
            let wrong =
                if let ReadError::Payload(wrong) = broken { wrong.clone() } else { PayloadError::Short };
            this.outcome.0.get_or_init(|| Err(wrong));
        }
        Poll::Ready(polled.transpose().map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        let held = self.chunked.as_ref().is_some_and(|chunked| !chunked.last.is_empty());
        matches!(self.outcome.0.get(), Some(Ok(_))) && !held
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.chunked.as_ref().map_or(0, |chunked| chunked.last.len() as u64);
        let left = self.checks.left().map(|left| SizeHint::with_exact(left.saturating_add(held)));
        left.unwrap_or_else(|| self.body.size_hint())
    }
}
