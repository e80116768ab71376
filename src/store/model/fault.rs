//! What the store calls, and what can befall each call.

use hyper::StatusCode;

/// What a call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Index: an entry, a record or a note.
    Get,
    /// Index: a page of intents, of parts, or of notes.
    Page,
    /// Index: a generation number, for which a block has to be reserved.
    Reserve,
    /// Index: a generation number out of the reserved ones.
    Generation,
    /// Index: a batch, or a note.
    Commit,
    /// Index: it is opened again.
    Reopen,
    /// Volume: a new connection.
    Connect,
    /// Volume: a look at a marker.
    Look,
    /// Volume: a file's size.
    Head,
    /// Volume: the beginning of a file's GET.
    Open,
    /// Volume: the next piece of the file.
    Read,
    /// Volume: a DELETE.
    Delete,
    /// Volume: the beginning of a PUT.
    Put,
    /// Volume: it takes a piece of the body.
    Take,
    /// Volume: it has the whole body.
    Stored,
}

/// When a request is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Landing {
    Never,
    Now,
    /// A second after it was sent.
    Soon,
    /// As late as a request can.
    Last,
}

/// What befalls a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The store stops before the call has an effect.
    Stop,
    /// The store stops after it sent the request or wrote the batch.
    StopAfter(Landing),
    /// The index fails, and nothing was written, or it wasn't closed to be opened again.
    Fails,
    /// The index fails to write, and what it wrote is found when it is opened again.
    FailsButKeeps,
    /// The index was closed, and can't be opened now.
    StaysClosed,
    /// No connection.
    Unreachable,
    /// The volume answers that it doesn't.
    Refused(StatusCode),
    /// The connection is lost.
    Unanswered(Landing),
    /// The volume takes nothing more, and says nothing.
    Stalls,
    /// The volume answers 201 before it has the body.
    Early,
    /// The connection stands, and nothing is heard on it.
    Silent(Landing),
    /// The connection is lost when so many bytes of the request's head were sent.
    CutSent(usize),
    /// The volume does it, and the connection is lost after so many bytes of the answer.
    CutAnswer(usize),
    /// The volume says `100 Continue` first.
    Continue,
    /// The answer comes late, and yet in time.
    Slow,
    /// The answer comes byte by byte.
    Drip,
    /// There is more behind the answer.
    Stray(usize),
    /// A while after the answer there is more.
    StrayLater,
    /// The volume closes the connection after the answer, without saying so in it.
    Closes,
    /// The disk of the volume of that rank vanishes, and the call goes on.
    Vanish(usize),
    /// The index is copied, and the call goes on.
    CopyIndex,
}

/// What is to befall a call of some number.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    Exactly(Fault),
    /// One of those that can befall it, by number.
    Any(usize),
}

/// Statuses that say that nothing was done.
const STATUSES: [u16; 16] = [300, 301, 302, 400, 403, 405, 408, 409, 411, 413, 429, 500, 502, 503, 504, 507];

impl Kind {
    /// What can befall such a call, whatever its number.
    fn always(self) -> &'static [Fault] {
        use Fault::{
            Fails, FailsButKeeps, Refused, Silent, Stalls, StaysClosed, Stop, StopAfter, Unanswered,
            Unreachable,
        };
        use Landing::{Last, Never, Now, Soon};
        const BROKEN: Fault = Refused(StatusCode::INTERNAL_SERVER_ERROR);
        const FULL: Fault = Refused(StatusCode::INSUFFICIENT_STORAGE);
        match self {
            Self::Get | Self::Page => &[Stop, Fails],
            Self::Generation => &[Stop],
            Self::Reserve | Self::Commit => &[Stop, StopAfter(Now), Fails, FailsButKeeps],
            Self::Reopen => &[Stop, StopAfter(Now), Fails, StaysClosed],
            Self::Connect => &[Stop, Unreachable, Silent(Never)],
            Self::Look | Self::Head | Self::Open => &[Stop, Unreachable, BROKEN, Unanswered(Never)],
            Self::Read => &[Stop, Unanswered(Never)],
            Self::Delete => &[
                Stop,
                StopAfter(Now),
                StopAfter(Soon),
                StopAfter(Last),
                Unreachable,
                BROKEN,
                Unanswered(Never),
                Unanswered(Now),
                Unanswered(Soon),
                Unanswered(Last),
            ],
            Self::Put => &[Stop, Unreachable, Refused(StatusCode::FORBIDDEN), FULL, Unanswered(Never)],
            Self::Take => &[Stop, FULL, Unanswered(Never), Stalls],
            Self::Stored => &[
                Stop,
                StopAfter(Now),
                StopAfter(Soon),
                StopAfter(Last),
                FULL,
                Unanswered(Never),
                Unanswered(Now),
                Unanswered(Soon),
                Unanswered(Last),
            ],
        }
    }

    /// What can befall such a call. Besides what always can, two oddities of the network in turn, so that
    /// many calls together see all of them, at every byte.
    pub(super) fn faults(self, turn: usize) -> Vec<Fault> {
        let odd = self.oddities(turn);
        let first = (turn * 2).checked_rem(odd.len()).unwrap_or(0);
        let in_turn = odd.iter().cycle().skip(first).take(odd.len().min(2));
        self.always().iter().chain(in_turn).copied().collect()
    }

    fn oddities(self, turn: usize) -> Vec<Fault> {
        use Fault::{Closes, Continue, CutAnswer, CutSent, Drip, Refused, Silent, Slow, Stray, StrayLater};
        use Landing::{Last, Never, Now};
        // a step that has no divisor in common with the lengths of heads, which are some hundred bytes
        let byte = turn * 37;
        let refused = Refused(StatusCode::from_u16(STATUSES[turn / 3 % STATUSES.len()]).unwrap());
        let harmless = [Drip, Slow, Stray(turn / 30), StrayLater, Closes, Continue][turn / 5 % 6];
        let landing = [Never, Now, Last][turn / 2 % 3];
        match self {
            Self::Get
            | Self::Page
            | Self::Generation
            | Self::Reserve
            | Self::Commit
            | Self::Reopen
            | Self::Connect => vec![],
            Self::Look | Self::Head | Self::Open => {
                vec![Silent(Never), refused, CutSent(byte), CutAnswer(byte), harmless]
            }
            // in the middle of a file it would be bytes of the file
            Self::Read if harmless == Continue => vec![Silent(Never), CutAnswer(byte)],
            Self::Read => vec![Silent(Never), CutAnswer(byte), harmless],
            Self::Delete => vec![Silent(landing), refused, CutSent(byte), CutAnswer(byte), harmless],
            Self::Put => vec![Silent(Never), refused, CutSent(byte), Continue],
            Self::Take => vec![refused, Continue],
            Self::Stored => vec![Silent(landing), refused, CutAnswer(byte), harmless],
        }
    }
}

impl Fault {
    pub(super) fn is_stop(self) -> bool {
        matches!(self, Self::Stop | Self::StopAfter(_))
    }

    /// Whether the volume does what it is asked, and gives the whole answer.
    pub(super) fn is_carried_out(self) -> bool {
        self.is_harmless() || self == Self::StrayLater
    }

    /// Whether all goes on as without it. (What comes later than the answer may meet the next request, and
    /// is then taken for the beginning of a wrong answer to that.)
    pub(super) fn is_harmless(self) -> bool {
        matches!(self, Self::Continue | Self::Slow | Self::Drip | Self::Stray(_) | Self::Closes)
    }
}

impl Fate {
    pub(super) fn of(self, kind: Kind) -> Fault {
        match self {
            Self::Exactly(fault) => fault,
            Self::Any(number) => {
                let faults = kind.faults(number);
                faults[number % faults.len()]
            }
        }
    }
}
