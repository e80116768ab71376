//! Rows that stand for no value: the buckets that were made, and the uploads in parts that go on.
//!
//! Each holds a [`Record`] without replicas: when it was made, and its headers.

use super::writer::{Change, Durability};
use super::{Entry, Index, IndexError, Page, change, scan_page};
use crate::key::Key;
use crate::record::Record;

const BUCKET: &[u8] = b"\0bucket";
const UPLOAD: &[u8] = b"\0upload";

/// Ends the key in an upload's row: keys of new values have no control characters.
const END: u8 = 0;

/// What such a row stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Note {
    /// A bucket, by its name.
    Bucket(Vec<u8>),
    /// An upload in parts to a key, by its number.
    Upload(Key, u64),
}

/// What must be noted for a batch to be written.
#[derive(Clone, Debug)]
pub struct RequiredNote {
    /// What must be noted.
    pub note: Note,
    /// Whether the batch takes it out.
    pub ends: bool,
}

/// Which rows are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notes {
    /// All buckets, by name.
    Buckets,
    /// All uploads, by key and then by number.
    Uploads,
}

impl Note {
    /// Its row in the index.
    pub(crate) fn row(&self) -> Vec<u8> {
        match self {
            Self::Bucket(name) => [BUCKET, name].concat(),
            Self::Upload(key, number) => {
                [UPLOAD, key.as_bytes(), &[END], number.to_be_bytes().as_slice()].concat()
            }
        }
    }

    fn from_row(row: &[u8]) -> Option<Self> {
        if let Some(name) = row.strip_prefix(BUCKET) {
            return Some(Self::Bucket(name.to_vec()));
        }
        let (key, number) = row.strip_prefix(UPLOAD)?.split_last_chunk()?;
        let (end, key) = key.split_last()?;
        (*end == END).then(|| Self::Upload(Key::new(key), u64::from_be_bytes(*number)))
    }

    /// The number of the upload that is noted.
    #[must_use]
    pub fn upload(&self) -> Option<u64> {
        match self {
            Self::Bucket(_) => None,
            Self::Upload(_, number) => Some(*number),
        }
    }
}

impl Notes {
    fn prefix(self) -> &'static [u8] {
        match self {
            Self::Buckets => BUCKET,
            Self::Uploads => UPLOAD,
        }
    }
}

impl Index {
    /// What is noted. Cheap enough to call on an async thread.
    ///
    /// # Errors
    ///
    /// As [`Index::get`].
    pub fn note(&self, note: &Note) -> Result<Option<Record>, IndexError> {
        let row = self.database.get(&note.row())?;
        row.map(|bytes| Record::decode(&bytes).map_err(|error| damaged(note, error))).transpose()
    }

    /// Notes it, or with `None` forgets it.
    ///
    /// # Errors
    ///
    /// The write may or may not have happened.
    pub async fn set_note(&self, note: &Note, record: Option<&Record>) -> Result<(), IndexError> {
        let (mut puts, mut deletes) = (Vec::new(), Vec::new());
        match record {
            Some(record) => puts.push((note.row(), record.encode())),
            None => deletes.push(note.row()),
        }
        let durability = Durability::AsOpened;
        self.write_soon(Change { puts, deletes, durability, ..Change::default() }).await.map(|_written| ())
    }

    /// Forgets what is noted, and tells whether it was: of all who ask at once, one is told so.
    ///
    /// # Errors
    ///
    /// The write may or may not have happened.
    pub async fn end_note(&self, note: &Note) -> Result<bool, IndexError> {
        let (deletes, required) = (vec![note.row()], Some(note.row()));
        let durability = Durability::AsOpened;
        self.write_soon(Change { deletes, required, durability, ..Change::default() }).await
    }

    /// A durable [`Index::commit`], if what must be noted is; otherwise nothing is written, and that is told
    /// by `false`.
    ///
    /// # Errors
    ///
    /// As [`Index::commit`].
    pub async fn commit_if(
        &self,
        key: &Key,
        before: &Entry,
        after: &Entry,
        required: &RequiredNote,
    ) -> Result<bool, IndexError> {
        let mut change = change(key, before, after, Durability::AsOpened);
        let row = required.note.row();
        if required.ends {
            change.deletes.push(row.clone());
        }
        change.required = Some(row);
        self.write_soon(change).await
    }

    /// Notes many things that aren't noted yet, with their records in a stored form: the bulk load of a rebuild.
    ///
    /// # Errors
    ///
    /// The index can't be written.
    pub async fn load_notes(&self, notes: Vec<(Note, Vec<u8>)>) -> Result<(), IndexError> {
        let puts = notes.into_iter().map(|(note, record)| (note.row(), record)).collect();
        let durability = Durability::Process;
        self.write(Change { puts, durability, ..Change::default() }).await.map(|_written| ())
    }

    /// A page of what is noted, from where `start` is or would be on: of all, or of what begins with
    /// `prefix` (the name of a bucket, the key of an upload).
    ///
    /// # Errors
    ///
    /// As [`Index::page`].
    pub async fn notes_page(
        &self,
        notes: Notes,
        prefix: &[u8],
        start: Option<&Note>,
    ) -> Result<Page<(Note, Record)>, IndexError> {
        let prefix = [notes.prefix(), prefix].concat();
        let start = start.map_or_else(Vec::new, Note::row).max(prefix.clone());
        let note_of = |row: &[u8]| {
            let damaged = || IndexError(format!("the index is damaged: the row {}", row.escape_ascii()));
            Note::from_row(row).ok_or_else(damaged)
        };
        let page = self.scan(move |database| {
            scan_page(database, &prefix, &start, |row, value| {
                let note = note_of(row)?;
                let record = Record::decode(value).map_err(|error| damaged(&note, error))?;
                Ok(Some((note, record)))
            })
        });
        let page = page.await?;
        // else there would seem to be no next page
        page.next.as_deref().map(note_of).transpose()?;
        Ok(page)
    }
}

fn damaged(note: &Note, error: impl std::fmt::Display) -> IndexError {
    IndexError(format!("the index is damaged at {note:?}: {error}"))
}

impl<T> Page<T> {
    /// Where the next page of notes begins.
    #[must_use]
    pub fn next_note(&self) -> Option<Note> {
        self.next.as_deref().and_then(Note::from_row)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

    use super::*;
    use crate::clock::Timestamp;
    use crate::index::Options;
    use crate::record::State;
    use futures_util::future::join_all;

    fn made(modified: u64) -> Record {
        let (md5, size, modified) = (None, None, Some(Timestamp::from_millis(modified)));
        Record { state: State::Live, replicas: Vec::new(), md5, size, modified, headers: Vec::new() }
    }

    #[tokio::test]
    async fn what_is_noted_is_found_and_listed_in_order_until_it_is_forgotten() {
        let tempdir = tempfile::tempdir().unwrap();
        let options = Options { create: true, cache_bytes: 1 << 20, sync: false };
        let index = Index::open(&tempdir.path().join("db"), options).unwrap();
        let upload = |key: &[u8], number| Note::Upload(Key::new(key), number);
        let uploads =
            [upload(b"/a/k", 2), upload(b"/a/k", 10), upload(b"/a/k/deeper", 1), upload(b"/b/k", 3)];
        let bucket = Note::Bucket(b"photos".to_vec());
        for (at, note) in uploads.iter().chain([&bucket]).enumerate() {
            assert_eq!(index.note(note).unwrap(), None);
            index.set_note(note, Some(&made(at as u64))).await.unwrap();
            assert_eq!(index.note(note).unwrap(), Some(made(at as u64)));
        }
        let notes = async |notes, prefix: &[u8], start| {
            let page = index.notes_page(notes, prefix, start).await.unwrap();
            page.rows.into_iter().map(|(note, _)| note).collect::<Vec<_>>()
        };
        let from = upload(b"/a/k", 3);
        assert_eq!(notes(Notes::Uploads, b"", None).await, uploads);
        assert_eq!(notes(Notes::Uploads, b"/a/", None).await, uploads[..3]);
        assert_eq!(notes(Notes::Uploads, b"", Some(&from)).await, uploads[1..]);
        assert_eq!(notes(Notes::Buckets, b"", None).await, std::slice::from_ref(&bucket));
        index.set_note(&bucket, None).await.unwrap();
        assert_eq!(notes(Notes::Buckets, b"", None).await, []);
    }

    /// In each of the ways in which writes reach the database: at once, and several in one batch.
    #[tokio::test]
    async fn of_all_who_end_what_is_noted_one_does_and_what_is_not_noted_is_no_failure() {
        for sync in [false, true] {
            let tempdir = tempfile::tempdir().unwrap();
            let options = Options { create: true, cache_bytes: 1 << 20, sync };
            let index = Index::open(&tempdir.path().join("db"), options).unwrap();
            let key = Key::new(b"/a/k");
            let note = Note::Upload(key.clone(), 1);
            index.set_note(&note, Some(&made(1))).await.unwrap();
            let before = Entry::default();
            let entry =
                |size| Entry { record: Some(Record { size: Some(size), ..made(2) }), ..Entry::default() };
            let [stays, ends] = [false, true].map(|ends| RequiredNote { note: note.clone(), ends });
            let kept = entry(0);
            assert!(index.commit_if(&key, &before, &kept, &stays).await.unwrap());
            assert_eq!(index.get(&key).unwrap(), kept);

            let entries: Vec<Entry> = (1..9).map(entry).collect();
            let completions = join_all(entries.iter().map(|to| index.commit_if(&key, &kept, to, &ends)));
            let aborts = join_all((0..8).map(|_| index.end_note(&note)));
            let (completions, aborts) = tokio::join!(completions, aborts);
            let ended = |each: Vec<Result<bool, IndexError>>| -> Vec<bool> {
                each.into_iter().map(Result::unwrap).collect()
            };
            let (completed, aborted) = (ended(completions), ended(aborts));
            let winners = completed.iter().chain(&aborted).filter(|won| **won).count();
            assert_eq!(winners, 1, "{completed:?} {aborted:?}");
            let winner = completed.iter().position(|won| *won);
            assert_eq!(index.get(&key).unwrap(), winner.map_or(kept.clone(), |at| entries[at].clone()));
            assert_eq!(index.note(&note).unwrap(), None);
            assert!(!index.commit_if(&key, &kept, &before, &stays).await.unwrap());
        }
    }
}
