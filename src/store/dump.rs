//! What the index holds, without what is under way.

use std::sync::Arc;

use super::Store;
use crate::index::IndexError;
use crate::index::dump::Dump;

impl Store {
    /// Begins a dump of the index, without the intents of attempts that are under way.
    ///
    /// # Errors
    ///
    /// The index can't be read.
    pub async fn dump(&self) -> Result<Dump, IndexError> {
        // not the store itself: a client who reads slowly mustn't keep it from being closed
        let (claims, is_open) = (Arc::clone(&self.0.claims), self.0.reaper.watch());
        self.0.index.dump(move |key, id| claims.is_requested(key) || is_open(id)).await
    }
}
