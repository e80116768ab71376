//! What a request to a volume comes to, and how long it is waited for.

use std::fmt;
use std::time::Duration;

use hyper::StatusCode;

use super::lack::Lack;
use crate::clock::Timestamp;

/// How long volumes are waited for.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a connection, and for the whole answer to a small request (`--voltimeout`).
    pub request: Duration,
    /// For the next byte of a stream in either direction, and for the answer after its last one
    /// (`--streamtimeout`).
    pub stream: Duration,
}

/// Why a volume didn't do what it was asked.
#[derive(Clone, Debug)]
pub enum VolumeError {
    /// No connection: the request was never sent.
    Unreachable(String),
    /// This machine had nothing to make a connection with: the request was never sent, and the volume has no part in
    /// that.
    Lacking(Lack),
    /// Sent, and no usable answer: it may be carried out, or not, or later.
    Unanswered(String),
    /// Answered with this status: it was not carried out.
    Refused(StatusCode),
    /// Asked to store something, answered with this status: it has no room, or can't write. (nginx mostly says 500 where
    /// 507 is meant.)
    NoRoom(StatusCode),
    /// Asked for what only masters may do, answered 403.
    NotAllowed,
    /// The volume isn't the one that is meant, as far as is known: the request was never sent, or its answer says
    /// nothing.
    Unverified,
}

impl VolumeError {
    /// The refusal of a request that only masters may make.
    pub(super) fn refused_to_a_master(status: StatusCode) -> Self {
        if status == StatusCode::FORBIDDEN { Self::NotAllowed } else { Self::Refused(status) }
    }

    /// The refusal of a request to store something.
    pub(super) fn refused_to_store(status: StatusCode) -> Self {
        match status {
            StatusCode::INTERNAL_SERVER_ERROR | StatusCode::INSUFFICIENT_STORAGE => Self::NoRoom(status),
            status => Self::refused_to_a_master(status),
        }
    }

    /// Whether the request is known to have no effect, now or later: it was refused, or never sent. A request
    /// without an answer may still take effect.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        !matches!(self, Self::Unanswered(_))
    }

    /// Whether the volume has no such file.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(StatusCode::NOT_FOUND))
    }

    /// Whether the file ends before the range that was asked for.
    #[must_use]
    pub fn is_beyond_end(&self) -> bool {
        matches!(self, Self::Refused(StatusCode::RANGE_NOT_SATISFIABLE))
    }

    /// Whether the volume answered that it doesn't do what it was asked for.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::NoRoom(_) | Self::NotAllowed)
    }

    /// Whether the volume, asked to store something, had no room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::NoRoom(_))
    }

    /// Whether the volume doesn't take this master for one.
    #[must_use]
    pub fn is_not_allowed(&self) -> bool {
        matches!(self, Self::NotAllowed)
    }
}

impl std::error::Error for VolumeError {}

impl fmt::Display for VolumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "unreachable ({why})"),
            Self::Lacking(lack) => write!(f, "not asked (the master lacks {lack})"),
            Self::Unanswered(why) => write!(f, "no answer ({why})"),
            Self::Refused(status) => write!(f, "answered {status}"),
            Self::NoRoom(StatusCode::INSUFFICIENT_STORAGE) => f.write_str("full (it answered 507)"),
            Self::NoRoom(status) => write!(f, "full, or can't be written (it answered {})", status.as_u16()),
            Self::NotAllowed => f.write_str("refused with 403: is this master in the volume's MASTER?"),
            Self::Unverified => f.write_str("it takes no part: its identity isn't verified"),
        }
    }
}

pub(super) type Outcome<T> = Result<T, VolumeError>;

/// A file that a volume has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Its length in bytes.
    pub size: u64,
    /// When it was written, in seconds since 1970, if the volume tells.
    pub modified: Option<u64>,
}

/// For the log: `100 bytes of 2026-11-30T13:25:25.000Z`.
impl fmt::Display for FileInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.size)?;
        match self.modified {
            Some(seconds) => write!(f, " of {}", Timestamp::from_seconds(seconds)),
            None => Ok(()),
        }
    }
}

/// Why a request has no answer when its time is over.
pub(super) fn late(limit: Duration) -> String {
    format!("within {}", humantime::format_duration(limit))
}
