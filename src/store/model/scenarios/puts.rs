//! New values, and values in the place of others.

use std::time::Duration;

use super::scenario::{FULL, K, Scenario, ask, put, wait};
use crate::store::model::fault::{Fault, Kind, Landing};
use crate::store::model::step::{Shape, Step};
use crate::store::model::terms::{Over, Request, Told};

pub(super) fn all() -> Vec<Scenario> {
    let mut all = puts();
    all.extend(bad_puts());
    all.extend(overwrites());
    all
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
