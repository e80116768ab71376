//! What every call of is tried.

mod uploads;

use std::time::Duration;

use hyper::StatusCode;

use super::case::{Case, QUARANTINE, VOLUMES, options};
use super::fault::{Fault, Kind, Landing};
use super::history::{Request, Told};
use super::step::{Over, Shape, Step};
use crate::store::Options;

/// Steps of one client, of which every call shall fail, or be the last.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// Which of the network's oddities befall its calls (see [`Kind::faults`]).
    pub(super) turn: usize,
    /// What was done before, when nothing failed but what the steps say.
    given: Vec<Step>,
    given_volumes: &'static [usize],
    when: Vec<Step>,
    /// What another client does at the same time.
    beside: Vec<Step>,
    /// What answers take, in milliseconds, in turn.
    latencies: Vec<u8>,
    volumes: &'static [usize],
    adapt: fn(&mut Options),
    /// Whether the steps are those of the offline tool.
    tool: bool,
    /// What the client is told when nothing fails.
    pub(super) told: Vec<Told>,
}

const ALL: &[usize] = &[0, 1, 2, 3, 4];

/// The key of most scenarios, and another one.
const K: usize = 0;
const OTHER: usize = 1;

/// From one scenario to the next, so that none has the oddities of another.
const TURNS: usize = 131;

const FULL: Fault = Fault::Refused(StatusCode::INSUFFICIENT_STORAGE);

impl Scenario {
    fn new(name: &'static str, when: impl Into<Vec<Step>>, told: impl Into<Vec<Told>>) -> Self {
        Self {
            name,
            turn: 0,
            given: Vec::new(),
            given_volumes: ALL,
            when: when.into(),
            beside: Vec::new(),
            latencies: Vec::new(),
            volumes: ALL,
            adapt: |_| {},
            tool: false,
            told: told.into(),
        }
    }

    fn given(self, given: impl Into<Vec<Step>>) -> Self {
        Self { given: given.into(), ..self }
    }

    /// On which volumes, before and now.
    fn on(self, given_volumes: &'static [usize], volumes: &'static [usize]) -> Self {
        Self { given_volumes, volumes, ..self }
    }

    /// What another client does at the same time, when answers take so long.
    fn beside(self, beside: impl Into<Vec<Step>>, latencies: impl Into<Vec<u8>>) -> Self {
        Self { beside: beside.into(), latencies: latencies.into(), ..self }
    }

    fn with(self, adapt: fn(&mut Options)) -> Self {
        Self { adapt, ..self }
    }

    fn by_tool(self) -> Self {
        Self { tool: true, ..self }
    }

    pub(super) fn has_one_client(&self) -> bool {
        self.beside.is_empty()
    }

    /// The case at which the scenario begins.
    pub(super) fn begin(&self) -> Case {
        let mut case = Case::new(options(self.given_volumes));
        case.let_do([self.given.clone()]);
        case.prepare();
        case.options = options(self.volumes);
        if self.tool {
            case.master = Some(case.options.clone());
            case.options.reader_grace = Duration::ZERO;
        }
        (self.adapt)(&mut case.options);
        case.world.state().gone.extend(case.options.forgotten.0.iter().cloned());
        case.world.state().latencies.clone_from(&self.latencies);
        case.let_do([self.when.clone(), self.beside.clone()]);
        case
    }
}

fn put(number: usize, shape: Shape) -> Step {
    Step::Put(K, number, shape)
}

fn ask(request: Request) -> Step {
    Step::Ask(K, request)
}

fn wait(seconds: u64) -> Step {
    Step::Wait(Duration::from_secs(seconds))
}

/// All scenarios.
pub(super) fn all() -> Vec<Scenario> {
    let mut all = puts();
    all.extend(bad_puts());
    all.extend(overwrites());
    all.extend(uploads::all());
    all.extend(deletes());
    all.extend(rebalances());
    all.extend(left_overs());
    all.extend(tools());
    all.extend(sick());
    for (scenario, turn) in all.iter_mut().zip((0..).step_by(TURNS)) {
        scenario.turn = turn;
    }
    all
}

fn overwrites() -> Vec<Scenario> {
    use Shape::{Chunked, Pieces, Whole};
    use Told::{Changed, Done, Exists, NotFound, Value};
    let write = |number, shape, over| Step::Write(K, number, shape, over);
    let whole = |number, over| write(number, Whole, over);
    vec![
        Scenario::new(
            "a PUT over nothing, and a read",
            [whole(1, Over::Anything), ask(Request::Read)],
            [Done, Value(1)],
        ),
        Scenario::new("a PUT over a value", [whole(2, Over::Anything), ask(Request::Read)], [Done, Value(2)])
            .given([put(1, Whole)]),
        Scenario::new("a PUT of many pieces over a value", [write(2, Pieces, Over::Anything)], [Done])
            .given([put(1, Whole)]),
        Scenario::new(
            "a PUT over a value, no grace for readers",
            [write(2, Chunked, Over::Anything)],
            [Done],
        )
        .given([put(1, Whole)])
        .with(|options| options.reader_grace = Duration::ZERO),
        Scenario::new(
            "PUTs of what must not exist",
            [whole(1, Over::Nothing), whole(2, Over::Nothing)],
            [Done, Exists],
        ),
        Scenario::new(
            "PUTs over a value that is expected",
            [whole(2, Over::Value(1)), whole(3, Over::Value(1)), ask(Request::Read)],
            [Done, Changed, Value(2)],
        )
        .given([put(1, Whole)]),
        Scenario::new("a PUT over a value that isn't there", [whole(2, Over::Value(1))], [NotFound]),
        Scenario::new(
            "a PUT over a value, and over an unlinked one",
            [whole(2, Over::Anything), ask(Request::Unlink), whole(3, Over::Anything), ask(Request::Remove)],
            [Done, Done, Done, Done],
        )
        .given([put(1, Whole)]),
    ]
}

fn puts() -> Vec<Scenario> {
    use Shape::{Chunked, Pieces, Whole};
    use Told::{Done, Value};
    vec![
        Scenario::new("PUT of one piece", [put(1, Whole)], [Done]),
        Scenario::new("PUT of many pieces", [put(1, Pieces)], [Done]),
        Scenario::new("PUT of a length that isn't announced", [put(1, Chunked)], [Done]),
        Scenario::new("PUT where plain names are off", [put(1, Whole)], [Done])
            .with(|options| options.generation_names = true),
        Scenario::new(
            "PUT over an unlinked value, and GET",
            [put(2, Whole), ask(Request::Get)],
            [Done, Value(2)],
        )
        .given([put(1, Whole), ask(Request::Unlink)]),
        Scenario::new("PUT over an unlinked value, no grace for readers", [put(2, Pieces)], [Done])
            .given([put(1, Whole), ask(Request::Unlink)])
            .with(|options| options.reader_grace = Duration::ZERO),
        Scenario::new(
            "PUT after a DELETE in doubt",
            [
                Step::Next(Kind::Delete, 0, Fault::Unanswered(Landing::Last)),
                ask(Request::Delete),
                put(2, Whole),
            ],
            [Done, Done],
        )
        .given([put(1, Whole)]),
        Scenario::new(
            "PUT of one piece with a volume down",
            [Step::Down(0), put(1, Whole), wait(20), Step::Up(0)],
            [Done],
        ),
        Scenario::new(
            "PUT of many pieces with a volume down",
            [Step::Down(1), put(1, Pieces), Step::Up(1)],
            [Done],
        ),
        Scenario::new("PUT with a full volume", [Step::Full(2), put(1, Pieces)], [Done]),
        Scenario::new(
            "PUT of many pieces, a volume fails midway and is made good",
            [Step::Next(Kind::Take, 1, Fault::Unanswered(Landing::Never)), put(1, Pieces)],
            [Done],
        ),
        Scenario::new(
            "PUT of one piece, two volumes lose the answer",
            [
                Step::Next(Kind::Stored, 0, Fault::Unanswered(Landing::Now)),
                Step::Next(Kind::Stored, 2, Fault::Unanswered(Landing::Last)),
                put(1, Whole),
            ],
            [Done],
        ),
        Scenario::new(
            "PUT of many pieces, a volume loses the answer and the next in rank is full",
            [Step::Full(3), Step::Next(Kind::Stored, 2, Fault::Unanswered(Landing::Last)), put(1, Chunked)],
            [Done],
        ),
        Scenario::new(
            "PUT of many pieces, a volume answers too early",
            [Step::Next(Kind::Take, 0, Fault::Early), put(1, Pieces)],
            [Done],
        ),
    ]
}

fn bad_puts() -> Vec<Scenario> {
    use Shape::{BreaksOff, BreaksOffAtEnd, Chunked, Empty, Idle, Long, Pieces, Short, Whole, WrongMd5};
    use Told::{Done, Exists, Refused};
    vec![
        Scenario::new("PUT whose client breaks off", [put(1, BreaksOff)], [Refused]),
        Scenario::new(
            "PUT whose client breaks off at the end, and again",
            [put(1, BreaksOffAtEnd), put(2, Whole)],
            [Refused, Done],
        ),
        Scenario::new("PUT whose client stalls", [put(1, Idle)], [Refused]),
        Scenario::new("PUT shorter than announced", [put(1, Short)], [Refused]),
        Scenario::new("PUT longer than announced", [put(1, Long)], [Refused]),
        Scenario::new("PUT with a wrong MD5, and again", [put(1, WrongMd5), put(2, Whole)], [Refused, Done]),
        Scenario::new("PUT of nothing", [put(1, Empty)], [Refused]),
        Scenario::new("PUT of a key that exists", [put(2, Whole)], [Exists]).given([put(1, Whole)]),
        Scenario::new(
            "PUT with too few volumes, and again",
            [Step::Down(2), put(1, Pieces), Step::Up(2), wait(10), put(2, Chunked)],
            [Refused, Done],
        )
        .on(&[0, 1, 2], &[0, 1, 2]),
        Scenario::new(
            "PUT with too little room",
            [Step::Next(Kind::Stored, 1, FULL), put(1, Whole), put(2, Whole)],
            [Refused, Done],
        )
        .on(&[0, 1, 2], &[0, 1, 2]),
        Scenario::new(
            "PUT over an unlinked value that fails",
            [put(2, BreaksOff), ask(Request::Relink), ask(Request::Get)],
            [Refused, Done, Told::Value(1)],
        )
        .given([put(1, Whole), ask(Request::Unlink)]),
    ]
}

fn deletes() -> Vec<Scenario> {
    use Told::{Done, NotFound, Value};
    vec![
        Scenario::new("DELETE", [ask(Request::Delete)], [Done]).given([put(1, Shape::Whole)]),
        Scenario::new("DELETE, and PUT", [ask(Request::Delete), put(2, Shape::Whole)], [Done, Done])
            .given([put(1, Shape::Whole)]),
        Scenario::new(
            "DELETE with a volume down that comes back",
            [Step::Down(1), ask(Request::Delete), wait(90), Step::Up(1)],
            [Done],
        )
        .given([put(1, Shape::Whole)]),
        Scenario::new(
            "DELETE with a volume that breaks, and PUT",
            [
                Step::Next(Kind::Delete, 1, Fault::Refused(StatusCode::INTERNAL_SERVER_ERROR)),
                ask(Request::Delete),
                put(2, Shape::Whole),
            ],
            [Done, Done],
        )
        .given([put(1, Shape::Whole)]),
        Scenario::new("DELETE of nothing", [ask(Request::Delete)], [NotFound]),
        Scenario::new(
            "UNLINK, RELINK, GET",
            [ask(Request::Unlink), ask(Request::Relink), ask(Request::Get)],
            [Done, Done, Value(1)],
        )
        .given([put(1, Shape::Whole)]),
        Scenario::new(
            "UNLINK and DELETE under --protect",
            [ask(Request::Delete), ask(Request::Unlink), ask(Request::Delete)],
            [Told::Refused, Done, Done],
        )
        .given([put(1, Shape::Whole)])
        .with(|options| options.protect = true),
    ]
}

fn rebalances() -> Vec<Scenario> {
    use Told::{Done, Refused, Value};
    let rebalance = || [ask(Request::Rebalance)];
    vec![
        Scenario::new("REBALANCE of what lies well", rebalance(), [Done]).given([put(1, Shape::Whole)]),
        Scenario::new(
            "REBALANCE to another volume, and GET",
            [ask(Request::Rebalance), ask(Request::Get)],
            [Done, Value(1)],
        )
        .given([put(1, Shape::Whole), Step::Dress])
        .on(&[0, 2, 3], ALL),
        Scenario::new("REBALANCE to two other volumes, no grace for readers", rebalance(), [Done])
            .given([put(1, Shape::Whole), Step::Dress, ask(Request::Unlink)])
            .on(&[0, 3, 4], ALL)
            .with(|options| options.reader_grace = Duration::ZERO),
        Scenario::new("REBALANCE back to a volume where a deletion is in doubt", rebalance(), [Done])
            .given([
                Step::Down(0),
                put(1, Shape::Whole),
                Step::Up(0),
                wait(10),
                ask(Request::Rebalance),
                Step::Next(Kind::Delete, 3, Fault::Unanswered(Landing::Last)),
                wait(61),
            ])
            .on(ALL, &[1, 2, 3, 4]),
        Scenario::new(
            "REBALANCE where the plain name is burnt",
            [
                Step::Next(Kind::Stored, 0, Fault::Unanswered(Landing::Last)),
                put(1, Shape::Whole),
                ask(Request::Rebalance),
            ],
            [Done, Done],
        ),
        Scenario::new("REBALANCE of a torn replica", rebalance(), [Done]).given([
            put(1, Shape::Whole),
            Step::Dress,
            Step::Tear(0),
        ]),
        Scenario::new("REBALANCE of a stale replica", rebalance(), [Done])
            .given([put(1, Shape::Whole), Step::Outdate(2)]),
        Scenario::new("REBALANCE of a missing replica", rebalance(), [Done])
            .given([put(1, Shape::Whole), Step::Lose(1)])
            .with(|options| options.reader_grace = Duration::ZERO),
        Scenario::new("REBALANCE from a rotten replica", rebalance(), [Done])
            .given([put(1, Shape::Whole), Step::Rot(2)])
            .on(&[2, 3, 4], &[0, 1, 3, 4]),
        Scenario::new("REBALANCE of minikeyvalue's record, one replica torn", rebalance(), [Done])
            .given([put(1, Shape::Whole), Step::Age, Step::Tear(1)])
            .on(&[1, 2, 3], ALL),
        Scenario::new("REBALANCE to a full volume", [Step::Full(0), ask(Request::Rebalance)], [Refused])
            .given([put(1, Shape::Pieces)])
            .on(&[1, 2, 3], ALL),
        Scenario::new(
            "REBALANCE, the target loses the answer, and DELETE",
            [
                Step::Next(Kind::Stored, 0, Fault::Unanswered(Landing::Last)),
                ask(Request::Rebalance),
                ask(Request::Delete),
                put(2, Shape::Whole),
            ],
            [Refused, Done, Done],
        )
        .given([put(1, Shape::Whole)])
        .on(&[1, 2, 3], ALL),
    ]
}

/// What a store finds that comes after one which was stopped.
fn left_overs() -> Vec<Scenario> {
    use Fault::{StopAfter, Unanswered};
    use Landing::{Last, Never, Soon};
    let put_other = |number, shape| Step::Put(OTHER, number, shape);
    vec![
        Scenario::new("start-up after a PUT was cut off", [], [])
            .given([Step::Next(Kind::Stored, 1, StopAfter(Last)), put(1, Shape::Whole)]),
        Scenario::new("start-up after a DELETE was cut off", [], []).given([
            put(1, Shape::Whole),
            Step::Next(Kind::Delete, 1, StopAfter(Soon)),
            ask(Request::Delete),
        ]),
        Scenario::new(
            "start-up over intents of all kinds, PUT and DELETE",
            [ask(Request::Delete), put(4, Shape::Whole), Step::Ask(OTHER, Request::Delete)],
            [Told::NotFound, Told::Done, Told::Done],
        )
        .given([
            // a surplus that waits for its readers, …
            put_other(1, Shape::Whole),
            Step::Ask(OTHER, Request::Unlink),
            put_other(2, Shape::Whole),
            // … a deletion in doubt, …
            put(1, Shape::Whole),
            Step::Next(Kind::Delete, 1, Unanswered(Last)),
            ask(Request::Delete),
            // … an attempt that failed, …
            Step::Next(Kind::Take, 0, Unanswered(Never)),
            put(2, Shape::BreaksOff),
            // … and one that was cut off
            Step::Next(Kind::Stored, 2, StopAfter(Last)),
            put(3, Shape::Pieces),
        ]),
        Scenario::new(
            "the reaper's queue overflows, and its scan finds a PUT that is under way",
            [wait(QUARANTINE.as_secs() - 10), put(1, Shape::Slow)],
            [Told::Done],
        )
        .given(
            (0..4)
                .flat_map(|number| {
                    let in_doubt = Step::Next(Kind::Delete, 0, Unanswered(Never));
                    [put_other(number, Shape::Whole), in_doubt, Step::Ask(OTHER, Request::Delete)]
                })
                .collect::<Vec<Step>>(),
        )
        .on(&[0, 1, 2], &[0, 1, 2]),
        Scenario::new(
            "the reaper with a volume down for longer than a quarantine",
            [wait(20 * 60), Step::Up(1), wait(10), put(2, Shape::Whole)],
            [Told::Done],
        )
        .given([Step::Next(Kind::Stored, 2, StopAfter(Last)), put(1, Shape::Whole), Step::Down(1)]),
    ]
}

/// What `davkv-rebalance` does, which runs no reaper; the master comes after it.
fn tools() -> Vec<Scenario> {
    use Fault::StopAfter;
    use Landing::{Last, Soon};
    use Told::Done;
    let round = || [Step::Forget, Step::PlanRebalance(K), ask(Request::Rebalance), Step::ReapOnce];
    vec![
        Scenario::new("tool: rebalance to another volume", round(), [Done])
            .given([put(1, Shape::Whole), Step::Dress])
            .on(&[0, 2, 3], ALL)
            .by_tool(),
        Scenario::new("tool: rebalance of a torn replica, over left intents", round(), [Done])
            .given([
                put(1, Shape::Whole),
                ask(Request::Unlink),
                Step::Next(Kind::Stored, 0, StopAfter(Soon)),
                put(2, Shape::Whole),
                Step::Tear(1),
            ])
            .by_tool(),
        Scenario::new("tool: one round of reaping", [Step::ReapOnce], [])
            .given([
                Step::Next(Kind::Stored, 1, StopAfter(Last)),
                put(1, Shape::Whole),
                Step::Next(Kind::Delete, 0, StopAfter(Soon)),
                Step::Put(OTHER, 2, Shape::Whole),
                Step::Ask(OTHER, Request::Delete),
            ])
            .by_tool(),
        Scenario::new("tool: forget a volume that holds a replica and files of intents", round(), [Done])
            .given([
                Step::Put(OTHER, 1, Shape::Whole),
                put(2, Shape::Whole),
                Step::Down(1),
                Step::Ask(OTHER, Request::Delete),
            ])
            .on(ALL, &[0, 2, 3, 4])
            .with(|options| options.forgotten.0.push(VOLUMES[1].clone()))
            .by_tool(),
    ]
}

/// What a volume does that fails for files and passes its probe: it goes down and comes back, again and again.
fn sick() -> Vec<Scenario> {
    use Told::{Done, Value};
    let sick_for = |rank, step| [Step::Sicken(rank), step, wait(2), Step::Heal(rank), wait(60)];
    let mut all = vec![
        Scenario::new(
            "PUT with a volume that only passes its probe",
            sick_for(1, put(1, Shape::Whole)),
            [Done],
        ),
        Scenario::new(
            "DELETE with a volume that only passes its probe",
            sick_for(1, ask(Request::Delete)),
            [Done],
        )
        .given([put(1, Shape::Whole)]),
        Scenario::new(
            "a read with a volume that only passes its probe",
            sick_for(0, ask(Request::Read)),
            [Value(1)],
        )
        .given([put(1, Shape::Whole)]),
    ];
    for scenario in &mut all {
        // else it would do so in no time
        scenario.latencies = vec![20];
    }
    all
}
