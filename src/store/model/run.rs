//! Runs of the store, in which clients make their steps.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::pending;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::sleep;

use super::case::Case;
use super::setup::store;
use super::step::{Step, happen};
use super::terms::{KEYS, Request, Told, number_of};
use super::world::{Call, Looks, Script};
use crate::error::Error;
use crate::key::Key;
use crate::record;
use crate::store::{IdentifyError, Precondition, Store};

/// So many quarantines must do for everything to settle.
const PATIENCE: u32 = 12;

/// Within this time, a store notices that another one has its volumes.
const LONG: Duration = Duration::from_secs(30);

/// No case has so many runs of the store.
const MANY_RUNS: usize = 100;

/// How a run of the store ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Stopped,
    /// The index can't be read: the operator starts the store again.
    Failed,
    /// All is settled.
    Quiet,
    /// All steps were made.
    Done,
    /// Another store has the volumes.
    Taken,
}

impl Case {
    /// Lets the clients do all that they have to, and everything settle. The store is started again
    /// whenever it stopped, each time with the next script, and what it called each time is returned.
    pub(super) fn run(&mut self, scripts: impl IntoIterator<Item = Script>) -> Vec<Vec<Call>> {
        let mut scripts = scripts.into_iter();
        let mut runs = Vec::new();
        loop {
            assert!(runs.len() < MANY_RUNS, "the store never comes to rest");
            let script = scripts.next();
            let calm = script.is_none();
            // while everything settles, no disk vanishes: another run does it, which looks at few markers
            let looks_often = self.world.state().looks == Looks::Often;
            let (ended, calls) = self.live(script.unwrap_or_default(), self.master.is_none() && !looks_often);
            runs.push(calls);
            if ended == Ended::Done && looks_often {
                self.world.state().looks = Looks::Rarely;
            } else if !calm && !self.options.forgotten.0.is_empty() {
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

    /// One run of the store, at most until all steps are made.
    pub(super) fn run_to_the_last_step(&self, script: Script) -> Vec<Call> {
        self.live(script, false).1
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
        match self.start(&store).await {
            Ok(()) => {}
            Err(IdentifyError::Index(_)) => return Ended::Failed,
            Err(IdentifyError::Outdated | IdentifyError::WithoutIdentity { .. }) => {
                self.violation("the index is taken for an old one".into());
                return Ended::Quiet;
            }
        }
        join_all(self.clients.iter().map(|client| self.act(&store, client))).await;
        if !quiet {
            return Ended::Done;
        }
        for _ in 0..PATIENCE {
            if self.world.state().is_quiet() {
                return Ended::Quiet;
            }
            sleep(self.options.quarantine).await;
        }
        let mut world = self.world.state();
        let left = format!("intents are left: {:?}", world.index.rows);
        world.violations.push(left);
        Ended::Quiet
    }

    /// The store until another one has taken its volumes over, or until it has stood still for long.
    pub(super) async fn serve_until_taken(&self) -> Ended {
        let store = store(&self.world, self.options.clone());
        if self.start(&store).await.is_err() {
            return Ended::Taken;
        }
        let act = async {
            join_all(self.clients.iter().map(|client| self.act(&store, client))).await;
            sleep(LONG).await;
            Ended::Done
        };
        let taken = store.taken_over();
        tokio::select! {
            biased;
            () = taken.cancelled() => Ended::Taken,
            ended = act => ended,
        }
    }

    async fn start(&self, store: &Store) -> Result<(), IdentifyError> {
        if self.master.is_none() {
            return self.world.start(store).await;
        }
        // the offline tool
        self.world.starting(store.identify()).await.map(drop)
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
}
