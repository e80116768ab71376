//! One connection of a volume: HTTP/1.1 as nginx speaks it, over the world's files.
//!
//! It takes requests byte by byte, and numbers each as a call when its head is there, when a piece of its
//! body is, and when that is whole; what befalls the call shows in bytes.

mod reply;

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use hyper::StatusCode;
use tokio::time::Instant;

use super::calls::{Stopped, World};
use super::disks::{Template, is_marker};
use super::fault::{Fault, Kind};
use super::http::{self, Asked, Chunks, Method};
use super::world::{Change, File, Whereabouts};

/// How long a slow volume takes for an answer: within the deadline of a small request, …
const SLOW: Duration = Duration::from_millis(600);
/// … and past it, for one that stores a value.
const SLOW_TO_STORE: Duration = Duration::from_millis(1500);

/// What is heard of a volume.
pub(super) enum Heard {
    Bytes(Bytes),
    /// Its side is closed, or the connection is lost.
    Closed(io::Result<()>),
    /// At least until then.
    Nothing(Option<Instant>),
}

pub(super) struct Nginx {
    world: World,
    volume: String,
    phase: Phase,
    /// Nothing is taken before.
    busy_until: Option<Instant>,
    /// What it says, and when.
    answer: VecDeque<(Instant, Bytes)>,
    /// What remains to be sent of a file, a piece for each call.
    file: VecDeque<Bytes>,
    /// It closes the connection once all is said.
    closes: bool,
    /// It was opened when the store started, and for that alone: so that the store's first requests open connections,
    /// as they do when they come late.
    of_start: bool,
}

enum Phase {
    /// It waits for a request.
    Idle,
    /// It takes a value.
    Taking(Taking),
    /// It has answered before it had the value, and takes the rest of it in vain.
    Discarding(Framing),
    /// It takes nothing more.
    Deaf,
    /// The connection is lost.
    Lost,
}

/// A value that is being taken.
struct Taking {
    to: Whereabouts,
    attempt: u64,
    modified: u64,
    /// How often something had been mounted there when it began.
    mounts: u32,
    /// Whether what it does are calls.
    is_call: bool,
    bytes: Vec<u8>,
    framing: Framing,
}

/// What remains of a body.
enum Framing {
    Left(usize),
    Chunks(Chunks),
}

impl Framing {
    fn of(asked: &Asked) -> Self {
        asked.length.map_or_else(|| Self::Chunks(Chunks::default()), Self::Left)
    }

    /// How many of the bytes are taken next, and which of them are the value's.
    fn take(&mut self, bytes: &[u8]) -> (usize, Range<usize>) {
        match self {
            Self::Chunks(chunks) => chunks.take(bytes),
            Self::Left(left) => {
                let taken = bytes.len().min(*left);
                *left -= taken;
                (taken, 0..taken)
            }
        }
    }

    fn is_whole(&self) -> bool {
        match self {
            Self::Left(left) => *left == 0,
            Self::Chunks(chunks) => chunks.is_whole(),
        }
    }
}

impl Nginx {
    pub(super) fn new(world: &World, volume: &str) -> Self {
        Self {
            world: world.clone(),
            volume: volume.to_owned(),
            phase: Phase::Idle,
            busy_until: None,
            answer: VecDeque::new(),
            file: VecDeque::new(),
            closes: false,
            of_start: !world.state().counts_connections(),
        }
    }

    /// Until when nothing is taken; `None` if that is not for a time that passes.
    pub(super) fn busy_until(&self) -> Option<Instant> {
        self.busy_until.filter(|until| *until > Instant::now())
    }

    /// Takes bytes, and tells how many.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.notice_outage();
        self.notice_start();
        let mut taken = 0;
        while taken < bytes.len() {
            let rest = &bytes[taken..];
            if self.is_busy() || self.world.state().has_stopped() {
                break;
            }
            match self.phase {
                Phase::Idle => taken += self.take_head(rest),
                Phase::Taking(_) => taken += self.take_piece(rest),
                Phase::Discarding(ref mut framing) => {
                    taken += framing.take(rest).0;
                    if framing.is_whole() {
                        self.phase = Phase::Idle;
                    }
                }
                Phase::Lost if taken == 0 => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                Phase::Deaf | Phase::Lost => break,
            }
        }
        if taken > 0 { Poll::Ready(Ok(taken)) } else { Poll::Pending }
    }

    /// Says at most so many bytes of what is to be said by now. Of a file, the next piece is read only if the
    /// caller reads on.
    pub(super) fn say(&mut self, most: usize, reads_on: bool) -> Heard {
        self.notice_outage();
        self.store_if_whole();
        self.notice_start();
        if self.world.state().has_stopped() {
            return Heard::Nothing(None);
        }
        if reads_on && self.answer.is_empty() && !self.file.is_empty() {
            self.read_file();
        }
        match self.answer.front_mut() {
            Some((due, _)) if *due > Instant::now() => Heard::Nothing(Some(*due)),
            Some((_, bytes)) => {
                let said = bytes.split_to(bytes.len().min(most));
                if !bytes.has_remaining() {
                    self.answer.pop_front();
                }
                Heard::Bytes(said)
            }
            None if matches!(self.phase, Phase::Lost) => {
                Heard::Closed(Err(io::ErrorKind::ConnectionReset.into()))
            }
            None if self.closes && self.file.is_empty() => Heard::Closed(Ok(())),
            None => Heard::Nothing(self.busy_until()),
        }
    }

    fn is_busy(&self) -> bool {
        self.busy_until().is_some()
    }

    fn notice_outage(&mut self) {
        if self.world.state().down.contains(&self.volume) {
            self.answer.clear();
            self.file.clear();
            self.end();
        }
    }

    fn notice_start(&mut self) {
        let is_idle = matches!(self.phase, Phase::Idle) && self.answer.is_empty() && self.file.is_empty();
        if self.of_start && is_idle && self.world.state().counts_connections() {
            self.closes = true;
        }
    }

    /// Numbers a call, and tells what befalls it.
    fn meet(&self, kind: Kind) -> Result<Option<Fault>, Stopped> {
        self.world.meet_now(kind, &self.volume)
    }

    /// Takes the head of a request, which the store writes in one go.
    fn take_head(&mut self, bytes: &[u8]) -> usize {
        let (asked, length) = http::parse(bytes).expect("a request, from its first byte on");
        let kind = match asked.method {
            Method::Get if asked.is_look() => Kind::Look,
            Method::Head => Kind::Head,
            Method::Get => Kind::Open,
            Method::Delete => Kind::Delete,
            Method::Put => Kind::Put,
        };
        let is_call = self.world.state().is_call(&self.volume, &asked);
        let Ok(fault) = (if is_call { self.meet(kind) } else { Ok(None) }) else { return 0 };
        match fault {
            Some(Fault::Unreachable) => {
                self.world.state().refuse_next(&self.volume);
                self.phase = Phase::Lost;
                return 0;
            }
            Some(Fault::CutSent(at)) => {
                self.phase = Phase::Lost;
                return at % length;
            }
            _ => {}
        }
        match asked.method {
            Method::Put => self.begin_put(&asked, is_call, fault),
            Method::Get if asked.is_look() => self.show_marker(&asked, fault),
            Method::Head | Method::Get => self.show(&asked, fault),
            Method::Delete => self.delete(&asked, fault),
        }
        length
    }

    fn file(&self, asked: &Asked) -> Whereabouts {
        (self.volume.clone(), asked.path.clone())
    }

    /// A request that changes nothing.
    fn show(&mut self, asked: &Asked, fault: Option<Fault>) {
        let file = self.world.state().files.get(&self.file(asked)).cloned();
        let found = match file {
            None => {
                self.world.state().suspects.insert(self.volume.clone());
                http::answer(asked.method, StatusCode::NOT_FOUND, "")
            }
            Some(file) => {
                let (head, part) = http::found(&file, asked.range.clone());
                if asked.method == Method::Get {
                    let bytes = file.bytes.slice(part);
                    let (first, second) = (bytes.slice(..bytes.len() / 2), bytes.slice(bytes.len() / 2..));
                    self.file = [first, second].into_iter().filter(|piece| !piece.is_empty()).collect();
                }
                head
            }
        };
        self.reply(asked.method, fault, found, SLOW);
    }

    /// A look at a marker, or at what is in a directory.
    fn show_marker(&mut self, asked: &Asked, fault: Option<Fault>) {
        let world = self.world.state();
        let shown = match world.files.get(&self.file(asked)) {
            _ if asked.path.ends_with('/') => http::listing(&world.shown(&self.volume), &asked.path),
            Some(marker) => http::whole(marker),
            None => http::answer(Method::Get, StatusCode::NOT_FOUND, ""),
        };
        drop(world);
        self.reply(Method::Get, fault, shown, SLOW);
    }

    fn delete(&mut self, asked: &Asked, fault: Option<Fault>) {
        let file = self.file(asked);
        let mut world = self.world.state();
        let status = match world.files.contains_key(&file) {
            _ if !world.lets_change(&file) => StatusCode::SERVICE_UNAVAILABLE,
            true => StatusCode::NO_CONTENT,
            false => {
                world.suspects.insert(self.volume.clone());
                StatusCode::NOT_FOUND
            }
        };
        world.check_delete(&file);
        world.send(file, Change::Delete, fault);
        drop(world);
        self.reply(asked.method, fault, http::answer(asked.method, status, ""), SLOW);
    }

    fn begin_put(&mut self, asked: &Asked, is_call: bool, fault: Option<Fault>) {
        match fault {
            Some(Fault::Continue) => self.say_continue(),
            None => {}
            Some(_) => {
                self.refuse(Framing::of(asked), fault);
                return;
            }
        }
        let (to, framing) = (self.file(asked), Framing::of(asked));
        let mut world = self.world.state();
        let is_value = !is_marker(&to.1);
        let attempt = if is_value { world.check_put(&to) } else { 0 };
        // where there is no room for a value, there is for a marker
        let refusal = if is_value {
            (!world.lets_change(&to)).then_some(StatusCode::SERVICE_UNAVAILABLE)
        } else {
            world.refuses_markers
        };
        let mounts = world.mounts(&self.volume);
        drop(world);
        if let Some(status) = refusal {
            self.refuse(framing, Some(Fault::Refused(status)));
            return;
        }
        let modified = asked.date.unwrap_or_default();
        assert!(asked.date.is_some() || !is_value, "a PUT of a value has a Date");
        self.phase =
            Phase::Taking(Taking { to, attempt, modified, mounts, is_call, bytes: Vec::new(), framing });
        self.store_if_whole();
    }

    /// Takes the next piece of a body.
    fn take_piece(&mut self, bytes: &[u8]) -> usize {
        let Phase::Taking(taking) = &mut self.phase else { unreachable!("a value is being taken") };
        let (taken, piece) = taking.framing.take(bytes);
        if !piece.is_empty() {
            taking.bytes.extend_from_slice(&bytes[piece]);
            let met = if taking.is_call { self.world.meet_now(Kind::Take, &self.volume) } else { Ok(None) };
            let fault = match met {
                Ok(None) => None,
                Ok(Some(Fault::Continue)) => {
                    self.say_continue();
                    None
                }
                Ok(fault) => fault,
                Err(Stopped) => return 0,
            };
            if fault.is_some() {
                let Phase::Taking(taking) = std::mem::replace(&mut self.phase, Phase::Deaf) else {
                    unreachable!("a value is being taken")
                };
                self.refuse(taking.framing, fault);
                return taken;
            }
            self.linger();
        }
        self.store_if_whole();
        taken
    }

    /// A value that is no further taken.
    fn refuse(&mut self, rest: Framing, fault: Option<Fault>) {
        self.phase = if rest.is_whole() { Phase::Idle } else { Phase::Discarding(rest) };
        match fault {
            Some(Fault::Early) => self.reply(
                Method::Put,
                None,
                http::answer(Method::Put, StatusCode::CREATED, ""),
                Duration::ZERO,
            ),
            fault => self.reply(Method::Put, fault, Vec::new(), Duration::ZERO),
        }
    }

    /// Answers a PUT whose body is whole.
    fn store_if_whole(&mut self) {
        let is_call = match &self.phase {
            Phase::Taking(taking) if taking.framing.is_whole() && !self.is_busy() => taking.is_call,
            _ => return,
        };
        let Ok(fault) = (if is_call { self.meet(Kind::Stored) } else { Ok(None) }) else { return };
        let Phase::Taking(taking) = std::mem::replace(&mut self.phase, Phase::Idle) else { return };
        let Taking { to, attempt, modified, mounts, bytes, .. } = taking;
        let mut world = self.world.state();
        // what was taken so far lies on the disk that is gone
        if world.disks.template == Template::Ours && world.mounts(&self.volume) != mounts {
            drop(world);
            self.reply(
                Method::Put,
                Some(Fault::Refused(StatusCode::INTERNAL_SERVER_ERROR)),
                Vec::new(),
                SLOW,
            );
            return;
        }
        let there = world.files.contains_key(&to);
        world.send(to, Change::Put(File::new(bytes.into(), modified, attempt)), fault);
        drop(world);
        let status = if there { StatusCode::NO_CONTENT } else { StatusCode::CREATED };
        self.reply(Method::Put, fault, http::answer(Method::Put, status, ""), SLOW_TO_STORE);
    }

    /// Reads the next piece of a file.
    fn read_file(&mut self) {
        let Ok(fault) = self.meet(Kind::Read) else { return };
        let Some(piece) = self.file.pop_front() else { return };
        self.reply(Method::Get, fault, piece.to_vec(), SLOW);
    }

    /// Takes nothing more for as long as the call takes that was numbered last.
    fn linger(&mut self) {
        let latency = self.world.state().latency();
        self.busy_until = (!latency.is_zero()).then(|| Instant::now() + latency);
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.end();
    }
}
