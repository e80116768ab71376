//! What a volume says, and what a fault makes of it.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Nginx, Phase, Taking};
use crate::store::model::fault::{Fault, Landing};
use crate::store::model::http::{self, Method};
use crate::store::model::world::{Change, File};

/// How long a sick volume takes to fail: if it did so in no time, it could be asked again and again, and no
/// time would ever pass.
const SICK: Duration = Duration::from_millis(20);

/// Between two bytes of an answer that comes byte by byte.
const DRIP: Duration = Duration::from_millis(1);

/// What a volume says without being asked.
const STRAY: [&[u8]; 6] = [
    b"\r\n",
    b"x",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 500 Internal Server Error\r\n",
];

impl Nginx {
    /// Says what the fault makes of an answer.
    pub(super) fn reply(&mut self, method: Method, fault: Option<Fault>, answer: Vec<u8>, slow: Duration) {
        let now = Instant::now() + self.world.state().latency();
        match fault {
            None => self.answer.push_back((now, answer.into())),
            Some(Fault::Continue) => {
                self.say_continue();
                self.answer.push_back((now, answer.into()));
            }
            Some(Fault::Slow) => self.answer.push_back((now + slow, answer.into())),
            Some(Fault::Drip) => {
                let bytes =
                    answer.iter().zip(1..).map(|(byte, turn)| (now + DRIP * turn, vec![*byte].into()));
                self.answer.extend(bytes);
            }
            Some(Fault::Stray(which)) => {
                let stray = STRAY[which % STRAY.len()];
                // in the middle of a file there is no answer's end
                let stray = if self.file.is_empty() { stray } else { b"" };
                self.answer.push_back((now, [&answer, stray].concat().into()));
            }
            Some(Fault::StrayLater) => {
                self.answer.push_back((now, answer.into()));
                if self.file.is_empty() {
                    self.answer.push_back((now + DRIP, Bytes::from_static(b"x")));
                }
            }
            Some(Fault::Closes) => {
                self.answer.push_back((now, answer.into()));
                self.closes = true;
            }
            Some(Fault::CutAnswer(at)) => {
                let bytes = Bytes::from(answer);
                self.file.clear();
                self.lose(bytes.slice(..at % bytes.len()));
            }
            Some(Fault::Refused(status)) => {
                self.file.clear();
                let sick = self.world.state().sick.contains(&self.volume);
                let after = if sick { SICK } else { Duration::ZERO };
                self.answer.push_back((now + after, http::answer(method, status, "it doesn't").into()));
            }
            Some(Fault::Unanswered(_)) => self.lose(Bytes::new()),
            Some(Fault::Silent(_) | Fault::Stalls) => {
                self.file.clear();
                self.phase = Phase::Deaf;
            }
            Some(Fault::StopAfter(_)) => self.world.stop_now(),
            Some(fault) => unreachable!("{fault:?} befalls no request to a volume"),
        }
    }

    /// The connection ends. A value that was sent to its end is stored, whether or not anybody waits for the
    /// answer.
    pub(super) fn end(&mut self) {
        if let Phase::Taking(taking) = std::mem::replace(&mut self.phase, Phase::Lost)
            && taking.framing.is_whole()
        {
            let Taking { to, attempt, modified, bytes, .. } = taking;
            let file = File::new(bytes.into(), modified, attempt);
            self.world.state().send(to, Change::Put(file), Some(Fault::Unanswered(Landing::Soon)));
        }
    }

    /// Says that much, and loses the connection.
    pub(super) fn lose(&mut self, last: Bytes) {
        self.file.clear();
        if !last.is_empty() {
            self.answer.push_back((Instant::now(), last));
        }
        self.phase = Phase::Lost;
    }

    pub(super) fn say_continue(&mut self) {
        self.answer.push_back((Instant::now(), Bytes::from_static(b"HTTP/1.1 100 Continue\r\n\r\n")));
    }
}
