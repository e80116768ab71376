//! Parses volumes' answers: HTTP/1.1 (RFC 9112), strictly, because any server may be at a volume's address.

use std::time::SystemTime;

use bytes::{Buf as _, Bytes, BytesMut};
use hyper::StatusCode;

/// The longest head that is accepted, in bytes.
pub(super) const LONGEST_HEAD: usize = 64 * 1024;

/// Upper bound on headers, and on trailers.
const HEADERS: usize = 64;

/// The head of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    /// `Content-Length` in bytes, also in the answer to a HEAD.
    pub(super) length: Option<u64>,
    /// `Content-Range`: the part's first byte, and the file's length.
    pub(super) part: Option<(u64, u64)>,
    /// `Last-Modified`, in seconds since 1970.
    pub(super) modified: Option<u64>,
    /// Whether the connection can be used for another request.
    pub(super) keep: bool,
    pub(super) body: Body,
}

/// What is still to come of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// This number of bytes.
    Left(u64),
    /// This number of bytes of a chunk, and further chunks.
    Chunk(u64),
    /// The line end of a chunk, and further chunks.
    ChunkEnd,
    /// Trailers, if any.
    Trailers,
    /// All bytes until the connection is closed.
    UntilClose,
}

/// A piece of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Data(Bytes),
    End,
    /// More bytes must be received first.
    Wanted,
}

/// Why received bytes are not a valid answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AnswerError(pub(super) &'static str);

impl Head {
    /// Takes the head from the received bytes; `None` if it is incomplete. `bodiless`: the answer to a HEAD.
    pub(super) fn take(received: &mut BytesMut, bodiless: bool) -> Result<Option<Self>, AnswerError> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; HEADERS];
            let mut answer = httparse::Response::new(&mut headers);
            let parsed = answer.parse(received).map_err(|_error| AnswerError("not HTTP"))?;
            let httparse::Status::Complete(bytes) = parsed else {
                let too_long = received.len() >= LONGEST_HEAD;
                return if too_long { Err(AnswerError("head too long")) } else { Ok(None) };
            };
            let head = Self::read(&answer, bodiless)?;
            received.advance(bytes);
            match head.status {
                StatusCode::SWITCHING_PROTOCOLS => return Err(AnswerError("switch to another protocol")),
                // the final answer follows (RFC 9110 section 15.2)
                status if status.is_informational() => {}
                _ => return Ok(Some(head)),
            }
        }
    }

    fn read(answer: &httparse::Response<'_, '_>, bodiless: bool) -> Result<Self, AnswerError> {
        let code = answer.code.and_then(|code| StatusCode::from_u16(code).ok());
        let status = code.ok_or(AnswerError("invalid status"))?;
        let (mut length, mut part, mut modified, mut chunked) = (None, None, None, false);
        // connections of HTTP/1.0 are not reused, even if the server offers to keep them
        let mut keep = answer.version == Some(1);
        for header in answer.headers.iter() {
            let name = header.name;
            if name.eq_ignore_ascii_case("content-length") {
                let number = decimal(header.value).ok_or(AnswerError("invalid Content-Length"))?;
                if length.replace(number).is_some_and(|other| other != number) {
                    return Err(AnswerError("two different Content-Lengths"));
                }
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                if chunked || !header.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(AnswerError("unknown Transfer-Encoding"));
                }
                chunked = true;
            } else if name.eq_ignore_ascii_case("connection") {
                let mut options = header.value.split(|byte| *byte == b',');
                keep &= !options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
            } else if name.eq_ignore_ascii_case("content-range") {
                part = range(header.value);
            } else if name.eq_ignore_ascii_case("last-modified") {
                modified = seconds(header.value);
            }
        }
        let body = match (chunked, length) {
            (true, Some(_)) => return Err(AnswerError("both Content-Length and chunks")),
            _ if bodiless || matches!(status.as_u16(), 100..=199 | 204 | 304) => Body::Left(0),
            (true, None) => Body::Chunk(0),
            (false, Some(length)) => Body::Left(length),
            (false, None) => Body::UntilClose,
        };
        Ok(Self { status, length, part, modified, keep, body })
    }
}

impl Body {
    /// Takes the next piece of the body from the received bytes.
    pub(super) fn take(&mut self, received: &mut BytesMut) -> Result<Piece, AnswerError> {
        loop {
            match self {
                Self::Left(0) => return Ok(Piece::End),
                Self::UntilClose if received.is_empty() => return Ok(Piece::Wanted),
                Self::UntilClose => return Ok(Piece::Data(received.split().freeze())),
                Self::Chunk(0) => match httparse::parse_chunk_size(received) {
                    Ok(httparse::Status::Complete((line, size))) => {
                        received.advance(line);
                        *self = if size == 0 { Self::Trailers } else { Self::Chunk(size) };
                    }
                    Ok(httparse::Status::Partial) if received.len() < LONGEST_HEAD => {
                        return Ok(Piece::Wanted);
                    }
                    _ => return Err(AnswerError("invalid size of a chunk")),
                },
                Self::Left(left) | Self::Chunk(left) => {
                    if received.is_empty() {
                        return Ok(Piece::Wanted);
                    }
                    let most = usize::try_from(*left).unwrap_or(usize::MAX);
                    let data = received.split_to(received.len().min(most)).freeze();
                    *left -= data.len() as u64;
                    if matches!(self, Self::Chunk(0)) {
                        *self = Self::ChunkEnd;
                    }
                    return Ok(Piece::Data(data));
                }
                Self::ChunkEnd => match received.get(..2) {
                    None => return Ok(Piece::Wanted),
                    Some(b"\r\n") => {
                        received.advance(2);
                        *self = Self::Chunk(0);
                    }
                    Some(_) => return Err(AnswerError("a chunk longer than its size")),
                },
                Self::Trailers => {
                    let mut trailers = [httparse::EMPTY_HEADER; HEADERS];
                    match httparse::parse_headers(received, &mut trailers) {
                        Ok(httparse::Status::Complete((bytes, _))) => {
                            received.advance(bytes);
                            *self = Self::Left(0);
                        }
                        Ok(httparse::Status::Partial) if received.len() < LONGEST_HEAD => {
                            return Ok(Piece::Wanted);
                        }
                        _ => return Err(AnswerError("invalid trailers")),
                    }
                }
            }
        }
    }

    /// Whether the body may end by the connection being closed.
    pub(super) fn may_close(&self) -> bool {
        *self == Self::UntilClose
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    // `parse` accepts a sign
    let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
    digits.parse().ok()
}

/// Parses `bytes FIRST-LAST/LENGTH` (RFC 9110 section 14.4) to `FIRST` and `LENGTH`.
fn range(value: &[u8]) -> Option<(u64, u64)> {
    let value = value.strip_prefix(b"bytes ")?;
    let mut numbers = value.splitn(3, |byte| matches!(byte, b'-' | b'/')).map(decimal);
    let (first, _last, length) = (numbers.next()??, numbers.next()??, numbers.next()??);
    Some((first, length))
}

fn seconds(date: &[u8]) -> Option<u64> {
    let date = httpdate::parse_http_date(std::str::from_utf8(date).ok()?).ok()?;
    Some(date.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

    use super::*;
    use proptest::prelude::*;

    /// A head, the body, and the bytes after it.
    type Whole = (Head, Vec<u8>, Vec<u8>);

    fn head(text: &str) -> Result<Option<Head>, AnswerError> {
        Head::take(&mut BytesMut::from(text), false)
    }

    /// Reads an answer that comes in pieces of `step` bytes; `None` if it is incomplete.
    fn read(text: &[u8], step: usize, bodiless: bool) -> Result<Option<Whole>, AnswerError> {
        let (mut received, mut coming) = (BytesMut::new(), text.chunks(step));
        let mut head = loop {
            match Head::take(&mut received, bodiless)? {
                Some(head) => break head,
                None => match coming.next() {
                    Some(bytes) => received.extend_from_slice(bytes),
                    None => return Ok(None),
                },
            }
        };
        let mut body = Vec::new();
        loop {
            match head.body.take(&mut received)? {
                Piece::Data(data) => body.extend_from_slice(&data),
                Piece::End => break,
                Piece::Wanted => match coming.next() {
                    Some(bytes) => received.extend_from_slice(bytes),
                    None => return Ok(None),
                },
            }
        }
        received.extend(coming.flatten());
        Ok(Some((head, body, received.to_vec())))
    }

    #[test]
    fn an_answer_is_read_the_same_in_pieces_of_any_size() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n1\r\n!\r\n0\r\na: b\r\n\r\n";
        let sized = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: keep-alive\r\n\r\nhello!";
        for text in [chunked, sized] {
            let text = format!("HTTP/1.1 100 Continue\r\n\r\n{text}next");
            for step in 1..text.len() {
                let (head, body, rest) = read(text.as_bytes(), step, false).unwrap().unwrap();
                assert_eq!((head.status, head.keep), (StatusCode::OK, true));
                assert_eq!((body.as_slice(), rest.as_slice()), (b"hello!".as_slice(), b"next".as_slice()));
            }
            for end in 0..text.len() - "next".len() {
                assert_eq!(read(&text.as_bytes()[..end], 3, false), Ok(None), "cut at {end}");
            }
        }
    }

    #[test]
    fn the_answer_to_a_head_has_a_length_and_no_body() {
        let text =
            b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nLast-Modified: Thu, 01 Jan 1970 00:01:00 GMT\r\n\r\n";
        let (head, body, rest) = read(text, 7, true).unwrap().unwrap();
        assert_eq!((head.length, head.modified), (Some(6), Some(60)));
        assert!(body.is_empty() && rest.is_empty());
    }

    #[test]
    fn a_content_range_gives_the_first_byte_and_the_length_of_the_file() {
        let part = |range: &str| {
            head(&format!("HTTP/1.1 206 Partial Content\r\nContent-Range: {range}\r\n\r\n"))
                .unwrap()
                .unwrap()
                .part
        };
        assert_eq!(part("bytes 5-9/20"), Some((5, 20)));
        for other in ["bytes */20", "bytes 5-9/*", "bytes 5-9", "lines 5-9/20", "bytes +5-9/20", ""] {
            assert_eq!(part(other), None, "{other}");
        }
    }

    #[test]
    fn some_answers_end_with_the_connection() {
        let close = |text| head(text).unwrap().unwrap();
        assert!(!close("HTTP/1.1 200 OK\r\nConnection: a, Close\r\nContent-Length: 0\r\n\r\n").keep);
        assert!(!close("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n").keep);
        assert!(close("HTTP/1.1 200 OK\r\n\r\n").body.may_close());
        assert_eq!(close("HTTP/1.1 204 No Content\r\n\r\n").body, Body::Left(0));
    }

    #[test]
    fn invalid_answers_are_refused() {
        for text in [
            "garbage\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert!(head(text).is_err(), "{text}");
        }
        for chunks in ["x\r\n", "5\r\nhelloxx", "ffffffffffffffff0\r\n"] {
            let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
            assert!(read(text.as_bytes(), 4, false).is_err(), "{chunks}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\na: {}", "b".repeat(LONGEST_HEAD));
        assert_eq!(head(&endless), Err(AnswerError("head too long")));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(start in 0..4_usize, rest: Vec<u8>, step in 1..9_usize, bodiless: bool) {
            let starts = ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"];
            let text = [starts[start].as_bytes(), &rest].concat();
            drop(read(&text, step, bodiless));
        }
    }
}
