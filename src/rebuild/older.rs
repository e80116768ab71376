//! The older index (or dump) that a rebuild takes data from.

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

/// Bytes of a dump read at a time.
const READ_BYTES: usize = 256 * 1024;

/// Opens the older index at `from`; if `from` is a dump, loads it into an index in `place` first. Also returns the
/// last second, since 1970, whose writes the index has completely.
pub(super) async fn older(
    from: &Path,
    options: index::Options,
    place: &Path,
    progress: &Arc<Progress>,
) -> Result<(Index, u64), String> {
    let existing = index::Options { create: false, ..options };
    if fs::metadata(from).map_err(|error| unreadable(from, &error))?.is_dir() {
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
    // the master may have written more within the second in which the dump was taken
    Ok((open(path, existing).await?, taken.saturating_sub(1)))
}

fn unreadable(index: &Path, error: &io::Error) -> String {
    format!("can't read the older index {} (--from): {error}", index.display())
}

/// The modification time of an index's newest file, in seconds since 1970. Opening the index changes it, so this
/// comes first.
fn last_written(index: &Path) -> Result<u64, String> {
    let newest = || -> io::Result<u64> {
        let mut newest = Timestamp::default();
        for entry in fs::read_dir(index)? {
            newest = newest.max(entry?.metadata()?.modified()?.into());
        }
        Ok(newest.seconds())
    };
    newest().map_err(|error| unreadable(index, &error))
}

/// Passes all notes of a kind to `take`, page by page.
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
