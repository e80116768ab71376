//! The files that were put on a volume since its markers were last seen.
//!
//! A disk can vanish under a running nginx, whose template may not look for the marker: until the next look, files
//! are stored on the mount point, and are gone when the disk returns. So they are remembered until a look that began
//! later finds the markers; if the volume was away, they are in doubt.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// At most this many files are remembered: those of some seconds. Of more, the first half is forgotten.
const MOST: usize = 10_000;

/// So much memory is kept, in bytes, when files are forgotten.
const KEPT: usize = 64 * 1024;

/// The files of one volume.
#[derive(Debug, Default)]
pub(super) struct Unseen(Mutex<Files>);

#[derive(Debug, Default)]
struct Files {
    put: Paths,
    /// How many were put before these, and are forgotten.
    before: u64,
    in_doubt: InDoubt,
    /// Whether some of those that were put were forgotten because they were too many.
    lacks_some: bool,
}

/// Paths in the order of their PUTs, each with a line feed, which none of them has.
///
/// They share one piece of memory: each in its own, they would lie scattered among what short requests allocate and
/// free, and make that slower.
#[derive(Debug, Default)]
struct Paths {
    lines: String,
    count: usize,
}

/// Files that may be missing, although they were stored.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct InDoubt {
    /// Their paths.
    pub(crate) paths: Vec<Box<str>>,
    /// Whether there were more.
    pub(crate) lacks_some: bool,
}

impl Unseen {
    /// Notes that a file was put.
    pub(super) fn note(&self, path: &str) {
        let mut files = self.files();
        if files.put.count == MOST {
            files.forget(MOST / 2);
            files.lacks_some = true;
        }
        files.put.push(path);
    }

    /// How many files were put so far: what a look that begins now can vouch for.
    pub(super) fn so_far(&self) -> u64 {
        let files = self.files();
        files.before + files.put.count as u64
    }

    /// Forgets the files that were put before a look that found the markers.
    pub(super) fn seen(&self, so_far: u64) {
        let mut files = self.files();
        let seen = usize::try_from(so_far.saturating_sub(files.before)).unwrap_or(usize::MAX);
        files.forget(seen);
        files.lacks_some = false;
    }

    /// The volume was away: what was put is in doubt. Tells whether anything is.
    pub(super) fn doubt(&self) -> bool {
        let mut files = self.files();
        let put = std::mem::take(&mut files.put);
        files.before += put.count as u64;
        files.in_doubt.paths.extend(put.lines.lines().map(Into::into));
        files.in_doubt.lacks_some |= std::mem::take(&mut files.lacks_some);
        let surplus = files.in_doubt.paths.len().saturating_sub(MOST);
        files.in_doubt.paths.drain(..surplus);
        files.in_doubt.lacks_some |= surplus > 0;
        !files.in_doubt.paths.is_empty()
    }

    /// Takes the files that are in doubt.
    pub(super) fn take_in_doubt(&self) -> InDoubt {
        std::mem::take(&mut self.files().in_doubt)
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    /// Forgets the first ones.
    fn forget(&mut self, count: usize) {
        let count = count.min(self.put.count);
        self.put.forget(count);
        self.before += count as u64;
    }
}

impl Paths {
    fn push(&mut self, path: &str) {
        self.lines.push_str(path);
        self.lines.push('\n');
        self.count += 1;
    }

    fn forget(&mut self, count: usize) {
        let forgotten: usize = self.lines.split_inclusive('\n').take(count).map(str::len).sum();
        self.lines.drain(..forgotten);
        self.lines.shrink_to(KEPT);
        self.count -= count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_doubt(paths: &[&str], lacks_some: bool) -> InDoubt {
        InDoubt { paths: paths.iter().map(|path| (*path).into()).collect(), lacks_some }
    }

    #[test]
    fn a_look_vouches_for_what_was_put_before_it_began() {
        let unseen = Unseen::default();
        unseen.note("/a");
        let begun = unseen.so_far();
        unseen.note("/b");
        unseen.seen(begun);
        assert!(unseen.doubt());
        assert_eq!(unseen.take_in_doubt(), in_doubt(&["/b"], false));
        assert!(!unseen.doubt());
        // a look that began before the volume was away vouches for nothing that was put since
        unseen.note("/c");
        unseen.seen(begun);
        assert!(unseen.doubt());
        assert_eq!(unseen.take_in_doubt(), in_doubt(&["/c"], false));
    }

    #[test]
    fn the_last_ones_are_remembered_and_that_there_were_more() {
        let unseen = Unseen::default();
        for number in 0..=MOST {
            unseen.note(&number.to_string());
        }
        assert!(unseen.doubt());
        let InDoubt { paths, lacks_some } = unseen.take_in_doubt();
        let (first, last) = ((MOST / 2).to_string(), MOST.to_string());
        assert_eq!(paths.first().map(|path| &**path), Some(&*first));
        assert_eq!(paths.last().map(|path| &**path), Some(&*last));
        assert_eq!((paths.len(), lacks_some), (MOST / 2 + 1, true));
        unseen.note("/a");
        assert!(unseen.doubt());
        assert_eq!(unseen.take_in_doubt(), in_doubt(&["/a"], false));
    }
}
