//! What follows from what is found on a volume: the table of the design, as one pure function.

use std::fmt;

use super::{Id, Known, Marker, MarkerError, OwnerFile};

/// What was found in one subvolume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A marker.
    Marker(Marker),
    /// A marker that can't be read.
    Unreadable(MarkerError),
    /// No marker, and no file of a key.
    Empty,
    /// No marker, but files of keys.
    Values,
}

/// What was found on a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// By subvolume, `/svXX` or nothing.
    pub found: Vec<(String, Found)>,
    /// The owner file; `None` where there is none that can be read. Then, if the volume has a marker, anybody may have
    /// the volume.
    pub owner: Option<OwnerFile>,
}

impl Seen {
    /// The markers that can be read.
    pub fn markers(&self) -> impl Iterator<Item = &Marker> {
        self.found.iter().filter_map(|(_, found)| match found {
            Found::Marker(marker) => Some(marker),
            _ => None,
        })
    }

    /// Whether it has a marker of that store.
    #[must_use]
    pub fn is_of(&self, store: Id) -> bool {
        self.markers().any(|marker| marker.store == store)
    }
}

/// What follows for a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the volume that the index means, or the index is new (rebuilt) and takes the volume's word for it.
    Verified(Known),
    /// These subvolumes have no marker, and the index doesn't say that they have one. They belong to this store if they
    /// hold what the index has there, or if it has nothing there and they are empty.
    Unmarked {
        /// What is known of the volume so far, where it has other subvolumes, or had.
        known: Option<Known>,
        /// The subvolumes without a marker.
        new: Vec<String>,
        /// Whether one of them holds files of keys.
        has_values: bool,
    },
    /// It is the volume of this store that has this other name.
    Named(String),
    /// It takes no part.
    Refused(Problem),
}

/// Why a volume takes no part. Its text says what an operator can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A marker of another store.
    Foreign {
        /// Whose it is.
        store: Id,
        /// Whose index this is.
        ours: Id,
    },
    /// A volume of this store, and of this name, but not the one that the index means.
    Another {
        /// The one that is there.
        volume: Id,
        /// The one that the index means.
        meant: Id,
    },
    /// The index knows the volume, and what is there is empty.
    Missing {
        /// The empty subvolume, `/svXX` or nothing.
        directory: String,
    },
    /// The index knows the volume, and what is there has files and no marker.
    Unmarked {
        /// The subvolume without a marker.
        directory: String,
    },
    /// The disks of two subvolumes were swapped.
    Swapped {
        /// The subvolume.
        directory: String,
        /// The one whose marker is there.
        found: String,
    },
    /// A marker that can't be read.
    Unreadable {
        /// The subvolume.
        directory: String,
        /// Why.
        error: MarkerError,
    },
    /// It has files and no marker, and the index has nothing there.
    Unknown,
    /// It has no marker, and too few of the values that the index has there.
    Sampled {
        /// The subvolume.
        directory: String,
        /// How many were found.
        found: usize,
        /// How many were looked for.
        of: usize,
    },
    /// A volume of this store under another name, which can't be followed.
    Elsewhere {
        /// The name in its marker.
        name: String,
        /// Whether this store uses that name, too.
        is_used: bool,
    },
    /// There is no index yet, but a store on the volumes.
    Taken {
        /// The store, where the volume has a marker.
        store: Option<Id>,
    },
}

/// What follows for the volume of that name from what was found in its subvolumes, each `/svXX` or nothing. `known` is
/// what the index of `store` knows of it.
#[must_use]
pub fn judge(store: Id, name: &str, known: Option<&Known>, found: &[(String, Found)]) -> Verdict {
    let known = match (known, said(store, name, found)) {
        (Some(known), _) => Some(known.clone()),
        (None, said) => said,
    };
    let (mut marked, mut new, mut has_values) = (Vec::new(), Vec::new(), false);
    for (directory, found) in found {
        let directory = directory.clone();
        let is_known = known.as_ref().is_some_and(|known| known.directories.contains(&directory));
        match found {
            Found::Unreadable(error) => {
                return Verdict::Refused(Problem::Unreadable { directory, error: error.clone() });
            }
            Found::Marker(there) if there.store != store => {
                return Verdict::Refused(Problem::Foreign { store: there.store, ours: store });
            }
            Found::Marker(there) if there.name != name => return Verdict::Named(there.name.clone()),
            Found::Marker(there) if there.directory != directory => {
                return Verdict::Refused(Problem::Swapped { directory, found: there.directory.clone() });
            }
            Found::Marker(there) => {
                let meant = known.as_ref().map_or(there.volume, |known| known.volume);
                if there.volume != meant {
                    return Verdict::Refused(Problem::Another { volume: there.volume, meant });
                }
                marked.push(directory);
            }
            Found::Empty if is_known => return Verdict::Refused(Problem::Missing { directory }),
            Found::Values if is_known => return Verdict::Refused(Problem::Unmarked { directory }),
            Found::Empty | Found::Values => {
                has_values |= *found == Found::Values;
                new.push(directory);
            }
        }
    }
    let known = known.map(|mut known| {
        known.directories.extend(marked);
        known.directories.sort();
        known.directories.dedup();
        known
    });
    match known {
        Some(known) if new.is_empty() => Verdict::Verified(known),
        known => Verdict::Unmarked { known, new, has_values },
    }
}

/// What the markers say of their volume, for an index that doesn't know it.
fn said(store: Id, name: &str, found: &[(String, Found)]) -> Option<Known> {
    let markers = found.iter().filter_map(|(_, found)| match found {
        Found::Marker(marker) if marker.store == store && marker.name == name => Some(marker),
        _ => None,
    });
    let mut known: Option<Known> = None;
    for Marker { volume, made, directories, .. } in markers {
        let first = Known { volume: *volume, since: *made, directories: Vec::new() };
        known.get_or_insert(first).directories.extend(directories.iter().cloned());
    }
    known
}

/// Whether a new index may be made although this was found in the subvolumes of a volume.
///
/// # Errors
///
/// They belong to a store.
pub fn judge_for_a_new_index(found: &[(String, Found)]) -> Result<(), Problem> {
    for (directory, found) in found {
        match found {
            Found::Marker(marker) => return Err(Problem::Taken { store: Some(marker.store) }),
            Found::Values => return Err(Problem::Taken { store: None }),
            Found::Unreadable(error) => {
                return Err(Problem::Unreadable { directory: directory.clone(), error: error.clone() });
            }
            Found::Empty => {}
        }
    }
    Ok(())
}

impl Problem {
    /// Whether `--replaced` is a remedy: its text ends with that, and the caller says of which volume.
    #[must_use]
    pub fn is_of_a_lost_disk(&self) -> bool {
        matches!(
            self,
            Self::Another { .. }
                | Self::Missing { .. }
                | Self::Unmarked { .. }
                | Self::Unreadable { .. }
                | Self::Sampled { .. }
        )
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign { store, ours } => write!(
                f,
                "it belongs to the store {store}, and this index to {ours}: check --volumes, --db and what is mounted"
            ),
            Self::Another { volume, meant } => write!(
                f,
                "it is the volume {volume}, and the index means {meant}: mount that disk, or if it is gone for good, \
                 start once with --replaced"
            ),
            Self::Missing { directory } => write!(
                f,
                "{} is empty: its disk isn't mounted, or was replaced: mount it, or if it is gone for good, start once \
                 with --replaced",
                place(directory)
            ),
            Self::Unmarked { directory } => write!(
                f,
                "{} has files and no marker: another disk may be mounted there; if it is the right one, start once with \
                 --replaced",
                place(directory)
            ),
            Self::Swapped { directory, found } => {
                write!(
                    f,
                    "the disk of {} is mounted at {}: mount it where it was",
                    place(found),
                    place(directory)
                )
            }
            Self::Unreadable { directory, error } => write!(
                f,
                "the marker of {}, {directory}{}: {error}: mount the right disk; if it is the right one, or it is gone for \
                 good, start once with --replaced",
                place(directory),
                super::MARKER
            ),
            Self::Unknown => write!(
                f,
                "it has files, and this index has nothing there: check --db, make an index with davkv-rebuild, or \
                 empty it"
            ),
            Self::Sampled { directory, found, of } => write!(
                f,
                "{} has {found} of {of} values that the index has there: mount the right disk, or if it is gone for good, \
                 start once with --replaced",
                place(directory)
            ),
            Self::Elsewhere { name, is_used: true } => write!(
                f,
                "it is the volume {name} of this store, disks were swapped: start again, and they are followed to where \
                 they are now"
            ),
            Self::Elsewhere { name, is_used: false } => {
                write!(f, "it is the volume {name} of this store: name it {name}=HOST:PORT in --volumes")
            }
            Self::Taken { store: Some(store) } => write!(
                f,
                "it belongs to the store {store}, and there is no index at --db: name that store's index, or make one \
                 with davkv-rebuild"
            ),
            Self::Taken { store: None } => write!(
                f,
                "it has files, and there is no index at --db: name the right index, make one with davkv-rebuild, or \
                 empty the volume"
            ),
        }
    }
}

/// A subvolume in a sentence.
fn place(directory: &str) -> &str {
    if directory.is_empty() { "the volume" } else { directory }
}
