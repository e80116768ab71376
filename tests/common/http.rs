//! A blocking HTTP/1.1 client that sends exactly the bytes that it is given, valid or not.

use std::io::{self, BufRead, BufReader, Error, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

/// How long the client waits for the next byte.
const TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// In their order; names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of that name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends a request on a new connection and returns the answer. `target` is sent as it is. A content length is
/// added unless `headers` already frame the body.
#[track_caller]
pub fn request(
    addr: &str,
    method: &str,
    target: impl AsRef<[u8]>,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Response {
    try_request(None, addr, method, target.as_ref(), headers, body)
        .unwrap_or_else(|error| panic!("{method} to {addr}: {error}"))
}

/// As [`request`], from the given local address, which may be any of 127.0.0.0/8.
#[track_caller]
pub fn request_from(
    from: &str,
    addr: &str,
    method: &str,
    target: impl AsRef<[u8]>,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Response {
    try_request(Some(from), addr, method, target.as_ref(), headers, body)
        .unwrap_or_else(|error| panic!("{method} from {from} to {addr}: {error}"))
}

/// As [`request`], but returns an error instead of panicking.
pub fn try_request(
    from: Option<&str>,
    addr: &str,
    method: &str,
    target: &[u8],
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Response> {
    let mut connection = Connection::open(from, addr)?;
    // A server may refuse and close before it has read everything; its answer counts more than the failed
    // send.
    let sent = connection
        .send(&head(addr, method, target, headers, body.len()))
        .and_then(|()| connection.send(body));
    connection.receive(method).map_err(|error| sent.err().unwrap_or(error))
}

/// GETs an `http://` URL.
#[track_caller]
pub fn get_url(url: &str) -> Response {
    let rest = url.strip_prefix("http://").unwrap_or_else(|| panic!("not an http URL: {url}"));
    let (addr, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    request(addr, "GET", path, &[], b"")
}

/// The bytes of a request's head, for tests that send the body themselves.
pub fn head(addr: &str, method: &str, target: &[u8], headers: &[(&str, &str)], length: usize) -> Vec<u8> {
    let mut head = [method.as_bytes(), b" ", target, b" HTTP/1.1\r\n"].concat();
    let mut add = |name: &str, value: &str| {
        head.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    };
    let given = |name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    if !given("host") {
        add("Host", addr);
    }
    let framed = given("content-length") || given("transfer-encoding");
    if !framed && (length > 0 || method == "PUT") {
        add("Content-Length", &length.to_string());
    }
    for (name, value) in headers {
        add(name, value);
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// One connection, for tests that send a request in pieces, several requests, or invalid bytes.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub fn open(from: Option<&str>, addr: &str) -> io::Result<Self> {
        Self::open_within(TIMEOUT, from, addr)
    }

    /// A connection that waits at most `timeout` for each next byte.
    pub fn open_within(timeout: Duration, from: Option<&str>, addr: &str) -> io::Result<Self> {
        let addr: SocketAddr = addr.parse().map_err(Error::other)?;
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
        if let Some(from) = from {
            let from: IpAddr = from.parse().map_err(Error::other)?;
            socket.bind(&SocketAddr::new(from, 0).into())?;
        }
        socket.connect_timeout(&addr.into(), timeout)?;
        socket.set_read_timeout(Some(timeout))?;
        socket.set_write_timeout(Some(timeout))?;
        socket.set_tcp_nodelay(true)?;
        Ok(Self { stream: BufReader::new(socket.into()) })
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Shuts down the sending side.
    pub fn finish(&mut self) -> io::Result<()> {
        self.stream.get_ref().shutdown(std::net::Shutdown::Write)
    }

    /// Ends the connection with a reset, as the kernel does for a client that dies or wants no answer any more.
    pub fn reset(self) {
        SockRef::from(self.stream.get_ref()).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// The local port.
    pub fn port(&self) -> u16 {
        self.stream.get_ref().local_addr().unwrap().port()
    }

    /// Reads the answer to a request of that method, skipping `100 Continue`. A truncated answer is an error.
    pub fn receive(&mut self, method: &str) -> io::Result<Response> {
        loop {
            let response = self.receive_any(method)?;
            if response.status != 100 {
                return Ok(response);
            }
        }
    }

    /// As [`Connection::receive`], but returns `100 Continue`, too.
    pub fn receive_any(&mut self, method: &str) -> io::Result<Response> {
        let first = self.line()?;
        let status = first
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.split(' ').nth(1))
            .and_then(|status| status.parse().ok())
            .ok_or_else(|| invalid(&first))?;
        let headers = self.fields()?;
        let mut response = Response { status, headers, body: Vec::new() };
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return Ok(response);
        }
        if response.header("transfer-encoding") == Some("chunked") {
            response.body = self.chunks()?;
        } else if let Some(length) = response.header("content-length") {
            let length = length.parse().ok().ok_or_else(|| invalid(length))?;
            response.body = self.bytes(length)?;
        } else {
            self.stream.read_to_end(&mut response.body)?;
        }
        Ok(response)
    }

    /// Reads until the server closes the connection.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Waits for the first bytes of an answer, without consuming them.
    pub fn wait(&mut self) -> io::Result<()> {
        self.stream.fill_buf().map(|_| ())
    }

    /// Reads one line, and strips its line end.
    pub fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err(Error::new(ErrorKind::UnexpectedEof, "closed within a line"));
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    fn fields(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line.split_once(':').ok_or_else(|| invalid(&line))?;
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let length = usize::from_str_radix(line.trim(), 16).ok().ok_or_else(|| invalid(&line))?;
            if length == 0 {
                self.fields()?;
                return Ok(body);
            }
            body.extend(self.bytes(length)?);
            self.line()?;
        }
    }

    fn bytes(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("not HTTP: {what:?}"))
}
