//! Clients, and what they were told, over one or more runs of the store.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::calls::World;
use super::disks::Template;
use super::history::History;
use super::step::Step;
use super::terms::{KEYS, REPLICAS, Request, Told};
use super::world::{Looks, Whereabouts};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::record::Record;
use crate::store::Options;
use crate::store::replicas::path;

/// An upload in parts: the number of its key, and its own.
pub(super) type Known = (usize, u64);

/// Clients, the store that they speak to, and the world in which it lives.
pub(super) struct Case {
    pub(super) world: World,
    pub(super) options: Options,
    /// Where the store is the offline tool's, which runs no reaper: how the master behaves that comes
    /// after it.
    pub(super) master: Option<Options>,
    /// By the number of the key.
    pub(super) histories: RefCell<Vec<History>>,
    /// What all clients have to do, …
    pub(super) steps: Vec<Vec<Step>>,
    /// … and what they have yet to.
    pub(super) clients: Vec<RefCell<VecDeque<Step>>>,
    /// What they were told so far.
    told: RefCell<Vec<Told>>,
    /// Uploads in parts that clients know of, by their numbers.
    pub(super) uploads: RefCell<BTreeMap<usize, Known>>,
    /// Modification time and headers that values had before a rebalance.
    pub(super) dressed: RefCell<BTreeMap<usize, Record>>,
}

impl Clone for Case {
    /// A case of its own, from there on.
    fn clone(&self) -> Self {
        Self {
            world: World::of(self.world.state().clone()),
            options: self.options.clone(),
            master: self.master.clone(),
            histories: self.histories.clone(),
            steps: self.steps.clone(),
            clients: self.clients.clone(),
            told: self.told.clone(),
            uploads: self.uploads.clone(),
            dressed: self.dressed.clone(),
        }
    }
}

impl Case {
    /// A new world.
    pub(super) fn new(options: Options, looks: Looks) -> Self {
        let world = World::default();
        world.state().quarantine = options.quarantine;
        world.state().looks = looks;
        if looks == Looks::Never {
            // no marker is written there
            world.state().disks.template = Template::Minikeyvalue;
        }
        Self {
            world,
            options,
            master: None,
            histories: RefCell::new(KEYS.iter().map(|_| History::new()).collect()),
            steps: Vec::new(),
            clients: Vec::new(),
            told: RefCell::default(),
            uploads: RefCell::default(),
            dressed: RefCell::default(),
        }
    }

    /// Gives the clients something to do.
    pub(super) fn let_do(&mut self, clients: impl IntoIterator<Item = Vec<Step>>) {
        self.steps = clients.into_iter().collect();
        self.clients = self.steps.iter().map(|steps| RefCell::new(steps.clone().into())).collect();
        self.told.borrow_mut().clear();
    }

    pub(super) fn told(&self) -> Vec<Told> {
        self.told.borrow().clone()
    }

    pub(super) fn meaning<T>(&self, result: &Result<T>) -> Told {
        match result {
            Ok(_) => Told::Done,
            Err(Error::NotFound) => Told::NotFound,
            Err(Error::Exists) => Told::Exists,
            Err(Error::Changed) => Told::Changed,
            Err(Error::NoUpload) => Told::NoUpload,
            Err(Error::Index(_)) => Told::Nothing,
            Err(Error::Panicked) => {
                self.violation("a task panicked".into());
                Told::Nothing
            }
            Err(Error::Damaged) if self.world.state().damaged.is_empty() => {
                self.violation("a value is found damaged".into());
                Told::Refused
            }
            Err(_) => Told::Refused,
        }
    }

    pub(super) fn ask(&self, key: usize, request: Request) -> u32 {
        self.histories.borrow_mut()[key].ask(request)
    }

    pub(super) fn tell(&self, key: usize, asked: u32, told: Told) {
        self.note_told(told);
        self.hold_against(key, asked, told);
    }

    pub(super) fn note_told(&self, told: Told) {
        if !self.world.state().has_stopped() {
            self.told.borrow_mut().push(told);
        }
    }

    /// Holds an answer against what clients were told before.
    pub(super) fn hold_against(&self, key: usize, asked: u32, told: Told) {
        if self.world.state().has_stopped() {
            return;
        }
        if !self.histories.borrow_mut()[key].tell(asked, told) {
            self.violation(format!("{} can't be, after all that clients were told", said(key, told)));
        }
    }

    /// The keys that anybody ever asked for.
    pub(super) fn used(&self) -> Vec<usize> {
        let histories = self.histories.borrow();
        (0..KEYS.len()).filter(|key| histories[*key].is_used()).collect()
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
            let md5: [u8; 16] = md5_lanes::digest(&file.bytes);
            let whole = number_of(&file.bytes).is_some()
                && record.size.is_none_or(|size| size == file.bytes.len() as u64)
                && record.md5 == Some(md5)
                && record.modified.is_none_or(|modified| modified.seconds() == file.modified);
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

    pub(super) fn violation(&self, what: String) {
        self.world.state().violations.push(what);
    }
}

fn said(key: usize, told: Told) -> String {
    format!("the answer on {}, {told:?},", KEYS[key])
}

/// Where the record's files of the key lie.
pub(super) fn files_of(key: &Key, record: &Record) -> Vec<Whereabouts> {
    let replicas = record.replicas.iter();
    replicas.map(|replica| (replica.place.volume().to_owned(), path(key, replica))).collect()
}
