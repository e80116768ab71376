//! Every call of every scenario fails in every way, and is the last one.
//!
//! Where no disk can be touched the volumes have no markers, since the looks at them take most of the time. Of what can
//! befall the calls of these scenarios, a sample is tried again with markers.

use std::sync::Mutex;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use super::case::Case;
use super::fault::{Fate, Fault, Kind};
use super::scenarios::{self, Scenario};
use super::world::{Call, Looks, Script};

/// How many failures are shown.
const SHOWN: usize = 5;

/// Of the crashes during the recovery from a crash, each so many-th is tried, unless `MODEL_EVERY` says
/// otherwise: all take some minutes.
const EVERY: usize = 200;

/// `MODEL_ONLY` has only those scenarios tried whose names contain it.
///
/// Fewer than these aren't all. (They change with the scenarios, and with what a call is.)
const LEAST: Tried = Tried { calls: 5_400, stops: 9_100, faults: 20_500, second_stops: (780_000, 3_800) };

/// Of all that can befall the calls, each so many-th is tried with markers, unless `MODEL_MARKED` says otherwise (1 is
/// all). A prime, so that it isn't in step with the calls.
const MARKED_EVERY: usize = 7;

/// In each so many-th scenario, these markers are looked at as often as outside of the model while clients do something.
const OFTEN_EVERY: usize = 5;

/// As [`LEAST`], of the sample with markers, whichever it is.
const LEAST_MARKED: Tried = Tried { calls: 6_000, stops: 1_250, faults: 2_900, second_stops: (110_000, 500) };

#[derive(Clone, Copy, Default)]
struct Tried {
    calls: usize,
    stops: usize,
    faults: usize,
    /// Crashes during the recovery from one: those that there are, and those that were tried.
    second_stops: (usize, usize),
}

/// All that can befall the call of that number.
fn faults_at(scenario: &Scenario, calls: &[Call], number: usize) -> Vec<Fault> {
    let call = &calls[number];
    let mut faults = call.kind.faults(scenario.turn + number);
    let later = calls[number + 1..].iter().filter(|later| later.volume == call.volume);
    let of_body = later.take_while(|later| !matches!(later.kind, Kind::Put | Kind::Stored));
    let ahead = of_body.filter(|later| later.kind == Kind::Take).count();
    // of two clients, the pieces may be the other's
    if call.kind == Kind::Take && ahead > 0 && scenario.has_one_client() {
        faults.push(Fault::Early);
    }
    faults
}

fn script(number: usize, fault: Fault) -> Script {
    Script::from([(number, Fate::Exactly(fault))])
}

/// What went wrong in a case, if anything did.
fn report(scenario: &Scenario, what: &str, case: Case) -> Option<String> {
    let wrong = case.audit();
    (!wrong.is_empty()).then(|| format!("{}: {what}:\n    {}", scenario.name, wrong.join("\n    ")))
}

/// Which of all that can befall the calls of a scenario is tried.
#[derive(Clone, Copy)]
struct Sample {
    /// Each so many-th, …
    every: usize,
    /// … after so many.
    passed: usize,
}

impl Sample {
    const ALL: Self = Self { every: 1, passed: 0 };

    /// Whether the next one is tried.
    fn has_next(&mut self) -> bool {
        self.passed += 1;
        self.passed.is_multiple_of(self.every)
    }
}

/// Tries what the sample has of all that can befall the scenario's calls, from that case on.
fn try_from(scenario: &Scenario, given: &Case, mut sample: Sample, failures: &mut Vec<String>) -> Tried {
    let mut calm = given.clone();
    let runs = calm.run([]);
    assert_eq!(calm.told(), scenario.told, "{}: what the client is told when nothing fails", scenario.name);
    failures.extend(report(scenario, "without a fault", calm));
    let calls = &runs[0];
    let mut tried = Tried { calls: calls.len(), ..Tried::default() };
    for number in 0..calls.len() {
        let faults = faults_at(scenario, calls, number).into_iter();
        for fault in faults.filter(|_| sample.has_next()) {
            let mut case = given.clone();
            let runs = case.run([script(number, fault)]);
            let upto = ..=number;
            assert_eq!(runs[0][upto], calls[upto], "{}: a run isn't repeated", scenario.name);
            let what = format!("call {number}, {:?}, {fault:?}", calls[number]);
            if fault.is_harmless() && scenario.has_one_client() && case.told() != scenario.told {
                let told = case.told();
                failures.push(format!("{}: {what}: the client is told {told:?}", scenario.name));
            }
            failures.extend(report(scenario, &what, case));
            if fault.is_stop() {
                tried.stops += 1;
                try_again(scenario, given, (number, fault), &runs[1], &mut tried, failures);
            } else {
                tried.faults += 1;
            }
        }
    }
    tried
}

/// The store that comes after one which was stopped is stopped as well.
fn try_again(
    scenario: &Scenario,
    given: &Case,
    first: (usize, Fault),
    calls: &[Call],
    tried: &mut Tried,
    failures: &mut Vec<String>,
) {
    let every = number("MODEL_EVERY").unwrap_or(EVERY);
    for number in 0..calls.len() {
        for fault in faults_at(scenario, calls, number).into_iter().filter(|fault| fault.is_stop()) {
            let (there_are, tried) = (&mut tried.second_stops.0, &mut tried.second_stops.1);
            *there_are += 1;
            if *there_are % every == 0 {
                *tried += 1;
                let mut case = given.clone();
                case.run([script(first.0, first.1), script(number, fault)]);
                let what = format!("{first:?}, then call {number}, {:?}, {fault:?}", calls[number]);
                failures.extend(report(scenario, &what, case));
            }
        }
    }
}

#[test]
fn every_call_may_fail_in_every_way_or_be_the_last() {
    let try_all = |scenario: &Scenario, failures: &mut _| {
        let tried = try_from(scenario, &scenario.begin(), Sample::ALL, failures);
        assert!(tried.calls > 0 && tried.stops >= tried.calls, "{}: too little was tried", scenario.name);
        tried
    };
    try_each(scenarios::all(), try_all, LEAST);
}

/// Each run of the test has another sample, so that in time all is tried. It prints its turn, by which it can be repeated
/// with `MODEL_TURN`.
#[test]
#[allow(clippy::print_stdout, reason = "as below")]
fn every_so_many_th_does_so_where_volumes_have_markers() {
    let every = number("MODEL_MARKED").unwrap_or(MARKED_EVERY);
    let turn = number("MODEL_TURN").unwrap_or_else(|| this_second() % (every * OFTEN_EVERY));
    println!("with markers: MODEL_MARKED={every} MODEL_TURN={turn}");
    let try_some = |scenario: &Scenario, failures: &mut _| {
        let given = scenario.begin_with(Looks::Rarely);
        let passed = scenario.turn + turn;
        // the offline tool ends before it would look again
        if passed.is_multiple_of(OFTEN_EVERY) && given.master.is_none() {
            given.world.state().looks = Looks::Often;
        }
        try_from(scenario, &given, Sample { every, passed }, failures)
    };
    let scenarios = scenarios::all().into_iter().filter(Scenario::has_no_markers).collect();
    try_each(scenarios, try_some, LEAST_MARKED);
}

fn this_second() -> usize {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    usize::try_from(since.as_secs()).unwrap()
}

fn number(variable: &str) -> Option<usize> {
    std::env::var(variable).ok().map(|number| number.parse().unwrap())
}

/// Tries what is to be tried of each scenario that is wanted, and prints how much that was.
#[allow(clippy::print_stdout, reason = "how many there are is what the test is asked for")]
fn try_each(
    scenarios: Vec<Scenario>,
    try_one: impl Fn(&Scenario, &mut Vec<String>) -> Tried + Sync,
    least: Tried,
) {
    let results = Mutex::new(Vec::new());
    let only = std::env::var("MODEL_ONLY").ok();
    let is_wanted = |scenario: &Scenario| only.as_ref().is_none_or(|part| scenario.name.contains(part));
    let scenarios: Vec<_> = scenarios.into_iter().filter(is_wanted).collect();
    let scenarios = Mutex::new(scenarios.into_iter());
    let try_some = || {
        loop {
            let Some(scenario) = scenarios.lock().unwrap().next() else { return };
            let mut failures = Vec::new();
            let tried = try_one(&scenario, &mut failures);
            results.lock().unwrap().push((scenario, tried, failures));
        }
    };
    thread::scope(|threads| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            threads.spawn(try_some);
        }
    });
    let mut results = results.into_inner().unwrap();
    results.sort_by_key(|(scenario, ..)| scenario.turn);
    println!("{:80} calls crash points faults  crashes after a crash", "scenario");
    let (mut total, mut failures) = (Tried::default(), Vec::new());
    for (scenario, tried, failed) in results {
        print(scenario.name, tried);
        total = total.and(tried);
        failures.extend(failed);
    }
    print("total", total);
    let shown = failures.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n");
    assert!(failures.is_empty(), "{} of these went wrong:\n{shown}", failures.len());
    assert!(only.is_some() || total.is_no_less_than(least), "too little was tried");
}

#[allow(clippy::print_stdout, reason = "as above")]
fn print(name: &str, Tried { calls, stops, faults, second_stops: (there_are, tried) }: Tried) {
    println!("{name:80} {calls:5} {stops:12} {faults:6} {there_are:8}, {tried} tried");
}

impl Tried {
    fn is_no_less_than(self, least: Self) -> bool {
        self.calls >= least.calls
            && self.stops >= least.stops
            && self.faults >= least.faults
            && self.second_stops.0 >= least.second_stops.0
            && (self.second_stops.1 >= least.second_stops.1 || std::env::var_os("MODEL_EVERY").is_some())
    }

    fn and(self, other: Self) -> Self {
        let (there_are, tried) = other.second_stops;
        Self {
            calls: self.calls + other.calls,
            stops: self.stops + other.stops,
            faults: self.faults + other.faults,
            second_stops: (self.second_stops.0 + there_are, self.second_stops.1 + tried),
        }
    }
}
