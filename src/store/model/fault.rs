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
    /// The index fails, and nothing was written.
    Fails,
    /// The index fails to write, and what it wrote is found at the next start.
    FailsButKeeps,
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
}

/// What is to befall a call of some number.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    Exactly(Fault),
    /// One of those that can befall it, by number.
    Any(usize),
}

impl Kind {
    /// What can befall such a call.
    pub(super) fn faults(self) -> &'static [Fault] {
        use Fault::{Fails, FailsButKeeps, Refused, Stalls, Stop, StopAfter, Unanswered, Unreachable};
        use Landing::{Last, Never, Now, Soon};
        const BROKEN: Fault = Refused(StatusCode::INTERNAL_SERVER_ERROR);
        const FULL: Fault = Refused(StatusCode::INSUFFICIENT_STORAGE);
        match self {
            Self::Get | Self::Page => &[Stop, Fails],
            Self::Generation => &[Stop],
            Self::Reserve | Self::Commit => &[Stop, StopAfter(Now), Fails, FailsButKeeps],
            Self::Head | Self::Open => &[Stop, Unreachable, BROKEN, Unanswered(Never)],
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
}

impl Fault {
    pub(super) fn is_stop(self) -> bool {
        matches!(self, Self::Stop | Self::StopAfter(_))
    }
}

impl Fate {
    pub(super) fn of(self, kind: Kind) -> Fault {
        match self {
            Self::Exactly(fault) => fault,
            Self::Any(number) => kind.faults()[number % kind.faults().len()],
        }
    }
}
