//! The markers on a volume: how they are read and written, and whether they are those that are meant.

use bytes::{Bytes, BytesMut};
use hyper::{Method, StatusCode};
use tokio::time::timeout;

use super::download::{drain, next_piece};
use super::feed::Feed;
use super::link::Link;
use super::listing::{self, Kind};
use super::outcome::{Outcome, VolumeError, late};
use super::pool::Answer;
use crate::identity::{Found, Id, Known, MARKER, Marker, Run};

/// The longest marker that is read, in bytes.
const LONGEST_MARKER: usize = 16 * 1024;

/// So many directories are looked into for a file before a volume counts as one that has files.
const MOST_DIRECTORIES: usize = 2000;

/// What the markers of a volume must say for it to take part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) store: Id,
    pub(crate) known: Known,
    /// The run that has the volume.
    pub(crate) owner: Run,
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
            owner: Some(self.owner),
            ended: false,
        }
    }
}

impl Link {
    /// What is found in a subvolume, `/svXX` or nothing. Asks even a volume that takes no part.
    pub(super) async fn look(&self, directory: &str) -> Outcome<Found> {
        match self.marker(directory).await? {
            Some(bytes) => Ok(match Marker::decode(&bytes) {
                Ok(marker) => Found::Marker(marker),
                Err(error) => Found::Unreadable(error),
            }),
            None if self.has_values(directory).await? => Ok(Found::Values),
            None => Ok(Found::Empty),
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
        let (path, body) =
            (format!("{}{MARKER}", marker.directory), Feed::whole(Bytes::from(marker.encode())));
        let limit = self.timeouts.request;
        let put = async {
            let mut answer = self.request(Method::PUT, &path, None, body).await?;
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
        let meant = expected.marker(name, directory);
        Ok(found.is_some_and(|bytes| Marker::decode(&bytes).is_ok_and(|found| found == meant)))
    }

    async fn marker(&self, directory: &str) -> Outcome<Option<Bytes>> {
        let path = format!("{directory}{MARKER}");
        let mut answer = self.exchange(self.timeouts.request, Method::GET, &path, None).await?;
        match answer.status() {
            StatusCode::OK => Ok(Some(self.short(&mut answer).await?)),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(VolumeError::refused_to_a_master(status)),
        }
    }

    async fn short(&self, answer: &mut Answer) -> Outcome<Bytes> {
        let mut bytes = BytesMut::new();
        while let Some(piece) = next_piece(answer, self.timeouts.request).await? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > LONGEST_MARKER {
                return Err(VolumeError::Unanswered("its marker is too long".into()));
            }
        }
        Ok(bytes.freeze())
    }

    /// Whether any file of a key lies in the subvolume. A volume keeps the directories of files that were deleted.
    async fn has_values(&self, directory: &str) -> Outcome<bool> {
        let mut waiting = vec![(format!("{directory}/"), 0)];
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
