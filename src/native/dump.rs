//! `GET /?dump`: everything that the index holds, as a backup.
//!
//! The index writes a page on a thread of its own while the page before it is on its way to the client. Files
//! that LevelDB would have replaced are kept as long as a dump goes on, so it must go on.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio::time::timeout;

use crate::key::Key;
use crate::store::{Dump, IndexError, Store};
use crate::wire::{BodyError, Outgoing, caught};

use super::answer::Answer;
use super::refusal::Refusal;

/// The query that asks for one.
pub(super) const QUERY: &str = "dump";

/// Bounds the number of dumps at a time. A process has one index.
static PLACES: Semaphore = Semaphore::const_new(2);

/// Pages that wait for the client while the next is made.
const WINDOW: usize = 1;

/// How long a client may take for a page.
const PATIENCE: Duration = Duration::from_mins(1);

/// The answer to a request for a dump.
pub(super) async fn answer(store: &Store, method: &Method, key: &Key) -> Result<Answer, Refusal> {
    if *method != Method::GET {
        return Err(Refusal::Bad("?dump goes with GET only".into()));
    }
    if key.as_bytes() != b"/" {
        return Err(Refusal::Bad("a dump is of the whole index: GET /?dump".into()));
    }
    let full = |_| Refusal::Later("as many dumps are under way as can be: try again later".into());
    let place = PLACES.try_acquire().map_err(full)?;
    // before the answer's head, which can say what went wrong
    let page = store.dump().await?.page().await?;
    let (pages, body) = mpsc::channel(WINDOW);
    let mut answer = Response::new(Outgoing::Pages(body));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    tokio::spawn(run(page, pages, place));
    Ok(answer)
}

/// Some bytes, and the rest of the dump.
type Page = (Vec<u8>, Option<Dump>);

type Pages = mpsc::Sender<Result<Bytes, BodyError>>;

async fn run(first: Page, pages: Pages, place: SemaphorePermit<'static>) {
    match caught(send(first, &pages)).await {
        Ok(Ok(Sent::Whole)) => return,
        Ok(Ok(Sent::TooSlowly)) => tracing::warn!("a dump broke off: its client reads too slowly"),
        Ok(Err(error)) => tracing::error!(%error, "a dump broke off"),
        Err(panicked) => tracing::error!(error = %panicked, "a dump broke off"),
    }
    drop(place);
    // the answer must not look whole
    drop(pages.send(Err(BodyError)).await);
}

enum Sent {
    /// All of it, or as much as the client waited for.
    Whole,
    TooSlowly,
}

/// Sends the first page and all that follow.
async fn send((mut bytes, mut rest): Page, pages: &Pages) -> Result<Sent, IndexError> {
    loop {
        match timeout(PATIENCE, pages.send(Ok(bytes.into()))).await {
            Ok(Ok(())) => {}
            Ok(Err(_left)) => return Ok(Sent::Whole),
            Err(_elapsed) => return Ok(Sent::TooSlowly),
        }
        let Some(dump) = rest else { return Ok(Sent::Whole) };
        (bytes, rest) = dump.page().await?;
    }
}
