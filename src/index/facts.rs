//! Facts: rows about the store itself and its volumes, which say whose the volumes are.

use std::collections::BTreeMap;

use super::error::IndexError;
use super::{Index, engine};
use crate::identity::{Known, MarkerError, Owner};

const OWNER: &[u8] = b"\0store";
const VOLUME: &[u8] = b"\0volume";

/// Which fact.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fact {
    /// Whose index it is.
    Owner,
    /// What is known of the volume of that name.
    Volume(String),
}

impl Fact {
    /// What the rows of all volumes begin with.
    pub(super) const VOLUMES: &'static [u8] = VOLUME;

    /// Its row in the index.
    pub(crate) fn row(&self) -> Vec<u8> {
        match self {
            Self::Owner => OWNER.to_vec(),
            Self::Volume(name) => [VOLUME, name.as_bytes()].concat(),
        }
    }
}

/// Facts: whose index this is, and whose the volumes are. What is set is durable, whatever the options say.
impl Index {
    /// Where the index is. A copy of it is elsewhere.
    ///
    /// # Errors
    ///
    /// It can't be looked at.
    pub fn home(&self) -> Result<String, IndexError> {
        engine!(self, engine => engine.home())
    }

    /// Whose index it is; `None` for one that was made before there were identities, or just now.
    ///
    /// # Errors
    ///
    /// As [`Index::look`].
    pub async fn owner(&self) -> Result<Option<Owner>, IndexError> {
        let bytes = engine!(self, engine => engine.fact(&Fact::Owner).await)?;
        bytes.map(|bytes| read_owner(&bytes)).transpose()
    }

    /// Sets whose index it is.
    ///
    /// # Errors
    ///
    /// The write may or may not have happened.
    pub async fn set_owner(&self, owner: &Owner) -> Result<(), IndexError> {
        engine!(self, engine => engine.set_fact(Fact::Owner, Some(owner.encode())).await)
    }

    /// Whether anything but facts may have been written since this was asked last, or since the index was opened.
    pub(crate) fn take_written(&self) -> bool {
        engine!(self, engine => engine.take_written())
    }

    /// What is known of all volumes, by name.
    ///
    /// # Errors
    ///
    /// As [`Index::page`].
    pub async fn known_volumes(&self) -> Result<BTreeMap<String, Known>, IndexError> {
        let rows = engine!(self, engine => engine.volume_facts().await)?;
        rows.iter().map(|(row, bytes)| read_known(row, bytes)).collect()
    }

    /// Sets what is known of the volume of that name.
    ///
    /// # Errors
    ///
    /// As [`Index::set_owner`].
    pub async fn set_known(&self, name: &str, known: &Known) -> Result<(), IndexError> {
        engine!(self, engine => engine.set_fact(Fact::Volume(name.to_owned()), Some(known.encode())).await)
    }

    /// Forgets the volume of that name, which need not be known.
    ///
    /// # Errors
    ///
    /// As [`Index::set_owner`].
    pub async fn forget_volume(&self, name: &str) -> Result<(), IndexError> {
        engine!(self, engine => engine.set_fact(Fact::Volume(name.to_owned()), None).await)
    }
}

/// Whether a row of the index is a fact.
pub(super) fn is_fact(row: &[u8]) -> bool {
    row == OWNER || row.starts_with(VOLUME)
}

/// Checks that a fact can be read.
pub(super) fn check(row: &[u8], bytes: &[u8]) -> Result<(), IndexError> {
    if row == OWNER { read_owner(bytes).map(drop) } else { read_known(row, bytes).map(drop) }
}

fn read_owner(bytes: &[u8]) -> Result<Owner, IndexError> {
    Owner::decode(bytes).map_err(|error| damaged("the store's row", error))
}

fn read_known(row: &[u8], bytes: &[u8]) -> Result<(String, Known), IndexError> {
    let name = row.strip_prefix(VOLUME).and_then(|name| std::str::from_utf8(name).ok());
    let what = format!("the row {}", row.escape_ascii());
    let name = name.ok_or_else(|| IndexError::new(format!("the index is damaged: {what}")))?;
    Ok((name.to_owned(), Known::decode(bytes).map_err(|error| damaged(&what, error))?))
}

fn damaged(what: &str, error: MarkerError) -> IndexError {
    IndexError::because(format!("the index can't be used: {what}"), error)
}
