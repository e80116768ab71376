//! The index that the store sees.

use std::ops::Range;

use tokio::sync::Mutex;

use super::calls::World;
use super::fault::{Fault, Kind};
use super::world;
use crate::index::dump::Dump;
use crate::index::fold::{Folded, Item};
use crate::index::notes::{Note, Notes, RequiredNote};
use crate::index::{Entry, IndexError, Listed, Page};
use crate::key::Key;
use crate::record::{Intent, Record, State};

/// So small that reservations are among the calls of every scenario.
const GENERATION_BLOCK: u64 = 2;

/// In the place of [`crate::index::Index`].
pub struct Index {
    world: World,
    reserved: Mutex<Range<u64>>,
}

impl Index {
    pub(super) fn of(world: &World) -> Self {
        Self { world: world.clone(), reserved: Mutex::new(0..0) }
    }

    pub(crate) fn get(&self, key: &Key) -> Result<Entry, IndexError> {
        self.read(key)
    }

    pub(crate) fn record(&self, key: &Key) -> Result<Option<Record>, IndexError> {
        self.read(key).map(|entry| entry.record)
    }

    /// Here as there, what is written survives the store's end, durable or not.
    pub(crate) async fn commit(
        &self,
        key: &Key,
        before: &Entry,
        after: &Entry,
        _durable: bool,
    ) -> Result<(), IndexError> {
        let fault = self.world.meet(Kind::Commit, "").await;
        self.world.linger().await;
        self.wrote(fault, |world| world.commit(key, before, after, None, fault).map(|_written| ())).await
    }

    pub(crate) async fn commit_if(
        &self,
        key: &Key,
        before: &Entry,
        after: &Entry,
        required: &RequiredNote,
    ) -> Result<bool, IndexError> {
        let fault = self.world.meet(Kind::Commit, "").await;
        self.world.linger().await;
        self.wrote(fault, |world| world.commit(key, before, after, Some(required), fault)).await
    }

    pub(crate) fn note(&self, note: &Note) -> Result<Option<Record>, IndexError> {
        match self.world.meet_now(Kind::Get, "") {
            Ok(None) => Ok(self.world.state().notes.get(note).cloned()),
            _ => Err(failure("a block can't be read")),
        }
    }

    pub(crate) async fn set_note(&self, note: &Note, record: Option<&Record>) -> Result<(), IndexError> {
        let fault = self.world.meet(Kind::Commit, "").await;
        self.world.linger().await;
        self.wrote(fault, |world| world.set_note(note, record, fault).map(|_was_there| ())).await
    }

    pub(crate) async fn end_note(&self, note: &Note) -> Result<bool, IndexError> {
        let fault = self.world.meet(Kind::Commit, "").await;
        self.world.linger().await;
        self.wrote(fault, |world| world.set_note(note, None, fault)).await
    }

    pub(crate) async fn notes_page(
        &self,
        notes: Notes,
        prefix: &[u8],
        start: Option<&Note>,
    ) -> Result<Page<(Note, Record)>, IndexError> {
        assert_eq!(notes, Notes::Uploads, "the store asks for no buckets");
        if self.world.meet(Kind::Page, "").await.is_some() {
            return Err(failure("a scan failed"));
        }
        self.world.linger_scanning().await;
        let notes = self.world.state().notes.clone();
        let under = |note: &Note| matches!(note, Note::Upload(key, _) if key.as_bytes().starts_with(prefix));
        let mut rows = notes.into_iter().filter(|(note, _)| under(note) && Some(note) >= start);
        let row = rows.next();
        let next = rows.next().map(|(note, _)| note.row());
        Ok(Page { rows: row.into_iter().collect(), next })
    }

    pub(crate) async fn page(
        &self,
        prefix: &[u8],
        start: &[u8],
        state: Option<State>,
    ) -> Result<Page<(Key, Record)>, IndexError> {
        if self.world.meet(Kind::Page, "").await.is_some() {
            return Err(failure("a scan failed"));
        }
        self.world.linger_scanning().await;
        let mut keys = self.listed(prefix, start, state.unwrap_or(State::Live));
        let row = keys.next().map(|key| (key.clone(), self.world.state().entry(&key).record.unwrap()));
        let next = keys.next().map(|key| key.as_bytes().to_vec());
        Ok(Page { rows: row.into_iter().collect(), next })
    }

    pub(crate) async fn items(
        &self,
        folded: &Folded,
        start: &[u8],
        most: usize,
    ) -> Result<Page<Item>, IndexError> {
        if self.world.meet(Kind::Page, "").await.is_some() {
            return Err(failure("a scan failed"));
        }
        self.world.linger_scanning().await;
        let keys = self.listed(&folded.prefix, start, State::Live);
        let mut folders: Vec<Vec<u8>> = keys.map(|key| folded.folder(key.as_bytes()).unwrap()).collect();
        folders.dedup();
        let next = folders.get(most).cloned();
        folders.truncate(most);
        Ok(Page { rows: folders.into_iter().map(Item::Folder).collect(), next })
    }

    #[allow(clippy::unnecessary_wraps, reason = "as the index that it stands for")]
    pub(crate) fn first_unreserved(&self) -> Result<u64, IndexError> {
        Ok(self.world.state().first_unreserved.max(1))
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.world.state().is_read_only()
    }

    pub(crate) async fn generation(&self) -> Result<u64, IndexError> {
        let mut reserved = self.reserved.lock().await;
        if reserved.is_empty() {
            let fault = self.world.meet(Kind::Reserve, "").await;
            let first = self.world.state().first_unreserved.max(1);
            let end = first + GENERATION_BLOCK;
            self.wrote(fault, |world| world.reserve(end, fault)).await?;
            *reserved = first..end;
        } else {
            self.world.meet(Kind::Generation, "").await;
        }
        Ok(reserved.next().expect("some are reserved"))
    }

    pub(crate) async fn intents_page(&self, start: &[u8]) -> Result<Page<(Key, Vec<Intent>)>, IndexError> {
        if self.world.meet(Kind::Page, "").await.is_some() {
            return Err(failure("a scan failed"));
        }
        // one key a page, so that callers have to turn them
        let state = self.world.state();
        let mut rows =
            state.rows.iter().filter(|(key, entry)| !entry.intents.is_empty() && key.as_bytes() >= start);
        let rows_of_page = rows.next().map(|(key, entry)| (key.clone(), entry.intents.clone()));
        let next = rows.next().map(|(key, _)| key.as_bytes().to_vec());
        Ok(Page { rows: rows_of_page.into_iter().collect(), next })
    }

    /// For listings, which are no part of the write protocol: nothing befalls them.
    #[allow(clippy::unused_async, reason = "as the index that it stands for")]
    pub(crate) async fn text(
        &self,
        listed: &Listed,
        start: &[u8],
        mut text: Vec<u8>,
        mut write: impl FnMut(&mut Vec<u8>, &[u8]),
    ) -> Result<(Vec<u8>, Option<Vec<u8>>), IndexError> {
        let keys = self.listed(&listed.prefix, start, listed.state);
        for key in keys.take_while(|key| listed.end.as_ref().is_none_or(|end| key < end)) {
            write(&mut text, key.as_bytes());
        }
        Ok((text, None))
    }

    /// As [`Index::text`].
    #[allow(clippy::unused_async, reason = "as the index that it stands for")]
    pub(crate) async fn after(
        &self,
        prefix: &[u8],
        start: &[u8],
        state: State,
        count: u64,
    ) -> Result<Option<Key>, IndexError> {
        let mut keys = self.listed(prefix, start, state);
        Ok(keys.nth(usize::try_from(count).unwrap()))
    }

    /// Dumps are of real indexes.
    #[allow(clippy::unused_async, reason = "as the index that it stands for")]
    pub(crate) async fn dump(
        &self,
        _is_open: impl Fn(&Key, u64) -> bool + Send + 'static,
    ) -> Result<Dump, IndexError> {
        Err(failure("there is nothing to dump"))
    }

    pub(crate) fn close(self) {
        drop(self);
    }

    fn listed(&self, prefix: &[u8], start: &[u8], state: State) -> impl Iterator<Item = Key> {
        let (prefix, start) = (prefix.to_vec(), start.to_vec());
        let rows = self.world.state().rows.clone().into_iter();
        let of_state = rows.filter(move |(_, entry)| entry.record.as_ref().is_some_and(|r| r.state == state));
        of_state
            .map(|(key, _)| key)
            .filter(move |key| key.as_bytes().starts_with(&prefix) && key.as_bytes() >= &*start)
    }

    fn read(&self, key: &Key) -> Result<Entry, IndexError> {
        match self.world.meet_now(Kind::Get, "") {
            Ok(None) => Ok(self.world.state().entry(key)),
            _ => Err(failure("a block can't be read")),
        }
    }

    /// Ends a write: the store may not live to see it.
    async fn wrote<T>(
        &self,
        fault: Option<Fault>,
        write: impl FnOnce(&mut world::State) -> Result<T, &'static str>,
    ) -> Result<T, IndexError> {
        let written = {
            let mut world = self.world.state();
            if world.has_stopped() { Err("") } else { write(&mut world) }
        };
        if fault.is_some_and(Fault::is_stop) || self.world.state().has_stopped() {
            self.world.stop().await;
        }
        written.map_err(failure)
    }
}

fn failure(why: &str) -> IndexError {
    IndexError(why.to_owned())
}
