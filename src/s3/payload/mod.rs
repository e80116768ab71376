//! The body of an upload: what the headers say of it, and the value taken out of its framing, slice by
//! slice as it comes, and compared with what was said.
//!
//! Nothing is gathered: bytes go on before the signature or checksum that covers them was seen. What makes
//! that safe is the end. The last bytes of a value of known length are held back until all is compared;
//! a body that isn't what was announced ends in an error instead, and [`Outcome`] tells it, too.

mod announced;
mod chunked;
#[cfg(test)]
mod tests;
mod wrong;

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::checksum::{Algorithm, Checksums, Sum};
use super::signature::{ChunkSigner, unhex};
use announced::Framing;
use chunked::{Chunks, Piece, Trailer};

pub(super) use announced::Announced;
pub(super) use wrong::Wrong;

/// A value, as it comes out of a request's body.
pub(super) struct Payload<B> {
    body: B,
    /// Of a body in chunks.
    chunked: Option<Chunked>,
    /// Bytes of the value that are still to come, if that is known.
    left: Option<u64>,
    checks: Checks,
    outcome: Outcome,
}

/// A body in chunks.
struct Chunked {
    chunks: Chunks,
    /// What wasn't looked at yet.
    received: Bytes,
    /// The value's last bytes, until the rest of the body was seen.
    last: Bytes,
    signer: Option<ChunkSigner>,
    trailers: Vec<Trailer>,
}

/// What is computed, and what it must be.
struct Checks {
    checksums: Checksums,
    /// Those that were asked for; the payload's SHA-256 may be one more.
    algorithms: Vec<Algorithm>,
    sums: Vec<Sum>,
    promised: Vec<Algorithm>,
    sha256: Option<Vec<u8>>,
}

/// Tells what became of a [`Payload`].
#[derive(Clone, Default)]
pub(super) struct Outcome(Arc<OnceLock<Result<Vec<Sum>, Wrong>>>);

impl Outcome {
    /// The checksums that were announced or asked for, once the value is whole and has all of them.
    ///
    /// # Errors
    ///
    /// Why it hasn't; `Short` for one that wasn't read to its end.
    pub(super) fn finish(&self) -> Result<Vec<Sum>, Wrong> {
        self.0.get().cloned().unwrap_or(Err(Wrong::Short))
    }
}

/// Why a [`Payload`] broke off.
#[derive(Debug)]
pub(super) enum Broken<E> {
    /// The client's connection did.
    Body(E),
    Wrong(Wrong),
}

impl<E: std::fmt::Display> std::fmt::Display for Broken<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Body(error) => error.fmt(f),
            Self::Wrong(wrong) => wrong.fmt(f),
        }
    }
}

impl<E: std::fmt::Debug + std::fmt::Display> std::error::Error for Broken<E> {}

impl<B> Payload<B> {
    /// The value in the body. Without a `signer` nothing is made of the signatures of chunks.
    pub(super) fn new(body: B, announced: Announced, signer: Option<ChunkSigner>) -> (Self, Outcome) {
        let Announced { length, md5: _, framing, sha256, algorithms, sums, promised } = announced;
        let chunked = (framing != Framing::Plain).then(|| Chunked {
            chunks: Chunks::new(),
            received: Bytes::new(),
            last: Bytes::new(),
            signer: signer.filter(|_| framing == Framing::SignedChunks),
            trailers: Vec::new(),
        });
        let payload = sha256.is_some().then_some(Algorithm::Sha256);
        let checksums = Checksums::new(algorithms.iter().copied().chain(payload));
        let checks = Checks { checksums, algorithms, sums, promised, sha256 };
        let outcome = Outcome::default();
        (Self { body, chunked, left: length, checks, outcome: outcome.clone() }, outcome)
    }

    /// Takes what of the value is in the data.
    fn pass(&mut self, data: Bytes) -> Result<Option<Bytes>, Wrong> {
        let Some(chunked) = &mut self.chunked else {
            self.checks.take(&mut self.left, &data)?;
            if self.left == Some(0) {
                self.settle()?;
            }
            return Ok(Some(data));
        };
        chunked.received = data;
        self.decode()
    }

    /// Takes what of the value is in the chunks that were received.
    fn decode(&mut self) -> Result<Option<Bytes>, Wrong> {
        let Some(chunked) = &mut self.chunked else { return Ok(None) };
        loop {
            match chunked.chunks.take(&mut chunked.received)? {
                Piece::Data(data) => {
                    self.checks.take(&mut self.left, &data)?;
                    if let Some(signer) = &mut chunked.signer {
                        signer.update(&data);
                    }
                    if self.left != Some(0) {
                        return Ok(Some(data));
                    }
                    chunked.last = data;
                }
                Piece::ChunkEnd(signature) => {
                    let Some(signer) = &mut chunked.signer else { continue };
                    if !signature.is_some_and(|signature| signer.is_chunk(&signature)) {
                        return Err(Wrong::Signature);
                    }
                }
                Piece::Trailer(trailer) => chunked.trailers.push(trailer),
                Piece::Wanted => return Ok(None),
            }
        }
    }

    /// The body is over: gives what was held back of the value, if all is well.
    fn end(&mut self) -> Result<Option<Bytes>, Wrong> {
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

    /// Compares all that can be compared.
    fn settle(&mut self) -> Result<(), Wrong> {
        if self.left.is_some_and(|left| left > 0) {
            return Err(Wrong::Short);
        }
        let sums = self.checks.settle()?;
        self.outcome.0.get_or_init(|| Ok(sums));
        Ok(())
    }
}

impl Checks {
    /// Takes the value's next bytes.
    fn take(&mut self, left: &mut Option<u64>, data: &Bytes) -> Result<(), Wrong> {
        if let Some(left) = left {
            *left = left.checked_sub(data.len() as u64).ok_or(Wrong::Long)?;
        }
        self.checksums.update(data);
        Ok(())
    }

    fn take_trailers(
        &mut self,
        mut trailers: Vec<Trailer>,
        signer: Option<&mut ChunkSigner>,
    ) -> Result<(), Wrong> {
        let signature = trailers.iter().position(|trailer| trailer.name == "x-amz-trailer-signature");
        let signature = signature.map(|at| trailers.swap_remove(at).value);
        trailers.sort();
        if let Some(signer) = signer.filter(|_| signature.is_some() || !trailers.is_empty()) {
            let lines = trailers.iter().flat_map(|trailer| [&trailer.name, ":", &trailer.value, "\n"]);
            let lines: String = lines.collect();
            let signature = signature.and_then(|hex| unhex(hex.as_bytes()));
            if !signature.is_some_and(|signature| signer.is_trailers(&signature, &lines)) {
                return Err(Wrong::Signature);
            }
        }
        for Trailer { name, value } in trailers {
            let promised = Algorithm::of_header(&name)
                .and_then(|algorithm| self.promised.iter().position(|promised| *promised == algorithm));
            let promised = promised.ok_or(Wrong::Trailer("a trailer wasn't announced, or comes twice"))?;
            let algorithm = self.promised.swap_remove(promised);
            let sum = Sum::parse(algorithm, &value);
            self.sums.push(sum.ok_or(Wrong::Trailer("a checksum isn't base64 of its length"))?);
        }
        if !self.promised.is_empty() {
            return Err(Wrong::Trailer("an announced trailer is missing"));
        }
        Ok(())
    }

    /// The checksums that were asked for, if all are what they must be.
    fn settle(&mut self) -> Result<Vec<Sum>, Wrong> {
        let mut computed = std::mem::take(&mut self.checksums).finish();
        if let Some(value) = self.sha256.take() {
            let sum = Sum { algorithm: Algorithm::Sha256, value };
            if !computed.contains(&sum) {
                return Err(Wrong::Sha256);
            }
        }
        if let Some(other) = self.sums.iter().find(|sum| !computed.contains(sum)) {
            return Err(Wrong::Digest(other.algorithm));
        }
        computed.retain(|sum| self.algorithms.contains(&sum.algorithm));
        Ok(computed)
    }
}

impl<B: Body<Data = Bytes> + Unpin> Payload<B> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Broken<B::Error>>> {
        // chunks that came together
        let mut data = self.decode().map_err(Broken::Wrong)?;
        while data.is_none() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                None => return Poll::Ready(self.end().map_err(Broken::Wrong)),
                Some(frame) => frame.map_err(Broken::Body)?,
            };
            // HTTP's own trailers say nothing of the value
            let Ok(received) = frame.into_data() else { continue };
            data = self.pass(received).map_err(Broken::Wrong)?;
        }
        Poll::Ready(Ok(data))
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Payload<B> {
    type Data = Bytes;
    type Error = Broken<B::Error>;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        match this.outcome.0.get() {
            Some(Err(wrong)) => return Poll::Ready(Some(Err(Broken::Wrong(wrong.clone())))),
            // its end was seen before its last bytes went on
            Some(Ok(_)) if this.chunked.is_some() => return Poll::Ready(None),
            _ => {}
        }
        let polled = ready!(this.poll(context));
        if let Err(broken) = &polled {
            let wrong = if let Broken::Wrong(wrong) = broken { wrong.clone() } else { Wrong::Short };
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
        self.left
            .map_or_else(|| self.body.size_hint(), |left| SizeHint::with_exact(left.saturating_add(held)))
    }
}
