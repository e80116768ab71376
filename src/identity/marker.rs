//! The forms: the marker and the owner file on a volume, and the rows of the index.
//!
//! All are JSON on one line, so that an operator can read them with `cat`. The field `davkv` is the version of
//! the form; a reader refuses a version that it doesn't know, and ignores fields that it doesn't know.
//!
//! A volume has two files because nginx never syncs: one that is written again and again may be garbled by a loss of
//! power. The marker, without which the volume takes no part, is written when the volume is adopted, and then only when
//! its subvolumes change. The owner file may be lost at any time.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Id;
use crate::clock::Timestamp;

/// The path of a marker below its subvolume. No key's file has this name, because base64 has no comma and a
/// generation has 16 digits after it; every volume serves it, also with minikeyvalue's template.
pub const MARKER: &str = "/00/00/davkv,volume";

/// The path of the owner file below the first subvolume that has a marker. As with [`MARKER`], no key's file has this
/// name.
pub const OWNER_FILE: &str = "/00/00/davkv,owner";

/// The version of all forms.
const VERSION: u32 = 1;

/// What the marker of one subvolume says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The store that the volume belongs to.
    pub store: Id,
    /// The volume's name in this store.
    pub name: String,
    /// The volume itself, whatever it is called: an empty disk in its place gets another id.
    pub volume: Id,
    /// The subvolume, `/svXX`, or nothing.
    pub directory: String,
    /// All subvolumes that have a marker, in order: one that has none is a disk that isn't mounted.
    pub directories: Vec<String>,
    /// When the volume got its id.
    pub made: Timestamp,
}

/// What the owner file of a volume says: who has the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerFile {
    /// The run of a program that wrote it last.
    pub run: Run,
    /// Whether that run has ended as it should: it writes nothing any more.
    pub ended: bool,
}

/// One run of a program that writes to the volumes, the master or a rebalance; or a stretch of one, as the number rises
/// while values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The index that it has: a copy of an index gets another id here when it is first opened.
    pub line: Id,
    /// Rises at each start, and now and then while the index is written: what it was before is out of date.
    pub number: u64,
}

impl Run {
    /// Whether an index that has had `self` as its last run knows of everything that the run `marked` has done.
    #[must_use]
    pub fn knows(self, marked: Self) -> bool {
        self.line == marked.line && marked.number <= self.number
    }
}

/// What the index knows of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The volume that has the name.
    pub volume: Id,
    /// Since when.
    pub since: Timestamp,
    /// The subvolumes that have a marker, `/svXX` or nothing, in order.
    pub directories: Vec<String>,
}

/// What the index knows of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The store.
    pub store: Id,
    /// When the store got its id.
    pub since: Timestamp,
    /// The last run that had this index.
    pub run: Run,
    /// Where the index was then: a copy is elsewhere.
    pub home: String,
    /// Whether that run ended as it should: nothing was written since.
    pub ended: bool,
    /// Attempts with lower numbers may be those of another copy of this index: what their intents say may be out of
    /// date, and there may be files of later values under plain names. 0 unless this is, or was, a copy.
    pub own_from: u64,
    /// Runs of other lines that this index comes after, each the last one of its line: those of the places where it
    /// was before, and those whose volumes it was made from.
    pub ancestors: Vec<Run>,
}

impl Owner {
    /// Whether the index knows of everything that the run `marked` has done.
    #[must_use]
    pub fn knows(&self, marked: Run) -> bool {
        self.ancestors.iter().chain([&self.run]).any(|run| run.knows(marked))
    }

    /// The ancestors of an index that goes on in another line.
    #[must_use]
    pub fn ancestors_of_a_new_line(&self) -> Vec<Run> {
        let others = self.ancestors.iter().filter(|run| run.line != self.run.line);
        others.copied().chain([self.run]).collect()
    }
}

/// Why a form can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MarkerError {
    /// It is of a later davkv.
    Later(u32),
    /// It isn't one, or is damaged.
    Garbled(String),
}

impl fmt::Display for MarkerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Later(version) => write!(f, "it is of a later davkv (form {version}): use that"),
            Self::Garbled(why) => write!(f, "it can't be read ({why})"),
        }
    }
}

impl std::error::Error for MarkerError {}

#[derive(Serialize, Deserialize)]
struct StoredMarker {
    davkv: u32,
    store: Id,
    name: String,
    volume: Id,
    subvolume: String,
    subvolumes: Vec<String>,
    made: u64,
}

#[derive(Serialize, Deserialize)]
struct StoredOwnerFile {
    davkv: u32,
    run: Run,
    ended: bool,
}

#[derive(Serialize, Deserialize)]
struct StoredKnown {
    davkv: u32,
    volume: Id,
    since: u64,
    subvolumes: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct StoredOwner {
    davkv: u32,
    store: Id,
    since: u64,
    run: Run,
    home: String,
    ended: bool,
    own_from: u64,
    ancestors: Vec<Run>,
}

impl Marker {
    /// The marker as it is stored, one line of JSON.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(&StoredMarker {
            davkv: VERSION,
            store: self.store,
            name: self.name.clone(),
            volume: self.volume,
            subvolume: self.directory.clone(),
            subvolumes: self.directories.clone(),
            made: self.made.millis(),
        })
    }

    /// Reads a marker.
    ///
    /// # Errors
    ///
    /// It can't be read, which never means that there is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, MarkerError> {
        let stored: StoredMarker = decode(bytes)?;
        Ok(Self {
            store: stored.store,
            name: stored.name,
            volume: stored.volume,
            directory: stored.subvolume,
            directories: stored.subvolumes,
            made: Timestamp::from_millis(stored.made),
        })
    }
}

impl OwnerFile {
    /// The file as it is stored, one line of JSON.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(&StoredOwnerFile { davkv: VERSION, run: self.run, ended: self.ended })
    }

    /// Reads the file.
    ///
    /// # Errors
    ///
    /// It can't be read: then anybody may have the volume.
    pub fn decode(bytes: &[u8]) -> Result<Self, MarkerError> {
        let StoredOwnerFile { davkv: _, run, ended } = decode(bytes)?;
        Ok(Self { run, ended })
    }
}

impl Known {
    /// The row of the index.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (volume, since, subvolumes) = (self.volume, self.since.millis(), self.directories.clone());
        encode(&StoredKnown { davkv: VERSION, volume, since, subvolumes })
    }

    /// Reads the row.
    ///
    /// # Errors
    ///
    /// It can't be read.
    pub fn decode(bytes: &[u8]) -> Result<Self, MarkerError> {
        let StoredKnown { davkv: _, volume, since, subvolumes: directories } = decode(bytes)?;
        Ok(Self { volume, since: Timestamp::from_millis(since), directories })
    }
}

impl Owner {
    /// The row of the index.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(&StoredOwner {
            davkv: VERSION,
            store: self.store,
            since: self.since.millis(),
            run: self.run,
            home: self.home.clone(),
            ended: self.ended,
            own_from: self.own_from,
            ancestors: self.ancestors.clone(),
        })
    }

    /// Reads the row.
    ///
    /// # Errors
    ///
    /// It can't be read.
    pub fn decode(bytes: &[u8]) -> Result<Self, MarkerError> {
        let StoredOwner { davkv: _, store, since, run, home, ended, own_from, ancestors } = decode(bytes)?;
        Ok(Self { store, since: Timestamp::from_millis(since), run, home, ended, own_from, ancestors })
    }
}

fn encode(stored: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(stored).unwrap_or_else(|error| unreachable!("plain fields: {error}"));
    bytes.push(b'\n');
    bytes
}

fn decode<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T, MarkerError> {
    #[derive(Deserialize)]
    struct Version {
        davkv: u32,
    }
    let garbled = |error: serde_json::Error| MarkerError::Garbled(error.to_string());
    // the version first, as a later form may lack a field of this one
    let Version { davkv: version } = serde_json::from_slice(bytes).map_err(garbled)?;
    if version != VERSION {
        return Err(MarkerError::Later(version));
    }
    serde_json::from_slice(bytes).map_err(garbled)
}
