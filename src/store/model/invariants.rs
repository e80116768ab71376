//! The write protocol's two invariants (see [`crate::store`]), held against every request that changes a
//! volume: when it is sent, and when it is carried out.
//!
//! After a failed write of the index, they must hold for what the index shows and for what may be found when it is
//! opened again.

use std::collections::BTreeSet;

use super::disks::{Template, is_marker};
use super::world::{Change, File, OneIndex, State, Whereabouts};
use crate::index::Entry;
use crate::key::Key;
use crate::record::Replica;
use crate::store::replicas::path;

impl State {
    /// Invariants 1 and 2 at the beginning of a PUT: the index names the file, in the intent of one
    /// attempt, and nothing of another attempt lies there or is on its way there. Returns the
    /// attempt's number.
    pub(super) fn check_put(&mut self, to: &Whereabouts) -> u64 {
        let (key, file) = self.owner(to);
        let mut attempt = 0;
        let mut wrong = Vec::new();
        for entry in self.versions(&key) {
            if entry.record.is_some_and(|record| record.replicas.contains(&file)) {
                wrong.push("to a file that a record names");
            }
            let mut naming = entry.intents.iter().filter(|intent| intent.files.contains(&file));
            match (naming.next(), naming.next()) {
                (Some(intent), None) => attempt = intent.id,
                (None, _) => wrong.push("to a file that no intent names"),
                (Some(_), Some(_)) => wrong.push("to a file of another attempt"),
            }
        }
        if self.files.get(to).is_some_and(|file| file.attempt != attempt) {
            wrong.push("over a file of another attempt");
        }
        let foreign = |change: &Change| match change {
            Change::Put(file) => file.attempt != attempt,
            Change::Delete => true,
        };
        if self.on_their_way.iter().any(|late| late.to == *to && foreign(&late.change)) {
            wrong.push("to a name for which another attempt's request is on its way");
        }
        self.violations.extend(wrong.into_iter().map(|wrong| format!("a PUT {wrong}: {to:?}")));
        attempt
    }

    /// Both invariants for a DELETE, when it is sent and when it is carried out: the file is an
    /// intent's, and no record's.
    pub(super) fn check_delete(&mut self, to: &Whereabouts) {
        let (key, file) = self.owner(to);
        let mut wrong = Vec::new();
        for entry in self.versions(&key) {
            if entry.record.is_some_and(|record| record.replicas.contains(&file)) {
                wrong.push("a file that a record names");
            }
            if !entry.intents.iter().any(|intent| intent.files.contains(&file)) {
                wrong.push("a file that no intent names");
            }
        }
        self.violations.extend(wrong.into_iter().map(|wrong| format!("a DELETE of {wrong}: {to:?}")));
    }

    /// No request changes a disk of another store, of another volume, or of an earlier time; nor, with davkv's
    /// template, the mount point of a disk that is away.
    pub(super) fn check_disk(&mut self, to: &Whereabouts) {
        if self.is_wrong(&to.0) {
            self.violations.push(format!("a request changes a disk that isn't the volume's: {to:?}"));
        } else if self.is_bare(&to.0)
            && self.disks.template == Template::Ours
            && (is_marker(&to.1) || self.lets_change(to))
        {
            self.violations.push(format!("a request changes a mount point: {to:?}"));
        }
    }

    /// Who has a copy of the index takes no file away that the other one has acknowledged since.
    pub(super) fn check_copies(&mut self, to: &Whereabouts) {
        let Some(there) = self.files.get(to) else { return };
        if there.by == self.who || self.shared.contains(&(to.clone(), there.attempt)) {
            return;
        }
        let (key, file) = self.owner(to);
        let names = |index: &OneIndex| {
            let record = index.rows.get(&key).and_then(|entry| entry.record.as_ref());
            record.is_some_and(|record| record.replicas.contains(&file))
        };
        if self.others.values().any(names) {
            self.violations.push(format!("a file goes that another copy of the index has: {to:?}"));
        }
    }

    /// The index forgets no file that its volume's disk has, mounted or not: nobody would delete it, and a rebuild
    /// would take it for a value.
    pub(super) fn check_forgotten(&mut self, key: &Key, before: &Entry, after: &Entry) {
        let files = |entry: &Entry| -> BTreeSet<Replica> {
            let of_intents = entry.intents.iter().flat_map(|intent| &intent.files);
            let of_record = entry.record.iter().flat_map(|record| &record.replicas);
            of_intents.chain(of_record).cloned().collect()
        };
        for file in files(before).difference(&files(after)) {
            let at = (file.place.volume().to_owned(), path(key, file));
            if self.has_on_its_disk(&at) && !self.gone.contains(&at.0) && !self.revived.contains(&at) {
                self.violations.push(format!("the index forgets a file that is there: {at:?}"));
            }
        }
    }

    /// What the index holds of the key, and what it may turn out to hold when it is opened again.
    fn versions(&self, key: &Key) -> Vec<Entry> {
        let kept = self.index.kept.iter().filter_map(|batch| batch.entry.as_ref());
        let kept = kept.filter(|(kept, _)| kept == key).map(|(_, entry)| entry.clone());
        std::iter::once(self.entry(key)).chain(kept).collect()
    }

    /// Both invariants when a file appears: the index names it, and it replaces no other attempt's.
    pub(super) fn check_landing(&mut self, to: &Whereabouts, new: &File) {
        let (key, file) = self.owner(to);
        let named = |entry: &Entry| {
            let recorded = entry.record.iter().any(|record| record.replicas.contains(&file));
            recorded || entry.intents.iter().any(|intent| intent.files.contains(&file))
        };
        if !self.versions(&key).iter().all(named) {
            self.violations.push(format!("a file appears that the index doesn't name: {to:?}"));
        }
        if self.files.get(to).is_some_and(|old| old.attempt != new.attempt) {
            self.violations.push(format!("a file replaces another attempt's: {to:?}"));
        }
    }
}
