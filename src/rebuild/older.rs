//! The older index that a rebuild goes by.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::line::text;
use crate::clock::Timestamp;
use crate::index::notes::{Note, Notes};
use crate::index::{self, Index, IndexError};
use crate::progress::Progress;
use crate::record::Record;
use crate::runtime::blocking;

/// Bytes of a dump that are read at a time.
const READ_BYTES: usize = 256 * 1024;

/// The older index that `from` is, or that is made of the dump that it is, and the last second of which it knows
/// all.
pub(super) async fn older(
    from: &Path,
    options: index::Options,
    place: &Path,
    progress: &Arc<Progress>,
) -> Result<(Index, u64), String> {
    let existing = index::Options { create: false, ..options };
    if fs::metadata(from).map_err(|error| unseen(from, &error))?.is_dir() {
        let written = last_written(from)?;
        return Ok((open(from.to_owned(), existing).await?, written));
    }
    progress.begin("reading the dump (rows)", 0);
    let path = place.join("older");
    let (from, loaded, progress) = (from.to_owned(), path.clone(), Arc::clone(progress));
    let taken = blocking(move || {
        let failed =
            |why: &dyn std::fmt::Display| format!("can't use the dump {} (--from): {why}", from.display());
        let file = fs::File::open(&from).map_err(|error| failed(&error))?;
        let file = io::BufReader::with_capacity(READ_BYTES, file);
        index::load_dump(file, &loaded, options, |rows| progress.step(rows)).map_err(|error| failed(&error))
    })
    .await??;
    // the master went on within the second in which it was taken
    Ok((open(path, existing).await?, taken.saturating_sub(1)))
}

fn unseen(index: &Path, error: &io::Error) -> String {
    format!("can't look at the older index {} (--from): {error}", index.display())
}

/// The second in which the newest file of an index was written, counted from 1970. Asked before the index is
/// opened, which writes.
fn last_written(index: &Path) -> Result<u64, String> {
    let newest = || -> io::Result<u64> {
        let mut newest = Timestamp::default();
        for entry in fs::read_dir(index)? {
            newest = newest.max(entry?.metadata()?.modified()?.into());
        }
        Ok(newest.seconds())
    };
    newest().map_err(|error| unseen(index, &error))
}

/// Hands over all notes of a kind, page by page.
pub(super) async fn each_page_of_notes(
    index: &Index,
    notes: Notes,
    mut take: impl AsyncFnMut(Vec<(Note, Record)>) -> Result<(), IndexError>,
) -> Result<(), String> {
    let mut start = None;
    loop {
        let page = index.notes_page(notes, b"", start.as_ref()).await.map_err(text)?;
        start = page.next_note();
        take(page.rows).await.map_err(text)?;
        if start.is_none() {
            return Ok(());
        }
    }
}

/// Opens an index off the async threads.
pub(super) async fn open(path: PathBuf, options: index::Options) -> Result<Index, String> {
    blocking(move || Index::open(&path, options)).await?.map_err(text)
}
