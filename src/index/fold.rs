//! Listings in which all keys that share what comes up to a delimiter are one item, as a folder is.
//!
//! A folder is found by its first live key, and left behind by one seek, however many keys it holds.

use super::{Index, IndexError, PAGE_BYTES, PAGE_ROWS, PAGE_SCANNED, Page, Rows};
use crate::key::Key;
use crate::leveldb::Database;
use crate::record::{Record, State};

/// Which keys are listed, and how they are folded.
#[derive(Clone, Debug, Default)]
pub struct Folded {
    /// What they begin with.
    pub prefix: Vec<u8>,
    /// What ends a folder's name, behind the prefix; empty for no folders.
    pub delimiter: Vec<u8>,
}

/// An item of a listing.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    /// A live key.
    Key(Key, Record),
    /// What several keys begin with, or one: from the prefix up to the first delimiter.
    Folder(Vec<u8>),
}

impl Index {
    /// A page of live keys and folders from the key `start` on, at most `most` of them. The page's `next`
    /// begins no folder that is in the page.
    ///
    /// # Errors
    ///
    /// As [`Index::page`].
    pub async fn items(&self, folded: &Folded, start: &[u8], most: usize) -> Result<Page<Item>, IndexError> {
        // keys begin with a slash; what comes before is the index's own
        let (folded, start) = (folded.clone(), start.max(&folded.prefix).max(b"/".as_slice()).to_vec());
        self.scan(move |database| scan(database, &folded, &start, most)).await
    }
}

fn scan(database: &Database, folded: &Folded, start: &[u8], most: usize) -> Result<Page<Item>, IndexError> {
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

impl Folded {
    /// The folder that the key is in.
    pub(crate) fn folder(&self, key: &[u8]) -> Option<Vec<u8>> {
        let rest = key.get(self.prefix.len()..).filter(|_| !self.delimiter.is_empty())?;
        let at = rest.windows(self.delimiter.len()).position(|part| part == self.delimiter)?;
        key.get(..self.prefix.len() + at + self.delimiter.len()).map(<[u8]>::to_vec)
    }
}

/// The first key that is greater than all with this prefix; none if nothing is.
#[must_use]
pub fn beyond(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut beyond = prefix.get(..=kept)?.to_vec();
    *beyond.last_mut()? += 1;
    Some(beyond)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::collections::BTreeMap;

    use super::*;
    use crate::index::{Loaded, Options};
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

    #[test]
    fn beyond_a_prefix_is_what_follows_all_that_begin_with_it() {
        assert_eq!(beyond(b"/a/"), Some(b"/a0".to_vec()));
        assert_eq!(beyond(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(beyond(b"\xff"), None);
        assert_eq!(beyond(b""), None);
    }
}
