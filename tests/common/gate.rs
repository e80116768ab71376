//! A proxy in front of a real volume: the test decides how far each request gets.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Volume;
use super::volume::is_identity;

/// The header that a gate adds to its requests to the volume, so that each answer ends with its connection.
const CLOSE: &str = "Connection: close\r\n";

/// What the gate does with a request. Without an order, it passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Forwards it to the volume, and returns the answer.
    Pass,
    /// Reads it to its end, and keeps it before any byte reaches the volume.
    Hold,
    /// Lets the volume carry it out, and keeps the answer.
    HoldAnswer,
    /// Reads it to its end, and forwards it after this time.
    Delay(Duration),
    /// Lets the volume carry it out, and returns the answer after this time.
    DelayAnswer(Duration),
    /// Lets the volume carry it out, and cuts the connection in the middle of the answer.
    HalfAnswer,
    /// Lets the volume carry it out, and returns the answer byte by byte, with this pause after each, until
    /// the gate is opened.
    DripAnswer(Duration),
    /// Reads it to its end, and sends no answer; the sender waits until the gate is opened.
    Nothing,
    /// Reads it to its end, and answers with this status; the volume never sees it.
    Answer(u16),
    /// Reads it to its end, and answers with bytes that are not HTTP.
    Garbage,
    /// Reads this many bytes of the body, answers with this status, and cuts the connection; the volume never
    /// sees it.
    AnswerAfter(usize, u16),
    /// Forwards this many bytes of the body, and cuts the connection.
    CutAfter(usize),
}

/// How far a request has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The gate has read its head.
    Arrived,
    /// The gate has read all of it, and keeps it until [`Gate::release`].
    Held,
    /// The volume has carried it out, and the gate keeps the answer until [`Gate::release`].
    AnswerHeld,
    /// The volume has answered with this status; the sender may be gone by then.
    Answered(u16),
    /// It is over, and the volume has not answered.
    Ended,
}

/// A request that the gate has seen.
struct Passage {
    method: String,
    target: String,
    stage: Stage,
    released: bool,
}

/// The order for a request, by method and target; `None` leaves the decision to an earlier rule.
type Rule = Box<dyn FnMut(&str, &str) -> Option<Order> + Send>;

#[derive(Default)]
struct State {
    /// The latest rule that decides wins.
    rules: Vec<Rule>,
    /// How often [`Gate::open`] was called.
    opened: u64,
    /// In order of arrival.
    passages: BTreeMap<u64, Passage>,
    streams: BTreeMap<u64, TcpStream>,
    /// The last number given out, for passages and streams.
    numbers: u64,
}

impl State {
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

struct Shared {
    volume: String,
    state: Mutex<State>,
    /// Signals a release, an opening, or the gate's closing.
    changed: Condvar,
    closing: AtomicBool,
}

/// A server with one thread that accepts, and one per connection. It opens a new connection to the volume for
/// each request.
pub struct Gate {
    addr: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Gate {
    /// A gate in front of that volume; all requests pass.
    pub fn before(volume: &Volume) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            volume: volume.addr(),
            state: Mutex::default(),
            changed: Condvar::new(),
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

    /// From now on, requests of that method (of every method, if it is "") get this order.
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

    /// From now on, `rule` decides about each request, by method and target. The method of a request for a marker or an
    /// owner file is IDENTIFY, or MARK if it writes one.
    pub fn rule(&self, rule: impl FnMut(&str, &str) -> Option<Order> + Send + 'static) {
        self.shared.state().rules.push(Box::new(rule));
    }

    /// From now on, all requests pass. Held requests stay held; those under `Nothing` or `DripAnswer` are
    /// cut.
    pub fn open(&self) {
        let mut state = self.shared.state();
        state.rules.clear();
        state.opened += 1;
        self.shared.changed.notify_all();
    }

    /// Forgets the requests that are over. Otherwise they are kept as long as the gate.
    pub fn forget(&self) {
        let over = |passage: &Passage| matches!(passage.stage, Stage::Answered(_) | Stage::Ended);
        self.shared.state().passages.retain(|_, passage| !over(passage));
    }

    /// Lets held requests and answers continue. Requests reach the volume even if their sender is gone.
    pub fn release(&self) {
        for passage in self.shared.state().passages.values_mut() {
            passage.released |= matches!(passage.stage, Stage::Held | Stage::AnswerHeld);
        }
        self.shared.changed.notify_all();
    }

    /// The number of requests of that method at that stage.
    pub fn count(&self, method: &str, at: Stage) -> usize {
        let state = self.shared.state();
        state.passages.values().filter(|p| p.method == method && p.stage == at).count()
    }

    /// Method, target and stage of all requests but those for markers and owner files, in order of arrival.
    pub fn requests(&self) -> Vec<(String, String, Stage)> {
        let state = self.shared.state();
        state.passages.values().map(|p| (p.method.clone(), p.target.clone(), p.stage)).collect()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        // wakes the accepting thread, which then ends the connections' threads
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

    fn set(&self, passage: u64, stage: Stage) {
        self.change(passage, |passage| passage.stage = stage);
    }

    fn change(&self, passage: u64, change: impl FnOnce(&mut Passage)) {
        // a passage that is over may have been forgotten
        self.state().passages.get_mut(&passage).map(change);
    }

    /// Waits for [`Gate::release`]. Fails when the gate closes.
    fn wait(&self, passage: u64, at: Stage) -> io::Result<()> {
        self.set(passage, at);
        let released = |state: &State| state.passages.get(&passage).is_none_or(|p| p.released);
        self.wait_until(None, released)?;
        self.change(passage, |passage| passage.released = false);
        Ok(())
    }

    /// Waits until `so` holds, or until the time is over. Fails when the gate closes.
    fn wait_until(&self, time: Option<Duration>, so: impl Fn(&State) -> bool) -> io::Result<()> {
        let waits = |state: &mut State| !so(state) && !self.closing.load(Ordering::SeqCst);
        let state = self.state();
        drop(match time {
            Some(time) => self.changed.wait_timeout_while(state, time, waits).unwrap().0,
            None => self.changed.wait_while(state, waits).unwrap(),
        });
        if self.closing.load(Ordering::SeqCst) { Err(cut()) } else { Ok(()) }
    }

    fn pause(&self, time: Duration) -> io::Result<()> {
        self.wait_until(Some(time), |_| false)
    }

    /// Registers a stream until [`Shared::drop_stream`], so that the gate can shut it down when it closes.
    fn keep(&self, stream: &TcpStream) -> io::Result<u64> {
        let stream = stream.try_clone()?;
        let mut state = self.state();
        let number = state.number();
        state.streams.insert(number, stream);
        Ok(number)
    }

    fn drop_stream(&self, number: u64) {
        if let Some(stream) = self.state().streams.remove(&number) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }

    fn connect(&self) -> io::Result<ToVolume<'_>> {
        let stream = TcpStream::connect(&self.volume)?;
        let number = self.keep(&stream)?;
        Ok(ToVolume { stream, number, shared: self })
    }

    /// Sends the volume a request that was read completely, and returns its answer.
    fn forward(&self, passage: u64, head: &str, body: &[u8]) -> io::Result<Vec<u8>> {
        let volume = self.connect()?;
        (&volume.stream).write_all(&forwarded(head))?;
        (&volume.stream).write_all(body)?;
        let answer = read_answer(&volume.stream)?;
        self.set(passage, Stage::Answered(status(&answer)));
        Ok(answer)
    }
}

/// A connection to the volume. Its drop shuts it down, so that the volume sees the end at once although the
/// gate keeps a handle.
struct ToVolume<'a> {
    stream: TcpStream,
    number: u64,
    shared: &'a Shared,
}

impl Drop for ToVolume<'_> {
    fn drop(&mut self) {
        self.shared.drop_stream(self.number);
    }
}

fn cut() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for stream in listener.incoming() {
        if shared.closing.load(Ordering::SeqCst) {
            break;
        }
        let Ok(stream) = stream else { continue };
        let number = shared.keep(&stream).unwrap();
        let shared = Arc::clone(shared);
        threads.retain(|thread| !thread.is_finished());
        threads.push(std::thread::spawn(move || {
            // An error means that one side went away, or that the gate is closing.
            let mut reader = BufReader::new(&stream);
            while serve(&mut reader, &shared).is_ok() {}
            shared.drop_stream(number);
        }));
    }
    // taking the lock ensures that no thread is between its check of `closing` and its wait
    for stream in shared.state().streams.values() {
        stream.shutdown(Shutdown::Both).ok();
    }
    shared.changed.notify_all();
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Serves one request; an error ends the connection.
fn serve(reader: &mut BufReader<&TcpStream>, shared: &Shared) -> io::Result<()> {
    let head = read_head(reader)?;
    let mut words = head.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (passage, order) = {
        let mut state = shared.state();
        // rules that are about a method aren't about whose volume it is
        let is_marker = is_identity(&target);
        let named = match method.as_str() {
            "PUT" if is_marker => "MARK",
            _ if is_marker => "IDENTIFY",
            method => method,
        };
        let mut rules = state.rules.iter_mut().rev();
        let order = rules.find_map(|rule| rule(named, &target)).unwrap_or(Order::Pass);
        let number = state.number();
        if !is_marker {
            state.passages.insert(number, Passage { method, target, stage: Stage::Arrived, released: false });
        }
        (number, order)
    };
    let result = carry_out(order, passage, &head, reader, shared);
    shared.change(passage, |passage| {
        if !matches!(passage.stage, Stage::Answered(_)) {
            passage.stage = Stage::Ended;
        }
    });
    result
}

fn carry_out(
    order: Order,
    passage: u64,
    head: &str,
    reader: &mut BufReader<&TcpStream>,
    shared: &Shared,
) -> io::Result<()> {
    let mut client: &TcpStream = reader.get_ref();
    let mut whole = Vec::new();
    match order {
        Order::Pass | Order::HoldAnswer | Order::DelayAnswer(_) | Order::CutAfter(_) => {
            // streamed piece by piece
            let volume = shared.connect()?;
            (&volume.stream).write_all(&forwarded(head))?;
            let mut left = if let Order::CutAfter(bytes) = order { bytes } else { usize::MAX };
            read_body(head, reader, |piece| {
                let piece = &piece[..piece.len().min(left)];
                left -= piece.len();
                (&volume.stream).write_all(piece)?;
                if left == 0 { Err(cut()) } else { Ok(()) }
            })?;
            let answer = read_answer(&volume.stream)?;
            match order {
                Order::HoldAnswer => shared.wait(passage, Stage::AnswerHeld)?,
                Order::DelayAnswer(time) => shared.pause(time)?,
                _ => {}
            }
            shared.set(passage, Stage::Answered(status(&answer)));
            client.write_all(&kept_alive(&answer))
        }
        Order::Hold | Order::Delay(_) => {
            read_body(head, reader, |piece| whole.write_all(piece))?;
            match order {
                Order::Delay(time) => shared.pause(time)?,
                _ => shared.wait(passage, Stage::Held)?,
            }
            let answer = shared.forward(passage, head, &whole)?;
            client.write_all(&kept_alive(&answer))
        }
        Order::HalfAnswer => {
            read_body(head, reader, |piece| whole.write_all(piece))?;
            let answer = shared.forward(passage, head, &whole)?;
            client.write_all(&answer[..answer.len() / 2])?;
            Err(cut())
        }
        Order::DripAnswer(pause) => {
            read_body(head, reader, |piece| whole.write_all(piece))?;
            let answer = shared.forward(passage, head, &whole)?;
            let opened = shared.state().opened;
            for byte in answer {
                client.write_all(&[byte])?;
                shared.wait_until(Some(pause), |state| state.opened > opened)?;
                if shared.state().opened > opened {
                    break;
                }
            }
            Err(cut())
        }
        Order::Nothing => {
            read_body(head, reader, |_| Ok(()))?;
            let opened = shared.state().opened;
            shared.wait_until(None, |state| state.opened > opened)?;
            Err(cut())
        }
        Order::Answer(status) => {
            read_body(head, reader, |_| Ok(()))?;
            let answer =
                format!("HTTP/1.1 {status} Scripted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            client.write_all(answer.as_bytes())?;
            Err(cut())
        }
        Order::AnswerAfter(bytes, status) => {
            let mut left = bytes;
            let read = read_body(head, reader, |piece| {
                left = left.saturating_sub(piece.len());
                if left == 0 { Err(cut()) } else { Ok(()) }
            });
            // a shorter body gets the answer, too; one that is cut off doesn't
            if left > 0 {
                read?;
            }
            let answer = format!("HTTP/1.1 {status} Scripted\r\nContent-Length: 0\r\n\r\n");
            client.write_all(answer.as_bytes())?;
            Err(cut())
        }
        Order::Garbage => {
            read_body(head, reader, |_| Ok(()))?;
            client.write_all(b"\x16\x03\x01 this is no HTTP\r\n\r\n")?;
            Err(cut())
        }
    }
}

/// Reads the head, including the empty line.
fn read_head(reader: &mut impl BufRead) -> io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head)
}

/// The head for the volume: it asks the volume to close the connection after its answer.
fn forwarded(head: &str) -> Vec<u8> {
    format!("{}\r\n{CLOSE}\r\n", head.trim_end()).into_bytes()
}

/// The volume's answer without `Connection: close`, so that the sender keeps its connection.
fn kept_alive(answer: &[u8]) -> Vec<u8> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").map_or(answer.len(), |end| end + 4);
    let (head, body) = answer.split_at(end);
    let head = String::from_utf8_lossy(head).replace(CLOSE, "");
    [head.as_bytes(), body].concat()
}

/// Reads a body into `sink`, including its chunk framing.
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
        // including the line end that follows; the master sends no trailers
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

/// Reads the volume's answer until the connection closes.
fn read_answer(mut volume: &TcpStream) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    volume.read_to_end(&mut answer)?;
    if answer.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(answer) }
}

fn status(answer: &[u8]) -> u16 {
    let status = answer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
    status.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}
