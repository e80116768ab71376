//! One connection to a volume: requests out, answers in, one after the other.
//!
//! HTTP/1.1 by hand, as the master's work is little else: no task stands behind a connection, whoever waits
//! for an answer reads it, and a small request leaves in one system call and comes back in one. (With
//! hyper's client the master took a sixth more CPU for small values.)

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;

use bytes::{Buf as _, Bytes, BytesMut};
use hyper::Method;
use tokio::io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _};

use super::answer::{AnswerError, Body, Head, Piece};
use super::feed::Feed;
use super::network::Stream;

/// At most so many bytes of a value are read at a time.
const READ: usize = 64 * 1024;

/// Heads of answers are mostly shorter.
const READ_HEAD: usize = 4 * 1024;

/// A value up to this size, in bytes, is copied behind its head.
const SMALL: usize = 16 * 1024;

const CLOSED: &str = "it closed the connection";

/// What a volume is asked.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) host: &'a str,
    /// ASCII that needs no escaping.
    pub(super) path: &'a str,
    /// A header besides those that every request has.
    pub(super) header: Option<(&'static str, &'a str)>,
    pub(super) body: Feed,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum RequestError {
    /// The connection had been closed before the first byte of the request: it may be sent on another one.
    Unsent,
    /// Says why.
    Broken(String),
}

/// A connection between two requests, or in the middle of one.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    received: BytesMut,
}

/// What happens first while a piece is being sent.
enum First {
    /// So many bytes of it went out.
    Sent(usize),
    /// The volume has said something, or has closed its side.
    Heard,
    /// Nothing more can be sent.
    Closed,
}

impl Connection {
    pub(super) fn new(stream: Box<dyn Stream>) -> Self {
        Self { stream, received: BytesMut::new() }
    }

    /// Whether the volume still holds its side, and said nothing that it wasn't asked. (What it says after this
    /// look and before the next request is taken for the answer: nothing in HTTP/1.1 tells the two apart.)
    pub(super) fn is_quiet(&mut self) -> bool {
        let read = self.stream.try_read(&mut [0]);
        self.received.is_empty() && read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends a request, and waits for the head of its answer.
    pub(super) async fn ask(&mut self, request: &mut Request<'_>) -> Result<Head, RequestError> {
        let mut head = head(request);
        let small = request.body.small(SMALL);
        head.extend_from_slice(small.as_deref().unwrap_or_default());
        let mut sent = 0;
        while sent < head.len() {
            match self.stream.write(head.get(sent..).unwrap_or_default()).await {
                Ok(bytes) if bytes > 0 => sent += bytes,
                _ if sent == 0 => return Err(RequestError::Unsent),
                _ => return in_spite(self.answer(&request.method).await?),
            }
        }
        if small.is_none()
            && let Some(early) = self.send_body(&mut request.body).await?
        {
            return in_spite(early);
        }
        self.answer(&request.method).await
    }

    /// Sends the body. Stops where the volume answers first, and returns that answer.
    async fn send_body(&mut self, body: &mut Feed) -> Result<Option<Head>, RequestError> {
        let chunked = body.length().is_none();
        loop {
            if body.length() == Some(0) {
                // what comes from here on is the answer
                return Ok(None);
            }
            let piece = tokio::select! {
                biased;
                _readable = poll_fn(|context| self.stream.poll_read_ready(context)) => {
                    match self.early_answer()? {
                        Some(early) => return Ok(Some(early)),
                        None => continue,
                    }
                }
                piece = body.next() => piece.map_err(|aborted| RequestError::Broken(aborted.to_string()))?,
            };
            if piece.as_ref().is_some_and(Bytes::is_empty) {
                // as a chunk it would be the last
                continue;
            }
            let ended = piece.is_none();
            let pieces = match (piece, chunked) {
                (None, false) => return Ok(None),
                (Some(piece), false) => [Bytes::new(), piece, Bytes::new()],
                (None, true) => [Bytes::new(), Bytes::from_static(b"0\r\n\r\n"), Bytes::new()],
                (Some(piece), true) => {
                    [format!("{:x}\r\n", piece.len()).into(), piece, Bytes::from_static(b"\r\n")]
                }
            };
            for piece in pieces {
                if let Some(early) = self.send(piece).await? {
                    return Ok(Some(early));
                }
            }
            if ended {
                return Ok(None);
            }
        }
    }

    /// Sends a piece of the body. Stops where the volume answers first, and returns that answer.
    async fn send(&mut self, mut piece: Bytes) -> Result<Option<Head>, RequestError> {
        while !piece.is_empty() {
            let stream = &mut self.stream;
            let first = poll_fn(|context| match Pin::new(&mut *stream).poll_write(context, &piece) {
                Poll::Ready(Ok(bytes)) if bytes > 0 => Poll::Ready(First::Sent(bytes)),
                Poll::Ready(_) => Poll::Ready(First::Closed),
                Poll::Pending => stream.poll_read_ready(context).map(|_readable| First::Heard),
            });
            match first.await {
                First::Sent(bytes) => piece.advance(bytes),
                First::Heard => {
                    if let Some(early) = self.early_answer()? {
                        return Ok(Some(early));
                    }
                }
                // it may have said why
                First::Closed => return self.answer(&Method::PUT).await.map(Some),
            }
        }
        Ok(None)
    }

    /// The answer, if it is there before the body was sent. A `100 Continue` that nobody asked for is passed
    /// over: who stopped sending at that would wait for ever.
    fn early_answer(&mut self) -> Result<Option<Head>, RequestError> {
        let mut bytes = [0; READ_HEAD];
        match self.stream.try_read(&mut bytes) {
            Ok(0) => Err(RequestError::Broken(CLOSED.to_owned())),
            Ok(read) => {
                self.received.extend_from_slice(bytes.get(..read).unwrap_or_default());
                Ok(Head::take(&mut self.received, false)?)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(RequestError::Broken(error.to_string())),
        }
    }

    async fn answer(&mut self, method: &Method) -> Result<Head, RequestError> {
        loop {
            match Head::take(&mut self.received, *method == Method::HEAD) {
                Ok(Some(head)) => return Ok(head),
                Ok(None) => self.receive(READ_HEAD).await.map_err(RequestError::Broken)?,
                Err(garbled) => return Err(garbled.into()),
            }
        }
    }

    /// The next piece of the answer's body; `None` after the last.
    pub(super) async fn next(&mut self, body: &mut Body) -> Result<Option<Bytes>, String> {
        loop {
            match body.take(&mut self.received).map_err(|AnswerError(why)| why.to_owned())? {
                Piece::Data(data) => return Ok(Some(data)),
                Piece::End => return Ok(None),
                Piece::Wanted => match self.receive(READ).await {
                    Err(_closed) if body.may_close() => return Ok(None),
                    received => received?,
                },
            }
        }
    }

    async fn receive(&mut self, most: usize) -> Result<(), String> {
        self.received.reserve(most);
        match self.stream.read_buf(&mut self.received).await {
            Ok(0) => Err(CLOSED.to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl From<AnswerError> for RequestError {
    fn from(AnswerError(why): AnswerError) -> Self {
        Self::Broken(why.to_owned())
    }
}

/// The answer to a request of which the volume didn't take all: why it didn't, if it says so.
fn in_spite(answer: Head) -> Result<Head, RequestError> {
    if answer.status.is_success() {
        return Err(RequestError::Broken("it answered before it had the value".to_owned()));
    }
    Ok(Head { keep: false, ..answer })
}

fn head(request: &Request<'_>) -> Vec<u8> {
    let Request { method, host, path, header, body } = request;
    let mut head = String::with_capacity(512);
    let length = body.length().map(|length| length.to_string());
    let (framing, length) = match &length {
        None => ("transfer-encoding", "chunked"),
        Some(length) => ("content-length", length.as_str()),
    };
    for part in [method.as_str(), " ", path, " HTTP/1.1\r\nhost: ", host] {
        head.push_str(part);
    }
    if let Some((name, value)) = header {
        for part in ["\r\n", name, ": ", value] {
            head.push_str(part);
        }
    }
    if *method == Method::PUT {
        for part in ["\r\n", framing, ": ", length] {
            head.push_str(part);
        }
    }
    head.push_str("\r\n\r\n");
    head.into_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use tokio::net::{TcpListener, TcpStream};

    /// A connection, and the volume's end of it.
    async fn pair() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Connection::new(Box::new(near)), listener.accept().await.unwrap().0)
    }

    fn put(bytes: usize) -> Request<'static> {
        let body = Feed::whole(vec![0; bytes].into());
        Request { method: Method::PUT, host: "volume", path: "/path", header: None, body }
    }

    /// More than the sockets of either side hold.
    const LARGE: usize = 64 << 20;

    #[tokio::test]
    async fn who_takes_a_value_before_it_is_sent_has_not_got_it() {
        let (mut connection, mut volume) = pair().await;
        volume.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        assert!(matches!(connection.ask(&mut put(LARGE)).await, Err(RequestError::Broken(_))));
    }

    #[tokio::test]
    async fn an_answer_that_is_there_at_once_is_none_too_early() {
        let (mut connection, mut volume) = pair().await;
        volume.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        poll_fn(|context| connection.stream.poll_read_ready(context)).await.unwrap();
        let (method, body) = (Method::DELETE, Feed::empty());
        let mut request = Request { method, host: "volume", path: "/path", header: None, body };
        let answer = connection.ask(&mut request).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.keep), (204, true));
    }

    #[tokio::test]
    async fn who_refuses_a_value_before_it_is_sent_is_heard() {
        let (mut connection, mut volume) = pair().await;
        volume.write_all(b"HTTP/1.1 507 Full\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        let answer = connection.ask(&mut put(LARGE)).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.keep), (507, false));
    }

    #[tokio::test]
    async fn a_100_continue_that_nobody_asked_for_ends_no_value() {
        let (mut connection, mut volume) = pair().await;
        volume.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        poll_fn(|context| connection.stream.poll_read_ready(context)).await.unwrap();
        let (mut request, mut got) = (put(LARGE), vec![0; LARGE]);
        let serve = async {
            volume.read_exact(&mut got).await.unwrap();
            volume.write_all(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\n").await.unwrap();
            volume.write_all(b"Content-Length: 0\r\n\r\n").await.unwrap();
            tokio::io::copy(&mut volume, &mut tokio::io::sink()).await.unwrap();
        };
        let answered = async {
            let answer = connection.ask(&mut request).await;
            drop(connection);
            answer
        };
        let (answer, ()) = tokio::join!(answered, serve);
        assert_eq!(answer.unwrap().status.as_u16(), 201);
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_meanwhile_is_not_used() {
        let (mut connection, volume) = pair().await;
        assert!(connection.is_quiet());
        drop(volume);
        poll_fn(|context| connection.stream.poll_read_ready(context)).await.unwrap();
        assert!(!connection.is_quiet());
    }

    #[tokio::test]
    async fn a_small_value_leaves_with_its_head() {
        let (mut connection, mut volume) = pair().await;
        let wanted = b"PUT /path HTTP/1.1\r\nhost: volume\r\ncontent-length: 3\r\n\r\n\0\0\0";
        let mut got = vec![0; wanted.len()];
        let (mut request, answer) = (put(3), b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
        let serve = async {
            volume.read_exact(&mut got).await.unwrap();
            volume.write_all(answer).await.unwrap();
        };
        let (answer, ()) = tokio::join!(connection.ask(&mut request), serve);
        assert_eq!((answer.unwrap().status.as_u16(), got.as_slice()), (201, wanted.as_slice()));
    }
}
