//! `aws-chunked`: a body in chunks, each with its size and perhaps its signature, and trailers.
//!
//! ```text
//! SIZE[;chunk-signature=SIGNATURE]CRLF DATA CRLF    any number of times, SIZE in hex
//! 0[;chunk-signature=SIGNATURE]CRLF
//! NAME:VALUE CRLF                                   trailers
//! CRLF
//! ```
//!
//! Clients disagree about line ends and empty lines after the last chunk, so everything up to the body's end is
//! trailers. HTTP's own chunks (`volume`) are another format: they mark their end, and their extensions and
//! trailers are ignored.

use bytes::{Buf as _, Bytes};

use super::error::PayloadError;
use crate::s3::signature::{Signature, unhex};

/// The longest line with a chunk's size, in bytes.
const LONGEST_SIZE: usize = 1024;
/// The longest trailers, in bytes.
const LONGEST_TRAILERS: usize = 16 * 1024;

/// The position in the chunks.
#[derive(Debug)]
pub(super) struct Chunks {
    state: State,
    /// The beginning of an incomplete line.
    line: Vec<u8>,
}

#[derive(Debug)]
enum State {
    Size,
    Data {
        left: u64,
        signature: Option<Signature>,
    },
    /// This number of bytes of the line end are missing.
    DataEnd(&'static [u8]),
    /// This number of bytes may still come.
    Trailers(usize),
}

/// A piece of the chunks.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// At least one byte.
    Data(Bytes),
    ChunkEnd(Option<Signature>),
    Trailer(Trailer),
    /// More must be received first.
    Wanted,
}

/// A trailer, its name in lower case.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Trailer {
    pub(super) name: String,
    pub(super) value: String,
}

impl Chunks {
    pub(super) fn new() -> Self {
        Self { state: State::Size, line: Vec::new() }
    }

    /// Takes the next piece from the received bytes.
    pub(super) fn take(&mut self, received: &mut Bytes) -> Result<Piece, PayloadError> {
        loop {
            if received.is_empty() && !matches!(self.state, State::Data { left: 0, .. }) {
                return Ok(Piece::Wanted);
            }
            match &mut self.state {
                State::Size => {
                    let Some(line) = self.take_line(received, LONGEST_SIZE)? else {
                        return Ok(Piece::Wanted);
                    };
                    let (size, signature) = size(&line)?;
                    if size == 0 {
                        self.state = State::Trailers(LONGEST_TRAILERS);
                        return Ok(Piece::ChunkEnd(signature));
                    }
                    self.state = State::Data { left: size, signature };
                }
                State::Data { left: 0, signature } => {
                    let signature = *signature;
                    self.state = State::DataEnd(b"\r\n");
                    return Ok(Piece::ChunkEnd(signature));
                }
                State::Data { left, .. } => {
                    let most = usize::try_from(*left).unwrap_or(usize::MAX);
                    let data = received.split_to(received.len().min(most));
                    *left -= data.len() as u64;
                    return Ok(Piece::Data(data));
                }
                State::DataEnd(end) => match end.split_first() {
                    None => self.state = State::Size,
                    Some((next, rest)) if received.first() == Some(next) => {
                        *end = rest;
                        received.advance(1);
                    }
                    Some(_) => {
                        return Err(PayloadError::Framing("a chunk of the body is longer than its size"));
                    }
                },
                State::Trailers(most) => {
                    let most = *most;
                    let Some(line) = self.take_line(received, most)? else { return Ok(Piece::Wanted) };
                    self.state = State::Trailers(most.saturating_sub(line.len()));
                    if let Some(trailer) = trailer(&line)? {
                        return Ok(Piece::Trailer(trailer));
                    }
                }
            }
        }
    }

    /// Called at the body's end: returns the last trailer, if it has no line end.
    pub(super) fn end(&mut self) -> Result<Option<Trailer>, PayloadError> {
        if !matches!(self.state, State::Trailers(_)) {
            return Err(PayloadError::Short);
        }
        trailer(&std::mem::take(&mut self.line))
    }

    /// Takes a complete line with its end. Only a line that comes in pieces is copied.
    fn take_line(&mut self, received: &mut Bytes, most: usize) -> Result<Option<Bytes>, PayloadError> {
        let room = most.saturating_sub(self.line.len());
        match received.iter().take(room).position(|byte| *byte == b'\n') {
            Some(end) => {
                let rest = received.split_to(end + 1);
                if self.line.is_empty() {
                    return Ok(Some(rest));
                }
                self.line.extend_from_slice(&rest);
                Ok(Some(std::mem::take(&mut self.line).into()))
            }
            None if received.len() >= room => Err(match self.state {
                State::Trailers(_) => PayloadError::Trailer("the trailers are too long"),
                _ => PayloadError::Framing("the line with the size of a chunk is too long"),
            }),
            None => {
                self.line.extend_from_slice(received);
                received.clear();
                Ok(None)
            }
        }
    }
}

/// Parses a chunk's size and signature.
fn size(line: &[u8]) -> Result<(u64, Option<Signature>), PayloadError> {
    let no_size = PayloadError::Framing("a chunk of the body has no valid size");
    let line = line.strip_suffix(b"\r\n").and_then(|line| std::str::from_utf8(line).ok());
    let mut parts = line.unwrap_or_default().split(';');
    let digits = parts.next().unwrap_or_default();
    if digits.len() > 16 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(no_size);
    }
    let size = u64::from_str_radix(digits, 16).map_err(|_error| no_size)?;
    let signature = parts.find_map(|part| part.strip_prefix("chunk-signature="));
    let signature = signature
        .map(|hex| {
            unhex(hex.as_bytes()).ok_or(PayloadError::Framing("the signature of a chunk isn't 64 hex digits"))
        })
        .transpose()?;
    Ok((size, signature))
}

/// The trailer in a line; an empty line has none.
fn trailer(line: &[u8]) -> Result<Option<Trailer>, PayloadError> {
    let text = std::str::from_utf8(line).map_err(|_error| PayloadError::Trailer("a trailer isn't text"))?;
    let line = text.trim_ascii();
    if line.is_empty() {
        return Ok(None);
    }
    let (name, value) = line.split_once(':').ok_or(PayloadError::Trailer("a trailer has no colon"))?;
    Ok(Some(Trailer { name: name.to_ascii_lowercase(), value: value.trim_ascii().to_owned() }))
}
