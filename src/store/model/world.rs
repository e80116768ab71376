//! What outlives the store: the index's rows, the volumes' files, and requests on their way.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use tokio::time::Instant;

use super::disks::{Disks, is_marker};
use super::fault::{Fate, Fault, Kind};
use super::http::Asked;
use super::terms::VOLUMES;
use crate::clock::Timestamp;
use crate::index::Entry;
use crate::index::notes::Note;
use crate::index::simulated::{Batch, Decide, Rows};
use crate::index::steps::Effect;
use crate::key::Key;
use crate::placement::Place;
use crate::record::{Intent, Record, Replica};

/// The number of a copy of the index.
pub(super) const COPY: usize = 1;

/// By the number of the call in one run of the store.
pub(super) type Script = BTreeMap<usize, Fate>;

/// A call, and the address of its volume if it is to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) kind: Kind,
    pub(super) volume: String,
}

/// A file's volume and path.
pub(super) type Whereabouts = (String, String);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) bytes: Bytes,
    pub(super) modified: u64,
    /// The intent's under which it was sent.
    pub(super) attempt: u64,
    /// The number of the index of whoever sent it.
    pub(super) by: usize,
}

/// A request that changes a volume.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Put(File),
    Delete,
}

#[derive(Clone, Debug)]
pub(super) struct Late {
    pub(super) due: Duration,
    pub(super) to: Whereabouts,
    pub(super) change: Change,
    /// The number of the sender's index.
    pub(super) by: usize,
}

/// How often a store looks at the markers of a volume that is up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Looks {
    /// As often as outside of the model.
    #[default]
    Often,
    /// When it starts, and whenever there is a reason.
    Rarely,
    /// It takes volumes as they are, which saves time where nobody could touch their disks.
    Never,
}

/// How the index is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Opened {
    #[default]
    Fresh,
    /// A write has failed: no further one succeeds until it is opened again.
    ReadOnly,
    /// Nor does any read.
    Closed,
}

/// What an index holds, and how it is open.
#[derive(Clone, Default)]
pub(super) struct OneIndex {
    pub(super) rows: BTreeMap<Key, Entry>,
    pub(super) notes: BTreeMap<Note, Record>,
    pub(super) facts: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) first_unreserved: u64,
    /// Whether anything but facts was written since that was asked last.
    pub(super) written: bool,
    /// Numbers that this run of the store has reserved and not given out.
    pub(super) reserved: Range<u64>,
    pub(super) opened: Opened,
    /// What a failed write left to be found when the index is opened again.
    pub(super) kept: Option<Batch>,
}

#[derive(Clone, Default)]
pub(super) struct State {
    /// The index of whoever looks at the world now, …
    pub(super) index: OneIndex,
    /// … by its number, …
    pub(super) who: usize,
    /// … and those of others.
    pub(super) others: BTreeMap<usize, OneIndex>,
    /// What the volumes showed when the index was copied: both copies may know of these files.
    pub(super) shared: BTreeSet<(Whereabouts, u64)>,
    /// What the volumes show: the files of the disks that are mounted there.
    pub(super) files: BTreeMap<Whereabouts, File>,
    pub(super) disks: Disks,
    /// Volumes that can't be reached.
    pub(super) down: BTreeSet<String>,
    /// Volumes that fail at whatever they are asked for files.
    pub(super) sick: BTreeSet<String>,
    /// Volumes without room.
    pub(super) full: BTreeSet<String>,
    /// What the volumes answer to whoever writes a marker or an owner file, if they refuse it.
    pub(super) refuses_markers: Option<StatusCode>,
    /// Files that a step of a test took or tore.
    pub(super) damaged: BTreeSet<Whereabouts>,
    /// Files that a step of a test brought back, though they had been deleted.
    pub(super) revived: BTreeSet<Whereabouts>,
    /// Volumes that answered 404 or failed since their markers were last looked at: the next look at them is a call.
    pub(super) suspects: BTreeSet<String>,
    /// The number of the first call after the store has found out whose its volumes are; none before.
    pub(super) started_at: Option<usize>,
    /// All that it asks its volumes before that are calls, and so is every look at their markers.
    pub(super) counts_looks: bool,
    pub(super) looks: Looks,
    /// Volumes that are gone for good, with all that is on them.
    pub(super) gone: BTreeSet<String>,
    /// How long a request may be on its way.
    pub(super) quarantine: Duration,
    /// What answers take, in milliseconds, in turn.
    pub(super) latencies: Vec<u8>,
    /// Whether the store takes as long to go on with what it has read of a row.
    pub(super) reads_return_late: bool,
    /// What befalls the next call of that kind to that volume.
    pub(super) armed: Vec<(Call, Fault)>,
    /// What went against an invariant.
    pub(super) violations: Vec<String>,
    pub(super) on_their_way: Vec<Late>,
    /// Whose files lie there, as found by their paths.
    owners: BTreeMap<Whereabouts, (Key, Replica)>,
    /// Numbers that intents had.
    intents_seen: BTreeSet<u64>,
    /// The time before this run, and when it began.
    pub(super) past: Duration,
    pub(super) begun: Option<Instant>,
    pub(super) script: Script,
    pub(super) calls: Vec<Call>,
    pub(super) stopped: bool,
}

impl State {
    pub(super) fn now(&self) -> Duration {
        self.past + self.begun.map_or(Duration::ZERO, |begun| begun.elapsed())
    }

    pub(super) fn has_stopped(&self) -> bool {
        self.stopped
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.index.opened != Opened::Fresh
    }

    /// Whether the index shows what is on the disk, nothing is on its way, no intent is left, and nothing of an
    /// upload that is over.
    pub(super) fn is_quiet(&self) -> bool {
        !self.is_read_only()
            && self.on_their_way.is_empty()
            && self.index.rows.values().all(|entry| entry.intents.is_empty())
            && self.left_parts().next().is_none()
            && self.index.notes.values().all(|record| record.modified != Some(Timestamp::default()))
    }

    /// Parts of uploads that aren't noted.
    pub(super) fn left_parts(&self) -> impl Iterator<Item = &Key> {
        let noted: BTreeSet<u64> = self.index.notes.keys().map(upload_of).collect();
        let there = self.index.rows.iter().filter(|(_, entry)| entry.record.is_some()).map(|(key, _)| key);
        there.filter(move |key| key.as_part().is_some_and(|(upload, _)| !noted.contains(&upload)))
    }

    /// From now on, it is the owner of that index who looks at the world.
    pub(super) fn turn_to(&mut self, who: usize) {
        if who != self.who {
            let index = self.others.remove(&who).expect("there is such an index");
            let before = std::mem::replace(&mut self.index, index);
            self.others.insert(std::mem::replace(&mut self.who, who), before);
        }
    }

    /// Somebody copies the index.
    fn copy_index(&mut self, to: usize) {
        let copy = OneIndex { reserved: 0..0, opened: Opened::Fresh, kept: None, ..self.index.clone() };
        self.others.insert(to, copy);
        self.shared = self.files.iter().map(|(at, file)| (at.clone(), file.attempt)).collect();
    }

    pub(super) fn index_rows(&self) -> Rows<'_> {
        Rows { entries: &self.index.rows, notes: &self.index.notes, facts: &self.index.facts }
    }

    pub(super) fn entry(&self, key: &Key) -> Entry {
        self.index.rows.get(key).cloned().unwrap_or_default()
    }

    /// Carries out what is decided now. What went wrong, otherwise.
    pub(super) fn commit(&mut self, decide: Decide, fault: Option<Fault>) -> Result<Effect, &'static str> {
        if self.index.opened == Opened::Closed {
            return Err("the index is closed");
        }
        let (effect, batch) = decide(&self.index_rows());
        if let Some((key, after)) = batch.entry.as_ref().filter(|_| !self.is_read_only()) {
            let before = self.entry(key);
            self.check_forgotten(key, &before, after);
            let is_new = |new: &&Intent| before.intents.iter().all(|old| old.id != new.id);
            for intent in after.intents.iter().filter(is_new) {
                if !self.intents_seen.insert(intent.id) {
                    self.violations.push(format!("two attempts have the number {}", intent.id));
                }
            }
        }
        if batch.entry.is_none() && batch.note.is_none() && batch.fact.is_none() {
            return Ok(effect);
        }
        if self.is_read_only() {
            return Err("an earlier write failed");
        }
        self.write(batch, fault).map(|()| effect)
    }

    fn write(&mut self, batch: Batch, fault: Option<Fault>) -> Result<(), &'static str> {
        match fault {
            Some(Fault::Fails) => {}
            Some(Fault::FailsButKeeps) => self.index.kept = Some(batch),
            _ => {
                self.apply(batch);
                return Ok(());
            }
        }
        self.index.opened = Opened::ReadOnly;
        Err("the disk failed")
    }

    /// Opens the index: what is on the disk shows.
    pub(super) fn open(&mut self) {
        if let Some(kept) = self.index.kept.take() {
            self.apply(kept);
        }
        self.index.opened = Opened::Fresh;
        self.index.reserved = 0..0;
    }

    fn apply(&mut self, batch: Batch) {
        self.index.written |= batch.entry.is_some() || batch.note.is_some();
        self.index.rows.extend(batch.entry);
        match batch.fact {
            Some((row, Some(value))) => drop(self.index.facts.insert(row, value)),
            Some((row, None)) => drop(self.index.facts.remove(&row)),
            None => {}
        }
        match batch.note {
            Some((note, Some(record))) => drop(self.index.notes.insert(note, record)),
            Some((note, None)) => drop(self.index.notes.remove(&note)),
            None => {}
        }
    }

    /// Moves the counter of generation numbers.
    pub(super) fn reserve(&mut self, end: u64, fault: Option<Fault>) -> Result<(), &'static str> {
        if self.is_read_only() {
            return Err("an earlier write failed");
        }
        if matches!(fault, Some(Fault::Fails | Fault::FailsButKeeps)) {
            self.index.opened = Opened::ReadOnly;
        }
        if fault != Some(Fault::Fails) {
            self.index.first_unreserved = end;
        }
        if self.is_read_only() { Err("the disk failed") } else { Ok(()) }
    }

    /// The key's file that lies there.
    pub(super) fn owner(&mut self, to: &Whereabouts) -> (Key, Replica) {
        if let Some(known) = self.owners.get(to) {
            return known.clone();
        }
        let (volume, path) = to;
        let (directory, path) = path.split_at(if path.starts_with("/sv") { "/svXX".len() } else { 0 });
        let (key, name) = Key::from_path(path).expect("files are of keys");
        let owner = (key, Replica { place: Place::new(&format!("{volume}{directory}")), name });
        self.owners.insert(to.clone(), owner.clone());
        owner
    }

    /// Whether a new connection is a call. What is opened to find out whose the volumes are is none, unless all is
    /// counted: it would be many, in every run.
    pub(super) fn counts_connections(&self) -> bool {
        self.counts_looks || self.started_at.is_some()
    }

    /// Whether the request is a call. The looks at the markers of a volume go on and on: only those are calls that
    /// follow from what it answered, unless all are counted.
    pub(super) fn is_call(&mut self, volume: &str, asked: &Asked) -> bool {
        let is_of_marker = asked.is_look() || is_marker(&asked.path);
        let follows = is_of_marker && self.suspects.remove(volume);
        self.counts_looks || self.started_at.is_some() && (follows || !is_of_marker)
    }

    /// No volume is to be reached at that address by the next connection.
    pub(super) fn refuse_next(&mut self, volume: &str) {
        let next = Call { kind: Kind::Connect, volume: volume.to_owned() };
        self.armed.push((next, Fault::Unreachable));
    }

    /// What the call takes that was numbered last.
    pub(super) fn latency(&self) -> Duration {
        let turn = self.calls.len().checked_rem(self.latencies.len());
        turn.map_or(Duration::ZERO, |turn| Duration::from_millis(self.latencies[turn].into()))
    }

    pub(super) fn meet(&mut self, call: Call) -> Option<Fault> {
        let number = self.calls.len();
        let full = call.kind == Kind::Put && self.full.contains(&call.volume);
        let for_file = matches!(call.kind, Kind::Head | Kind::Open | Kind::Delete | Kind::Put);
        let sick = for_file && self.sick.contains(&call.volume);
        let armed = self.armed.iter().position(|(armed, _)| *armed == call);
        let kind = call.kind;
        let volume = call.volume.clone();
        self.calls.push(call);
        let scripted = self.script.get(&number).map(|fate| fate.of(kind));
        // what the steps say befalls it, unless something else does that matters
        let armed = armed.filter(|_| scripted.is_none_or(Fault::is_harmless));
        let armed = armed.map(|armed| self.armed.remove(armed).1);
        let fault = match armed.or(scripted) {
            Some(Fault::Vanish(rank)) => {
                self.vanish(&VOLUMES[rank]);
                None
            }
            Some(Fault::CopyIndex) => {
                self.copy_index(COPY);
                None
            }
            fault => fault,
        };
        let goes_on = fault.is_none_or(Fault::is_harmless);
        match fault {
            _ if goes_on && sick => Some(Fault::Refused(StatusCode::INTERNAL_SERVER_ERROR)),
            _ if goes_on && full => Some(Fault::Refused(StatusCode::INSUFFICIENT_STORAGE)),
            fault => {
                if fault.is_some_and(|fault| !fault.is_carried_out()) {
                    self.suspects.insert(volume);
                }
                fault
            }
        }
    }
}

fn upload_of(note: &Note) -> u64 {
    let Note::Upload(_, upload) = note else { unreachable!("no buckets are made") };
    *upload
}

impl File {
    pub(super) fn new(bytes: Bytes, modified: u64, attempt: u64) -> Self {
        Self { bytes, modified, attempt, by: 0 }
    }
}
