//! Clients' steps over one or more runs of the store.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::sleep;

use super::Index;
use super::history::{Held, History, Request, Told};
use super::network::Network;
use super::step::{Step, happen, number_of};
use super::uploads::Known;
use super::world::{Call, Script, World};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::placement::Placement;
use crate::record::{self, Record};
use crate::store::{Forgotten, Options, Precondition, Store};
use crate::volume::{Timeouts, Volumes};

pub(super) const QUARANTINE: Duration = Duration::from_mins(10);
pub(super) const READER_GRACE: Duration = Duration::from_mins(1);
pub(super) const SWEEP_EVERY: Duration = Duration::from_mins(30);
pub(super) const REPLICAS: usize = 3;

/// All that clients write. The second has generation names alone, because its plain one would be a
/// directory's.
pub(super) static KEYS: LazyLock<[Key; 2]> = LazyLock::new(|| [Key::new(b"/key"), Key::new(b"/o?")]);

/// All volumes, by their rank for the first key.
pub(super) static VOLUMES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let volumes = (0..5).map(|number| format!("volume{number}:80")).collect();
    let placement = Placement::new(volumes, REPLICAS, 10);
    placement.rank(&KEYS[0]).iter().map(|place| place.volume().to_owned()).collect()
});

/// So many quarantines must do for everything to settle.
const PATIENCE: u32 = 12;

/// No case has so many runs of the store.
const MANY_RUNS: usize = 100;

/// How a run of the store ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Stopped,
    /// The index failed: the operator starts the store again.
    Failed,
    /// All is settled.
    Quiet,
    /// All steps were made.
    Done,
}

/// Clients, the store that they speak to, and the world in which it lives.
pub(super) struct Case {
    pub(super) world: World,
    pub(super) options: Options,
    /// Where the store is the offline tool's, which runs no reaper: how the master behaves that comes
    /// after it.
    pub(super) master: Option<Options>,
    /// By the number of the key.
    histories: RefCell<Vec<History>>,
    /// What all clients have to do, …
    steps: Vec<Vec<Step>>,
    /// … and what they have yet to.
    clients: Vec<RefCell<VecDeque<Step>>>,
    /// What they were told so far.
    told: RefCell<Vec<Told>>,
    /// Uploads in parts that clients know of, by their numbers.
    pub(super) uploads: RefCell<BTreeMap<usize, Known>>,
    /// Modification time and headers that values had before a rebalance.
    pub(super) dressed: RefCell<BTreeMap<usize, Record>>,
}

pub(super) fn options(volumes: &[usize]) -> Options {
    Options {
        placement: Placement::new(volumes.iter().map(|rank| VOLUMES[*rank].clone()).collect(), REPLICAS, 10),
        timeouts: Timeouts { request: Duration::from_secs(1), stream: Duration::from_secs(10) },
        client_idle: Duration::from_secs(10),
        md5: true,
        protect: false,
        generation_names: false,
        quarantine: QUARANTINE,
        reader_grace: READER_GRACE,
        recheck: Duration::ZERO,
        upload_expiry: Duration::from_hours(24 * 7),
        sweep_every: SWEEP_EVERY,
        forgotten: Forgotten::default(),
    }
}

/// A store on three volumes of the world, in which nothing fails but what the test says.
pub(super) async fn started(world: &World) -> Store {
    world.begin(Script::new());
    let options = options(&[0, 1, 2]);
    let store = store(world, options);
    store.start().await.unwrap();
    store
}

/// A store in the world. Replicas that are equally good stay in the record's order, so that a run can be
/// repeated call by call.
fn store(world: &World, options: Options) -> Store {
    let volumes = Volumes::over(Arc::new(Network::of(world)), options.timeouts);
    Store::with_random(Index::of(world), volumes, options, || 0)
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
    pub(super) fn new(options: Options) -> Self {
        let world = World::default();
        world.state().quarantine = options.quarantine;
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

    /// Lets the clients do all that they have to, and everything settle. The store is started again
    /// whenever it stopped, each time with the next script, and what it called each time is returned.
    pub(super) fn run(&mut self, scripts: impl IntoIterator<Item = Script>) -> Vec<Vec<Call>> {
        let mut scripts = scripts.into_iter();
        let mut runs = Vec::new();
        loop {
            assert!(runs.len() < MANY_RUNS, "the store never comes to rest");
            let script = scripts.next();
            let calm = script.is_none();
            let (ended, calls) = self.live(script.unwrap_or_default(), self.master.is_none());
            runs.push(calls);
            if !calm && !self.options.forgotten.0.is_empty() {
                // the operator insists: without --forget, the files on a volume that is gone are waited for
                self.let_do(self.steps.clone());
            } else if let Some(master) = self.master.take() {
                self.clients.clear();
                self.options = master;
            } else if ended == Ended::Quiet {
                return runs;
            }
        }
    }

    /// Lets the clients do all that they have to, and no more.
    pub(super) fn prepare(&mut self) {
        while self.clients.iter().any(|client| !client.borrow().is_empty()) {
            self.live(Script::new(), false);
        }
    }

    /// One run of the store, at most until all is quiet, or until all steps are made.
    fn live(&self, script: Script, quiet: bool) -> (Ended, Vec<Call>) {
        // with the runtime, all that the store was about to do ends
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            self.world.begin(script);
            let ended = tokio::select! {
                biased;
                () = self.world.stopped() => Ended::Stopped,
                ended = self.serve(quiet) => ended,
            };
            (ended, self.world.end())
        })
    }

    async fn serve(&self, quiet: bool) -> Ended {
        let store = store(&self.world, self.options.clone());
        if self.master.is_none() && store.start().await.is_err() {
            return Ended::Failed;
        }
        join_all(self.clients.iter().map(|client| self.act(&store, client))).await;
        if !quiet {
            return Ended::Done;
        }
        for _ in 0..PATIENCE {
            if self.world.state().is_read_only() {
                // the operator takes a while to notice
                sleep(READER_GRACE * 2).await;
                return Ended::Failed;
            }
            if self.world.state().is_quiet() {
                return Ended::Quiet;
            }
            sleep(self.options.quarantine).await;
        }
        let mut world = self.world.state();
        let left = format!("intents are left: {:?}", world.rows);
        world.violations.push(left);
        Ended::Quiet
    }

    async fn act(&self, store: &Store, steps: &RefCell<VecDeque<Step>>) {
        loop {
            // a step that the store doesn't survive isn't made again
            let Some(step) = steps.borrow_mut().pop_front() else { return };
            self.make(store, step).await;
            if self.world.state().has_stopped() {
                pending::<()>().await;
            }
        }
    }

    async fn make(&self, store: &Store, step: Step) {
        match step {
            Step::Put(key, number, shape) => {
                let asked = self.ask(key, Request::Put(number));
                let told = self.meaning(&store.put(&KEYS[key], shape.upload(number)).await);
                if told == Told::Done && !shape.is_honest() {
                    self.violation("a client lied, and was believed".into());
                }
                self.tell(key, asked, told);
            }
            Step::Write(key, number, shape, over) => {
                let asked = self.ask(key, over.request(number));
                let upload = shape.upload(number);
                let written = store.replace(&KEYS[key], upload, over.when(), |_| Ok(Vec::new())).await;
                let told = self.meaning(&written);
                if told == Told::Done && !shape.is_honest() {
                    self.violation("a client lied, and was believed".into());
                }
                self.tell(key, asked, told);
            }
            Step::Ask(key, request) => {
                let asked = self.ask(key, request);
                let told = self.request(store, &KEYS[key], request).await;
                self.tell(key, asked, told);
            }
            Step::Begin(..) | Step::Part(..) | Step::Complete(..) | Step::Abort(_) | Step::Expire(_) => {
                self.make_of_upload(store, step).await;
            }
            Step::PlanRebalance(key) => drop(store.plan_rebalance(&KEYS[key]).await),
            Step::Forget => drop(store.forget().await),
            Step::ReapOnce => drop(store.reap_once().await),
            Step::Wait(time) => sleep(time).await,
            happening => happen(&mut self.world.state(), &happening, &mut self.dressed.borrow_mut()),
        }
    }

    async fn request(&self, store: &Store, key: &Key, request: Request) -> Told {
        match request {
            Request::Get => match store.locate(key).await {
                Ok(located) => self.read(&located.url),
                error => self.meaning(&error),
            },
            Request::Read => self.read_through(store, key).await,
            Request::Delete => self.meaning(&store.delete(key).await),
            Request::Remove => self.meaning(&store.remove(key, Precondition::Live).await),
            Request::Unlink => self.meaning(&store.set_state(key, record::State::Unlinked).await),
            Request::Relink => self.meaning(&store.set_state(key, record::State::Live).await),
            Request::Rebalance => self.meaning(&store.rebalance(key).await),
            request => unreachable!("{request:?} is made by a step of its own"),
        }
    }

    /// What a client finds where it was sent.
    fn read(&self, url: &str) -> Told {
        let (volume, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let file = self.world.state().files.get(&(volume.to_owned(), format!("/{path}"))).cloned();
        // deleted meanwhile: the volume's honest 404
        let Some(file) = file else { return Told::Refused };
        number_of(&file.bytes).map_or_else(
            || {
                self.violation(format!("a client reads {:?}", file.bytes));
                Told::Nothing
            },
            Told::Value,
        )
    }

    /// What a client is sent.
    async fn read_through(&self, store: &Store, key: &Key) -> Told {
        let read = async || {
            let record = store.stat(key).await?;
            let size = record.size.unwrap();
            let mut reading = store.read(key, record, 0..size).await?;
            let mut bytes = Vec::new();
            while let Some(piece) = reading.next().await? {
                bytes.extend_from_slice(&piece);
            }
            Ok(Bytes::from(bytes))
        };
        loop {
            match read().await {
                // another value took its place meanwhile
                Err(Error::Changed) => {}
                Ok(bytes) => {
                    return number_of(&bytes).map_or_else(
                        || {
                            self.violation(format!("a client is sent {bytes:?}"));
                            Told::Nothing
                        },
                        Told::Value,
                    );
                }
                error => return self.meaning(&error),
            }
        }
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

    /// Holds what is seen of a key against what clients were told.
    pub(super) fn see(&self, key: usize, held: Held) {
        let uploads = self.uploads_to(key);
        if !self.histories.borrow_mut()[key].see(held, uploads.clone()) {
            let what = format!("{} is {held:?}, with the uploads {uploads:?}", KEYS[key]);
            self.violation(format!("{what}, against what clients were told"));
        }
    }

    pub(super) fn violation(&self, what: String) {
        self.world.state().violations.push(what);
    }
}

fn said(key: usize, told: Told) -> String {
    format!("the answer on {}, {told:?},", KEYS[key])
}
