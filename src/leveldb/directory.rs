//! The directory of a database: what may lie there, and its lock.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::error::{OpenError, other};

/// Sees to it that `path` is a directory with a database, or one to create it in.
pub(super) fn prepare_directory(path: &Path, create: bool) -> Result<(), OpenError> {
    match fs::metadata(path) {
        Ok(meta) if !meta.is_dir() => return Err(OpenError::NotADatabase),
        Ok(_) if path.join("CURRENT").try_exists().map_err(other)? => return Ok(()),
        Ok(_) => {
            for entry in fs::read_dir(path).map_err(other)? {
                if !precedes_database(&entry.map_err(other)?.file_name()) {
                    return Err(OpenError::NotADatabase);
                }
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let parent = match path.parent() {
                Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
                Some(parent) => parent,
                None => return Err(OpenError::MissingParent),
            };
            if !parent.is_dir() {
                return Err(OpenError::MissingParent);
            }
            if create {
                fs::create_dir(path).map_err(other)?;
                // LevelDB syncs what is in the directory, not that there is one.
                File::open(parent).and_then(|parent| parent.sync_all()).map_err(other)?;
            }
        }
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            return Err(OpenError::MissingParent);
        }
        Err(error) => return Err(other(error)),
    }
    if create { Ok(()) } else { Err(OpenError::Missing) }
}

/// Whether a directory that holds this file may still become a database: it is left by a creation
/// that was cut short (before CURRENT came there was no record), or by mkfs.
fn precedes_database(name: &OsStr) -> bool {
    const NAMES: [&str; 6] = ["LOCK", "LOG", "LOG.old", "MANIFEST-000001", "000001.dbtmp", "lost+found"];
    NAMES.iter().any(|allowed| name == *allowed)
}

/// Locks the database as goleveldb does, by flock; LevelDB's own lock, by fcntl, comes on top.
///
/// The system drops a process's fcntl locks on a file when any descriptor of it is closed. So this
/// one is closed last of all, after LevelDB's. A second attempt in this process fails here and
/// drops the fcntl lock of the first when it closes its descriptor; flock, which belongs to the
/// first's own descriptor, still excludes everyone who comes through here and goleveldb.
pub(super) fn take_lock(path: &Path) -> Result<File, OpenError> {
    let mut options = File::options();
    let options = options.read(true).write(true).create(true).truncate(false);
    let lock = options.open(path.join("LOCK")).map_err(other)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(Errno::WOULDBLOCK) => Err(OpenError::InUse),
        Err(error) => Err(other(error)),
    }
}
