//! How a volume stands, and why a store can't tell whose it is: what an operator reads.

use std::fmt;

use crate::identity::{Id, Problem};
use crate::index::IndexError;
use crate::volume::VolumeError;

/// How a volume stands after a look at it.
#[derive(Debug)]
pub enum Standing {
    /// It takes part.
    Verified,
    /// It takes part from now on: it had no markers, and has them now.
    Adopted,
    /// It takes part, at this address, where it was found: disks were swapped.
    Followed(String),
    /// It takes part from now on, in the place of one that is gone for good.
    Replaced,
    /// It can't be asked.
    Down(VolumeError),
    /// It takes no part.
    Refused {
        /// Why.
        problem: Problem,
        /// What to say with `--replaced` if its disk is gone for good.
        replaced: String,
    },
    /// Another program has it.
    Taken,
}

/// Why a store can't tell whose it is.
#[derive(Debug)]
pub enum IdentifyError {
    /// The index can't be read or written.
    Index(IndexError),
    /// The volumes were written since with another copy of the index, or with another index.
    Outdated,
    /// The index was made before there were identities, and a volume belongs to a store.
    WithoutIdentity {
        /// The volume.
        volume: String,
        /// The store.
        store: Id,
    },
}

impl From<IndexError> for IdentifyError {
    fn from(error: IndexError) -> Self {
        Self::Index(error)
    }
}

impl std::error::Error for IdentifyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Index(error) => Some(error),
            Self::Outdated | Self::WithoutIdentity { .. } => None,
        }
    }
}

impl fmt::Display for IdentifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(error) => error.fmt(f),
            Self::Outdated => f.write_str(
                "this index is out of date: its volumes were last written with another copy of it, or with another \
                 index. Name that one in --db, or make a new one: davkv-rebuild --from takes from this one what the \
                 files don't tell",
            ),
            Self::WithoutIdentity { volume, store } => write!(
                f,
                "this index is minikeyvalue's or one of davkv 0.1, and the volume {volume} belongs to the store {store}: \
                 name that store's index in --db, or make a new one: davkv-rebuild --from takes from this one what the \
                 files don't tell"
            ),
        }
    }
}

impl Standing {
    /// Whether it takes part.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        matches!(self, Self::Verified | Self::Adopted | Self::Followed(_) | Self::Replaced)
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verified => f.write_str("verified"),
            Self::Adopted => f.write_str("adopted: it belongs to this store from now on"),
            Self::Followed(address) => {
                write!(f, "verified; its disk was swapped with another's: it is followed to {address}")
            }
            Self::Replaced => f.write_str("it is replaced: leave --replaced away from now on"),
            Self::Down(error) if error.is_not_allowed() => error.fmt(f),
            Self::Down(error) => write!(f, "down: {error}"),
            Self::Refused { problem, replaced } if problem.is_of_a_lost_disk() => {
                write!(f, "{problem} {replaced}")
            }
            Self::Refused { problem, .. } => problem.fmt(f),
            Self::Taken => f.write_str("another program with a copy of this index has it now"),
        }
    }
}

impl Standing {
    /// What tells it from another one: a volume that doesn't answer may say so in other words at each look.
    pub(super) fn kind(&self) -> String {
        match self {
            Self::Down(VolumeError::Unreachable(_) | VolumeError::Unanswered(_)) => "down".to_owned(),
            standing => standing.to_string(),
        }
    }

    /// Logs it.
    pub(super) fn log(&self, volume: &str) {
        match self {
            Standing::Verified | Standing::Adopted => tracing::info!(volume, "{self}"),
            Standing::Followed(_) | Standing::Replaced | Standing::Down(_) => {
                tracing::warn!(volume, "{self}");
            }
            Standing::Refused { .. } | Standing::Taken => tracing::error!(volume, "it takes no part: {self}"),
        }
    }
}
