//! Copies a replica from volume to volume.

use std::time::Duration;

use bytes::Bytes;

use super::core::Core;
use super::replicas::path;
use crate::hashing::Hashing;
use crate::key::Key;
use crate::record::Replica;
use crate::volume::{Download, Feeder, VolumeError, feed};

/// What is known of a value's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint {
    /// Its length in bytes.
    pub(super) size: Option<u64>,
    pub(super) md5: Option<[u8; 16]>,
}

/// Why a replica wasn't copied.
pub(super) enum CopyError {
    /// The source couldn't be read.
    Source(VolumeError),
    /// The source isn't the value, or is gone.
    Damaged,
    /// The target didn't take it.
    Target(VolumeError),
}

impl Core {
    /// Copies from the first source that serves, and removes those that it finds not to be the value. A failing
    /// target ends the copy. If no source serves, the result is `Source` where one couldn't be read, and `Damaged`
    /// where all were wrong.
    pub(super) async fn copy_from_any(
        &self,
        key: &Key,
        sources: &mut Vec<Replica>,
        to: &Replica,
        expected: Fingerprint,
        modified: u64,
    ) -> Result<Fingerprint, CopyError> {
        let (mut verdict, mut next) = (CopyError::Damaged, 0);
        while let Some(from) = sources.get(next) {
            match self.copy(key, from, to, expected, modified).await {
                Err(CopyError::Damaged) => {
                    self.report_rot(key, &from.place);
                    sources.remove(next);
                }
                Err(CopyError::Source(error)) => {
                    self.report_unreadable(key, &from.place, &error);
                    verdict = CopyError::Source(error);
                    next += 1;
                }
                finished => return finished,
            }
        }
        Err(verdict)
    }

    /// Copies a file of the key, if its bytes match `expected`, and returns their size and MD5.
    ///
    /// The last piece is held back until the MD5 is known, so that a wrong source makes no file.
    async fn copy(
        &self,
        key: &Key,
        from: &Replica,
        to: &Replica,
        expected: Fingerprint,
        modified: u64,
    ) -> Result<Fingerprint, CopyError> {
        let opened = self.volume(from).get(&path(key, from), None).await;
        let mut source = opened.map_err(|error| match error {
            // it was there a moment ago, or so its volume said when it took the file
            error if error.is_not_found() => CopyError::Damaged,
            error => CopyError::Source(error),
        })?;
        let size = source.seen.size;
        if expected.size.is_some_and(|expected| expected != size) {
            return Err(CopyError::Damaged);
        }
        let limit = self.options.timeouts.stream;
        let (feeder, body) = feed(Some(size));
        let (target, target_path) = (self.volume(to), path(key, to));
        let (read, written) = tokio::join!(
            pump(&mut source, feeder, expected.md5, limit),
            target.put(&target_path, body, modified)
        );
        // if both failed, a bad source is always a cause; otherwise the target's refusal mostly is
        match (read, written) {
            (Err(error @ (CopyError::Source(_) | CopyError::Damaged)), _) => Err(error),
            (_, Err(error)) | (Err(CopyError::Target(error)), Ok(())) => Err(CopyError::Target(error)),
            (Ok(md5), Ok(())) => Ok(Fingerprint { size: Some(size), md5: Some(md5) }),
        }
    }
}

async fn pump(
    source: &mut Download,
    feeder: Feeder,
    expected: Option<[u8; 16]>,
    limit: Duration,
) -> Result<[u8; 16], CopyError> {
    let refused = |_| CopyError::Target(VolumeError::Unanswered("it stopped reading".into()));
    let mut md5 = Hashing::new();
    let mut held = Bytes::new();
    while let Some(piece) = source.next().await.map_err(CopyError::Source)? {
        md5.update(&piece).await;
        let ready = std::mem::replace(&mut held, piece);
        if !ready.is_empty() {
            feeder.give(ready, limit).await.map_err(refused)?;
        }
    }
    let md5 = md5.md5().await;
    if expected.is_some_and(|expected| expected != md5) {
        return Err(CopyError::Damaged);
    }
    feeder.give(held, limit).await.map_err(refused)?;
    feeder.end(limit).await.map_err(refused)?;
    Ok(md5)
}
