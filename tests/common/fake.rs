//! A volume whose answers the test scripts: wrong, late, or none at all.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::volume::{MARKER, is_identity};

/// A request as it arrived, with the part of its body that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    pub method: String,
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Recorded {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// What the fake does with a request. Unless the variant says otherwise, it reads the whole body first.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Serves it as a healthy volume does, keeping values in memory.
    Serve,
    /// Carries it out, but loses the answer: the connection closes instead.
    ServeSilently,
    /// Answers with this status and no body.
    Status(u16),
    /// Sends these bytes, which need not be HTTP, and closes the connection.
    Raw(Vec<u8>),
    /// Reads this many bytes of the body, answers with this status, and closes the connection.
    StatusAfter(usize, u16),
    /// Reads this many bytes of the body, and closes the connection.
    CloseAfter(usize),
    /// Reads this many bytes of the body; after that neither reads nor answers.
    HangAfter(usize),
}

type Values = BTreeMap<String, Vec<u8>>;

struct Shared {
    script: Box<dyn Fn(&Recorded) -> Reply + Send + Sync>,
    requests: Mutex<Vec<Recorded>>,
    values: Mutex<Values>,
    /// Markers and the owner file, apart from the values, and not scripted: whose volume this is.
    markers: Mutex<Values>,
    identified: AtomicUsize,
    scripts_listings: bool,
    streams: Mutex<Vec<TcpStream>>,
    closing: AtomicBool,
}

/// A server with one thread that accepts, and one per connection.
pub struct Fake {
    addr: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    /// `script` decides about each request once its head is read; the body is still empty then. What a master asks to
    /// find out whose volume it is isn't scripted, and isn't among the requests: its markers, its owner
    /// file, and listings.
    pub fn new(script: impl Fn(&Recorded) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(script, false)
    }

    /// As [`Fake::new`], with scripted listings.
    pub fn with_listings(script: impl Fn(&Recorded) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(script, true)
    }

    fn start(script: impl Fn(&Recorded) -> Reply + Send + Sync + 'static, scripts_listings: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            requests: Mutex::default(),
            values: Mutex::default(),
            markers: Mutex::default(),
            identified: AtomicUsize::new(0),
            scripts_listings,
            streams: Mutex::default(),
            closing: AtomicBool::new(false),
        });
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self { addr, shared, thread: Some(thread) }
    }

    pub fn addr(&self) -> String {
        self.addr.clone()
    }

    /// The requests so far, in the order in which they were finished.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// How often a marker was read.
    pub fn identified(&self) -> usize {
        self.shared.identified.load(Ordering::SeqCst)
    }

    /// The values that [`Reply::Serve`] has stored, by target.
    pub fn values(&self) -> Vec<(String, Vec<u8>)> {
        self.shared.values.lock().unwrap().clone().into_iter().collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        // wakes the accepting thread, which then ends the connections' threads
        let woken = TcpStream::connect(&self.addr);
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            thread.join().unwrap();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut threads = Vec::new();
    for stream in listener.incoming() {
        if shared.closing.load(Ordering::SeqCst) {
            break;
        }
        let Ok(stream) = stream else { continue };
        shared.streams.lock().unwrap().push(stream.try_clone().unwrap());
        let shared = Arc::clone(shared);
        threads.push(std::thread::spawn(move || {
            // An error means that the client went away, or that this fake is closing.
            converse(&stream, &shared).ok();
            stream.shutdown(Shutdown::Both).ok();
        }));
    }
    for stream in shared.streams.lock().unwrap().iter() {
        stream.shutdown(Shutdown::Both).ok();
    }
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Serves one connection until it closes.
fn converse(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(mut request) = read_head(&mut reader)? {
        let is_listing = request.method == "GET" && request.target.ends_with('/');
        if is_identity(&request.target) || is_listing && !shared.scripts_listings {
            read_body(&mut reader, &mut request, usize::MAX)?;
            let reads_marker = request.method == "GET" && request.target.ends_with(MARKER);
            shared.identified.fetch_add(usize::from(reads_marker), Ordering::SeqCst);
            let mut writer = stream;
            writer.write_all(&identify(&request, &shared.markers))?;
            continue;
        }
        let reply = (shared.script)(&request);
        let limit = match reply {
            Reply::StatusAfter(n, _) | Reply::CloseAfter(n) | Reply::HangAfter(n) => n,
            _ => usize::MAX,
        };
        let read = read_body(&mut reader, &mut request, limit);
        shared.requests.lock().unwrap().push(request.clone());
        read?;
        let mut writer = stream;
        match reply {
            Reply::Serve => writer.write_all(&serve(&request, &shared.values))?,
            Reply::ServeSilently => {
                serve(&request, &shared.values);
                return Ok(());
            }
            Reply::Status(status) => writer.write_all(&answer(&request, status, b""))?,
            Reply::StatusAfter(_, status) => return writer.write_all(&answer(&request, status, b"")),
            Reply::Raw(bytes) => return writer.write_all(&bytes),
            Reply::CloseAfter(_) => return Ok(()),
            Reply::HangAfter(_) => {
                while !shared.closing.load(Ordering::SeqCst) {
                    std::thread::park_timeout(std::time::Duration::from_millis(20));
                }
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Answers what a master asks to find out whose volume it is.
fn identify(request: &Recorded, markers: &Mutex<Values>) -> Vec<u8> {
    if request.target.ends_with('/') { answer(request, 200, b"[]") } else { serve(request, markers) }
}

fn serve(request: &Recorded, values: &Mutex<Values>) -> Vec<u8> {
    let mut values = values.lock().unwrap();
    match request.method.as_str() {
        "PUT" => match values.insert(request.target.clone(), request.body.clone()) {
            None => answer(request, 201, b""),
            Some(_) => answer(request, 204, b""),
        },
        "GET" | "HEAD" => match values.get(&request.target) {
            Some(value) => answer(request, 200, value),
            None => answer(request, 404, b""),
        },
        "DELETE" => match values.remove(&request.target) {
            Some(_) => answer(request, 204, b""),
            None => answer(request, 404, b""),
        },
        _ => answer(request, 405, b""),
    }
}

fn answer(request: &Recorded, status: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status} Scripted\r\n").into_bytes();
    if status != 204 {
        bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    if request.method != "HEAD" {
        bytes.extend_from_slice(body);
    }
    bytes
}

/// `None` at the end of the connection.
fn read_head(reader: &mut impl BufRead) -> io::Result<Option<Recorded>> {
    let Some(first) = read_line(reader)? else { return Ok(None) };
    let mut words = first.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    while let Some(line) = read_line(reader)?.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok(Some(Recorded { method, target, headers, body: Vec::new() }))
}

/// Reads the body, or its first `limit` bytes.
fn read_body(reader: &mut impl BufRead, request: &mut Recorded, limit: usize) -> io::Result<()> {
    let chunked = request.header("transfer-encoding").is_some();
    let length = request.header("content-length").and_then(|length| length.parse().ok());
    if !chunked {
        return read_exactly(reader, length.unwrap_or(0).min(limit), &mut request.body);
    }
    while request.body.len() < limit {
        let line = read_line(reader)?.unwrap_or_default();
        let length = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        read_exactly(reader, length.min(limit - request.body.len()), &mut request.body)?;
        if request.body.len() < limit {
            read_line(reader)?;
        }
        if length == 0 {
            break;
        }
    }
    Ok(())
}

/// Bytes read before an error or the end stay in `body`.
fn read_exactly(reader: &mut impl Read, length: usize, body: &mut Vec<u8>) -> io::Result<()> {
    let read = reader.take(length as u64).read_to_end(body)?;
    if read < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

fn read_line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if reader.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()))
}
