//! Explores every order of events up to a bound, together with the task that watches the volume.
//!
//! The test plays that task: it steps when it is ready, probes when it is told to, and sleeps until
//! its deadline or a wake-up. Worlds whose future is the same are explored once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod flaps;

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

use super::failed_files::{FAILED_FOR, File};
use super::line::Line;
use super::machine::{Actions, Event, Machine, Shape, Step, Watch};
use super::room::Lacked;

const FIRST_HOLD: Duration = Duration::from_millis(500);
const LONGEST_HOLD: Duration = Duration::from_mins(1);
const TRIAL: Duration = Duration::from_secs(10);
const RETURN_EVERY: Duration = Duration::from_secs(5);

/// The task that watches the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Task {
    None,
    Ready,
    Probing,
    Sleeping(Duration),
}

/// A possible next step of a world.
#[derive(Clone, Copy, Debug)]
enum Move {
    Happens(Event),
    /// The task takes its next step, if it is ready.
    Step,
    /// The probe ends, if one is running.
    ProbeEnds(Event),
    Pass(Duration),
    /// Time passes until the task's deadline.
    PassUntilDue,
}

#[derive(Clone)]
struct World {
    machine: Machine,
    base: Instant,
    now: Duration,
    task: Task,
    /// The task was woken while it was awake.
    permit: bool,
    /// When the volume last went down, and its hold since then.
    down: Option<(Duration, Duration)>,
    /// When the volume last came up, and the hold before.
    up: Option<(Duration, Duration)>,
    returned: Option<Duration>,
    owes_return: bool,
    history: Vec<Move>,
}

impl World {
    fn new() -> Self {
        Self::verified_every(None)
    }

    fn verified_every(every: Option<Duration>) -> Self {
        Self {
            machine: Machine::new(every),
            base: Instant::now(),
            now: Duration::ZERO,
            task: Task::None,
            permit: false,
            down: None,
            up: None,
            returned: None,
            owes_return: false,
            history: Vec::new(),
        }
    }

    fn instant(&self) -> Instant {
        self.base + self.now
    }

    /// The state that the future depends on, with times relative to now.
    fn shape(&self) -> (Shape, Task, bool, Option<Duration>, bool) {
        let task = match self.task {
            Task::Sleeping(until) => Task::Sleeping(until.saturating_sub(self.now)),
            task => task,
        };
        let trial = self
            .up
            .filter(|_| self.down.is_none())
            .map(|(up, hold)| (up + hold.max(TRIAL)).saturating_sub(self.now));
        (self.machine.shape(self.instant()), task, self.permit, trial, self.owes_return)
    }

    /// Makes a move; false if the move isn't possible now.
    fn make(&mut self, next: Move) -> bool {
        match next {
            Move::Happens(event) => self.event(event),
            Move::Step if self.task == Task::Ready => self.step(),
            Move::ProbeEnds(event) if self.task == Task::Probing => {
                self.task = Task::Ready;
                self.event(event);
            }
            Move::Pass(time) => self.pass(time),
            Move::PassUntilDue => match self.task {
                Task::Sleeping(until) => self.pass(until.saturating_sub(self.now)),
                _ => return false,
            },
            Move::Step | Move::ProbeEnds(_) => return false,
        }
        self.history.push(next);
        self.check();
        true
    }

    fn event(&mut self, event: Event) {
        let was_down = self.machine.is_down();
        let actions = self.machine.on(event, self.instant());
        if actions.watch == Some(Watch::Start) {
            assert_eq!(self.task, Task::None, "a second task is started: {:?}", self.history);
            self.task = Task::Ready;
        }
        assert!(!actions.returned, "only the task tells of returns: {:?}", self.history);
        let is_down = self.machine.is_down();
        assert_eq!(actions.went_down, is_down && !was_down, "{:?}", self.history);
        match (was_down, is_down) {
            _ if event == Event::Barred => {
                assert!(self.machine.is_out() && actions.line.is_none(), "{:?}", self.history);
                (self.down, self.up, self.owes_return) = (None, None, false);
            }
            (false, true) => self.goes_down(actions),
            (true, false) if event == Event::Admitted => self.owes_return = true,
            (true, false) => self.comes_up(event, actions),
            _ => {}
        }
        self.wake(actions);
    }

    fn goes_down(&mut self, actions: Actions) {
        let flapped = self.up.filter(|(up, hold)| self.now < *up + (*hold).max(TRIAL));
        let hold = flapped.map_or(FIRST_HOLD, |(_, hold)| (hold * 2).min(LONGEST_HOLD));
        self.down = Some((self.now, hold));
        self.owes_return = false;
        match actions.line {
            Some(Line::Down) => assert!(flapped.is_none(), "{:?}", self.history),
            _ => assert!(flapped.is_some(), "nobody is told: {:?}", self.history),
        }
    }

    fn comes_up(&mut self, event: Event, actions: Actions) {
        assert_eq!(event, Event::Probed(true), "{:?}", self.history);
        let (since, hold) = self.down.take().unwrap();
        assert!(self.now >= since + hold, "it is up before its hold is over: {:?}", self.history);
        let told = matches!(actions.line, Some(Line::Up { .. }));
        assert_eq!(told, hold == FIRST_HOLD, "{:?}", self.history);
        self.up = Some((self.now, hold));
        self.owes_return = true;
    }

    fn wake(&mut self, actions: Actions) {
        if actions.watch == Some(Watch::Wake) {
            match self.task {
                Task::Sleeping(_) => self.task = Task::Ready,
                _ => self.permit = true,
            }
        }
    }

    fn step(&mut self) {
        let (step, actions) = self.machine.next_step(self.instant());
        if actions.returned {
            assert!(self.owes_return && !self.machine.is_down(), "{:?}", self.history);
            assert!(
                self.returned.is_none_or(|last| self.now >= last + RETURN_EVERY),
                "too often: {:?}",
                self.history
            );
            (self.returned, self.owes_return) = (Some(self.now), false);
        }
        self.task = match step {
            Step::Probe => Task::Probing,
            Step::Wait(_) if std::mem::take(&mut self.permit) => Task::Ready,
            Step::Wait(until) => Task::Sleeping(until - self.base),
            Step::End => {
                let is_done = !self.machine.is_down() && self.machine.due().is_none() && !self.owes_return;
                assert!(is_done || self.machine.is_out(), "too early: {:?}", self.history);
                Task::None
            }
        };
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        if let Task::Sleeping(until) = self.task
            && until <= self.now
        {
            self.task = Task::Ready;
        }
    }

    /// Checks the invariants.
    fn check(&self) {
        let (machine, history) = (&self.machine, &self.history);
        assert_eq!(machine.is_watched(), self.task != Task::None, "{history:?}");
        let is_left_alone = self.task == Task::None;
        assert!(
            !machine.is_down() || machine.is_out() || !is_left_alone,
            "down, and nobody probes: {history:?}"
        );
        assert!(!machine.is_silent() || machine.is_down(), "{history:?}");
        assert!(!machine.is_good() || !machine.is_down(), "{history:?}");
        if let Task::Sleeping(until) = self.task {
            let due = machine.due().map(|due| due - self.base);
            assert!(due.is_none_or(|due| until <= due), "the task sleeps too long: {history:?}");
        }
    }

    /// Checks that the volume recovers if it answers its probes and nothing else happens.
    fn check_recovers(mut self) {
        for _ in 0..30 {
            let next = match self.task {
                _ if self.machine.is_out() => Move::Happens(Event::Admitted),
                Task::Sleeping(_) if self.machine.is_good() && self.machine.next_look_is_all() => return,
                Task::None => {
                    assert!(self.machine.is_good() && !self.owes_return, "{:?}", self.history);
                    return;
                }
                Task::Ready => Move::Step,
                Task::Probing => Move::ProbeEnds(Event::Probed(true)),
                Task::Sleeping(_) => Move::PassUntilDue,
            };
            self.make(next);
        }
        panic!("the task doesn't end: {:?}", self.history);
    }

    /// Checks that the volume goes down if it answers nothing.
    fn check_goes_down(mut self) {
        if self.machine.is_out() {
            return;
        }
        (0..3).for_each(|_| assert!(self.make(Move::Happens(Event::Unanswered))));
        assert!(self.machine.is_down() && self.machine.is_silent(), "{:?}", self.history);
    }
}

/// Calls `look` with every world that up to `depth` of the moves lead to; returns how many there are.
fn explore(depth: usize, moves: &[Move], look: impl Fn(&World)) -> usize {
    explore_from(World::new(), depth, moves, look)
}

fn explore_from(world: World, depth: usize, moves: &[Move], look: impl Fn(&World)) -> usize {
    let (mut seen, mut front) = (HashSet::new(), vec![world]);
    for _ in 0..depth {
        let mut next = Vec::new();
        for world in front {
            for &step in moves {
                let mut after = world.clone();
                if after.make(step) && seen.insert(after.shape()) {
                    look(&after);
                    next.push(after);
                }
            }
        }
        front = next;
    }
    seen.len()
}

const TASK: [Move; 6] = [
    Move::Step,
    Move::ProbeEnds(Event::Probed(true)),
    Move::ProbeEnds(Event::Probed(false)),
    Move::ProbeEnds(Event::NotProbed),
    Move::PassUntilDue,
    Move::Pass(Duration::from_millis(100)),
];

fn happens<const N: usize>(events: [Event; N]) -> Vec<Move> {
    events.into_iter().map(Move::Happens).chain(TASK).collect()
}

#[test]
fn in_every_order_of_events_one_task_watches_the_volume_until_it_is_up() {
    let [a, b, c] = ["/a", "/b", "/c"].map(File::read);
    let failures = [a, b, c].map(Event::FileFailed);
    let stored = Event::Stored(File::written("/a"));
    let moves = happens([
        Event::Served(a),
        stored,
        Event::Answered,
        Event::Unanswered,
        Event::Late,
        Event::Full(Lacked::Surely),
    ]);
    let moves: Vec<Move> = failures.into_iter().map(Move::Happens).chain(moves).collect();
    let seen = explore(9, &moves, |world| {
        world.clone().check_recovers();
        world.clone().check_goes_down();
    });
    assert!(seen > 10_000, "only {seen} worlds");
}

#[test]
fn in_every_order_of_outages_the_hold_doubles_until_a_trial_is_passed() {
    let mut moves = happens([Event::Unanswered, Event::Answered]);
    moves.extend([TRIAL, LONGEST_HOLD].map(Move::Pass));
    let seen = explore(24, &moves, |world| {
        world.clone().check_recovers();
        world.clone().check_goes_down();
    });
    assert!(seen > 10_000, "only {seen} worlds");
}

/// Whoever looks at the volume's identity may bar it or admit it at any time.
#[test]
fn in_every_order_of_events_a_volume_takes_part_only_while_it_is_admitted() {
    let a = File::written("/a");
    let mut moves =
        happens([Event::Admitted, Event::Barred, Event::Unanswered, Event::FileFailed(a), Event::Late]);
    moves.push(Move::Pass(TRIAL));
    let begun = World::verified_every(Some(TRIAL));
    assert!(begun.machine.is_out() && begun.machine.is_silent());
    let seen = explore_from(begun, 11, &moves, |world| {
        let identity = world.history.iter().rev().find_map(|made| match made {
            Move::Happens(event @ (Event::Admitted | Event::Barred)) => Some(*event),
            _ => None,
        });
        assert_eq!(world.machine.is_out(), identity != Some(Event::Admitted), "{:?}", world.history);
        let next_look = world.machine.due().map(|due| due - world.base);
        let is_looked_at = next_look.is_some_and(|next| next <= world.now + TRIAL);
        assert!(is_looked_at || world.machine.is_down(), "nobody looks at its identity: {:?}", world.history);
        world.clone().check_recovers();
        world.clone().check_goes_down();
    });
    assert!(seen > 10_000, "only {seen} worlds");
}

#[test]
fn one_failing_file_never_takes_a_volume_down() {
    let (read, written) = (File::read("/failing"), File::written("/failing"));
    let failures = [Event::FileFailed(read), Event::FileFailed(written)];
    let others =
        [Event::Served(File::read("/other")), Event::Answered, Event::Late, Event::Full(Lacked::Surely)];
    let mut moves = happens([failures[0], failures[1], others[0], others[1], others[2], others[3]]);
    moves.retain(|next| !matches!(next, Move::ProbeEnds(Event::Probed(false))));
    moves.push(Move::Pass(FAILED_FOR));
    explore(10, &moves, |world| {
        assert!(!world.machine.is_down() && world.machine.is_good(), "{:?}", world.history);
    });
}

#[test]
fn a_volume_that_fails_for_all_files_goes_down_even_if_it_answers_its_probes() {
    let files = ["/a", "/b", "/c"].map(File::written);
    let mut moves = happens([Event::Answered, Event::Served(File::read("/a")), Event::Late]);
    moves.extend(files.map(|file| Move::Happens(Event::FileFailed(file))));
    explore(8, &moves, |world| {
        let failed = files.map(|file| {
            world.history.iter().any(|made| matches!(made, Move::Happens(Event::FileFailed(f)) if *f == file))
        });
        assert!(failed != [true; 3] || world.down.is_some() || world.up.is_some(), "{:?}", world.history);
    });
}

/// A replica that no other volume has may still be read there.
#[test]
fn a_volume_that_is_down_for_failing_files_is_silent_after_three_lost_requests_in_a_row() {
    let down = |fails: usize| {
        let mut world = World::new();
        for path in ["/a", "/b", "/c"].into_iter().take(fails) {
            world.make(Move::Happens(Event::FileFailed(File::read(path))));
        }
        (fails..3).for_each(|_| assert!(world.make(Move::Happens(Event::Unanswered))));
        assert!(world.machine.is_down());
        world
    };
    for fails in 1..=3 {
        let mut world = down(fails);
        assert!(!world.machine.is_silent(), "{fails}");
        world.make(Move::Happens(Event::Answered));
        for _ in 0..2 {
            world.make(Move::Happens(Event::Unanswered));
            assert!(!world.machine.is_silent(), "{fails}");
        }
        world.make(Move::Happens(Event::Unanswered));
        assert!(world.machine.is_silent(), "{fails}");
    }
    assert!(down(0).machine.is_silent());
}
