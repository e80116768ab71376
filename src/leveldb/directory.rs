//! The directory of a database: its allowed contents, and its lock.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::error::{OpenError, other};

/// Checks that `path` is a directory with a database, or makes it one where a database can be created.
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
                // LevelDB syncs the directory's contents, but not its entry in the parent
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

/// Whether a directory with this file may still become a database: the file is from an interrupted creation
/// (there are no records before CURRENT exists), or from mkfs.
fn precedes_database(name: &OsStr) -> bool {
    const NAMES: [&str; 6] = ["LOCK", "LOG", "LOG.old", "MANIFEST-000001", "000001.dbtmp", "lost+found"];
    NAMES.iter().any(|allowed| name == *allowed)
}

/// Locks the database with flock, like goleveldb. LevelDB itself adds a lock with fcntl.
///
/// The system drops a process's fcntl locks on a file when the process closes any descriptor of it, so this
/// file is closed after LevelDB's. A second opening in this process fails here; when it closes its
/// descriptor, the first one's fcntl lock is dropped. The flock belongs to the first one's descriptor, and
/// still excludes goleveldb and all callers of this function.
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
