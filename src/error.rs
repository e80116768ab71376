//! Why a request on a key fails, named by meaning. The APIs choose the statuses; causes are logged where they
//! happen.

use std::fmt;

use crate::key::KeyError;

/// Why a request on a key was not carried out.
#[derive(Debug)]
pub enum Error {
    /// There is no such key, or it isn't in the state that the request needs (live or unlinked).
    NotFound,
    /// The key has a live value, and values are immutable.
    Exists,
    /// The key's value isn't the one that the request expects.
    Changed,
    /// No such upload in parts: it was never created, or was completed or aborted.
    NoUpload,
    /// Another request is writing the key.
    Busy,
    /// So many others wait to write the key that this request may not wait, too.
    TooManyWaiters,
    /// The key must be unlinked before it can be deleted (`--protect`).
    Protected,
    /// The bytes can't be a key.
    InvalidKey(KeyError),
    /// The value has no bytes.
    Empty,
    /// The value's MD5 is not the one that the client announced.
    WrongMd5,
    /// The client's body ended before its announced length.
    CutShort,
    /// The client sent nothing for too long, or too slowly.
    Stalled,
    /// Fewer volumes took the value than it needs replicas.
    TooFewVolumes {
        /// Volumes that took it, or are healthy.
        able: usize,
        /// Volumes that are needed.
        needed: usize,
        /// The volume that doesn't take this master for one, and that in words.
        refused: Option<String>,
    },
    /// Fewer volumes have room for the value than it needs replicas.
    Full,
    /// The value stays where it is, with all its replicas: a volume on which it should lie has no room.
    Unbalanced {
        /// The volume's name.
        full: String,
    },
    /// Too many answers wait in memory for their clients to read them.
    NoMemory,
    /// A volume that is needed is down or doesn't answer.
    Unreachable,
    /// All volumes answered, and no replica is whole.
    Damaged,
    /// The key has too many unfinished attempts: no attempt begins until its volumes return.
    Unsettled,
    /// The index failed; the cause is for the log only.
    Index(Box<dyn std::error::Error + Send + Sync>),
    /// A bug: a task panicked.
    Panicked,
}

/// The result of a request on a key.
pub type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("no such key"),
            Self::Exists => f.write_str("the key exists, and values are immutable: DELETE it first"),
            Self::Changed => f.write_str("the key's value isn't the one that the request expects"),
            Self::NoUpload => {
                f.write_str("no such upload in parts: it was never created, or was completed or aborted")
            }
            Self::Busy => f.write_str("another request is writing this key: try again"),
            Self::TooManyWaiters => f.write_str("too many requests wait to write this key: try again later"),
            Self::Protected => f.write_str("this master runs with --protect: UNLINK the key first"),
            Self::InvalidKey(error) => error.fmt(f),
            Self::Empty => f.write_str("an empty value can't be stored: send a body"),
            Self::WrongMd5 => f.write_str("the body doesn't have the MD5 that Content-MD5 announced"),
            Self::CutShort => f.write_str("the body ended before its announced length"),
            Self::Stalled => f.write_str("the body came too slowly"),
            Self::TooFewVolumes { able, needed, refused } => {
                write!(f, "{needed} healthy volumes are needed, {able} can take the value now: try again")?;
                refused.iter().try_for_each(|refused| write!(f, " ({refused})"))
            }
            Self::Full => f.write_str("the volumes don't take the value: they are full, or can't be written"),
            Self::Unbalanced { full } => write!(
                f,
                "the value stays where it is, with all its replicas: the volume {full} is full, or can't be written"
            ),
            Self::NoMemory => {
                f.write_str("too many answers wait for their clients to read them: try again later")
            }
            Self::Unreachable => f.write_str("a volume that is needed can't be reached now: try again"),
            Self::Damaged => {
                f.write_str("the value is damaged: all its volumes answer, but no replica is whole")
            }
            Self::Unsettled => f.write_str(
                "too many unfinished writes of this key wait for volumes that are down: try again later",
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
