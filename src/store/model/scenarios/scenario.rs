//! One thing that is tried, call by call.

use std::time::Duration;

use hyper::StatusCode;

use crate::identity::Known;
use crate::index::facts::Fact;
use crate::store::Options;
use crate::store::model::case::Case;
use crate::store::model::fault::Fault;
use crate::store::model::setup::options;
use crate::store::model::step::{Shape, Step};
use crate::store::model::terms::{Request, Told};
use crate::store::model::world::{Looks, State};

/// Steps of one client, of which every call shall fail, or be the last.
pub(in super::super) struct Scenario {
    pub(in super::super) name: &'static str,
    /// Which of the network's oddities befall its calls (see [`Kind::faults`]).
    pub(in super::super) turn: usize,
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
    /// How often markers are looked at.
    looks: Looks,
    /// Whether all that the store asks of volumes when it starts are calls.
    counts_looks: bool,
    /// What the client is told when nothing fails.
    pub(in super::super) told: Vec<Told>,
}

pub(super) const ALL: &[usize] = &[0, 1, 2, 3, 4];

/// The key of most scenarios, and another one.
pub(super) const K: usize = 0;
pub(super) const OTHER: usize = 1;

pub(super) const FULL: Fault = Fault::Refused(StatusCode::INSUFFICIENT_STORAGE);

impl Scenario {
    pub(super) fn new(name: &'static str, when: impl Into<Vec<Step>>, told: impl Into<Vec<Told>>) -> Self {
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
            looks: Looks::Never,
            counts_looks: false,
            told: told.into(),
        }
    }

    pub(super) fn given(self, given: impl Into<Vec<Step>>) -> Self {
        Self { given: given.into(), ..self }
    }

    /// On which volumes, before and now.
    pub(super) fn on(self, given_volumes: &'static [usize], volumes: &'static [usize]) -> Self {
        Self { given_volumes, volumes, ..self }
    }

    /// What another client does at the same time, when answers take so long.
    pub(super) fn beside(self, beside: impl Into<Vec<Step>>, latencies: impl Into<Vec<u8>>) -> Self {
        Self { beside: beside.into(), latencies: latencies.into(), ..self }
    }

    pub(super) fn with(self, adapt: fn(&mut Options)) -> Self {
        Self { adapt, ..self }
    }

    pub(super) fn by_tool(self) -> Self {
        Self { tool: true, ..self }
    }

    /// In which disks aren't where they belong, or may not be: volumes take part only while verified. (The others go
    /// without that, which saves most of their time.)
    pub(super) fn with_disks(self) -> Self {
        Self { looks: if self.looks == Looks::Never { Looks::Rarely } else { self.looks }, ..self }
    }

    /// From the store's first question to its volumes on.
    pub(super) fn counting_its_start(self) -> Self {
        Self { counts_looks: true, ..self }
    }

    /// In which a disk may vanish, so that somebody has to notice it.
    pub(super) fn looking_often(self) -> Self {
        Self { looks: Looks::Often, ..self }
    }

    /// Whether volumes are taken as they are.
    pub(in super::super) fn has_no_markers(&self) -> bool {
        self.looks == Looks::Never
    }

    pub(in super::super) fn has_one_client(&self) -> bool {
        self.beside.is_empty()
    }

    /// The case at which the scenario begins.
    pub(in super::super) fn begin(&self) -> Case {
        self.begin_with(if self.looks == Looks::Often { Looks::Rarely } else { self.looks })
    }

    /// The same, looking so often at the volumes' markers.
    pub(in super::super) fn begin_with(&self, looks: Looks) -> Case {
        let mut case = Case::new(options(self.given_volumes), looks);
        case.let_do([self.given.clone()]);
        case.prepare();
        case.options = options(self.volumes);
        if self.tool {
            case.master = Some(case.options.clone());
            case.options.reader_grace = Duration::ZERO;
        }
        (self.adapt)(&mut case.options);
        case.options.replaced.extend(replaced(&case.world.state()));
        case.world.state().gone.extend(case.options.forgotten.0.iter().cloned());
        case.world.state().latencies.clone_from(&self.latencies);
        case.world.state().counts_looks = self.counts_looks;
        if self.looks == Looks::Often {
            case.world.state().looks = Looks::Often;
        }
        case.let_do([self.when.clone(), self.beside.clone()]);
        case
    }
}

/// What the operator says of disks that were lost.
fn replaced(world: &State) -> impl Iterator<Item = String> {
    world.disks.replaced.iter().map(|volume| {
        let known = Known::decode(&world.index.facts[&Fact::Volume(volume.clone()).row()]).unwrap();
        format!("{volume}/{}", known.volume)
    })
}

pub(super) fn put(number: usize, shape: Shape) -> Step {
    Step::Put(K, number, shape)
}

pub(super) fn ask(request: Request) -> Step {
    Step::Ask(K, request)
}

pub(super) fn wait(seconds: u64) -> Step {
    Step::Wait(Duration::from_secs(seconds))
}
