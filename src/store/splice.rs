//! Joins pieces of values into the body of a new one.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::vec;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use http_body::{Body, Frame, SizeHint};

use super::core::Core;
use super::read::Reading;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::record::Record;

/// Some bytes of a value.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The key that holds it, …
    pub key: Key,
    /// … as [`Store::stat`](super::Store::stat) found it.
    pub record: Record,
    /// Which bytes, within the value.
    pub part: Range<u64>,
}

/// A body that is read from values, one piece at a time. Storing a value from it fails with the error that
/// reading the pieces failed with.
pub struct Spliced {
    pieces: BoxStream<'static, Result<Bytes>>,
    /// How many bytes are to come.
    left: u64,
}

/// The pieces that are still to be read.
struct Splicing {
    store: Arc<Core>,
    unread: vec::IntoIter<Piece>,
    reading: Option<Reading>,
}

impl Core {
    /// The bytes of these pieces, one after the other; `tap` sees them as they pass.
    ///
    /// It fails with `Changed` when a key doesn't hold the piece's value any more, and otherwise as
    /// [`Store::read`](super::Store::read).
    pub(super) fn splice(
        self: &Arc<Self>,
        pieces: Vec<Piece>,
        mut tap: impl FnMut(&Bytes) + Send + 'static,
    ) -> Spliced {
        let left = pieces.iter().map(|piece| piece.part.end.saturating_sub(piece.part.start)).sum();
        let splicing = Splicing { store: Arc::clone(self), unread: pieces.into_iter(), reading: None };
        let bytes = stream::try_unfold(splicing, async |mut splicing| {
            match splicing.next().await {
                Ok(next) => Ok(next.map(|bytes| (bytes, splicing))),
                // the target key may be missing, too, and must not be confused with a missing source
                Err(Error::NotFound) => Err(Error::Changed),
                Err(error) => Err(error),
            }
        });
        Spliced { pieces: bytes.inspect_ok(move |bytes| tap(bytes)).boxed(), left }
    }
}

impl Splicing {
    /// The next bytes; `None` after the last.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(reading) = &mut self.reading
                && let Some(bytes) = reading.next().await?
            {
                return Ok(Some(bytes));
            }
            let Some(Piece { key, record, part }) = self.unread.next() else { return Ok(None) };
            self.reading = Some(self.store.read(&key, record, part).await?);
        }
    }
}

impl Spliced {
    /// How many bytes are to come.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.left
    }
}

impl Body for Spliced {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        let polled = self.pieces.poll_next_unpin(context);
        if let Poll::Ready(Some(Ok(bytes))) = &polled {
            self.left = self.left.saturating_sub(bytes.len() as u64);
        }
        polled.map_ok(Frame::data)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
