//! Files for which a volume recently answered with a server error.
//!
//! One unreadable file may be requested a thousand times a second, so failures are counted by file: a file counts
//! once, until a request for it succeeds or its failure is forgotten. Reads and writes are counted separately, because a disk
//! that was remounted read-only still serves every read.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use tokio::time::Instant;

/// How long a failure is remembered.
pub(super) const FAILED_FOR: Duration = Duration::from_mins(1);

/// The most files remembered per volume; the oldest failure is dropped for a new one.
const MOST: usize = 64;

/// A file on the volume, as a hash of its path, and the kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct File {
    path: u64,
    is_write: bool,
}

#[derive(Clone, Copy, Debug)]
struct Failure {
    file: File,
    /// When the failure is forgotten.
    until: Instant,
    /// Whether no request of the same kind has succeeded since.
    in_row: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct FailedFiles(Vec<Failure>);

impl File {
    pub(super) fn read(path: &str) -> Self {
        Self { path: hash(path), is_write: false }
    }

    pub(super) fn written(path: &str) -> Self {
        Self { path: hash(path), is_write: true }
    }
}

fn hash(path: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

impl FailedFiles {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has(&self, file: File, now: Instant) -> bool {
        self.0.iter().any(|failure| failure.file == file && now < failure.until)
    }

    /// The number of different files that failed in a row: of reads or of writes, whichever is greater.
    pub(super) fn in_row(&self, now: Instant) -> u32 {
        let count = |is_write| {
            let alike = self.0.iter().filter(|failure| failure.file.is_write == is_write);
            u32::try_from(alike.filter(|failure| failure.in_row && now < failure.until).count())
        };
        count(false).unwrap_or(u32::MAX).max(count(true).unwrap_or(u32::MAX))
    }

    /// Notes that a request succeeded: forgets the file's failure, and ends the row of this kind.
    pub(super) fn served(&mut self, file: File, now: Instant) {
        self.0.retain(|failure| failure.file != file && now < failure.until);
        let alike = self.0.iter_mut().filter(|failure| failure.file.is_write == file.is_write);
        alike.for_each(|failure| failure.in_row = false);
    }

    /// Notes a failure; returns whether the file was not known to fail.
    pub(super) fn failed(&mut self, file: File, now: Instant) -> bool {
        self.0.retain(|failure| now < failure.until);
        let known = self.0.iter().position(|failure| failure.file == file).map(|at| self.0.remove(at));
        if known.is_none() && self.0.len() >= MOST {
            self.0.remove(0);
        }
        // A known file doesn't join a new row: the reaper retries the same deletions after each return, and would
        // take the volume down again with them.
        let in_row = known.is_none_or(|failure| failure.in_row);
        // in the order of the last failure
        self.0.push(Failure { file, until: now + FAILED_FOR, in_row });
        known.is_none()
    }

    /// Begins a new row. The failures are still remembered, so readers avoid these files.
    pub(super) fn begin_row(&mut self) {
        self.0.iter_mut().for_each(|failure| failure.in_row = false);
    }
}

#[cfg(test)]
impl FailedFiles {
    /// Each file, how much longer its failure is remembered, and whether it is in the row.
    pub(super) fn listed(&self, now: Instant) -> impl Iterator<Item = (File, Duration, bool)> {
        let left = move |failure: &Failure| failure.until.saturating_duration_since(now);
        self.0.iter().map(move |failure| (failure.file, left(failure), failure.in_row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_files_is_bounded_and_the_oldest_failure_is_dropped_first() {
        let (mut files, now) = (FailedFiles::default(), Instant::now());
        let file = |number: usize| File::read(&number.to_string());
        for number in 0..MOST {
            assert!(files.failed(file(number), now));
        }
        assert!(!files.failed(file(0), now));
        assert!(files.failed(file(MOST), now));
        assert!(files.0.len() == MOST && files.has(file(0), now) && !files.has(file(1), now));
    }

    #[test]
    fn successful_reads_do_not_end_a_row_of_failed_writes() {
        let (mut files, now) = (FailedFiles::default(), Instant::now());
        files.failed(File::written("/a"), now);
        files.failed(File::written("/b"), now);
        files.failed(File::read("/a"), now);
        files.served(File::read("/b"), now);
        assert_eq!(files.in_row(now), 2);
        files.served(File::written("/c"), now);
        assert_eq!(files.in_row(now), 0);
        assert!(files.has(File::read("/a"), now), "no read of it succeeded");
    }

    #[test]
    fn a_failure_is_forgotten_after_a_minute() {
        let (mut files, now) = (FailedFiles::default(), Instant::now());
        files.failed(File::read("/a"), now);
        let later = now + FAILED_FOR;
        assert!(files.in_row(later) == 0 && !files.has(File::read("/a"), later));
    }
}
