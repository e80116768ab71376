//! The older index whose states, MD5s, headers and intents count: a directory, or a dump.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::place::{WorkPlace, open};
use crate::clock::Timestamp;
use crate::index::{self, Index, dump};
use crate::progress::Progress;

/// A dump is read in pieces of so many bytes.
const READ_BYTES: usize = 256 * 1024;

/// The older index that `from` is, or that is made of the dump that it is, and the last second of which it knows
/// all.
pub(super) async fn older(
    from: &Path,
    options: index::Options,
    place: &WorkPlace,
    progress: &Arc<Progress>,
) -> Result<(Index, u64), String> {
    let existing = index::Options { create: false, ..options };
    if fs::metadata(from).map_err(|error| unseen(from, &error))?.is_dir() {
        let written = last_written(from)?;
        return Ok((open(from.to_owned(), existing).await?, written));
    }
    progress.begin("reading the dump (rows)", 0);
    let path = place.directory.join("older");
    let (from, loaded, progress) = (from.to_owned(), path.clone(), Arc::clone(progress));
    let taken = crate::blocking(move || {
        let failed =
            |why: &dyn std::fmt::Display| format!("can't use the dump {} (--from): {why}", from.display());
        let file = fs::File::open(&from).map_err(|error| failed(&error))?;
        let file = io::BufReader::with_capacity(READ_BYTES, file);
        dump::load(file, &loaded, options, |rows| progress.step(rows)).map_err(|flaw| failed(&flaw))
    })
    .await??;
    // the master went on within the second in which it was taken
    Ok((open(path, existing).await?, taken.saturating_sub(1)))
}

fn unseen(index: &Path, error: &io::Error) -> String {
    format!("can't look at the older index {} (--from): {error}", index.display())
}

/// The second in which the newest file of an index was written, counted from 1970. Asked before it is opened, which writes.
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
