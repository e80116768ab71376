//! The health of a volume as a state machine. It is pure: no lock, no clock, no task.
//!
//! ```text
//!          3 failures in a row                     a probe answered, once the hold is over
//!   up ──────────────────────▶ down for a hold ──────────────────────────────▶ up, on trial
//!   ▲                                 ▲                                           │  │
//!   │                                 └───── 3 failures: the hold doubles ────────┘  │
//!   └─────────────────────────────── the trial is over ──────────────────────────────┘
//! ```
//!
//! Failures are: each request without an answer, and each file for which the volume answered with a server
//! error (counted once per file). Only a probe brings a volume back.
//!
//! A volume whose identity matters begins *out*, and takes no part until it is admitted; while it is up, it is probed
//! now and then all the same, as a disk can vanish under a running nginx. Whoever finds that its identity is another
//! one bars it, whatever its state, and it is out until it is admitted again. While a volume is down, on trial, or due
//! for a probe, exactly one task watches it: [`Machine::on`] says when to start that task, and
//! [`Machine::next_step`] what it does next, and when it ends.

use std::time::Duration;

use tokio::time::Instant;

use super::failed_files::{FailedFiles, File};
use super::line::Line;
use super::room::{Directory, Lacked, Room};

/// Failures in a row after which the volume is down.
const DOWN_AFTER: u32 = 3;

/// The pause between probes of a volume that doesn't answer, and the first hold.
const PROBE_EVERY: Duration = Duration::from_millis(500);

/// Each time that a volume goes down on trial, its hold doubles, up to this.
const LONGEST_HOLD: Duration = Duration::from_mins(1);

/// A trial lasts this long, or as long as the hold before it if that is longer.
const TRIAL: Duration = Duration::from_secs(10);

/// A volume's returns are reported at most this often; each makes the reaper retry deletions that failed.
const RETURN_EVERY: Duration = Duration::from_secs(5);

/// What happened to a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A request for the file succeeded.
    Served(File),
    /// The file was stored: there is room.
    Stored(File),
    /// A request was answered in a way that says nothing about a file (404, for example).
    Answered,
    /// A request for the file was answered with a server error.
    FileFailed(File),
    /// A request had no answer: there was no connection, the connection was lost, or the time ran out.
    Unanswered,
    /// An answer is late, so the volume must be probed.
    Late,
    /// The volume had no room for a value.
    Full(Lacked),
    /// A probe ended; `true` if the volume answered.
    Probed(bool),
    /// A probe that was due couldn't be sent, through no fault of the volume.
    NotProbed,
    /// Its identity was verified.
    Admitted,
    /// Its identity is in doubt.
    Barred,
}

/// What the caller has to do after an event or a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub(in crate::volume) struct Actions {
    /// Start or wake the task that watches the volume.
    pub(in crate::volume) watch: Option<Watch>,
    /// The volume went down: close its idle connections.
    pub(in crate::volume) went_down: bool,
    /// The volume returned: retry the deletions that failed.
    pub(in crate::volume) returned: bool,
    /// Log this line.
    pub(in crate::volume) line: Option<Line>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::volume) enum Watch {
    /// No task is running: start one.
    Start,
    /// The task's next step is due earlier than before: wake it.
    Wake,
}

/// What the watching task does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::volume) enum Step {
    Probe,
    /// Wait until that time, or until woken.
    Wait(Instant),
    /// The volume is up and needs no watching: end.
    End,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// It takes no part: its identity isn't verified.
    Out,
    Up {
        /// Requests in a row that had no answer.
        unanswered: u32,
        trial: Option<Trial>,
    },
    Down {
        outage: Outage,
        held_until: Instant,
        /// Requests in a row that had no answer: with fewer than take a volume down, it went down because of failing
        /// files, and still answers.
        unanswered: u32,
    },
}

/// The time from when a volume goes down until it has passed its trial.
#[derive(Clone, Copy, Debug)]
struct Outage {
    began: Instant,
    /// How often the volume went down on trial.
    flaps: u32,
    /// The last hold.
    hold: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Trial {
    outage: Outage,
    until: Instant,
}

#[derive(Clone, Debug)]
pub(super) struct Machine {
    state: State,
    /// Whether a task watches the volume.
    watched: bool,
    /// When the next probe is due, if any.
    probe_due: Option<Instant>,
    /// When the volume's return is to be reported, if it is.
    return_due: Option<Instant>,
    last_return: Option<Instant>,
    failed_files: FailedFiles,
    room: Room,
    /// How often the volume's identity is looked at while it is up; `None` if it has none.
    verify_every: Option<Duration>,
}

impl Machine {
    pub(super) fn new(verify_every: Option<Duration>) -> Self {
        let up = State::Up { unanswered: 0, trial: None };
        Self {
            state: if verify_every.is_some() { State::Out } else { up },
            watched: false,
            probe_due: None,
            return_due: None,
            last_return: None,
            failed_files: FailedFiles::default(),
            room: Room::new(),
            verify_every,
        }
    }

    pub(super) fn is_down(&self) -> bool {
        !matches!(self.state, State::Up { .. })
    }

    /// Whether the volume takes no part.
    pub(super) fn is_out(&self) -> bool {
        matches!(self.state, State::Out)
    }

    /// Whether the volume is down and doesn't answer.
    pub(super) fn is_silent(&self) -> bool {
        match self.state {
            State::Out => true,
            State::Up { .. } => false,
            State::Down { unanswered, .. } => unanswered >= DOWN_AFTER,
        }
    }

    /// Whether the volume is up and answered its last request.
    pub(super) fn is_good(&self) -> bool {
        matches!(self.state, State::Up { unanswered: 0, .. })
    }

    pub(super) fn is_full(&self) -> bool {
        self.room.is_full()
    }

    /// As [`Room::shall_try`].
    pub(super) fn shall_try(&mut self, directory: Directory, now: Instant) -> bool {
        self.room.shall_try(directory, now)
    }

    pub(super) fn failed_files(&self) -> &FailedFiles {
        &self.failed_files
    }

    /// Handles an event.
    pub(super) fn on(&mut self, event: Event, now: Instant) -> Actions {
        let due_before = self.due();
        let mut actions = self.end_trial(now);
        match event {
            Event::Admitted => self.admit(now),
            Event::Barred => {
                actions.went_down = !self.is_down();
                self.state = State::Out;
                (self.probe_due, self.return_due) = (None, None);
            }
            _ if self.is_out() => {}
            Event::Served(file) => {
                self.failed_files.served(file, now);
                self.answered();
            }
            Event::Stored(file) => {
                self.failed_files.served(file, now);
                self.answered();
                if self.room.shown(now) {
                    actions.line = actions.line.or(Some(Line::HasRoom));
                }
            }
            Event::Answered => self.answered(),
            Event::FileFailed(file) => {
                if self.failed_files.failed(file, now) {
                    self.want_probe(now);
                }
                self.count(now, &mut actions);
            }
            Event::Unanswered => {
                self.want_probe(now);
                self.missed();
                self.count(now, &mut actions);
            }
            Event::Late => self.want_probe(now),
            Event::Full(lacked) => {
                if self.room.lacked(lacked, now) {
                    actions.line = actions.line.or(Some(Line::Full));
                }
                // a probe tells whether the volume is full or broken
                self.want_probe(now);
            }
            Event::Probed(true) => self.probe_answered(now, &mut actions),
            Event::NotProbed => self.probe_again(now),
            Event::Probed(false) => {
                self.probe_again(now);
                self.missed();
                self.count(now, &mut actions);
            }
        }
        let is_earlier = self.due().is_some_and(|due| due_before.is_none_or(|before| due < before));
        if is_earlier {
            actions.watch = Some(if self.watched { Watch::Wake } else { Watch::Start });
            self.watched = true;
        }
        actions
    }

    /// What the watching task does now.
    pub(super) fn next_step(&mut self, now: Instant) -> (Step, Actions) {
        let mut actions = self.end_trial(now);
        if self.return_due.is_some_and(|due| due <= now) {
            (self.return_due, self.last_return) = (None, Some(now));
            actions.returned = true;
        }
        let step = match self.due() {
            Some(due) if due > now => Step::Wait(due),
            Some(_) => Step::Probe,
            None => {
                self.watched = false;
                Step::End
            }
        };
        (step, actions)
    }

    /// When the watching task has something to do next; `None` if never.
    pub(super) fn due(&self) -> Option<Instant> {
        let trial = match self.state {
            State::Up { trial, .. } => trial.map(|trial| trial.until),
            State::Out | State::Down { .. } => None,
        };
        [self.probe_due, self.return_due, trial].into_iter().flatten().min()
    }

    /// Schedules a probe now, unless one is due already.
    fn want_probe(&mut self, now: Instant) {
        match self.state {
            // the one that is due is only a look at its identity
            State::Up { .. } if self.verify_every.is_some() => self.probe_due = Some(now),
            _ => drop(self.probe_due.get_or_insert(now)),
        }
    }

    /// Schedules the probe after one that failed.
    fn probe_again(&mut self, now: Instant) {
        self.probe_due = Some(match self.state {
            State::Out | State::Up { .. } => now + PROBE_EVERY,
            State::Down { held_until, .. } => held_until.max(now + PROBE_EVERY),
        });
    }

    /// When a volume that is up is probed next.
    fn next_look(&self, now: Instant) -> Option<Instant> {
        self.verify_every.map(|every| now + every)
    }

    fn admit(&mut self, now: Instant) {
        if self.is_out() {
            self.state = State::Up { unanswered: 0, trial: None };
            self.probe_due = self.next_look(now);
            self.failed_files = FailedFiles::default();
            self.return_soon(now);
        }
    }

    fn return_soon(&mut self, now: Instant) {
        self.return_due = Some(self.last_return.map_or(now, |last| now.max(last + RETURN_EVERY)));
    }

    fn answered(&mut self) {
        match &mut self.state {
            State::Up { unanswered, .. } => *unanswered = 0,
            // of a silent one, only a probe says that it is back
            State::Down { unanswered, .. } if *unanswered < DOWN_AFTER => *unanswered = 0,
            State::Down { .. } | State::Out => {}
        }
    }

    fn missed(&mut self) {
        match &mut self.state {
            State::Up { unanswered, .. } => *unanswered = unanswered.saturating_add(1),
            State::Down { unanswered, .. } => *unanswered = unanswered.saturating_add(1).min(DOWN_AFTER),
            State::Out => {}
        }
    }

    /// Takes the volume down if the failures in a row are too many.
    fn count(&mut self, now: Instant, actions: &mut Actions) {
        let State::Up { unanswered, trial } = self.state else { return };
        if unanswered.saturating_add(self.failed_files.in_row(now)) < DOWN_AFTER {
            return;
        }
        let outage = match trial {
            None => Outage { began: now, flaps: 0, hold: PROBE_EVERY },
            Some(Trial { outage: Outage { began, flaps, hold }, .. }) => {
                Outage { began, flaps: flaps.saturating_add(1), hold: (hold * 2).min(LONGEST_HOLD) }
            }
        };
        let held_until = now + outage.hold;
        self.state = State::Down { outage, held_until, unanswered };
        (self.probe_due, self.return_due) = (Some(held_until), None);
        self.failed_files.begin_row();
        actions.went_down = true;
        actions.line = match outage {
            Outage { flaps: 0, .. } => Some(Line::Down),
            Outage { flaps: times, hold: held_for, .. } => {
                times.is_power_of_two().then_some(Line::Flaps { times, held_for })
            }
        };
    }

    fn probe_answered(&mut self, now: Instant, actions: &mut Actions) {
        let next_look = self.next_look(now);
        match &mut self.state {
            State::Out => {}
            State::Up { unanswered, .. } => (*unanswered, self.probe_due) = (0, next_look),
            // the probe was sent before the volume went down
            State::Down { held_until, .. } if now < *held_until => {}
            State::Down { outage, .. } => {
                let trial = Trial { outage: *outage, until: now + outage.hold.max(TRIAL) };
                if outage.flaps == 0 {
                    actions.line = Some(Line::Up { down_for: now - outage.began });
                }
                self.state = State::Up { unanswered: 0, trial: Some(trial) };
                self.probe_due = next_look;
                self.return_soon(now);
            }
        }
    }

    fn end_trial(&mut self, now: Instant) -> Actions {
        let mut actions = Actions::default();
        if let State::Up { trial, .. } = &mut self.state
            && let Some(passed) = trial.take_if(|trial| trial.until <= now)
            && passed.outage.flaps > 0
        {
            let Outage { began, flaps: flapped, .. } = passed.outage;
            actions.line = Some(Line::Steady { flapped, since_first_down: now - began });
        }
        actions
    }
}

/// The part of a machine's state that its future depends on, with times relative to now; without log lines and
/// without its room.
#[cfg(test)]
pub(super) type Shape = (
    (bool, u32, Option<Duration>, Duration, Option<Duration>),
    (bool, Option<Duration>, Option<Duration>, Duration),
    Vec<(File, Duration, bool)>,
);

#[cfg(test)]
impl Machine {
    pub(super) fn is_watched(&self) -> bool {
        self.watched
    }

    /// Whether nothing is due but the next look at its identity.
    pub(super) fn next_look_is_all(&self) -> bool {
        let is_steady = matches!(self.state, State::Up { trial: None, .. });
        is_steady && self.return_due.is_none() && self.verify_every.is_some()
    }

    pub(super) fn shape(&self, now: Instant) -> Shape {
        let left = |until: Instant| until.saturating_duration_since(now);
        let state = match self.state {
            State::Up { unanswered, trial } => {
                let hold = trial.map_or(Duration::ZERO, |trial| trial.outage.hold);
                (true, unanswered, trial.map(|trial| left(trial.until)), hold, None)
            }
            State::Down { outage, held_until, unanswered } => {
                (false, unanswered, None, outage.hold, Some(left(held_until)))
            }
            State::Out => (false, 1, None, Duration::ZERO, None),
        };
        let may_return = self.last_return.map_or(Duration::ZERO, |last| left(last + RETURN_EVERY));
        let times = (self.watched, self.probe_due.map(left), self.return_due.map(left), may_return);
        (state, times, self.failed_files.listed(now).collect())
    }
}
