//! Disks, apart from the volumes at which they are mounted.
//!
//! Each volume has a disk of its own. Its files are among those that the volume shows
//! ([`State::files`]), unless it is away: then the volume shows the mount point, which is empty unless somebody wrote
//! to it, or another disk.

use std::collections::{BTreeMap, BTreeSet};

use super::world::{File, State, Whereabouts};
use crate::identity::MARKER;

/// The files of a disk, by their paths.
pub(super) type Files = BTreeMap<String, File>;

/// What a volume's nginx lets happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Template {
    /// Where there is no marker, no value is written and none deleted.
    #[default]
    Ours,
    /// It knows no markers: values are also written to the mount point of a disk that is away.
    Minikeyvalue,
}

/// The disks that no volume shows, and where disks are that aren't where they belong.
#[derive(Clone, Default)]
pub(super) struct Disks {
    pub(super) template: Template,
    /// Volumes' own disks that are away.
    away: BTreeMap<String, Files>,
    /// What was written to the mount points of disks that are mounted again.
    beneath: BTreeMap<String, Files>,
    /// Volumes at which the disk of another store, of another volume, or of an earlier time is mounted, that must not
    /// be written to.
    wrong: BTreeSet<String>,
    /// Where the volume's own disk is mounted, if that is at another volume.
    swapped: BTreeMap<String, String>,
    /// Volumes whose disks were lost.
    pub(super) replaced: BTreeSet<String>,
    /// How disks were once.
    copies: BTreeMap<String, Files>,
    /// How often something was mounted or unmounted at a volume.
    changes: BTreeMap<String, u32>,
}

/// Whether a file at that path is no value: it says whose the volume is.
pub(super) fn is_marker(path: &str) -> bool {
    path.contains("/00/00/davkv,")
}

/// The subvolume of a path, `/svXX` or nothing.
fn directory(path: &str) -> &str {
    if path.starts_with("/sv") { &path[.."/svXX".len()] } else { "" }
}

impl State {
    /// Whether the volume lets a value be written or deleted at that path.
    pub(super) fn lets_change(&self, to: &Whereabouts) -> bool {
        let marker = format!("{}{MARKER}", directory(&to.1));
        self.disks.template == Template::Minikeyvalue || self.files.contains_key(&(to.0.clone(), marker))
    }

    /// How often something was mounted or unmounted there.
    pub(super) fn mounts(&self, volume: &str) -> u32 {
        self.disks.changes.get(volume).copied().unwrap_or_default()
    }

    /// Whether the volume shows another disk than its own.
    pub(super) fn is_wrong(&self, volume: &str) -> bool {
        self.disks.wrong.contains(volume)
    }

    /// Whether the volume shows its disk's mount point.
    pub(super) fn is_bare(&self, volume: &str) -> bool {
        self.disks.away.contains_key(volume) && !self.is_wrong(volume)
    }

    /// Whether the volume's own disk has the file, wherever that disk is.
    pub(super) fn has_on_its_disk(&self, at: &Whereabouts) -> bool {
        if let Some(elsewhere) = self.disks.swapped.get(&at.0) {
            return self.files.contains_key(&(elsewhere.clone(), at.1.clone()));
        }
        match self.disks.away.get(&at.0) {
            Some(files) => files.contains_key(&at.1),
            None => self.files.contains_key(at),
        }
    }

    /// Whether a value lies on any volume.
    pub(super) fn has_values(&self) -> bool {
        self.files.keys().any(|(_, path)| !is_marker(path))
    }

    /// The volume's disk is gone from one moment to the next.
    pub(super) fn vanish(&mut self, volume: &str) {
        if self.disks.away.contains_key(volume) || self.disks.swapped.contains_key(volume) {
            return;
        }
        let files = self.take(volume);
        self.disks.away.insert(volume.to_owned(), files);
        let bare = self.disks.beneath.remove(volume).unwrap_or_default();
        self.show(volume, bare);
    }

    /// It is mounted again. A value of which a part was written to the mount point lacks that part.
    pub(super) fn come_back(&mut self, volume: &str) {
        let Some(files) = self.disks.away.remove(volume) else { return };
        let bare = self.take(volume);
        if !self.disks.wrong.remove(volume) {
            let values = bare.keys().filter(|path| !is_marker(path));
            self.damaged.extend(values.map(|path| (volume.to_owned(), path.clone())));
            self.disks.beneath.insert(volume.to_owned(), bare);
        }
        self.show(volume, files);
    }

    /// A disk that is none of this volume is mounted in the place of its own.
    pub(super) fn mount_another(&mut self, volume: &str, files: Files) {
        self.vanish(volume);
        let bare = self.take(volume);
        self.disks.beneath.insert(volume.to_owned(), bare);
        self.disks.wrong.insert(volume.to_owned());
        self.show(volume, files);
    }

    /// The disk is lost, and an empty one is in its place.
    pub(super) fn replace_disk(&mut self, volume: &str) {
        let lost = self.take(volume);
        let values = lost.into_keys().filter(|path| !is_marker(path));
        self.damaged.extend(values.map(|path| (volume.to_owned(), path)));
        self.disks.replaced.insert(volume.to_owned());
        self.show(volume, Files::new());
    }

    /// The disks of the two volumes are mounted in each other's place, or again in their own.
    pub(super) fn swap_disks(&mut self, one: &str, other: &str) {
        let (first, second) = (self.take(one), self.take(other));
        self.show(one, second);
        self.show(other, first);
        for (volume, elsewhere) in [(one, other), (other, one)] {
            if self.disks.swapped.remove(volume).is_some() {
                self.disks.wrong.remove(volume);
            } else {
                self.disks.swapped.insert(volume.to_owned(), elsewhere.to_owned());
                self.disks.wrong.insert(volume.to_owned());
            }
        }
    }

    /// Somebody copies the disk.
    pub(super) fn copy_disk(&mut self, volume: &str) {
        let files = self.shown(volume);
        self.disks.copies.insert(volume.to_owned(), files);
    }

    /// The disk is as it was when it was copied: what was written since is lost, what was deleted is there again, and
    /// what was replaced is older than the value in its place.
    pub(super) fn restore_disk(&mut self, volume: &str) {
        let mut then = self.disks.copies[volume].clone();
        let now = self.take(volume);
        let at = |path: &String| (volume.to_owned(), path.clone());
        for (path, file) in then.iter_mut().filter(|(path, _)| !is_marker(path)) {
            match now.get(path) {
                Some(same) if same == file => {}
                Some(_) => file.modified = 0,
                None => drop(self.revived.insert(at(path))),
            }
        }
        let values = now.iter().filter(|(path, _)| !is_marker(path));
        let changed = values.filter(|(path, file)| then.get(*path) != Some(file));
        self.damaged.extend(changed.map(|(path, _)| at(path)));
        self.show(volume, then);
    }

    /// All disks are where they belong.
    pub(super) fn mount_all(&mut self) {
        let swapped = self.disks.swapped.clone();
        for (one, other) in swapped.iter().filter(|(one, other)| one < other) {
            self.swap_disks(one, other);
        }
        let away: Vec<String> = self.disks.away.keys().cloned().collect();
        for volume in away {
            self.come_back(&volume);
        }
    }

    /// What the volume shows.
    pub(super) fn shown(&self, volume: &str) -> Files {
        let files = self.files.iter().filter(|((at, _), _)| at == volume);
        files.map(|((_, path), file)| (path.clone(), file.clone())).collect()
    }

    fn take(&mut self, volume: &str) -> Files {
        *self.disks.changes.entry(volume.to_owned()).or_default() += 1;
        let files = self.shown(volume);
        self.files.retain(|(at, _), _| at != volume);
        files
    }

    fn show(&mut self, volume: &str, files: Files) {
        self.files.extend(files.into_iter().map(|(path, file)| ((volume.to_owned(), path), file)));
    }
}
