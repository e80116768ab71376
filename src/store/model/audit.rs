//! What must hold when all is quiet.

use std::collections::{BTreeMap, BTreeSet};

use super::case::{Case, files_of};
use super::disks::{Template, is_marker};
use super::step::{Shape, Step};
use super::terms::{Held, KEYS, Over, PARTS, Request, Told, number_of};
use super::world::{Looks, State};
use crate::key::Key;
use crate::record::{self, Record};

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
        let parts = world.index.rows.iter().filter(|(key, _)| key.as_part().is_some());
        named.extend(parts.flat_map(|(key, entry)| entry.record.iter().flat_map(|r| files_of(key, r))));
        world.violations.extend(left);
        let State { files, violations, gone, revived, .. } = &mut *world;
        let values = files.keys().filter(|file| !is_marker(&file.1) && !revived.contains(*file));
        let orphans = values.filter(|file| !named.contains(*file) && !gone.contains(&file.0));
        violations.extend(orphans.map(|orphan| format!("nothing names {orphan:?}")));
    }

    /// Holds what is seen of a key against what clients were told.
    pub(super) fn see(&self, key: usize, held: Held) {
        let uploads = self.uploads_to(key);
        if !self.histories.borrow_mut()[key].see(held, uploads.clone()) {
            let what = format!("{} is {held:?}, with the uploads {uploads:?}", KEYS[key]);
            self.violation(format!("{what}, against what clients were told"));
        }
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
        if !self.world.state().index.notes.is_empty() {
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
        if self.world.state().index.rows.values().any(|entry| entry.record.is_some()) {
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
        if world.looks == Looks::Rarely {
            world.looks = Looks::Never;
            // also where a volume never got its marker
            world.disks.template = Template::Minikeyvalue;
        }
        drop(world);
        let (steps, demanded): (Vec<Step>, Vec<Told>) = steps.into_iter().unzip();
        self.let_do([steps.clone()]);
        self.run([]);
        if self.told() != demanded {
            self.violation(format!("{steps:?} should be answered {demanded:?}, not {:?}", self.told()));
        }
    }
}
