//! A client of our own, for what the thrasher doesn't say: requests that are written out beforehand, and
//! answers that are counted and thrown away.

use std::cell::Cell;
use std::io;
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::Failure;
use crate::load::Work;

/// What is read at a time.
const READ: usize = 256 * 1024;
/// A value up to this size leaves with its head.
const SMALL: usize = 64 * 1024;
const HEADERS: usize = 64;

/// A request, and what it is to be answered with.
pub(crate) struct Request {
    /// Up to the empty line.
    pub(crate) head: String,
    pub(crate) body: Bytes,
    pub(crate) status: u16,
    /// The least length of the answer's body.
    pub(crate) least: usize,
}

/// Makes `count` requests to `HOST:PORT`, of which so many are under way at a time. A wrong answer is an
/// error.
pub(crate) async fn load(
    host: &str,
    connections: usize,
    count: u32,
    request: impl Fn(u32) -> Request,
) -> Result<Work, Failure> {
    let clients = try_join_all((0..connections).map(|_| Client::connect(host))).await?;
    let next = Cell::new(0);
    let begun = Instant::now();
    let ask_all = async |mut client: Client| {
        while next.get() < count {
            let n = next.replace(next.get() + 1);
            client.ask(&request(n)).await?;
        }
        Ok::<_, Failure>(())
    };
    try_join_all(clients.into_iter().map(ask_all)).await?;
    let operations = f64::from(count);
    Ok(Work { rate: operations / begun.elapsed().as_secs_f64(), operations })
}

/// A connection that is kept.
struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    async fn connect(host: &str) -> Result<Self, Failure> {
        let stream = TcpStream::connect(host).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: vec![0; READ] })
    }

    async fn ask(&mut self, request: &Request) -> Result<(), Failure> {
        // whoever refuses before the end says why
        let sent = self.send(request).await;
        let mut filled = 0;
        let (status, head, length) = loop {
            match (self.read(filled).await, &sent) {
                (Ok(bytes), _) => filled += bytes,
                (Err(_), Err(error)) => return Err(error.to_string().into()),
                (Err(error), Ok(())) => return Err(error),
            }
            if let Some(found) = parse(self.received.get(..filled).unwrap_or_default())? {
                break found;
            }
        };
        let mut left = length.checked_sub(filled - head).ok_or("more came than was announced")?;
        if status != request.status || length < request.least {
            let said = self.received.get(head..filled).unwrap_or_default();
            let said = String::from_utf8_lossy(said);
            return Err(format!("{status} with {length} bytes: {said}").into());
        }
        while left > 0 {
            let read = self.read(0).await?;
            left = left.checked_sub(read).ok_or("more came than was announced")?;
        }
        Ok(())
    }

    async fn send(&mut self, request: &Request) -> io::Result<()> {
        let mut head = [request.head.as_bytes(), b"\r\n"].concat();
        if request.body.len() <= SMALL {
            head.extend_from_slice(&request.body);
            return self.stream.write_all(&head).await;
        }
        self.stream.write_all(&head).await?;
        self.stream.write_all(&request.body).await
    }

    async fn read(&mut self, from: usize) -> Result<usize, Failure> {
        match self.stream.read(self.received.get_mut(from..).unwrap_or_default()).await? {
            0 => Err("the connection was closed in the middle of an answer".into()),
            bytes => Ok(bytes),
        }
    }
}

/// Status, length of the head, length of the body; once the head is whole.
fn parse(received: &[u8]) -> Result<Option<(u16, usize, usize)>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut answer = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = answer.parse(received)? else { return Ok(None) };
    let length = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.map_or(Ok("0"), |header| std::str::from_utf8(header.value))?;
    Ok(Some((answer.code.unwrap_or_default(), head, length.parse()?)))
}
