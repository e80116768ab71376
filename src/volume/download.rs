//! A volume's answer, read to its end: a file that is wanted, or a body that isn't.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::pool::Answer;
use super::{FileInfo, Outcome, VolumeError};

/// A file or a listing must come at so many bytes a second on average, …
const LEAST_RATE: u64 = 1024;
/// … once reading it has taken this long.
const LEAST_RATE_AFTER: Duration = Duration::from_secs(30);

/// A body that nobody wants is read away up to so many bytes.
const DRAIN: usize = 64 * 1024;

/// A file being read.
pub(crate) struct Download {
    /// What the volume says of the whole file.
    pub(crate) seen: FileInfo,
    answer: Answer,
    limit: Duration,
    /// Time spent waiting for the volume, and not for who reads.
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

/// That a volume doesn't send for ever by sending slowly.
pub(super) fn check_rate(taken: Duration, received: u64) -> Outcome<()> {
    if taken > LEAST_RATE_AFTER && received / taken.as_secs() < LEAST_RATE {
        return Err(VolumeError::Unanswered("it sends too slowly".into()));
    }
    Ok(())
}

pub(super) async fn next_piece(answer: &mut Answer, limit: Duration) -> Outcome<Option<Bytes>> {
    timeout(limit, answer.next()).await.map_err(|_elapsed| VolumeError::Unanswered(late(limit)))?
}

/// Reads away the short body of an answer that nobody wants, so that its connection can be used
/// again; one that is long or slow loses its connection instead.
pub(super) async fn drain(answer: &mut Answer, limit: Duration) {
    let mut left = DRAIN;
    while let Ok(Some(piece)) = next_piece(answer, limit).await {
        left = left.saturating_sub(piece.len());
        if left == 0 {
            break;
        }
    }
}

pub(super) fn late(limit: Duration) -> String {
    format!("within {}", humantime::format_duration(limit))
}
