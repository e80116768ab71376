//! The body of one PUT, fed piece by piece, and the hand that feeds it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::{Notify, mpsc};

/// Pieces on their way to one volume: with pieces of at most 64 KiB this, times the replicas, is
/// what an upload holds in memory (the replicas share each piece).
const WINDOW: usize = 2;

/// Makes the two ends of a body of that length in bytes; without one it goes out chunked.
pub(crate) fn feed(length: Option<u64>) -> (Feeder, Feed) {
    let (pieces, received) = mpsc::channel(WINDOW);
    let signals = Arc::new(Signals::default());
    let feed = Feed { pieces: Some(received), left: length, signals: Arc::clone(&signals) };
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
pub(crate) enum Refused {
    /// Its request has ended.
    Closed,
    /// It took nothing for too long.
    Stalled,
}

impl Feeder {
    /// Gives a piece, waiting at most so long for room in the window.
    pub(crate) async fn give(&self, piece: Bytes, patience: Duration) -> Result<(), Refused> {
        self.send(Piece::Data(piece), patience).await
    }

    /// The body is whole.
    pub(crate) async fn end(self, patience: Duration) -> Result<(), Refused> {
        // dropped on return, which tells the watcher
        self.signals.finished.store(true, Ordering::Release);
        match self.send(Piece::End, patience).await {
            // a body of known length is over with its last byte, and nobody waits for its end
            Err(Refused::Closed) if self.signals.complete.load(Ordering::Acquire) => Ok(()),
            sent => sent,
        }
    }

    /// Waits until the connection to the volume stands and the request is on its way.
    pub(crate) async fn started(&self) {
        self.signals.started.notified().await;
        // several may ask, one after the other
        self.signals.started.notify_one();
    }

    async fn send(&self, piece: Piece, patience: Duration) -> Result<(), Refused> {
        // the timer costs, and there mostly is room
        let Err(full) = self.pieces.try_send(piece) else { return Ok(()) };
        let mpsc::error::TrySendError::Full(piece) = full else { return Err(Refused::Closed) };
        let sent = tokio::time::timeout(patience, self.pieces.send(piece)).await;
        sent.map_err(|_elapsed| Refused::Stalled)?.map_err(|_closed| Refused::Closed)
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        let finished = self.signals.finished.load(Ordering::Acquire);
        self.signals.abandoned.store(!finished, Ordering::Release);
        self.signals.ended.notify_one();
    }
}

/// The body that hyper sends.
pub(crate) struct Feed {
    pieces: Option<mpsc::Receiver<Piece>>,
    /// Bytes still to come, where the length is known.
    left: Option<u64>,
    signals: Arc<Signals>,
}

/// Watches a feed that was given away.
pub(crate) struct Watch(Arc<Signals>);

impl Feed {
    /// No body.
    pub(crate) fn empty() -> Self {
        Self { pieces: None, left: Some(0), signals: Arc::default() }
    }

    pub(crate) fn watch(&self) -> Watch {
        Watch(Arc::clone(&self.signals))
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
pub(crate) struct Aborted;

impl std::fmt::Display for Aborted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the upload was given up")
    }
}

impl std::error::Error for Aborted {}

impl Body for Feed {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        self.signals.started.notify_one();
        let Some(pieces) = &mut self.pieces else { return Poll::Ready(None) };
        match ready!(pieces.poll_recv(context)) {
            Some(Piece::Data(data)) => {
                if let Some(left) = &mut self.left {
                    *left = left.saturating_sub(data.len() as u64);
                }
                self.signals.complete.store(self.left == Some(0), Ordering::Release);
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Piece::End) => Poll::Ready(None),
            None => Poll::Ready(Some(Err(Aborted))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
