//! A volume's health, as its answers show it.
//!
//! The state is one state machine ([`machine`]) under one lock. The facts that every request needs are also
//! published in an atomic, written under that lock. Requests read it several times on all threads; it
//! changes only after failures, so threads of healthy volumes share no lock and no changing cache line.

mod failed_files;
#[cfg(test)]
mod flag_tests;
mod line;
mod machine;
mod room;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use failed_files::File;
pub(super) use machine::{Actions, Step, Watch};
use machine::{Event, Machine};
use room::{Directory, Lacked};

/// The health of one volume.
#[derive(Debug)]
pub(super) struct Health {
    machine: Mutex<Machine>,
    /// The machine's state as the bits below; 0 for a volume without failures.
    flags: AtomicU8,
    /// Wakes callers that wait until the volume is down.
    down: watch::Sender<bool>,
    /// Wakes the task that watches the volume. A wake-up before the task waits isn't lost.
    wake: Notify,
}

const DOWN: u8 = 1;
const SILENT: u8 = 2;
const NOT_GOOD: u8 = 4;
const FAILED_FILES: u8 = 8;
const OUT: u8 = 16;
const FULL: u8 = 32;

/// What a request does with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

impl Health {
    /// Of a volume whose identity is looked at so often; `None` if it has none.
    pub(super) fn new(verify_every: Option<Duration>) -> Self {
        let machine = Machine::new(verify_every);
        Self {
            flags: AtomicU8::new(flags(&machine)),
            machine: Mutex::new(machine),
            down: watch::Sender::new(verify_every.is_some()),
            wake: Notify::new(),
        }
    }

    /// Whether the volume is up and answered its last request.
    pub(super) fn is_good(&self) -> bool {
        !self.has(NOT_GOOD)
    }

    pub(super) fn is_down(&self) -> bool {
        self.has(DOWN)
    }

    /// Whether the volume is down and doesn't answer.
    pub(super) fn is_silent(&self) -> bool {
        self.has(SILENT)
    }

    /// Whether the volume takes no part, because its identity isn't verified.
    pub(super) fn is_out(&self) -> bool {
        self.has(OUT)
    }

    pub(super) fn is_full(&self) -> bool {
        self.has(FULL)
    }

    /// Whether a value with a file at that path shall try now if a full volume has room again. Only one caller is told to
    /// now and then.
    pub(super) fn shall_try(&self, path: impl FnOnce() -> String) -> bool {
        self.is_full() && {
            let directory = Directory::of(&path());
            self.change(|machine, now| machine.shall_try(directory, now))
        }
    }

    /// Whether reading that file failed recently.
    pub(super) fn failed_for(&self, path: impl FnOnce() -> String) -> bool {
        self.has(FAILED_FILES) && {
            let file = File::read(&path());
            let machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
            machine.failed_files().has(file, Instant::now())
        }
    }

    /// Waits until the volume is down.
    pub(super) async fn gone_down(&self) {
        // the sender lives in `self`, so waiting can't fail
        drop(self.down.subscribe().wait_for(|down| *down).await);
    }

    /// Notes that a request for the file succeeded.
    pub(super) fn served(&self, path: &str, access: Access) -> Actions {
        if !self.has(NOT_GOOD | FAILED_FILES) {
            return Actions::default();
        }
        self.on(Event::Served(file(path, access)))
    }

    /// Notes that the file was stored.
    pub(super) fn stored(&self, path: &str) -> Actions {
        if !self.has(NOT_GOOD | FAILED_FILES | FULL) {
            return Actions::default();
        }
        self.on(Event::Stored(file(path, Access::Write)))
    }

    /// Notes that a request was answered in a way that says nothing about a file (404, for example).
    pub(super) fn answered(&self) -> Actions {
        if self.is_good() { Actions::default() } else { self.on(Event::Answered) }
    }

    /// Notes that a request for the file was answered with a server error.
    pub(super) fn failed(&self, path: &str, access: Access) -> Actions {
        self.on(Event::FileFailed(file(path, access)))
    }

    /// Notes that a request had no answer.
    pub(super) fn unanswered(&self) -> Actions {
        self.on(Event::Unanswered)
    }

    /// Notes that an answer is late, so that the volume is probed.
    pub(super) fn late(&self) -> Actions {
        self.on(Event::Late)
    }

    /// Notes that the volume had no room for the file: it said so, or the directory may be damaged.
    pub(super) fn found_full(&self, path: &str, said_so: bool) -> Actions {
        self.on(Event::Full(if said_so { Lacked::Surely } else { Lacked::OrDamaged(Directory::of(path)) }))
    }

    /// Notes whether the volume answered a probe.
    pub(super) fn probed(&self, answered: bool) -> Actions {
        self.on(Event::Probed(answered))
    }

    /// Notes that a probe couldn't be sent, through no fault of the volume.
    pub(super) fn not_probed(&self) -> Actions {
        self.on(Event::NotProbed)
    }

    /// Notes that the volume's identity was verified.
    pub(super) fn admitted(&self) -> Actions {
        self.on(Event::Admitted)
    }

    /// Notes that the volume's identity is in doubt.
    pub(super) fn barred(&self) -> Actions {
        self.on(Event::Barred)
    }

    /// What the task that watches the volume does next.
    pub(super) fn next_step(&self) -> (Step, Actions) {
        self.change(Machine::next_step)
    }

    /// Wakes the task that watches the volume.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits until the deadline, or until [`wake`](Self::wake) is called.
    pub(super) async fn woken(&self, deadline: Instant) {
        drop(timeout_at(deadline, self.wake.notified()).await);
    }

    fn has(&self, flags: u8) -> bool {
        self.flags.load(Ordering::Relaxed) & flags != 0
    }

    fn on(&self, event: Event) -> Actions {
        self.change(|machine, now| machine.on(event, now))
    }

    /// Changes the machine, and publishes its new state under the same lock.
    fn change<T>(&self, change: impl FnOnce(&mut Machine, Instant) -> T) -> T {
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        // the time is read under the lock, so events are in the order of their times
        let done = change(&mut machine, Instant::now());
        self.flags.store(flags(&machine), Ordering::Relaxed);
        self.down.send_if_modified(|down| std::mem::replace(down, machine.is_down()) != machine.is_down());
        drop(machine);
        done
    }
}

fn flags(machine: &Machine) -> u8 {
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    flag(machine.is_down(), DOWN)
        | flag(machine.is_silent(), SILENT)
        | flag(!machine.is_good(), NOT_GOOD)
        | flag(!machine.failed_files().is_empty(), FAILED_FILES)
        | flag(machine.is_out(), OUT)
        | flag(machine.is_full(), FULL)
}

fn file(path: &str, access: Access) -> File {
    match access {
        Access::Read => File::read(path),
        Access::Write => File::written(path),
    }
}
