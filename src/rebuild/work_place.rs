//! The directory in which the new index is made, and its move to the final path.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// The directory `<db>.rebuilding`, in which the new index is made. Only one rebuild at a time can hold it.
///
/// Dropping it removes the directory.
pub(super) struct WorkPlace {
    pub(super) directory: PathBuf,
    _lock: fs::File,
}

impl WorkPlace {
    pub(super) fn take(db: &Path) -> Result<Self, String> {
        let taken = match fs::read_dir(db) {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(format!("can't read {}: {error}", db.display())),
        };
        if taken {
            return Err(format!(
                "{db} exists, and a rebuild overwrites nothing: move it away (and name it with --from, to keep \
                 data that the files don't have)",
                db = db.display()
            ));
        }
        let mut directory = db.as_os_str().to_owned();
        directory.push(".rebuilding");
        let directory = PathBuf::from(directory);
        let failed = |error: &dyn std::fmt::Display| format!("can't use {}: {error}", directory.display());
        match fs::create_dir(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(&error)),
            _ => {}
        }
        let lock = fs::File::create(directory.join("lock")).map_err(|error| failed(&error))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_held| failed(&"another rebuild is running"))?;
        for leftover in ["scratch", "index", "older"] {
            match fs::remove_dir_all(directory.join(leftover)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&error)),
                _ => {}
            }
        }
        Ok(Self { directory, _lock: lock })
    }
}

impl Drop for WorkPlace {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            tracing::error!(directory = %self.directory.display(), %error, "can't remove it: remove it by hand");
        }
    }
}

/// Moves the finished index to its final path.
pub(super) fn publish(index: &Path, db: &Path) -> Result<(), String> {
    let moved = fs::rename(index, db).and_then(|()| {
        let parent = db.parent().filter(|parent| !parent.as_os_str().is_empty());
        fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    });
    moved.map_err(|error| format!("can't move the index to {}: {error}", db.display()))
}
