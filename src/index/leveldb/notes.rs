//! Notes in LevelDB.

use super::LevelDb;
use super::scan::scan_page;
use super::writer::{Change, Durability};
use crate::index::error::IndexError;
use crate::index::notes::{Note, Notes};
use crate::index::steps::Effect;
use crate::index::types::Page;
use crate::record::Record;

#[allow(clippy::unused_async, reason = "the interface of all engines")]
impl LevelDb {
    pub(in crate::index) async fn note(&self, note: &Note) -> Result<Option<Record>, IndexError> {
        let row = self.current.read().await.database()?.get(&note.row())?;
        row.map(|bytes| Record::decode(&bytes).map_err(|error| damaged(note, error))).transpose()
    }

    pub(in crate::index) async fn set_note(
        &self,
        note: &Note,
        record: Option<&Record>,
    ) -> Result<(), IndexError> {
        let change = Change::Note(note.clone(), record.map(Record::encode));
        self.write_soon(change, Durability::AsOpened).await.map(drop)
    }

    pub(in crate::index) async fn end_note(&self, note: &Note) -> Result<bool, IndexError> {
        let effect = self.write_soon(Change::EndNote(note.clone()), Durability::AsOpened).await?;
        Ok(matches!(effect, Effect::Done(_)))
    }

    pub(in crate::index) async fn load_notes(&self, notes: Vec<(Note, Vec<u8>)>) -> Result<(), IndexError> {
        let rows = notes.into_iter().map(|(note, record)| (note.row(), record)).collect();
        self.write(Change::Rows(rows), Durability::Process).await.map(drop)
    }

    pub(in crate::index) async fn notes_page(
        &self,
        notes: Notes,
        prefix: &[u8],
        start: Option<&Note>,
    ) -> Result<Page<(Note, Record)>, IndexError> {
        let prefix = [notes.prefix(), prefix].concat();
        let start = start.map_or_else(Vec::new, Note::row).max(prefix.clone());
        let note_of = |row: &[u8]| {
            let damaged = || IndexError::new(format!("the index is damaged: the row {}", row.escape_ascii()));
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

fn damaged(note: &Note, error: impl std::error::Error + Send + Sync + 'static) -> IndexError {
    IndexError::because(format!("the index is damaged at the note of {note}"), error)
}
