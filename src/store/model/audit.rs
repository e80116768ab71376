//! What must hold when all is quiet.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use md5::{Digest, Md5};

use super::case::{Case, KEYS, REPLICAS};
use super::history::{Held, Request, Told};
use super::step::{Over, PARTS, Shape, Step, number_of};
use super::world::{State, Whereabouts};
use crate::key::Key;
use crate::record::{self, Record};
use crate::store::path;

/// Values that only the audit writes.
const FRESH: usize = 9000;

impl Case {
    /// Looks at everything, mends what a step damaged, and uses every key once more. What is wrong, in
    /// lines.
    pub(super) fn audit(mut self) -> Vec<String> {
        self.look();
        if !self.world.state().damaged.is_empty() {
            // one rebalance mends what volumes have lost
            let there: Vec<usize> = (0..KEYS.len()).filter(|key| self.record(*key).is_some()).collect();
            self.demand(
                there.into_iter().map(|key| (Step::Ask(key, Request::Rebalance), Told::Done)).collect(),
            );
            self.world.state().damaged.clear();
            self.look();
        }
        self.end_uploads();
        self.use_keys();
        std::mem::take(&mut self.world.state().violations)
    }

    fn record(&self, key: usize) -> Option<Record> {
        self.world.state().entry(&KEYS[key]).record
    }

    /// Looks at rows and files.
    fn look(&self) {
        let mut named = BTreeSet::new();
        for (number, key) in KEYS.iter().enumerate() {
            let held = match self.record(number) {
                None => Held::Nothing,
                Some(record) => {
                    named.extend(files_of(key, &record));
                    self.look_at_value(key, &record)
                }
            };
            self.see(number, held);
        }
        let mut world = self.world.state();
        let left: Vec<String> = world.left_parts().map(|part| format!("{part} has no upload")).collect();
        let parts = world.rows.iter().filter(|(key, _)| key.as_part().is_some());
        named.extend(parts.flat_map(|(key, entry)| entry.record.iter().flat_map(|r| files_of(key, r))));
        world.violations.extend(left);
        let State { files, violations, gone, .. } = &mut *world;
        let orphans = files.keys().filter(|file| !named.contains(*file) && !gone.contains(&file.0));
        violations.extend(orphans.map(|orphan| format!("nothing names {orphan:?}")));
    }

    fn look_at_value(&self, key: &Key, record: &Record) -> Held {
        let Some(number) = self.look_at_files(key, record, number_of) else { return Held::Nothing };
        if let Some(before) = self.dressed.borrow().get(&number)
            && (&before.headers, before.modified) != (&record.headers, record.modified)
        {
            self.violation(format!("{key} was {before:?}, and now is {record:?}"));
        }
        if record.state == record::State::Live { Held::Live(number) } else { Held::Unlinked(number) }
    }

    /// All replicas are whole, are the same value, and are what the record says. The number of that value.
    pub(super) fn look_at_files(
        &self,
        key: &Key,
        record: &Record,
        number_of: impl Fn(&Bytes) -> Option<usize>,
    ) -> Option<usize> {
        let files = files_of(key, record);
        let volumes: BTreeSet<&String> = files.iter().map(|(volume, _)| volume).collect();
        if volumes.len() != REPLICAS || record.replicas.len() != REPLICAS {
            self.violation(format!("{key} has its replicas at {files:?}"));
        }
        let mut found = BTreeSet::new();
        for at in files {
            let world = self.world.state();
            let file = world.files.get(&at).filter(|_| !world.damaged.contains(&at)).cloned();
            let spared = world.damaged.contains(&at);
            drop(world);
            let Some(file) = file else {
                if !spared {
                    self.violation(format!("a replica is missing: {at:?}"));
                }
                continue;
            };
            found.extend(number_of(&file.bytes));
            let md5: [u8; 16] = Md5::digest(&file.bytes).into();
            let whole = number_of(&file.bytes).is_some()
                && record.size.is_none_or(|size| size == file.bytes.len() as u64)
                && record.md5 == Some(md5)
                && record.modified.is_none_or(|modified| modified == file.modified);
            if !whole {
                self.violation(format!("a replica isn't what its record says: {at:?} {file:?} {record:?}"));
            }
        }
        let mut found = found.into_iter();
        let (Some(number), None) = (found.next(), found.next()) else {
            self.violation(format!("{key} is not one value"));
            return None;
        };
        Some(number)
    }

    /// No upload is stuck: each can be completed if it has all its parts, and aborted, and then nothing is
    /// left of it.
    fn end_uploads(&mut self) {
        let uploads: Vec<_> = self.used().into_iter().flat_map(|key| self.uploads_to(key)).collect();
        if uploads.is_empty() {
            return;
        }
        let end = |(upload, parts): (usize, BTreeMap<u16, usize>)| {
            let of: BTreeSet<usize> = parts.values().copied().collect();
            let complete = parts.len() == usize::from(PARTS) && of.len() == 1;
            (if complete { Step::Complete(upload, Over::Anything) } else { Step::Abort(upload) }, Told::Done)
        };
        self.demand(uploads.into_iter().map(end).collect());
        self.look();
        if !self.world.state().notes.is_empty() {
            self.violation("an upload that ended is still there".into());
        }
    }

    /// No key is stuck: each can be read, deleted and written, and then nothing is left of it.
    fn use_keys(&mut self) {
        let mut steps = Vec::new();
        for key in self.used() {
            let mut step = |step, told| steps.push((step, told));
            let live = self.record(key).map(|record| record.state == record::State::Live);
            if live == Some(true) {
                step(Step::Put(key, FRESH, Shape::Whole), Told::Exists);
                step(Step::Ask(key, Request::Delete), Told::Done);
            }
            if live == Some(false) {
                step(Step::Ask(key, Request::Relink), Told::Done);
                step(Step::Ask(key, Request::Unlink), Told::Done);
            }
            step(Step::Ask(key, Request::Get), Told::NotFound);
            step(Step::Put(key, FRESH + 1, Shape::Whole), Told::Done);
            step(Step::Ask(key, Request::Get), Told::Value(FRESH + 1));
            step(Step::Ask(key, Request::Delete), Told::Done);
        }
        self.demand(steps);
        self.look();
        if self.world.state().rows.values().any(|entry| entry.record.is_some()) {
            self.violation("a deleted key is still there".into());
        }
    }

    /// Makes steps that must be answered so, in a world without faults.
    fn demand(&mut self, steps: Vec<(Step, Told)>) {
        self.options.protect = false;
        let mut world = self.world.state();
        world.armed.clear();
        world.full.clear();
        world.sick.clear();
        drop(world);
        let (steps, demanded): (Vec<Step>, Vec<Told>) = steps.into_iter().unzip();
        self.let_do([steps.clone()]);
        self.run([]);
        if self.told() != demanded {
            self.violation(format!("{steps:?} should be answered {demanded:?}, not {:?}", self.told()));
        }
    }
}

fn files_of(key: &Key, record: &Record) -> Vec<Whereabouts> {
    let replicas = record.replicas.iter();
    replicas.map(|replica| (replica.place.volume().to_owned(), path(key, replica))).collect()
}
