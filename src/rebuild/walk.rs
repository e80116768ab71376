//! Lists a whole volume.
//!
//! On a volume with many values nearly each has its own directory, so there are many small listings.
//! Each volume is listed on a separate thread with its own runtime and connections: on a shared runtime,
//! waking threads for each other cost as much as the listings.

use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::identity::{MARKER, OWNER_FILE};
use crate::index::scratch::Found;
use crate::key::Key;
use crate::placement::Place;
use crate::progress::Progress;
use crate::record::Replica;
use crate::volume::{Addresses, Kind, Timeouts, Volume, VolumeError, Volumes};

/// Files are sent on once there are at least this many.
const BATCH: usize = 4000;

/// Attempts to read a listing.
const TRIES: usize = 3;

/// The longest path of a directory that is listed, in bytes; no key's path is longer.
const MAX_PATH: usize = 4096;

/// Names at the top of a volume that `volume/start` and minikeyvalue create beside the values.
const KNOWN: [&str; 2] = ["body_temp", "nginx.pid"];

/// One directory's listing, by kind of entry.
#[derive(Default)]
struct Listing {
    directories: Vec<Directory>,
    files: Vec<(Key, Found)>,
    junk: Vec<String>,
}

/// A directory of a volume that may hold values.
struct Directory {
    /// The volume, or a subvolume of it.
    place: Place,
    /// The path below it, ending in `/`.
    path: String,
}

impl Directory {
    /// The depth below the subvolume. Depth 0 holds m0 directories, 1 holds m1 directories, 2 and more hold names.
    fn depth(&self) -> usize {
        self.path.matches('/').count() - 1
    }
}

/// How a volume is listed, and where the results go.
#[derive(Clone)]
pub(super) struct Walk<J> {
    pub(super) timeouts: Timeouts,
    /// Listings read at a time.
    pub(super) jobs: usize,
    /// Receives the files of keys, in batches.
    pub(super) files: mpsc::Sender<Vec<(Key, Found)>>,
    /// Called with the path of each entry that belongs to no key.
    pub(super) junk: J,
    pub(super) progress: Arc<Progress>,
    pub(super) addresses: Addresses,
    /// Stops the walk when another volume can't be listed.
    pub(super) stop: CancellationToken,
}

impl<J: Fn(String) + Send + Sync + 'static> Walk<J> {
    /// Lists the volume of that name to its end.
    pub(super) async fn list(self, name: String) -> Result<(), String> {
        crate::runtime::blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(|error| format!("can't list {name}: {error}"))?.block_on(async {
                let volume = Volumes::new(self.addresses.clone(), self.timeouts).named(&name);
                tokio::select! {
                    walked = self.walk(&volume) => walked,
                    () = self.stop.cancelled() => Err("stopped".into()),
                }
            })
        })
        .await?
    }

    /// Reads `jobs` listings at a time. The next one is always the deepest, which keeps the queue of
    /// directories short.
    async fn walk(&self, volume: &Arc<Volume>) -> Result<(), String> {
        let mut waiting = vec![Directory { place: Place::new(volume.name()), path: "/".into() }];
        let mut running = FuturesUnordered::new();
        let mut files = Vec::new();
        loop {
            while running.len() < self.jobs
                && let Some(directory) = waiting.pop()
            {
                running.push(list(volume, directory));
            }
            let Some(listed) = running.next().await else { return self.hand_over(files).await };
            let (directory, listing) = listed?;
            count(&self.progress, &directory, &listing.directories);
            waiting.extend(listing.directories);
            listing.junk.into_iter().for_each(&self.junk);
            files.extend(listing.files);
            if files.len() >= BATCH {
                self.hand_over(std::mem::take(&mut files)).await?;
            }
        }
    }

    async fn hand_over(&self, files: Vec<(Key, Found)>) -> Result<(), String> {
        self.files.send(files).await.map_err(|_closed| "the scratch can't be written".into())
    }
}

/// Counts progress in m0 directories: because the deepest directories come first, each m0 directory is finished
/// before many others begin. A subvolume counts as 256 of them until it is listed.
fn count(progress: &Progress, listed: &Directory, found: &[Directory]) {
    const ALL: i64 = 256;
    match listed.depth() {
        0 => {
            let subvolumes = found.iter().filter(|one| one.depth() == 0).count();
            let own = i64::try_from(found.len() - subvolumes).unwrap_or(ALL);
            let counted = if listed.place.directory().is_empty() { 0 } else { ALL };
            progress.more(own + ALL * i64::try_from(subvolumes).unwrap_or(0) - counted);
        }
        1 => progress.step(1),
        _ => {}
    }
}

async fn list(volume: &Arc<Volume>, directory: Directory) -> Result<(Directory, Listing), String> {
    let url_path = format!("{}{}", directory.place.directory(), directory.path);
    let mut tried = 1;
    loop {
        let mut listing = Listing::default();
        let found = volume.list(&url_path, |entry| sort(&directory, &entry.name, &entry.kind, &mut listing));
        match found.await {
            Ok(()) => return Ok((directory, listing)),
            Err(VolumeError::Unreachable(_) | VolumeError::Unanswered(_)) if tried < TRIES => tried += 1,
            Err(error) => return Err(format!("can't list http://{}{url_path}: {error}", volume.address())),
        }
    }
}

/// Adds an entry to the listing by its kind.
fn sort(directory: &Directory, name: &str, kind: &Kind, listing: &mut Listing) {
    let Directory { place, path } = directory;
    let depth = directory.depth();
    let is_top = depth == 0 && place.directory().is_empty();
    if is_top && KNOWN.contains(&name) {
        return;
    }
    if [MARKER, OWNER_FILE].iter().any(|file| file.strip_prefix(path.as_str()) == Some(name)) {
        return;
    }
    let mut junk = || listing.junk.push(format!("{place}{path}{name}"));
    match kind {
        Kind::Directory if is_top && is_subvolume(name) => {
            let place = Place::new(&format!("{place}/{name}"));
            listing.directories.push(Directory { place, path: "/".into() });
        }
        Kind::Directory if fits(depth, name) && path.len() + name.len() < MAX_PATH => {
            let path = format!("{path}{name}/");
            listing.directories.push(Directory { place: place.clone(), path });
        }
        Kind::File { size, modified } => match Key::from_path(&format!("{path}{name}")) {
            // the index's internal rows begin with a zero byte
            Some((key, name)) if key.as_bytes().first() != Some(&0) => {
                let replica = Replica { place: place.clone(), name };
                listing.files.push((key, Found { replica, size: *size, modified: *modified }));
            }
            _ => junk(),
        },
        _ => junk(),
    }
}

fn is_subvolume(name: &str) -> bool {
    name.strip_prefix("sv").is_some_and(|digits| {
        digits.len() == 2 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'A'..=b'F'))
    })
}

/// Whether a directory with that name can be in the path of a key's file.
fn fits(depth: usize, name: &str) -> bool {
    if depth < 2 {
        name.len() == 2 && name.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    } else {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-_=~,".contains(&byte))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "a test may panic")]

    use super::*;
    use crate::key::{MAX_KEY_BYTES, Name};

    /// Long names may be split anywhere, also within the generation.
    #[test]
    fn every_directory_of_a_keys_path_is_listed() {
        for length in 2..=MAX_KEY_BYTES {
            let key = Key::new(&[b"/".as_slice(), &b"?k~".repeat(length / 3 + 1)].concat()[..length]);
            for name in [Name::Plain, Name::Generation(length as u64)] {
                let path = key.path(name);
                let directories: Vec<&str> = path.split('/').skip(1).collect();
                let (_file, directories) = directories.split_last().unwrap_or((&"", &[]));
                assert!(directories.iter().enumerate().all(|(depth, name)| fits(depth, name)), "{path}");
            }
        }
    }

    #[test]
    fn other_directories_are_not_listed() {
        assert!(
            !fits(0, "lost+found")
                && !fits(0, "AB")
                && !fits(1, "body_temp")
                && !fits(2, ".git")
                && !fits(2, "")
        );
        assert!(is_subvolume("sv0A") && !is_subvolume("sv0a") && !is_subvolume("sv000"));
    }
}
