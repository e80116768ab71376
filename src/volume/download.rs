//! Reads the bodies of volumes' answers: files to their end, unwanted bodies up to a bound.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::outcome::{FileInfo, Outcome, VolumeError, late};
use super::pool::Answer;

/// Minimum average rate of a file or listing, in bytes per second.
const LEAST_RATE: u64 = 1024;
/// Time spent reading before the rate is checked.
const LEAST_RATE_AFTER: Duration = Duration::from_secs(30);

/// The most bytes of an unwanted body that are read and discarded.
const DRAIN: usize = 64 * 1024;

/// A file being read.
pub(crate) struct Download {
    /// Size and time of the whole file.
    pub(crate) seen: FileInfo,
    answer: Answer,
    limit: Duration,
    /// Time spent waiting for the volume; the time for the reader doesn't count.
    waited: Duration,
    received: u64,
}

impl Download {
    pub(super) fn new(seen: FileInfo, answer: Answer, limit: Duration) -> Self {
        Self { seen, answer, limit, waited: Duration::ZERO, received: 0 }
    }

    /// The next piece; `None` after the last byte.
    pub(crate) async fn next(&mut self) -> Outcome<Option<Bytes>> {
        let asked = Instant::now();
        let piece = next_piece(&mut self.answer, self.limit).await?;
        self.waited += asked.elapsed();
        self.received += piece.as_ref().map_or(0, |piece| piece.len() as u64);
        check_rate(self.waited, self.received)?;
        Ok(piece)
    }
}

/// Fails if the volume has sent too slowly for too long.
pub(super) fn check_rate(taken: Duration, received: u64) -> Outcome<()> {
    if taken > LEAST_RATE_AFTER && received / taken.as_secs() < LEAST_RATE {
        return Err(VolumeError::Unanswered("it sends too slowly".into()));
    }
    Ok(())
}

pub(super) async fn next_piece(answer: &mut Answer, limit: Duration) -> Outcome<Option<Bytes>> {
    timeout(limit, answer.next()).await.map_err(|_elapsed| VolumeError::Unanswered(late(limit)))?
}

/// Reads and discards a short unwanted body, so that its connection can be used again. If the body is long or
/// slow, the connection is closed instead.
pub(super) async fn drain(answer: &mut Answer, limit: Duration) {
    let mut left = DRAIN;
    while let Ok(Some(piece)) = next_piece(answer, limit).await {
        left = left.saturating_sub(piece.len());
        if left == 0 {
            break;
        }
    }
}
