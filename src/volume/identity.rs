//! The marker and the owner file on a volume: how they are read and written.

use bytes::{Bytes, BytesMut};
use hyper::{Method, StatusCode};
use tokio::time::timeout;

use super::download::{drain, next_piece};
use super::feed::Feed;
use super::link::Link;
use super::listing::{self, Kind};
use super::outcome::{Outcome, VolumeError, late};
use super::pool::Answer;
use crate::identity::{Found, Id, Known, MARKER, Marker, MarkerError, OWNER_FILE, Owner, OwnerFile};

/// The longest marker or owner file that is read, in bytes.
const LONGEST: usize = 16 * 1024;

/// So many directories are looked into for a file before a volume counts as one that has files.
const MOST_DIRECTORIES: usize = 2000;

/// What the marker and the owner file of a volume must say for it to take part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) store: Id,
    pub(crate) known: Known,
    /// What the index knows of itself, with the run that has the volume; `None` for a program that writes nothing, and
    /// so has none.
    pub(crate) owner: Option<Owner>,
    /// Whether that run has ended.
    pub(crate) ended: bool,
}

impl Expected {
    /// The marker of a subvolume.
    pub(crate) fn marker(&self, name: &str, directory: &str) -> Marker {
        Marker {
            store: self.store,
            name: name.to_owned(),
            volume: self.known.volume,
            directory: directory.to_owned(),
            directories: self.known.directories.clone(),
            made: self.known.since,
        }
    }

    /// What the owner file shall say, if the program has the volume.
    pub(super) fn owner_file(&self) -> Option<OwnerFile> {
        self.owner.as_ref().map(|owner| OwnerFile { run: owner.run, ended: self.ended })
    }

    /// Whether the owner file says of a run that this one doesn't know.
    pub(super) fn is_taken(&self, there: Option<OwnerFile>) -> bool {
        let knows = |there: OwnerFile| self.owner.as_ref().is_none_or(|owner| owner.knows(there.run));
        there.is_some_and(|there| !knows(there))
    }

    /// The subvolume that has the owner file.
    pub(super) fn first_directory(&self) -> &str {
        self.known.directories.first().map_or("", String::as_str)
    }
}

/// A small file on a volume.
enum Small {
    Absent,
    Bytes(Bytes),
    /// Too long to be a marker or an owner file.
    TooLong,
}

impl Link {
    /// What is found in a subvolume, `/svXX` or nothing. Asks even a volume that takes no part.
    pub(super) async fn look(&self, directory: &str) -> Outcome<Found> {
        match self.marker(directory).await? {
            Some(Ok(marker)) => Ok(Found::Marker(marker)),
            Some(Err(error)) => Ok(Found::Unreadable(error)),
            None if self.has_values(directory).await? => Ok(Found::Values),
            None => Ok(Found::Empty),
        }
    }

    /// The owner file of a subvolume; `None` where there is none that can be read.
    pub(super) async fn owner_file(&self, directory: &str) -> Outcome<Option<OwnerFile>> {
        match self.small(&format!("{directory}{OWNER_FILE}")).await? {
            Small::Bytes(bytes) => Ok(OwnerFile::decode(&bytes).ok()),
            Small::Absent | Small::TooLong => Ok(None),
        }
    }

    /// The subvolumes that the volume shows, `/svXX`, or nothing for files of keys that lie in none.
    pub(super) async fn subvolumes(&self) -> Outcome<Vec<String>> {
        let mut found = Vec::new();
        for name in self.directories("/").await? {
            let is_subvolume = name.strip_prefix("sv").is_some_and(|digits| {
                digits.len() == 2 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'A'..=b'F'))
            });
            let directory = if is_subvolume { format!("/{name}") } else { String::new() };
            if (is_subvolume || is_hex(&name)) && !found.contains(&directory) {
                found.push(directory);
            }
        }
        Ok(found)
    }

    /// Whether a value lies at that path of a volume which takes no part yet.
    pub(super) async fn shows(&self, path: &str) -> Outcome<bool> {
        match self.exchange(self.timeouts.request, Method::HEAD, path, None).await?.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            status => Err(VolumeError::Refused(status)),
        }
    }

    /// Writes the marker of its subvolume.
    pub(super) async fn mark(&self, marker: &Marker) -> Outcome<()> {
        self.put_small(&format!("{}{MARKER}", marker.directory), marker.encode()).await
    }

    /// Writes the owner file of a subvolume.
    pub(super) async fn own(&self, directory: &str, file: OwnerFile) -> Outcome<()> {
        self.put_small(&format!("{directory}{OWNER_FILE}"), file.encode()).await
    }

    async fn put_small(&self, path: &str, bytes: Vec<u8>) -> Outcome<()> {
        let limit = self.timeouts.request;
        let put = async {
            let mut answer = self.request(Method::PUT, path, None, Feed::whole(bytes.into())).await?;
            drain(&mut answer, limit).await;
            Ok(answer.status())
        };
        match timeout(limit, put).await.unwrap_or_else(|_| Err(VolumeError::Unanswered(late(limit))))? {
            StatusCode::CREATED | StatusCode::NO_CONTENT => Ok(()),
            status => Err(VolumeError::refused_to_store(status)),
        }
    }

    /// Looks at the markers of all subvolumes; `false` if one isn't the one that is meant.
    pub(super) async fn is_meant(&self, name: &str, expected: &Expected) -> Outcome<bool> {
        for directory in &expected.known.directories {
            if !self.is_meant_at(name, expected, directory).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) async fn is_meant_at(
        &self,
        name: &str,
        expected: &Expected,
        directory: &str,
    ) -> Outcome<bool> {
        let found = self.marker(directory).await?;
        Ok(found == Some(Ok(expected.marker(name, directory))))
    }

    async fn marker(&self, directory: &str) -> Outcome<Option<Result<Marker, MarkerError>>> {
        Ok(match self.small(&format!("{directory}{MARKER}")).await? {
            Small::Absent => None,
            Small::Bytes(bytes) => Some(Marker::decode(&bytes)),
            Small::TooLong => Some(Err(MarkerError::Garbled("it is too long".into()))),
        })
    }

    async fn small(&self, path: &str) -> Outcome<Small> {
        let mut answer = self.exchange(self.timeouts.request, Method::GET, path, None).await?;
        match answer.status() {
            StatusCode::OK => self.read_small(&mut answer).await,
            StatusCode::NOT_FOUND => Ok(Small::Absent),
            status => Err(VolumeError::refused_to_a_master(status)),
        }
    }

    async fn read_small(&self, answer: &mut Answer) -> Outcome<Small> {
        let mut bytes = BytesMut::new();
        while let Some(piece) = next_piece(answer, self.timeouts.request).await? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > LONGEST {
                return Ok(Small::TooLong);
            }
        }
        Ok(Small::Bytes(bytes.freeze()))
    }

    /// Whether any file of a key lies in the subvolume. A volume keeps the directories of files that were deleted.
    async fn has_values(&self, directory: &str) -> Outcome<bool> {
        let mut waiting = vec![(format!("{directory}/"), 0)];
        let owner_file = format!("{directory}{OWNER_FILE}");
        let mut looked_into = 0;
        while let Some((path, depth)) = waiting.pop() {
            looked_into += 1;
            if looked_into > MOST_DIRECTORIES {
                return Ok(true);
            }
            for entry in self.entries(&path).await? {
                match entry.kind {
                    Kind::Directory if is_hex(&entry.name) || depth > 1 && is_of_base64(&entry.name) => {
                        waiting.push((format!("{path}{}/", entry.name), depth + 1));
                    }
                    // as a mount point may have one that was written when its disk had just vanished
                    Kind::File { .. } if format!("{path}{}", entry.name) == owner_file => {}
                    Kind::File { .. } if depth > 1 => return Ok(true),
                    _ => {}
                }
            }
        }
        Ok(false)
    }

    async fn directories(&self, path: &str) -> Outcome<Vec<String>> {
        let entries = self.entries(path).await?.into_iter();
        Ok(entries.filter(|entry| entry.kind == Kind::Directory).map(|entry| entry.name).collect())
    }

    /// The entries of a directory; none where there is none.
    async fn entries(&self, path: &str) -> Outcome<Vec<listing::Listed>> {
        let mut answer = self.exchange(self.timeouts.request, Method::GET, path, None).await?;
        match answer.status() {
            StatusCode::OK => {
                let mut entries = Vec::new();
                self.read_listing(&mut answer, |entry| entries.push(entry)).await?;
                Ok(entries)
            }
            StatusCode::NOT_FOUND => Ok(Vec::new()),
            status => Err(VolumeError::refused_to_a_master(status)),
        }
    }
}

/// Whether a part of a key's name can be so called.
fn is_of_base64(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-_=~,".contains(&byte))
}

/// Whether it is the name of a directory of files: two hex digits.
fn is_hex(name: &str) -> bool {
    name.len() == 2 && name.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}
