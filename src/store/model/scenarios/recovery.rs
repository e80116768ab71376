//! A write of the index fails, and the index is opened again while clients go on.

use super::scenario::{K, OTHER, Scenario, ask, put, wait};
use crate::store::model::fault::Fault;
use crate::store::model::step::{Shape, Step};
use crate::store::model::terms::{Over, Request, Told};

pub(super) fn all() -> Vec<Scenario> {
    use Fault::{Fails, FailsButKeeps};
    use Request::{Delete, Get};
    use Told::{Done, NotFound, Nothing, Value};
    let put_other = |number| Step::Put(OTHER, number, Shape::Whole);
    let overwrite = |number, shape| Step::Write(K, number, shape, Over::Anything);
    // while a slow client's value is on its way: its next write is the one that makes the value visible
    let later = |fault| [wait(5), Step::FailNextWrite(fault)];
    vec![
        Scenario::new(
            "an intent that shows when the index is opened again",
            [Step::FailNextWrite(FailsButKeeps), put(1, Shape::Whole), wait(5), put(2, Shape::Whole)],
            [Nothing, Done],
        ),
        Scenario::new(
            "a DELETE that shows when the index is opened again",
            [
                Step::FailNextWrite(FailsButKeeps),
                ask(Delete),
                ask(Get),
                wait(5),
                ask(Get),
                put(2, Shape::Whole),
            ],
            [Nothing, Value(1), NotFound, Done],
        )
        .given([put(1, Shape::Whole)]),
        Scenario::new(
            "a value that shows when the index is opened again",
            [put(1, Shape::Slow), wait(5), ask(Get), ask(Delete)],
            [Nothing, Value(1), Done],
        )
        .beside(later(FailsButKeeps), []),
        Scenario::new(
            "a value that doesn't show when the index is opened again",
            [put(1, Shape::Slow), wait(5), ask(Get), put(2, Shape::Whole)],
            [Nothing, NotFound, Done],
        )
        .beside(later(Fails), []),
        Scenario::new(
            "an overwrite that shows when the index is opened again, and another on its way",
            [overwrite(2, Shape::Slow), wait(5), ask(Get), overwrite(3, Shape::Whole)],
            [Nothing, Value(2), Done],
        )
        .given([put(1, Shape::Whole)])
        .beside(later(FailsButKeeps), []),
        Scenario::new(
            "a PUT during which the index is opened again",
            [put(1, Shape::Slow), ask(Get)],
            [Nothing, Done, Done, Value(1)],
        )
        .beside([wait(5), Step::FailNextWrite(FailsButKeeps), put_other(2), wait(5), put_other(3)], []),
    ]
}
