//! The body of one PUT, fed piece by piece, and the hand that feeds it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

/// Pieces on their way to one volume: with pieces of at most 256 KiB this, times the replicas, is
/// what an upload holds in memory (the replicas share each piece).
const WINDOW: usize = 2;

/// Makes the two ends of a body of that length in bytes; without one it goes out chunked.
pub(crate) fn feed(length: Option<u64>) -> (Feeder, Feed) {
    let (pieces, received) = mpsc::channel(WINDOW);
    let signals = Arc::new(Signals::default());
    let feed = Feed { pieces: Pieces::Coming(received), left: length, signals: Arc::clone(&signals) };
    (Feeder { pieces, signals }, feed)
}

#[derive(Debug, Default)]
struct Signals {
    /// The request is on its way: a connection asked for the first piece.
    started: Notify,
    /// The feeder has nothing more to give.
    ended: Notify,
    /// The connection took the last of the announced bytes.
    complete: AtomicBool,
    /// The feeder came to its end.
    finished: AtomicBool,
    /// The feeder was dropped before its end.
    abandoned: AtomicBool,
}

enum Piece {
    Data(Bytes),
    End,
}

/// Feeds one body. Dropped without [`Feeder::end`] it aborts the request, so that a volume never
/// takes half a value for a whole one.
pub(crate) struct Feeder {
    pieces: mpsc::Sender<Piece>,
    signals: Arc<Signals>,
}

/// The volume doesn't take this body any more.
#[derive(Debug)]
pub(crate) enum FeedError {
    /// Its request has ended.
    Closed,
    /// It took nothing for too long.
    Stalled,
}

impl Feeder {
    /// Gives a piece, waiting at most so long for room in the window.
    pub(crate) async fn give(&self, piece: Bytes, limit: Duration) -> Result<(), FeedError> {
        self.send(Piece::Data(piece), limit).await
    }

    /// The body is whole.
    pub(crate) async fn end(self, limit: Duration) -> Result<(), FeedError> {
        // dropped on return, which tells the watcher
        self.signals.finished.store(true, Ordering::Release);
        match self.send(Piece::End, limit).await {
            // a body of known length is over with its last byte, and nobody waits for its end
            Err(FeedError::Closed) if self.signals.complete.load(Ordering::Acquire) => Ok(()),
            sent => sent,
        }
    }

    /// Waits until the connection to the volume stands and the request is on its way.
    pub(crate) async fn started(&self) {
        self.signals.started.notified().await;
        // several may ask, one after the other
        self.signals.started.notify_one();
    }

    async fn send(&self, piece: Piece, limit: Duration) -> Result<(), FeedError> {
        // the timer costs, and there mostly is room
        let Err(full) = self.pieces.try_send(piece) else { return Ok(()) };
        let mpsc::error::TrySendError::Full(piece) = full else { return Err(FeedError::Closed) };
        let sent = tokio::time::timeout(limit, self.pieces.send(piece)).await;
        sent.map_err(|_elapsed| FeedError::Stalled)?.map_err(|_closed| FeedError::Closed)
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        let finished = self.signals.finished.load(Ordering::Acquire);
        self.signals.abandoned.store(!finished, Ordering::Release);
        self.signals.ended.notify_one();
    }
}

/// The body of a PUT, as the connection takes it.
pub(crate) struct Feed {
    pieces: Pieces,
    /// Bytes still to come, where the length is known.
    left: Option<u64>,
    signals: Arc<Signals>,
}

enum Pieces {
    /// At once: all there is, if there is anything.
    Whole(Option<Bytes>),
    /// Piece by piece, from a feeder.
    Coming(mpsc::Receiver<Piece>),
}

/// Watches a feed that was given away.
pub(crate) struct Watch(Arc<Signals>);

impl Feed {
    /// No body.
    pub(crate) fn empty() -> Self {
        Self { pieces: Pieces::Whole(None), left: Some(0), signals: Arc::default() }
    }

    /// A body of one piece, which nobody has to feed.
    pub(crate) fn whole(value: Bytes) -> Self {
        let (left, signals) = (Some(value.len() as u64), Arc::<Signals>::default());
        signals.ended.notify_one();
        Self { pieces: Pieces::Whole(Some(value)), left, signals }
    }

    pub(crate) fn watch(&self) -> Watch {
        Watch(Arc::clone(&self.signals))
    }

    /// How many bytes are still to come, if that is known.
    pub(super) fn length(&self) -> Option<u64> {
        self.left
    }

    /// The value, if it is of one piece of at most so many bytes. It stays the next piece, too.
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
        self.signals.complete.store(self.left == Some(0), Ordering::Release);
        Ok(Some(data))
    }
}

impl Watch {
    /// Waits until the feeder gave its last piece, or up.
    pub(crate) async fn ended(&self) {
        self.0.ended.notified().await;
    }

    /// Whether it was the feeder who ended the request early, and not the volume.
    pub(crate) fn abandoned(&self) -> bool {
        self.0.abandoned.load(Ordering::Acquire)
    }
}

/// The value ended before its end: its feeder gave up.
#[derive(Debug)]
pub(crate) struct FeedAborted;

impl std::fmt::Display for FeedAborted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the upload was given up")
    }
}

impl std::error::Error for FeedAborted {}
