//! The public verbs that list keys: each answers from the index, page by page.

use super::Store;
use crate::error::Result;
use crate::index::fold::{Folded, Item};
use crate::index::{Listed, Page};
use crate::key::Key;
use crate::record::{Record, State};

impl Store {
    /// Appends a page of keys to a text, as [`Index::text`](crate::index::Index::text).
    ///
    /// # Errors
    ///
    /// `Index`.
    pub async fn list_text(
        &self,
        listed: &Listed,
        start: &[u8],
        text: Vec<u8>,
        write: impl FnMut(&mut Vec<u8>, &[u8]) + Send + 'static,
    ) -> Result<(Vec<u8>, Option<Vec<u8>>)> {
        Ok(self.0.index.text(listed, start, text, write).await?)
    }

    /// The key that follows the first `count` ones of that state from `start` on under `prefix`.
    ///
    /// # Errors
    ///
    /// `Index`.
    pub async fn key_after(
        &self,
        prefix: &[u8],
        start: &[u8],
        state: State,
        count: u64,
    ) -> Result<Option<Key>> {
        Ok(self.0.index.after(prefix, start, state, count).await?)
    }

    /// A page of live keys and folders, as [`Index::items`](crate::index::Index::items).
    ///
    /// # Errors
    ///
    /// `Index`.
    pub async fn list_folded(&self, folded: &Folded, start: &[u8], most: usize) -> Result<Page<Item>> {
        Ok(self.0.index.items(folded, start, most).await?)
    }

    /// A page of all keys with that prefix and their records, live or not; also those of parts of uploads.
    ///
    /// # Errors
    ///
    /// `Index`.
    pub async fn records(&self, prefix: &[u8], start: &[u8]) -> Result<Page<(Key, Record)>> {
        Ok(self.0.index.page(prefix, start, None).await?)
    }
}
