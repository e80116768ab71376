//! The world as the store's calls meet it: one after the other, and in their time.

use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::disks::is_marker;
use super::fault::{Fault, Kind, Landing};
use super::world::{Call, Change, File, Late, Script, State, Whereabouts};

/// All clones are the same one, seen by the owner of the same index.
#[derive(Clone, Default)]
pub(super) struct World {
    shared: Arc<Shared>,
    /// The number of the index of whoever calls.
    who: usize,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    stopped: Notify,
    failed: Notify,
}

/// The store has stopped: nothing has an effect any more.
pub(super) struct Stopped;

/// The latest landing is so long before the quarantine's end: a body is still taken for a moment after its
/// sender has given it up, from when on the quarantine counts.
const BEFORE_THE_END: Duration = Duration::from_secs(1);

/// A scan of the index takes so many times as long as other calls: a whole upload may begin meanwhile.
const SCAN: u32 = 50;

impl World {
    pub(super) fn of(state: State) -> Self {
        let shared = Shared { state: Mutex::new(state), stopped: Notify::new(), failed: Notify::new() };
        Self { shared: Arc::new(shared), who: 0 }
    }

    /// The same world, for the owner of a copy of the index.
    pub(super) fn seen_by(&self, who: usize) -> Self {
        Self { shared: Arc::clone(&self.shared), who }
    }

    pub(super) fn who(&self) -> usize {
        self.who
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.shared.state.lock().unwrap();
        state.turn_to(self.who);
        state.land();
        state
    }

    /// A new run of the store begins: all numbers of calls begin again.
    pub(super) fn begin(&self, script: Script) {
        let mut state = self.state();
        state.open();
        state.begun = Some(Instant::now());
        state.started_at = None;
        state.suspects.clear();
        state.script = script;
        state.calls.clear();
        state.stopped = false;
    }

    /// The run has ended, and all that it did.
    pub(super) fn end(&self) -> Vec<Call> {
        let mut state = self.state();
        state.past = state.now();
        state.begun = None;
        std::mem::take(&mut state.calls)
    }

    /// Returns when the store has stopped.
    pub(super) async fn stopped(&self) {
        while !self.state().stopped {
            self.shared.stopped.notified().await;
        }
    }

    /// Returns when a write of the index has failed.
    pub(super) async fn write_failed(&self) {
        while !self.state().is_read_only() {
            self.shared.failed.notified().await;
        }
    }

    /// Tells whoever waits for it that a write of the index may have failed.
    pub(super) fn wrote_one(&self) {
        self.shared.failed.notify_one();
    }

    /// Stops the store, from within one of its calls.
    pub(super) async fn stop(&self) -> ! {
        self.state().stopped = true;
        self.shared.stopped.notify_one();
        pending().await
    }

    /// Stops the store once a call of its returns.
    pub(super) fn stop_now(&self) {
        self.state().stopped = true;
        self.shared.stopped.notify_one();
    }

    /// Numbers a call, and tells what befalls it.
    pub(super) fn meet_now(&self, kind: Kind, volume: &str) -> Result<Option<Fault>, Stopped> {
        let mut state = self.state();
        if state.stopped {
            return Err(Stopped);
        }
        let fault = state.meet(Call { kind, volume: volume.to_owned() });
        if fault == Some(Fault::Stop) {
            state.stopped = true;
            self.shared.stopped.notify_one();
            return Err(Stopped);
        }
        Ok(fault)
    }

    /// As [`World::meet_now`]; never returns once the store has stopped.
    pub(super) async fn meet(&self, kind: Kind, volume: &str) -> Option<Fault> {
        match self.meet_now(kind, volume) {
            Ok(fault) => fault,
            Err(Stopped) => pending().await,
        }
    }

    /// Waits for as long as the call takes that was numbered last.
    pub(super) async fn linger(&self) {
        self.linger_for(1).await;
    }

    /// Waits for as long as a scan takes.
    pub(super) async fn linger_scanning(&self) {
        self.linger_for(SCAN).await;
    }

    async fn linger_for(&self, times: u32) {
        let latency = self.state().latency() * times;
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
    }
}

impl State {
    /// Sends a request that changes a volume, to be carried out as the fault has it.
    pub(super) fn send(&mut self, to: Whereabouts, change: Change, fault: Option<Fault>) {
        let after = match fault {
            None => self.latency(),
            Some(fault) if fault.is_carried_out() => self.latency(),
            Some(Fault::CutAnswer(_)) => Duration::ZERO,
            Some(Fault::StopAfter(landing) | Fault::Unanswered(landing) | Fault::Silent(landing)) => {
                match landing {
                    Landing::Never => return,
                    Landing::Now => Duration::ZERO,
                    Landing::Soon => Duration::from_secs(1),
                    Landing::Last => self.quarantine.saturating_sub(BEFORE_THE_END),
                }
            }
            Some(_) => return,
        };
        // The first marker of a volume, if it landed minutes after its store has died, would be taken for another
        // volume's by the next store, which has adopted the volume meanwhile: nothing is lost, and an operator decides.
        let after = if is_marker(&to.1) { Duration::ZERO } else { after };
        let (due, by) = (self.now() + after, self.who);
        self.on_their_way.push(Late { due, to, change, by });
        self.land();
    }

    /// Carries out what is due.
    fn land(&mut self) {
        if self.on_their_way.is_empty() {
            return;
        }
        let now = self.now();
        let (mut due, later): (Vec<Late>, Vec<Late>) =
            std::mem::take(&mut self.on_their_way).into_iter().partition(|late| late.due <= now);
        self.on_their_way = later;
        due.sort_by_key(|late| late.due);
        let who = self.who;
        for Late { to, change, by, .. } in due {
            self.turn_to(by);
            self.check_disk(&to);
            if !is_marker(&to.1) && self.lets_change(&to) {
                self.check_copies(&to);
            }
            match change {
                Change::Put(file) if is_marker(&to.1) => drop(self.files.insert(to, file)),
                // the disk vanished meanwhile
                _ if !self.lets_change(&to) => {}
                Change::Put(file) => {
                    self.check_landing(&to, &file);
                    self.files.insert(to, File { by, ..file });
                }
                Change::Delete => {
                    self.check_delete(&to);
                    self.files.remove(&to);
                }
            }
            self.turn_to(who);
        }
    }
}
