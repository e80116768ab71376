//! Scans of LevelDB, in pages, on the blocking pool.

use super::{INTENTS, LevelDb};
use crate::index::error::IndexError;
use crate::index::fold::{Folded, Item, beyond};
use crate::index::types::{Listed, Page};
use crate::key::Key;
use crate::leveldb::{Database, Iter};
use crate::record::{Intent, Record, State};

/// A page holds at most this many rows, …
const PAGE_ROWS: usize = 1000;
/// … comes from at most this many rows looked at, …
const PAGE_SCANNED: usize = 10_000;
/// … and ends with the row that brings its rows, or its text, to this many bytes.
pub(super) const PAGE_BYTES: usize = 256 * 1024;

/// A count looks at this many rows at a time.
const COUNT_SCANNED: usize = 100_000;

impl LevelDb {
    pub(in crate::index) async fn page(
        &self,
        prefix: &[u8],
        start: &[u8],
        state: Option<State>,
    ) -> Result<Page<(Key, Record)>, IndexError> {
        let (prefix, start) = (prefix.to_vec(), start.max(prefix).to_vec());
        self.scan(move |database| {
            scan_page(database, &prefix, &start, |row, value| {
                let key = Key::new(row);
                let record = Record::decode(value).map_err(|error| IndexError::damaged(&key, error))?;
                Ok(state.is_none_or(|state| state == record.state).then_some((key, record)))
            })
        })
        .await
    }

    pub(in crate::index) async fn text(
        &self,
        listed: &Listed,
        start: &[u8],
        text: Vec<u8>,
        write: impl FnMut(&mut Vec<u8>, &[u8]) + Send + 'static,
    ) -> Result<(Vec<u8>, Option<Vec<u8>>), IndexError> {
        let (listed, start) = (listed.clone(), start.max(&listed.prefix).to_vec());
        self.scan(move |database| scan_text(database, &listed, &start, text, write)).await
    }

    pub(in crate::index) async fn after(
        &self,
        prefix: &[u8],
        start: &[u8],
        state: State,
        count: u64,
    ) -> Result<Option<Key>, IndexError> {
        let (mut left, mut start) = (count, start.max(prefix).to_vec());
        loop {
            let (prefix, from) = (prefix.to_vec(), start);
            // in steps, so that dropping the future ends the scan
            let step = self.scan(move |database| count_on(database, &prefix, &from, state, left)).await?;
            match step {
                Counted::Found(key) => return Ok(Some(key)),
                Counted::End => return Ok(None),
                Counted::More(fewer, next) => (left, start) = (fewer, next),
            }
        }
    }

    pub(in crate::index) async fn items(
        &self,
        folded: &Folded,
        start: &[u8],
        most: usize,
    ) -> Result<Page<Item>, IndexError> {
        // keys begin with a slash; rows before it are internal
        let (folded, start) = (folded.clone(), start.max(&folded.prefix).max(b"/".as_slice()).to_vec());
        self.scan(move |database| scan_items(database, &folded, &start, most)).await
    }

    pub(in crate::index) async fn intents_page(
        &self,
        start: &[u8],
    ) -> Result<Page<(Key, Vec<Intent>)>, IndexError> {
        let start = start.max(INTENTS).to_vec();
        self.scan(move |database| {
            scan_page(database, INTENTS, &start, |row, value| {
                let key = Key::new(row.strip_prefix(INTENTS).unwrap_or_default());
                let intents = Intent::decode_all(value).map_err(|error| IndexError::damaged(&key, error))?;
                Ok(Some((key, intents)))
            })
        })
        .await
    }
}

/// The rows under a prefix, from one on. Scans don't fill the cache, which is for reads by key.
pub(super) struct Rows<'a> {
    iter: Iter<'a>,
    prefix: &'a [u8],
}

impl<'a> Rows<'a> {
    fn new(database: &'a Database, prefix: &'a [u8], start: &[u8]) -> Self {
        let mut iter = database.iter(false);
        iter.seek(start);
        Self { iter, prefix }
    }

    fn current(&self) -> Option<(&[u8], &[u8])> {
        self.iter.current().filter(|(key, _)| key.starts_with(self.prefix))
    }

    fn advance(&mut self) {
        self.iter.next();
    }

    fn seek(&mut self, row: &[u8]) {
        self.iter.seek(row);
    }

    /// Checks that the scan ended at the last row, and not at damage.
    fn end(&self) -> Result<(), IndexError> {
        Ok(self.iter.status()?)
    }
}

/// How far a count has come.
enum Counted {
    /// The key after the last counted one.
    Found(Key),
    /// The number of keys that are still to be counted, and the row to continue at.
    More(u64, Vec<u8>),
    /// There are no more rows.
    End,
}

fn count_on(
    database: &Database,
    prefix: &[u8],
    start: &[u8],
    state: State,
    count: u64,
) -> Result<Counted, IndexError> {
    let (mut left, mut scanned) = (count, 0);
    let mut rows = Rows::new(database, prefix, start);
    while let Some((row, value)) = rows.current() {
        if scanned == COUNT_SCANNED {
            let next = row.to_vec();
            rows.end()?;
            return Ok(Counted::More(left, next));
        }
        scanned += 1;
        if state_of(row, value)? == state {
            if left == 0 {
                let key = Key::new(row);
                rows.end()?;
                return Ok(Counted::Found(key));
            }
            left -= 1;
        }
        rows.advance();
    }
    rows.end().map(|()| Counted::End)
}

pub(super) fn scan_page<T>(
    database: &Database,
    prefix: &[u8],
    start: &[u8],
    row: impl Fn(&[u8], &[u8]) -> Result<Option<T>, IndexError>,
) -> Result<Page<T>, IndexError> {
    let mut rows = Rows::new(database, prefix, start);
    let mut page = Page { rows: Vec::new(), next: None };
    let (mut scanned, mut bytes) = (0, 0);
    while let Some((key, value)) = rows.current() {
        if page.rows.len() == PAGE_ROWS || scanned == PAGE_SCANNED || bytes >= PAGE_BYTES {
            page.next = Some(key.to_vec());
            break;
        }
        scanned += 1;
        if let Some(found) = row(key, value)? {
            bytes += key.len() + value.len();
            page.rows.push(found);
        }
        rows.advance();
    }
    rows.end()?;
    Ok(page)
}

fn scan_text(
    database: &Database,
    listed: &Listed,
    start: &[u8],
    mut text: Vec<u8>,
    mut write: impl FnMut(&mut Vec<u8>, &[u8]),
) -> Result<(Vec<u8>, Option<Vec<u8>>), IndexError> {
    let (mut scanned, mut next) = (0, None);
    let mut rows = Rows::new(database, &listed.prefix, start);
    while let Some((key, value)) = rows.current() {
        if listed.end.as_ref().is_some_and(|end| key >= end.as_bytes()) {
            break;
        }
        if scanned == PAGE_SCANNED || text.len() >= PAGE_BYTES {
            next = Some(key.to_vec());
            break;
        }
        scanned += 1;
        if state_of(key, value)? == listed.state {
            write(&mut text, key);
        }
        rows.advance();
    }
    rows.end()?;
    Ok((text, next))
}

fn scan_items(
    database: &Database,
    folded: &Folded,
    start: &[u8],
    most: usize,
) -> Result<Page<Item>, IndexError> {
    let mut rows = Rows::new(database, &folded.prefix, start);
    let mut page = Page { rows: Vec::new(), next: None };
    let (mut scanned, mut bytes) = (0, 0);
    while let Some((row, value)) = rows.current() {
        if page.rows.len() == most.min(PAGE_ROWS) || scanned == PAGE_SCANNED || bytes >= PAGE_BYTES {
            page.next = Some(row.to_vec());
            break;
        }
        scanned += 1;
        let key = Key::new(row);
        let record = Record::decode(value).map_err(|error| IndexError::damaged(&key, error))?;
        if record.state != State::Live {
            rows.advance();
        } else if let Some(folder) = folded.folder(row) {
            let beyond = beyond(&folder);
            page.rows.push(Item::Folder(folder));
            match beyond {
                Some(beyond) => rows.seek(&beyond),
                None => break,
            }
        } else {
            bytes += row.len() + value.len();
            page.rows.push(Item::Key(key, record));
            rows.advance();
        }
    }
    rows.end()?;
    Ok(page)
}

/// The state of a row's record.
fn state_of(key: &[u8], value: &[u8]) -> Result<State, IndexError> {
    State::decode(value).map_err(|error| IndexError::damaged(&Key::new(key), error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::collections::BTreeMap;

    use super::*;
    use crate::index::{Index, Loaded, Options};
    use crate::record::Intent;
    use proptest::collection::btree_map;
    use proptest::prelude::*;

    fn record(state: State) -> Record {
        let (md5, size, modified) = (None, Some(1), None);
        Record { state, replicas: Vec::new(), md5, size, modified, headers: Vec::new() }
    }

    /// All items, by looking at every key.
    fn expected(keys: &BTreeMap<String, bool>, prefix: &str, delimiter: &str) -> Vec<String> {
        let mut items: Vec<String> = Vec::new();
        for key in keys.iter().filter(|(key, live)| **live && key.starts_with(prefix)).map(|(key, _)| key) {
            let rest = &key[prefix.len()..];
            let at = rest.find(delimiter).filter(|_| !delimiter.is_empty());
            let item = at.map_or(key.clone(), |at| key[..prefix.len() + at + delimiter.len()].to_owned());
            if items.last() != Some(&item) {
                items.push(item);
            }
        }
        items
    }

    async fn listed(index: &Index, by: &Folded, most: usize) -> Vec<String> {
        let (mut items, mut start) = (Vec::new(), Vec::new());
        loop {
            let page = index.items(by, &start, most).await.unwrap();
            assert!(page.rows.len() <= most);
            items.extend(page.rows.into_iter().map(|item| match item {
                Item::Key(key, _) => String::from_utf8(key.as_bytes().to_vec()).unwrap(),
                Item::Folder(folder) => String::from_utf8(folder).unwrap(),
            }));
            match page.next {
                Some(next) => start = next,
                None => return items,
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// In pages of any size, each folder once.
        #[test]
        fn items_are_those_of_a_look_at_every_key(
            keys in btree_map("/[ab/]{1,6}", prop::bool::weighted(0.8), 0..40),
            prefix in prop_oneof![Just(String::new()), "/[ab/]{0,3}"],
            delimiter in prop::sample::select(vec!["", "/", "a", "b/", "/a"]),
            most in 1..9_usize,
        ) {
            let tempdir = tempfile::tempdir().unwrap();
            let options = Options { create: true, cache_bytes: 1 << 20, sync: false };
            let index = Index::open(&tempdir.path().join("db"), options).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let rows = keys.iter().map(|(key, live)| {
                let state = if *live { State::Live } else { State::Unlinked };
                // with rows of the index's own beside them
                let intents = vec![Intent { id: 1, files: Vec::new() }];
                let loaded = Loaded { record: Some(record(state).encode()), intents };
                (Key::new(key.as_bytes()), loaded)
            });
            let items = runtime.block_on(async {
                index.load(rows.collect()).await.unwrap();
                let by = Folded { prefix: prefix.clone().into(), delimiter: delimiter.into() };
                listed(&index, &by, most).await
            });
            prop_assert_eq!(items, expected(&keys, &prefix, delimiter));
        }
    }
}
