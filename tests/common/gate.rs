//! A gate before a real volume: the test decides, request by request, how far each one gets.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use super::Volume;

/// What becomes of a request. Where nothing is said, it passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// to the volume, and the answer back
    Pass,
    /// read to its end, and kept before the volume has a byte of it
    Hold,
    /// carried out by the volume, whose answer is kept
    HoldAnswer,
    /// read to its end, and answered with this status; the volume never hears of it
    Answer(u16),
    /// read to its end, and answered with what is no HTTP
    Garbage,
    /// answered with this status when so many bytes of the body were read, and cut; the volume never
    /// hears of it
    AnswerAfter(usize, u16),
    /// the connection is cut when so many bytes of the body went on to the volume
    CutAfter(usize),
}

/// How far a request has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// its head was read
    Arrived,
    /// all of it is here, and waits for [`Gate::release`]
    Held,
    /// the volume has carried it out, and its answer waits for [`Gate::release`]
    AnswerHeld,
    /// the volume has answered with this status, whether or not anybody still wanted to know
    Answered(u16),
    /// it is over, and the volume hasn't answered
    Ended,
}

struct Passage {
    method: String,
    target: String,
    stage: Stage,
    released: bool,
}

/// What becomes of a request of this method to this target; `None` where an earlier rule decides.
type Rule = Box<dyn FnMut(&str, &str) -> Option<Order> + Send>;

#[derive(Default)]
struct State {
    /// the last one that decides counts
    rules: Vec<Rule>,
    passages: Vec<Passage>,
    streams: Vec<TcpStream>,
}

struct Shared {
    volume: String,
    state: Mutex<State>,
    released: Condvar,
    closing: AtomicBool,
}

/// A server on a thread of its own, and one per connection. Each connection serves one request.
pub struct Gate {
    addr: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Gate {
    /// A gate before that volume, open.
    pub fn before(volume: &Volume) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            volume: volume.addr(),
            state: Mutex::default(),
            released: Condvar::new(),
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

    /// From now on, requests of that method (all, if it is "") get this order.
    pub fn order(&self, method: &str, order: Order) {
        self.order_for(method, "", order);
    }

    /// From now on, requests of that method whose target contains `part` get this order.
    pub fn order_for(&self, method: &str, part: &str, order: Order) {
        let (method, part) = (method.to_owned(), part.to_owned());
        self.rule(move |m, target| {
            ((method.is_empty() || m == method) && target.contains(&part)).then_some(order)
        });
    }

    /// From now on, `rule` is asked for the order of each request, by method and target.
    pub fn rule(&self, rule: impl FnMut(&str, &str) -> Option<Order> + Send + 'static) {
        self.shared.state().rules.push(Box::new(rule));
    }

    /// From now on, requests pass. What is held stays held.
    pub fn open(&self) {
        self.shared.state().rules.clear();
    }

    /// Lets go on what is held: requests to the volume, even where their sender is gone; answers to
    /// whoever waits for them.
    pub fn release(&self) {
        for passage in &mut self.shared.state().passages {
            passage.released |= matches!(passage.stage, Stage::Held | Stage::AnswerHeld);
        }
        self.shared.released.notify_all();
    }

    /// How many requests of that method are at that stage.
    pub fn count(&self, method: &str, at: Stage) -> usize {
        let state = self.shared.state();
        state.passages.iter().filter(|p| p.method == method && p.stage == at).count()
    }

    /// Method, target and stage of all requests, in the order of their arrival.
    pub fn requests(&self) -> Vec<(String, String, Stage)> {
        let state = self.shared.state();
        state.passages.iter().map(|p| (p.method.clone(), p.target.clone(), p.stage)).collect()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        // wakes the accepting thread, which then ends those of the connections
        let woken = TcpStream::connect(&self.addr);
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            thread.join().unwrap();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn set(&self, passage: usize, stage: Stage) {
        self.state().passages[passage].stage = stage;
    }

    /// Waits for [`Gate::release`]; an error when the gate closes.
    fn wait(&self, passage: usize, at: Stage) -> io::Result<()> {
        self.set(passage, at);
        let wait =
            |state: &mut State| !state.passages[passage].released && !self.closing.load(Ordering::SeqCst);
        let mut state = self.released.wait_while(self.state(), wait).unwrap();
        if state.passages[passage].released {
            state.passages[passage].released = false;
            return Ok(());
        }
        Err(io::ErrorKind::ConnectionAborted.into())
    }

    /// Keeps a stream, to be shut down when the gate closes.
    fn keep(&self, stream: &TcpStream) -> io::Result<()> {
        self.state().streams.push(stream.try_clone()?);
        Ok(())
    }

    fn connect(&self) -> io::Result<ToVolume> {
        let volume = ToVolume(TcpStream::connect(&self.volume)?);
        self.keep(&volume.0)?;
        Ok(volume)
    }
}

/// A connection to the volume. Its end is the volume's to see at once, although the gate keeps a handle.
struct ToVolume(TcpStream);

impl Drop for ToVolume {
    fn drop(&mut self) {
        self.0.shutdown(Shutdown::Both).ok();
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut threads = Vec::new();
    for stream in listener.incoming() {
        if shared.closing.load(Ordering::SeqCst) {
            break;
        }
        let Ok(stream) = stream else { continue };
        shared.keep(&stream).unwrap();
        let shared = Arc::clone(shared);
        threads.push(std::thread::spawn(move || {
            // An error is a side that went away, or our own closing.
            serve(&stream, &shared).ok();
            stream.shutdown(Shutdown::Both).ok();
        }));
    }
    // under the lock no thread is between its look at `closing` and its wait
    for stream in &shared.state().streams {
        stream.shutdown(Shutdown::Both).ok();
    }
    shared.released.notify_all();
    for thread in threads {
        thread.join().unwrap();
    }
}

fn serve(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let head = read_head(&mut reader)?;
    let mut words = head.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (passage, order) = {
        let mut state = shared.state();
        let mut rules = state.rules.iter_mut().rev();
        let order = rules.find_map(|rule| rule(&method, &target)).unwrap_or(Order::Pass);
        state.passages.push(Passage { method, target, stage: Stage::Arrived, released: false });
        (state.passages.len() - 1, order)
    };
    let result = carry_out(order, passage, &head, reader, shared);
    let mut state = shared.state();
    if !matches!(state.passages[passage].stage, Stage::Answered(_)) {
        state.passages[passage].stage = Stage::Ended;
    }
    result
}

fn carry_out(
    order: Order,
    passage: usize,
    head: &str,
    mut reader: BufReader<&TcpStream>,
    shared: &Shared,
) -> io::Result<()> {
    let mut client: &TcpStream = reader.get_ref();
    let mut whole = Vec::new();
    match order {
        Order::Pass | Order::HoldAnswer | Order::CutAfter(_) => {
            // piece by piece, as it comes
            let volume = shared.connect()?;
            (&volume.0).write_all(&forwarded(head))?;
            let mut left = if let Order::CutAfter(bytes) = order { bytes } else { usize::MAX };
            read_body(head, &mut reader, |piece| {
                let piece = &piece[..piece.len().min(left)];
                left -= piece.len();
                (&volume.0).write_all(piece)?;
                if left == 0 { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
            })?;
            let answer = read_answer(&volume.0)?;
            if order == Order::HoldAnswer {
                shared.wait(passage, Stage::AnswerHeld)?;
            }
            shared.set(passage, Stage::Answered(status(&answer)));
            client.write_all(&answer)
        }
        Order::Hold => {
            read_body(head, &mut reader, |piece| whole.write_all(piece))?;
            shared.wait(passage, Stage::Held)?;
            let volume = shared.connect()?;
            (&volume.0).write_all(&forwarded(head))?;
            (&volume.0).write_all(&whole)?;
            let answer = read_answer(&volume.0)?;
            shared.set(passage, Stage::Answered(status(&answer)));
            client.write_all(&answer)
        }
        Order::Answer(status) => {
            read_body(head, &mut reader, |_| Ok(()))?;
            let answer =
                format!("HTTP/1.1 {status} Scripted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            client.write_all(answer.as_bytes())
        }
        Order::AnswerAfter(bytes, status) => {
            let mut left = bytes;
            let read = read_body(head, &mut reader, |piece| {
                left = left.saturating_sub(piece.len());
                if left == 0 { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
            });
            // a shorter body is answered, too; one that breaks off is not
            if left > 0 {
                read?;
            }
            let answer = format!("HTTP/1.1 {status} Scripted\r\nContent-Length: 0\r\n\r\n");
            client.write_all(answer.as_bytes())
        }
        Order::Garbage => {
            read_body(head, &mut reader, |_| Ok(()))?;
            client.write_all(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        }
    }
}

/// The head, up to and with the empty line.
fn read_head(reader: &mut impl BufRead) -> io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head)
}

/// The head as the volume gets it: its answer ends with the connection.
fn forwarded(head: &str) -> Vec<u8> {
    format!("{}\r\nConnection: close\r\n\r\n", head.trim_end()).into_bytes()
}

/// Reads a body, which goes into `sink` with its framing.
fn read_body(
    head: &str,
    reader: &mut impl BufRead,
    mut sink: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let head = head.to_ascii_lowercase();
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if field("transfer-encoding:") != Some("chunked") {
        let length = field("content-length:").map_or(0, |length| length.parse().unwrap());
        return read_exactly(reader, length, &mut sink);
    }
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        sink(line.as_bytes())?;
        let length = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        // with the end of line that follows; the master sends no trailers
        read_exactly(reader, length + 2, &mut sink)?;
        if length == 0 {
            return Ok(());
        }
    }
}

fn read_exactly(
    reader: &mut impl Read,
    mut length: usize,
    sink: &mut impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut piece = vec![0; 16 * 1024];
    while length > 0 {
        let wanted = length.min(piece.len());
        let read = reader.read(&mut piece[..wanted])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        sink(&piece[..read])?;
        length -= read;
    }
    Ok(())
}

/// The volume's answer, to the end of its connection.
fn read_answer(mut volume: &TcpStream) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    volume.read_to_end(&mut answer)?;
    if answer.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(answer) }
}

fn status(answer: &[u8]) -> u16 {
    let status = answer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
    status.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}
