//! The body of one PUT, and the feeder that supplies it piece by piece.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

/// Pieces buffered for one volume. A piece has at most 256 KiB; replicas share each piece, but may lag
/// behind each other, so an upload holds at most this number of pieces per replica in memory,
/// and up to two more that are still to be hashed.
const WINDOW: usize = 2;

/// Makes the two ends of a body of `length` bytes; without a length the body is sent in chunks.
pub(crate) fn feed(length: Option<u64>) -> (Feeder, Feed) {
    let (pieces, received) = mpsc::channel(WINDOW);
    let signals = Arc::new(Signals::default());
    let feed = Feed { pieces: Pieces::Coming(received), left: length, signals: Arc::clone(&signals) };
    (Feeder { pieces, signals }, feed)
}

#[derive(Debug, Default)]
struct Signals {
    /// The connection asked for the first piece, so the request is being sent.
    started: Notify,
    /// The feeder was dropped and gives no more pieces.
    feeder_gone: Notify,
    /// The connection took the last of the announced bytes.
    all_bytes_taken: AtomicBool,
    /// The feeder called [`Feeder::end`].
    ended_properly: AtomicBool,
    /// The feeder was dropped without [`Feeder::end`].
    aborted: AtomicBool,
}

enum Piece {
    Data(Bytes),
    End,
}

/// Feeds one body. Dropping it without [`Feeder::end`] aborts the request, so that a volume never
/// stores half a value as a whole one.
pub(crate) struct Feeder {
    pieces: mpsc::Sender<Piece>,
    signals: Arc<Signals>,
}

/// Why the volume takes no more of this body.
#[derive(Debug)]
pub(crate) enum FeedError {
    /// The request is over.
    Closed,
    /// The volume took nothing for too long.
    Stalled,
}

impl Feeder {
    /// Gives a piece; waits at most `limit` for room in the window.
    pub(crate) async fn give(&self, piece: Bytes, limit: Duration) -> Result<(), FeedError> {
        self.send(Piece::Data(piece), limit).await
    }

    /// Ends the body: all pieces were given.
    pub(crate) async fn end(self, limit: Duration) -> Result<(), FeedError> {
        // `self` is dropped on return, which notifies the watcher
        self.signals.ended_properly.store(true, Ordering::Release);
        match self.send(Piece::End, limit).await {
            // a request with a known length is over after its last byte, and doesn't receive the end
            Err(FeedError::Closed) if self.signals.all_bytes_taken.load(Ordering::Acquire) => Ok(()),
            sent => sent,
        }
    }

    /// Waits until a connection to the volume sends the request.
    pub(crate) async fn started(&self) {
        self.signals.started.notified().await;
        // so that a later call returns, too
        self.signals.started.notify_one();
    }

    async fn send(&self, piece: Piece, limit: Duration) -> Result<(), FeedError> {
        // there mostly is room, and the timeout below costs time
        let Err(full) = self.pieces.try_send(piece) else { return Ok(()) };
        let mpsc::error::TrySendError::Full(piece) = full else { return Err(FeedError::Closed) };
        let sent = tokio::time::timeout(limit, self.pieces.send(piece)).await;
        sent.map_err(|_elapsed| FeedError::Stalled)?.map_err(|_closed| FeedError::Closed)
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        let ended_properly = self.signals.ended_properly.load(Ordering::Acquire);
        self.signals.aborted.store(!ended_properly, Ordering::Release);
        self.signals.feeder_gone.notify_one();
    }
}

/// The body of a PUT, from which the connection takes pieces.
pub(crate) struct Feed {
    pieces: Pieces,
    /// Bytes still to come, if the length is known.
    left: Option<u64>,
    signals: Arc<Signals>,
}

enum Pieces {
    /// The whole body in one piece, until it is taken.
    Whole(Option<Bytes>),
    /// Pieces from a feeder.
    Coming(mpsc::Receiver<Piece>),
}

/// Observes a feed that is being sent.
pub(crate) struct Watch(Arc<Signals>);

impl Feed {
    /// An empty body.
    pub(crate) fn empty() -> Self {
        Self { pieces: Pieces::Whole(None), left: Some(0), signals: Arc::default() }
    }

    /// A body of one piece, without a feeder.
    pub(crate) fn whole(value: Bytes) -> Self {
        let (left, signals) = (Some(value.len() as u64), Arc::<Signals>::default());
        signals.feeder_gone.notify_one();
        Self { pieces: Pieces::Whole(Some(value)), left, signals }
    }

    pub(crate) fn watch(&self) -> Watch {
        Watch(Arc::clone(&self.signals))
    }

    /// The number of bytes still to come, if known.
    pub(super) fn length(&self) -> Option<u64> {
        self.left
    }

    /// A copy of the value, if it is one piece of at most `most` bytes.
    pub(super) fn small(&self, most: usize) -> Option<Bytes> {
        match &self.pieces {
            Pieces::Whole(value) => value.clone().filter(|value| value.len() <= most),
            Pieces::Coming(_) => None,
        }
    }

    /// The next piece; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, FeedAborted> {
        self.signals.started.notify_one();
        if self.left == Some(0) {
            return Ok(None);
        }
        let piece = match &mut self.pieces {
            Pieces::Whole(value) => value.take().map_or(Piece::End, Piece::Data),
            Pieces::Coming(pieces) => pieces.recv().await.ok_or(FeedAborted)?,
        };
        let Piece::Data(data) = piece else {
            return if self.left.is_none() { Ok(None) } else { Err(FeedAborted) };
        };
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(data.len() as u64).ok_or(FeedAborted)?;
        }
        self.signals.all_bytes_taken.store(self.left == Some(0), Ordering::Release);
        Ok(Some(data))
    }
}

impl Watch {
    /// Waits until the feeder has ended the body or aborted it.
    pub(crate) async fn feeder_gone(&self) {
        self.0.feeder_gone.notified().await;
    }

    /// Whether the feeder aborted the request.
    pub(crate) fn aborted(&self) -> bool {
        self.0.aborted.load(Ordering::Acquire)
    }
}

/// The feeder was dropped before the body's end.
#[derive(Debug)]
pub(crate) struct FeedAborted;

impl std::fmt::Display for FeedAborted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the upload was aborted")
    }
}

impl std::error::Error for FeedAborted {}
