//! Listings: `{"next":"…","keys":[…]}`, however many keys, in the memory of a few pages.
//!
//! The index writes the text of a page, key by key, on a thread of its own, while the page before it
//! is on its way to the client. Clients that don't read keep their pages in memory, so each page takes its share of
//! what all answers may take.

use std::borrow::Cow;

use bytes::Bytes;
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use tokio::sync::mpsc;

use crate::error::Error;
use crate::key::Key;
use crate::store::{Listed, Store};
use crate::wire::{BodyError, Outgoing, Share, caught};

use super::answer::Answer;
use super::query::Query;
use super::refusal::Refusal;

/// Pages that wait for the client while the next is made.
const WINDOW: usize = 1;

/// The memory that a page takes until its length is known, in bytes: a page of the index ends with the key that fills
/// it.
const PAGE: usize = 288 * 1024;

/// The answer to a query for the keys that begin with this one; without a body unless it is `wanted`.
///
/// Where there is a limit, `next` is found first, and then every key before it is listed.
pub(super) async fn answer(
    store: &Store,
    prefix: &Key,
    query: Query,
    wanted: bool,
) -> Result<Answer, Refusal> {
    let Query { state, start, limit } = query;
    let share = Share::take(PAGE).await.ok_or(Error::NoMemory)?;
    let prefix = prefix.as_bytes().to_vec();
    let end = match limit {
        0 => None,
        limit => store.key_after(&prefix, &start, state, limit).await?,
    };
    let mut listing = Listing { store: store.clone(), keys: Listed { prefix, end, state }, begun: false };
    let head = listing.head();
    // before the answer's head, which can say what went wrong
    let page = listing.page(head, &start).await?;
    let (pages, body) = mpsc::channel(WINDOW);
    let mut answer = Response::new(Outgoing::Pages(body));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if wanted {
        tokio::spawn(listing.run(page, share, pages));
    }
    Ok(answer)
}

/// A listing on its way out.
struct Listing {
    store: Store,
    keys: Listed,
    /// A key was listed already.
    begun: bool,
}

/// Some text, and the key that the rest begins with.
type Page = (Vec<u8>, Option<Vec<u8>>);

type Pages = mpsc::Sender<Result<Bytes, BodyError>>;

impl Listing {
    async fn run(self, first: Page, share: Share, pages: Pages) {
        match caught(self.send(first, share, &pages)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => tracing::error!(%error, "a listing broke off"),
            Err(panicked) => tracing::error!(error = %panicked, "a listing broke off"),
        }
        // the answer must not look whole
        drop(pages.send(Err(BodyError)).await);
    }

    /// Sends the first page and all that follow, or as many as the client waits for.
    async fn send(
        mut self,
        (mut text, mut next): Page,
        mut share: Share,
        pages: &Pages,
    ) -> Result<(), Error> {
        loop {
            if next.is_none() {
                text.extend(b"]}\n");
            }
            share.shrink(text.len());
            if pages.send(Ok(share.hold(text))).await.is_err() {
                return Ok(());
            }
            let Some(start) = next else { return Ok(()) };
            share = tokio::select! {
                share = Share::wait(PAGE) => share,
                () = pages.closed() => return Ok(()),
            };
            (text, next) = self.page(Vec::new(), &start).await?;
        }
    }

    fn head(&self) -> Vec<u8> {
        let mut text = b"{\"next\":".to_vec();
        put_json(&mut text, self.keys.end.as_ref().map_or(&[], Key::as_bytes));
        text.extend(b",\"keys\":[");
        text
    }

    /// Appends a page of keys to a text.
    async fn page(&mut self, text: Vec<u8>, start: &[u8]) -> Result<Page, Error> {
        let (begun, before) = (self.begun, text.len());
        let write = move |text: &mut Vec<u8>, key: &[u8]| {
            if begun || text.len() > before {
                text.push(b',');
            }
            put_json(text, key);
        };
        let page = self.store.list_text(&self.keys, start, text, write).await?;
        self.begun = begun || page.0.len() > before;
        Ok(page)
    }
}

/// Appends a key as a JSON string. One that isn't UTF-8 (only an old index has such) shows
/// replacement characters.
fn put_json(text: &mut Vec<u8>, key: &[u8]) {
    if is_plain(key) {
        text.reserve(key.len() + 2);
        text.push(b'"');
        text.extend_from_slice(key);
        text.push(b'"');
        return;
    }
    let key = std::str::from_utf8(key).map_or_else(|_| String::from_utf8_lossy(key), Cow::Borrowed);
    serde_json::to_writer(text, &key).unwrap_or_else(|error| unreachable!("memory is written: {error}"));
}

/// Whether a key is printable ASCII that JSON has as it is. All bytes are counted, as that takes no branch for each of
/// them: most keys are plain.
fn is_plain(key: &[u8]) -> bool {
    let is_special = |byte: u8| !matches!(byte, b' '..=b'~') || byte == b'"' || byte == b'\\';
    key.iter().filter(|byte| is_special(**byte)).count() == 0
}

#[cfg(test)]
mod tests {
    use super::put_json;

    /// Every byte by itself, and between others, is written as `serde_json` writes it.
    #[test]
    fn keys_are_json_strings() {
        let keys = (0..=255_u8).flat_map(|byte| [vec![byte], vec![b'/', b'a', byte, b'b']]);
        let others =
            ["", "/", "/plain key", "/\u{fc}\u{1f980}\"\\\u{7f}\u{2028}"].map(|key| key.as_bytes().to_vec());
        for key in keys.chain(others) {
            let mut text = b"[".to_vec();
            put_json(&mut text, &key);
            let expected = serde_json::to_string(&String::from_utf8_lossy(&key)).unwrap_or_default();
            assert_eq!(String::from_utf8_lossy(&text), format!("[{expected}"), "{key:?}");
        }
    }
}
