//! A client's body on its way to the volumes: read at a minimum rate, counted and hashed.

use std::any::Any;
use std::fmt::Display;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout};

use crate::error::Error;
use crate::hashing::Hashing;

/// Minimum average rate of a body, in bytes per second.
const LEAST_RATE: u64 = 1024;
/// Time spent waiting for a body before its rate is checked.
const LEAST_RATE_AFTER: Duration = Duration::from_secs(30);

/// A body that is read piece by piece.
pub(crate) struct Source<B> {
    body: B,
    /// The longest wait for the next byte.
    idle: Duration,
    /// Time spent waiting for the client; the time for volumes doesn't count.
    waited: Duration,
    size: u64,
    md5: Option<Hashing>,
}

impl<B> Source<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Display + 'static,
{
    pub(crate) fn new(body: B, idle: Duration, hash: bool) -> Self {
        Self { body, idle, waited: Duration::ZERO, size: 0, md5: hash.then(Hashing::new) }
    }

    /// The next bytes, at least one; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let begun = Instant::now();
            let frame = timeout(self.idle, self.body.frame()).await.map_err(|_elapsed| Error::Stalled)?;
            self.waited += begun.elapsed();
            let data = match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(cause(error)),
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            };
            self.size += data.len() as u64;
            if self.waited > LEAST_RATE_AFTER && self.size / self.waited.as_secs() < LEAST_RATE {
                return Err(Error::Stalled);
            }
            if !data.is_empty() {
                if let Some(md5) = &mut self.md5 {
                    md5.update(&data).await;
                }
                return Ok(Some(data));
            }
        }
    }

    /// Bytes read so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// MD5 of the bytes read so far; `None` if they aren't hashed.
    pub(crate) async fn md5(&mut self) -> Option<[u8; 16]> {
        match &self.md5 {
            Some(md5) => Some(md5.md5().await),
            None => None,
        }
    }
}

/// The error of a body that broke off: a body that reads from the store has an [`Error`] already.
fn cause<E: Display + 'static>(error: E) -> Error {
    let mut error = Some(error);
    let ours = (&mut error as &mut dyn Any).downcast_mut::<Option<Error>>().and_then(Option::take);
    ours.unwrap_or_else(|| {
        let error = error.map(|error| error.to_string());
        tracing::debug!(error, "the client's body broke off");
        Error::CutShort
    })
}
