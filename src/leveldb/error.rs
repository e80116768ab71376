//! Errors of a database.

use std::fmt;

/// A failure, or damage: LevelDB's message on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(pub(super) String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// Why a database could not be opened. The message doesn't name the path; the caller does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenError {
    /// Another process, or this one, has it open.
    InUse,
    /// The parent directory does not exist.
    MissingParent,
    /// The path is a file, or a directory with other contents.
    NotADatabase,
    /// There is no database, and the options don't create one.
    Missing,
    /// Anything else, damage included: the message of LevelDB or of the system.
    Other(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InUse => "in use by another process",
            Self::MissingParent => "the directory above it does not exist",
            Self::NotADatabase => "exists, but is not a LevelDB database",
            Self::Missing => "there is no database",
            Self::Other(message) => message,
        })
    }
}

impl std::error::Error for OpenError {}

/// If LevelDB's own lock (fcntl) failed, another LevelDB program has the database open.
pub(super) fn refused(error: Error) -> OpenError {
    if error.0.starts_with("IO error: lock ") { OpenError::InUse } else { OpenError::Other(error.0) }
}

pub(super) fn other(error: impl fmt::Display) -> OpenError {
    OpenError::Other(error.to_string())
}

pub(super) fn failed(error: impl fmt::Display) -> Error {
    Error(error.to_string())
}
