//! Uploads in parts.

use std::time::Duration;

use super::scenario::{ALL, K, OTHER, Scenario, ask, put, wait};
use crate::store::model::fault::{Fault, Kind, Landing};
use crate::store::model::setup::SWEEP_EVERY;
use crate::store::model::step::{Shape, Step};
use crate::store::model::terms::{Over, Request, Told};

/// The upload of most scenarios.
const U: usize = 1;

fn part(number: u16, of: usize, shape: Shape) -> Step {
    Step::Part(U, number, of, shape)
}

fn complete() -> Step {
    Step::Complete(U, Over::Anything)
}

/// An upload of all parts of that value.
fn uploaded(of: usize) -> [Step; 3] {
    [Step::Begin(K, U), part(1, of, Shape::Whole), part(2, of, Shape::Pieces)]
}

fn read() -> Step {
    ask(Request::Read)
}

/// An upload of all parts of a value to a key that holds another.
fn over_a_value() -> Vec<Step> {
    std::iter::once(put(9, Shape::Whole)).chain(uploaded(1)).collect()
}

pub(super) fn all() -> Vec<Scenario> {
    let mut all = completions();
    all.extend(ends());
    all.extend(failures());
    all.extend(sweeps());
    all.extend(at_once());
    all
}

fn completions() -> Vec<Scenario> {
    use Shape::{BreaksOff, Whole};
    use Told::{Changed, Done, Exists, NotFound, Refused, Value};
    vec![
        Scenario::new("an upload in parts, and a read", [complete(), read()], [Done, Value(1)])
            .given(uploaded(1)),
        Scenario::new(
            "an upload in parts from its beginning",
            uploaded(1).into_iter().chain([complete()]).collect::<Vec<_>>(),
            [Done, Done, Done, Done],
        ),
        Scenario::new("a completion over a value", [complete(), read()], [Done, Value(1)])
            .given(over_a_value()),
        Scenario::new("a completion over a value, no grace for readers", [complete()], [Done])
            .given(over_a_value())
            .with(|options| options.reader_grace = Duration::ZERO),
        Scenario::new(
            "a completion over a value that is expected",
            [Step::Complete(U, Over::Value(8)), Step::Complete(U, Over::Value(9)), read()],
            [Changed, Done, Value(1)],
        )
        .given(over_a_value()),
        Scenario::new(
            "a completion of what must not exist, and over what isn't there",
            [Step::Complete(U, Over::Nothing), ask(Request::Remove), Step::Complete(U, Over::Value(9))],
            [Exists, Done, NotFound],
        )
        .given(over_a_value()),
        Scenario::new(
            "parts that are put again, under --protect",
            [part(2, 1, Whole), part(1, 1, BreaksOff), complete(), read()],
            [Done, Refused, Done, Value(1)],
        )
        .given([Step::Begin(K, U), part(1, 1, Whole), part(2, 2, Whole)])
        .with(|options| options.protect = true),
        Scenario::new(
            "a completion over a protected value",
            [complete(), read(), Step::Abort(U)],
            [Refused, Value(9), Done],
        )
        .given(over_a_value())
        .with(|options| options.protect = true),
    ]
}

/// An upload ends once.
fn ends() -> Vec<Scenario> {
    use Shape::Whole;
    use Told::{Done, NoUpload, Value};
    vec![
        Scenario::new(
            "an upload that is aborted, and what comes too late",
            [Step::Abort(U), part(1, 1, Whole), complete(), Step::Abort(U)],
            [Done, NoUpload, NoUpload, NoUpload],
        )
        .given(uploaded(1)),
        Scenario::new(
            "an upload that is completed, and what comes too late",
            [complete(), part(1, 1, Whole), complete(), Step::Abort(U), read()],
            [Done, NoUpload, NoUpload, NoUpload, Value(1)],
        )
        .given(uploaded(1)),
    ]
}

fn failures() -> Vec<Scenario> {
    use Fault::Unanswered;
    use Landing::Never;
    use Told::{Done, Refused, Value};
    vec![
        Scenario::new(
            "a completion, a volume that takes it fails midway",
            [Step::Next(Kind::Take, 1, Unanswered(Never)), complete(), read()],
            [Done, Value(1)],
        )
        .given(over_a_value()),
        Scenario::new(
            "a completion, a volume that has parts fails midway",
            [Step::Next(Kind::Read, 0, Unanswered(Never)), complete(), read()],
            [Done, Value(1)],
        )
        .given(uploaded(1))
        .on(&[0, 1, 2], &[0, 1, 2]),
        Scenario::new(
            "a completion whose parts can't be read, and again",
            [
                Step::Down(0),
                Step::Down(1),
                Step::Down(2),
                complete(),
                Step::Up(0),
                Step::Up(1),
                Step::Up(2),
                wait(10),
                complete(),
            ],
            [Refused, Done],
        )
        .given(uploaded(1))
        .on(&[0, 1, 2], ALL),
    ]
}

/// What a look at all uploads finds.
fn sweeps() -> Vec<Scenario> {
    use Fault::StopAfter;
    use Landing::{Last, Soon};
    use Shape::{Slow, Whole};
    use Told::Done;
    vec![
        Scenario::new("an upload that has expired", [Step::Expire(U), wait(SWEEP_EVERY.as_secs())], [])
            .given(over_a_value()),
        Scenario::new(
            "start-up after a completion was cut off, and other uploads",
            [Step::Complete(2, Over::Anything)],
            [Done],
        )
        .given([
            Step::Begin(OTHER, 2),
            Step::Part(2, 1, 2, Whole),
            Step::Part(2, 2, 2, Whole),
            Step::Begin(K, 3),
            Step::Part(3, 1, 3, Whole),
            Step::Begin(K, U),
            part(1, 1, Whole),
            part(2, 1, Whole),
            Step::Next(Kind::Delete, 0, StopAfter(Soon)),
            complete(),
            wait(1),
        ]),
        Scenario::new("start-up after a part was cut off, and abort", [Step::Abort(U)], [Done]).given([
            Step::Begin(K, U),
            part(1, 1, Whole),
            Step::Next(Kind::Stored, 1, StopAfter(Last)),
            part(2, 1, Whole),
        ]),
        Scenario::new(
            "an upload that begins when all are looked at",
            [
                wait(SWEEP_EVERY.as_secs() - 10),
                Step::Begin(K, U),
                part(1, 1, Slow),
                part(2, 1, Slow),
                complete(),
            ],
            [Done, Done, Done, Done],
        ),
        Scenario::new(
            "an upload that begins between the looks at parts and at notes",
            // each look takes 50 ms, and the first two delay the others
            [
                Step::Wait(SWEEP_EVERY + Duration::from_millis(155)),
                Step::Begin(K, U),
                part(1, 1, Whole),
                wait(1),
            ],
            [Done, Done],
        )
        .beside([], [1]),
    ]
}

fn at_once() -> Vec<Scenario> {
    use Shape::{Pieces, Slow, Whole};
    use Told::{Done, NoUpload, Refused};
    const LATENCIES: [u8; 1] = [2];
    let after = |millis| Step::Wait(Duration::from_millis(millis));
    let over_it = |over| Step::Write(K, 2, Whole, over);
    vec![
        Scenario::new("two completions at once", [complete()], [Done, NoUpload])
            .beside([complete()], LATENCIES)
            .given(over_a_value()),
        Scenario::new("a listing of parts, and an abort in the middle of it", [complete()], [Done, NoUpload])
            .beside([after(150), Step::Abort(U)], LATENCIES)
            .given(over_a_value()),
        Scenario::new("a completion, and an abort in the middle of it", [complete()], [Done, NoUpload])
            .beside([after(200), Step::Abort(U)], LATENCIES)
            .given(over_a_value()),
        Scenario::new("a completion, and an abort just before its batch", [complete()], [Done, NoUpload])
            .beside([after(217), Step::Abort(U)], LATENCIES)
            .given(over_a_value()),
        Scenario::new("a part, and an abort just before its batch", [part(2, 1, Whole)], [Done, NoUpload])
            .beside([after(5), Step::Abort(U)], LATENCIES)
            .given(uploaded(1)),
        Scenario::new("a completion, and an abort that is too late", [complete()], [Done, NoUpload])
            .beside([after(260), Step::Abort(U)], LATENCIES)
            .given(over_a_value()),
        Scenario::new("a part, and an abort in the middle of it", [part(2, 1, Slow)], [Done, NoUpload])
            .beside([wait(7), Step::Abort(U)], LATENCIES)
            .given([Step::Begin(K, U), part(1, 1, Whole)]),
        Scenario::new("a part that is put again in the middle of a completion", [complete()], [Done, Done])
            .beside([after(200), part(2, 1, Pieces)], LATENCIES)
            .given(over_a_value()),
        // which is not the part any more that was listed
        Scenario::new("a part that is put again before a completion reads it", [complete()], [Done, Refused])
            .beside([after(190), part(2, 1, Pieces)], LATENCIES)
            .given(over_a_value()),
        Scenario::new(
            "a part of an upload that is completed meanwhile",
            [part(2, 1, Slow)],
            [Done, NoUpload],
        )
        .beside([wait(7), complete()], LATENCIES)
        .given(over_a_value()),
        Scenario::new("a completion, and a PUT that overtakes it", [complete()], [Done, Done, Done])
            .beside([after(201), over_it(Over::Anything), part(2, 1, Whole)], LATENCIES)
            .given(over_a_value()),
        Scenario::new("a completion, and a conditional PUT that ends first", [complete()], [Done, Refused])
            .beside([after(201), over_it(Over::Value(9))], LATENCIES)
            .given(over_a_value()),
        Scenario::new("a completion and a removal", [complete()], [Done, Done])
            .beside([after(200), ask(Request::Remove)], LATENCIES)
            .given(over_a_value()),
    ]
}
