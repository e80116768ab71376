//! Random steps of clients at once, and random faults.

use std::cell::Cell;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::case::Case;
use super::fault::{Fate, Fault};
use super::setup::{READER_GRACE, options};
use super::step::{Shape, Step};
use super::terms::{KEYS, Over, PARTS, Request, VOLUMES};
use super::world::{Looks, Script};

/// Unless `PROPTEST_CASES` says otherwise: some ten seconds of them.
const CASES: u32 = 2500;

/// In so many of a hundred, volumes have markers, which takes twice the time, …
const MARKED: f64 = 0.2;
/// … and of all, so many had them at least.
const LEAST_MARKED: u32 = 400;

/// Values that were there before.
const OLD: usize = 1000;

/// Values that come in parts, two for each upload, …
const IN_PARTS: usize = 2000;
/// … of which those begin with this number that weren't there before.
const NEW_UPLOADS: usize = 10;

/// What one client does next.
#[derive(Clone, Copy, Debug)]
enum Action {
    Put(usize, Shape),
    Write(usize, Shape, Over),
    Ask(usize, Request),
    Begin(usize),
    /// A part of one of the values that the upload may become.
    Part(Which, u16, usize, Shape),
    Complete(Which, Over),
    Abort(Which),
    Expire(Which),
    Wait(Duration),
    Outage(usize, Duration),
    /// The volume passes its probe, and nothing else.
    Sickness(usize, Duration),
    /// The index fails at a write, which may turn out to have happened; and it is opened again meanwhile.
    FailedWrite {
        kept: bool,
        pause: Duration,
    },
}

/// An upload in parts.
#[derive(Clone, Copy, Debug)]
enum Which {
    /// The one to that key that was there before.
    Old(usize),
    /// The one that the client began last.
    New,
}

/// What the world is like before the clients begin.
#[derive(Clone, Copy, Debug)]
struct Before {
    /// The key's value is there.
    written: bool,
    unlinked: bool,
    /// It lies where the best volume was down.
    misplaced: bool,
    /// An upload to the key was begun, and so many of its parts are there.
    parts: Option<u16>,
}

#[derive(Clone, Debug)]
struct Story {
    before: Vec<Before>,
    clients: Vec<Vec<Action>>,
    latencies: Vec<u8>,
    /// In each run of the store.
    faults: Vec<Vec<(usize, usize)>>,
    reader_grace: Duration,
    /// There are no more volumes than replicas.
    few_volumes: bool,
    reads_return_late: bool,
    /// Volumes have markers, and take part only while verified.
    markers: bool,
}

fn key() -> impl Strategy<Value = usize> {
    0..KEYS.len()
}

fn shape() -> impl Strategy<Value = Shape> {
    use Shape::{BreaksOff, BreaksOffAtEnd, Chunked, Idle, Long, Pieces, Short, Slow, Whole, WrongMd5};
    prop_oneof![
        6 => prop::sample::select(vec![Whole, Pieces, Chunked, Slow]),
        1 => prop::sample::select(vec![BreaksOff, BreaksOffAtEnd, Short, Long, Idle, WrongMd5]),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    use Request::{Delete, Get, Read, Rebalance, Relink, Remove, Unlink};
    prop_oneof![
        4 => Just(Delete),
        2 => Just(Remove),
        2 => Just(Get),
        2 => Just(Read),
        2 => Just(Unlink),
        1 => Just(Relink),
        2 => Just(Rebalance),
    ]
}

fn over() -> impl Strategy<Value = Over> {
    let numbers = prop_oneof![0..7_usize, 100..107_usize, OLD..OLD + KEYS.len()];
    prop_oneof![1 => Just(Over::Nothing), 3 => Just(Over::Anything), 2 => numbers.prop_map(Over::Value)]
}

fn which() -> impl Strategy<Value = Which> {
    prop_oneof![3 => key().prop_map(Which::Old), 1 => Just(Which::New)]
}

fn of_upload() -> impl Strategy<Value = Action> {
    let value = prop_oneof![4 => Just(0), 1 => Just(1_usize)];
    prop_oneof![
        1 => key().prop_map(Action::Begin),
        6 => (which(), 1..=PARTS, value, shape()).prop_map(|(which, number, value, shape)| {
            Action::Part(which, number, value, shape)
        }),
        6 => (which(), over()).prop_map(|(which, over)| Action::Complete(which, over)),
        2 => which().prop_map(Action::Abort),
        1 => which().prop_map(Action::Expire),
    ]
}

fn pause() -> impl Strategy<Value = Duration> {
    let millis = |millis: std::ops::Range<u64>| millis.prop_map(Duration::from_millis);
    prop_oneof![6 => millis(0..50), 3 => millis(50..6000), 1 => millis(6000..900_000)]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => (key(), shape()).prop_map(|(key, shape)| Action::Put(key, shape)),
        5 => (key(), shape(), over()).prop_map(|(key, shape, over)| Action::Write(key, shape, over)),
        8 => (key(), request()).prop_map(|(key, request)| Action::Ask(key, request)),
        8 => of_upload(),
        2 => pause().prop_map(Action::Wait),
        1 => (0..VOLUMES.len(), pause()).prop_map(|(rank, pause)| Action::Outage(rank, pause)),
        1 => (0..VOLUMES.len(), 1..100_u64).prop_map(|(rank, millis)| {
            Action::Sickness(rank, Duration::from_millis(millis))
        }),
        1 => (any::<bool>(), 0..4000_u64).prop_map(|(kept, millis)| {
            Action::FailedWrite { kept, pause: Duration::from_millis(millis) }
        }),
    ]
}

fn before() -> impl Strategy<Value = Before> {
    let bits = (prop::bool::weighted(0.7), any::<bool>(), any::<bool>());
    let parts = prop_oneof![2 => Just(None), 1 => Just(Some(1)), 2 => Just(Some(PARTS))];
    (bits, parts).prop_map(|((written, unlinked, misplaced), parts)| Before {
        written,
        unlinked,
        misplaced,
        parts,
    })
}

fn story() -> impl Strategy<Value = Story> {
    (
        vec(before(), KEYS.len()),
        vec(vec(action(), 1..7), 1..4),
        vec(0..30_u8, 0..6),
        vec(vec((0..60_usize, 0..10_000_usize), 0..5), 1..4),
        prop::sample::select(vec![Duration::ZERO, READER_GRACE]),
        (prop::bool::weighted(0.2), any::<bool>(), prop::bool::weighted(MARKED)),
    )
        .prop_map(|(before, clients, latencies, faults, reader_grace, flags)| Story {
            before,
            clients,
            latencies,
            faults,
            reader_grace,
            few_volumes: flags.0,
            reads_return_late: flags.1,
            markers: flags.2,
        })
}

impl Story {
    /// Tells it. What is wrong at its end, in lines.
    fn tell(&self) -> Vec<String> {
        let looks = if self.markers { Looks::Rarely } else { Looks::Never };
        let mut case = Case::new(options(&[]), looks);
        for (key, before) in self.before.iter().enumerate().filter(|(_, before)| before.written) {
            case.options = options(if before.misplaced { &[1, 2, 3, 4] } else { &[0, 1, 2, 3, 4] });
            let unlink = before.unlinked.then_some(Step::Ask(key, Request::Unlink));
            case.let_do([[Step::Put(key, OLD + key, Shape::Whole)].into_iter().chain(unlink).collect()]);
            case.prepare();
        }
        for (key, before) in self.before.iter().enumerate() {
            let Some(parts) = before.parts else { continue };
            let parts = (1..=parts).map(|number| part(key, number, 0, Shape::Whole));
            case.let_do([[Step::Begin(key, key)].into_iter().chain(parts).collect()]);
            case.prepare();
        }
        case.options = options(if self.few_volumes { &[0, 1, 2] } else { &[0, 1, 2, 3, 4] });
        case.options.reader_grace = self.reader_grace;
        case.world.state().latencies.clone_from(&self.latencies);
        case.world.state().reads_return_late = self.reads_return_late;
        case.let_do(self.clients.iter().enumerate().map(|(client, actions)| steps(client, actions)));
        case.run(self.faults.iter().map(|faults| script(faults)));
        case.audit()
    }
}

fn part(upload: usize, number: u16, value: usize, shape: Shape) -> Step {
    Step::Part(upload, number, IN_PARTS + 2 * upload + value, shape)
}

fn steps(client: usize, actions: &[Action]) -> Vec<Step> {
    let begun = |turn: usize| NEW_UPLOADS + client * 100 + turn;
    let upload = |which: Which, turn: usize| match which {
        Which::Old(key) => key,
        // none, perhaps
        Which::New => {
            let last = actions[..turn].iter().rposition(|action| matches!(action, Action::Begin(_)));
            begun(last.unwrap_or(turn))
        }
    };
    let steps = actions.iter().enumerate().map(|(turn, action)| match *action {
        // no two have the same value
        Action::Put(key, shape) => vec![Step::Put(key, client * 100 + turn, shape)],
        Action::Write(key, shape, over) => vec![Step::Write(key, client * 100 + turn, shape, over)],
        Action::Ask(key, request) => vec![Step::Ask(key, request)],
        Action::Begin(key) => vec![Step::Begin(key, begun(turn))],
        Action::Part(which, number, value, shape) => vec![part(upload(which, turn), number, value, shape)],
        Action::Complete(which, over) => vec![Step::Complete(upload(which, turn), over)],
        Action::Abort(which) => vec![Step::Abort(upload(which, turn))],
        Action::Expire(which) => vec![Step::Expire(upload(which, turn))],
        Action::Wait(pause) => vec![Step::Wait(pause)],
        Action::Sickness(rank, pause) => vec![Step::Sicken(rank), Step::Wait(pause), Step::Heal(rank)],
        Action::FailedWrite { kept, pause } => {
            let fault = if kept { Fault::FailsButKeeps } else { Fault::Fails };
            vec![Step::FailNextWrite(fault), Step::Wait(pause)]
        }
        Action::Outage(rank, pause) => vec![Step::Down(rank), Step::Wait(pause), Step::Up(rank)],
    });
    steps.flatten().collect()
}

fn script(faults: &[(usize, usize)]) -> Script {
    faults.iter().map(|(call, fault)| (*call, Fate::Any(*fault))).collect()
}

#[test]
fn whatever_clients_do_at_once_and_whatever_fails() {
    let mut config = ProptestConfig { max_shrink_iters: 5000, ..ProptestConfig::default() };
    let are_all = std::env::var_os("PROPTEST_CASES").is_none();
    if are_all {
        config.cases = CASES;
    }
    config.source_file = Some(file!());
    let marked = Cell::new(0);
    let told = TestRunner::new(config).run(&story(), |story| {
        marked.set(marked.get() + u32::from(story.markers));
        let wrong = story.tell();
        prop_assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    });
    if let Err(failure) = told {
        panic!("{failure}");
    }
    assert!(!are_all || marked.get() >= LEAST_MARKED, "too few had markers: {}", marked.get());
}
