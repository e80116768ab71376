//! The directory of a database: its allowed contents, its lock, and its room.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::error::{Error, OpenError, failed, other};

/// An opening writes the logs' contents into tables, and the names of all tables into a new manifest; this comes
/// on top, for files that take whole blocks.
const RESERVE: u64 = 1 << 20;

/// The file that tries whether there is room. LevelDB deletes files of this name, in case a crash leaves one.
const TRIAL: &str = "000000.dbtmp";

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

/// The lock of a database: whoever has it is the only one who may open the database.
pub struct Lock(File);

/// Locks the database with flock, like goleveldb. LevelDB itself adds a lock with fcntl.
///
/// The system drops a process's fcntl locks on a file when the process closes any descriptor of it, so this
/// file is closed after LevelDB's. A second opening in this process fails here; when it closes its
/// descriptor, the first one's fcntl lock is dropped. The flock belongs to the first one's descriptor, and
/// still excludes goleveldb and all callers of this function.
pub(super) fn take_lock(path: &Path) -> Result<Lock, OpenError> {
    let mut options = File::options();
    let options = options.read(true).write(true).create(true).truncate(false);
    let lock = options.open(path.join("LOCK")).map_err(other)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock(lock)),
        Err(Errno::WOULDBLOCK) => Err(OpenError::InUse),
        Err(error) => Err(other(error)),
    }
}

/// Whether the directory has a log that isn't empty.
pub(super) fn has_log(path: &Path) -> io::Result<bool> {
    Ok(size_of_files(path, is_log)? > 0)
}

impl Lock {
    /// Checks that the directory at `path` is the one of the database that has this lock. LevelDB itself goes by the
    /// path, and deletes files there that it doesn't know.
    pub(super) fn check_identity(&self, path: &Path) -> Result<(), Error> {
        let held = self.0.metadata().map_err(failed)?;
        let there = fs::metadata(path.join("LOCK")).map_err(failed)?;
        if (held.dev(), held.ino()) == (there.dev(), there.ino()) {
            return Ok(());
        }
        Err(Error("the directory is not the one that was opened".into()))
    }

    /// Checks that the database in `path`, once it is closed, can be opened again with this lock: the directory is the
    /// one that was opened, and takes as much as an opening writes.
    pub fn check_reopening(&self, path: &Path) -> Result<(), Error> {
        self.check_identity(path)?;
        check_room(path).map_err(failed)
    }
}

/// Checks that the directory takes as much as an opening of its database writes.
fn check_room(path: &Path) -> io::Result<()> {
    let logs_and_manifest = |name: &OsStr| is_log(name) || name.as_encoded_bytes().starts_with(b"MANIFEST-");
    let needed = size_of_files(path, logs_and_manifest)?.saturating_add(RESERVE);
    let trial = path.join(TRIAL);
    let tried = try_writing(&trial, needed);
    match fs::remove_file(&trial) {
        // LevelDB may have deleted it
        Err(error) if error.kind() != ErrorKind::NotFound => tried.and(Err(error)),
        _ => tried,
    }
}

fn try_writing(trial: &Path, bytes: u64) -> io::Result<()> {
    let mut file = File::create(trial)?;
    io::copy(&mut io::repeat(0).take(bytes), &mut file)?;
    file.sync_all()
}

fn is_log(name: &OsStr) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "log")
}

/// The bytes in those files together.
fn size_of_files(path: &Path, counts: impl Fn(&OsStr) -> bool) -> io::Result<u64> {
    let mut bytes: u64 = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if counts(&entry.file_name()) {
            match entry.metadata() {
                Ok(file) => bytes = bytes.saturating_add(file.len()),
                // LevelDB has just deleted it
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(bytes)
}
