//! What can go wrong with a request, named by meaning. Statuses are `native`'s business, causes are
//! logged where they happen.

use std::fmt;

use crate::key::KeyError;

/// Why a request on a key was not carried out.
#[derive(Debug)]
pub enum Error {
    /// No such key (or it is unlinked, where only live ones count).
    NotFound,
    /// The key has a live value, and values are immutable.
    Exists,
    /// The key has a live value, and it isn't the one that was expected.
    Changed,
    /// No such upload in parts: it was never begun, or was completed or aborted.
    NoUpload,
    /// Another request is writing the key.
    Busy,
    /// Deleting wants an unlink first.
    Protected,
    /// The bytes can't be a key.
    InvalidKey(KeyError),
    /// The value has no bytes.
    Empty,
    /// The value's MD5 is not the one that the client announced.
    WrongMd5,
    /// The client's body ended before its announced end.
    CutShort,
    /// The client sent nothing for too long, or too slowly.
    Stalled,
    /// Fewer volumes took the value than it needs replicas.
    TooFewVolumes {
        /// How many took it, or could have.
        able: usize,
        /// How many were needed.
        needed: usize,
    },
    /// So few volumes have room that the value can't have its replicas.
    Full,
    /// No replica could be asked: its volumes are down or don't answer.
    Unreachable,
    /// All replicas were asked, and none is whole.
    Damaged,
    /// The key has so many unfinished attempts that no further one is begun until volumes return.
    Unsettled,
    /// The index failed; the cause is for the log.
    Index(Box<dyn std::error::Error + Send + Sync>),
    /// A bug: a task of ours panicked.
    Panicked,
}

/// What a request on a key comes to.
pub type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("no such key"),
            Self::Exists => f.write_str("the key exists, and values are immutable: DELETE it first"),
            Self::Changed => f.write_str("the key's value isn't the one that was expected"),
            Self::NoUpload => {
                f.write_str("no such upload in parts: it was completed or aborted, if it ever was")
            }
            Self::Busy => f.write_str("another request is writing this key: try again"),
            Self::Protected => f.write_str("this master runs with --protect: UNLINK the key first"),
            Self::InvalidKey(error) => error.fmt(f),
            Self::Empty => f.write_str("an empty value can't be stored: send a body"),
            Self::WrongMd5 => f.write_str("the body doesn't have the MD5 that Content-MD5 announced"),
            Self::CutShort => f.write_str("the body ended too early"),
            Self::Stalled => f.write_str("the body came too slowly"),
            Self::TooFewVolumes { able, needed } => {
                write!(f, "{needed} healthy volumes are needed, {able} can take the value now: try again")
            }
            Self::Full => f.write_str("the volumes don't take the value: they are full, or can't be written"),
            Self::Unreachable => f.write_str("a volume that is needed can't be reached now: try again"),
            Self::Damaged => f.write_str("the value is damaged: its volumes answer, and none holds it whole"),
            Self::Unsettled => f.write_str(
                "too many attempts to write this key wait for volumes that are down: try again later",
            ),
            Self::Index(_) => f.write_str("the index failed, see the master's log"),
            Self::Panicked => f.write_str("the master failed, see its log"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::InvalidKey(error) => Some(error),
            Self::Index(cause) => Some(cause.as_ref()),
            _ => None,
        }
    }
}
