//! The report: rows of figures, as a table for people and for the README, and as JSON.

use comfy_table::{Table, presets::ASCII_MARKDOWN};
use indicatif::HumanFloatCount;
use serde::{Deserialize, Serialize};

const HEAD: [&str; 9] =
    ["workload", "figure", "limit", "ratio", "CPU s", "nginx CPU s", "peak MiB", "wanted", "note"];

/// What a client has done in a round, and what that has cost.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Sample {
    /// Operations per second, or what else the unit of the row says.
    pub(crate) rate: f64,
    pub(crate) operations: f64,
    /// The rate of the limit in the same round.
    pub(crate) limit: Option<f64>,
    /// CPU seconds of the process measured, per 1,000 operations or per GiB.
    pub(crate) cpu: Option<f64>,
    /// The same of all volumes together.
    pub(crate) volumes_cpu: Option<f64>,
    /// The most MiB that were resident meanwhile.
    pub(crate) peak: Option<f64>,
}

/// One row of the table. A round makes it of one sample; [`Row::merge`] adds those of the other rounds.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Row {
    pub(crate) workload: String,
    unit: String,
    rounds: Vec<Sample>,
    /// What the limit is of.
    against: String,
    /// Medians of the rounds, and the highest of their peaks.
    figure: f64,
    limit: Option<f64>,
    ratio: Option<f64>,
    cpu: Option<f64>,
    volumes_cpu: Option<f64>,
    peak_mib: Option<f64>,
    /// The goals, and whether they are reached.
    wanted: Vec<String>,
    /// What else there is to say.
    note: String,
}

/// What the figures of a row should reach: of rates and their ratios no less, of costs no more.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Goals {
    figure: Option<f64>,
    ratio: Option<f64>,
    cpu: Option<f64>,
    peak: Option<f64>,
}

/// All rows, and the machine on which they were measured.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) version: &'static str,
    pub(crate) machine: String,
    pub(crate) rounds: u32,
    pub(crate) rows: Vec<Row>,
}

impl Sample {
    pub(crate) fn new(rate: f64, operations: f64) -> Self {
        Self { rate, operations, ..Self::default() }
    }

    /// With the CPU seconds of the process measured and of the volumes, and the peak of its memory.
    pub(crate) fn costing(self, cpu: f64, volumes_cpu: f64, peak: f64) -> Self {
        let [cpu, volumes_cpu] = [cpu, volumes_cpu].map(|seconds| Some(seconds / self.operations * 1e3));
        Self { cpu, volumes_cpu, peak: Some(peak), ..self }
    }

    /// The same in MiB per second, and CPU seconds per GiB, of operations with values of that size.
    pub(crate) fn of_values(self, mib: u32) -> Self {
        let mib = f64::from(mib);
        let per_gib = |cpu: f64| cpu / 1e3 * 1024.0 / mib;
        let (cpu, volumes_cpu) = (self.cpu.map(per_gib), self.volumes_cpu.map(per_gib));
        Self { rate: self.rate * mib, cpu, volumes_cpu, ..self }
    }

    fn ratio(&self) -> Option<f64> {
        Some(self.rate / self.limit?)
    }
}

impl Row {
    pub(crate) fn new(workload: &str, unit: &str, sample: Sample) -> Self {
        let (workload, unit) = (workload.to_owned(), unit.to_owned());
        Self { workload, unit, rounds: vec![sample], ..Self::default() }
    }

    /// With the rate of its limit, if that was measured in the same round.
    pub(crate) fn against(mut self, what: &str, limit: Option<f64>) -> Self {
        self.rounds.iter_mut().for_each(|round| round.limit = limit);
        Self { against: what.to_owned(), ..self }
    }

    /// With the rates of another build as the limits.
    pub(crate) fn against_build(mut self, other: &Self) -> Self {
        self.rounds.iter_mut().zip(&other.rounds).for_each(|(ours, other)| ours.limit = Some(other.rate));
        Self { against: "other build".to_owned(), ..self }
    }

    pub(crate) fn note(self, note: &str) -> Self {
        Self { note: note.to_owned(), ..self }
    }

    /// Adds another round.
    pub(crate) fn merge(mut self, other: Self) -> Self {
        self.rounds.extend(other.rounds);
        self
    }

    /// With the medians, once all rounds are in.
    pub(crate) fn finish(self) -> Self {
        let median = |of: fn(&Sample) -> Option<f64>| median(self.rounds.iter().filter_map(of));
        Self {
            figure: median(|round| Some(round.rate)).unwrap_or_default(),
            limit: median(|round| round.limit),
            ratio: median(Sample::ratio),
            cpu: median(|round| round.cpu),
            volumes_cpu: median(|round| round.volumes_cpu),
            peak_mib: self.rounds.iter().filter_map(|round| round.peak).reduce(f64::max),
            ..self
        }
    }

    /// Compares it with its goals. That of the ratio is about the usual limit, not about another build.
    pub(crate) fn compare(&mut self, goals: &Goals, other_build: bool) {
        let is_rate = self.unit.ends_with("/s");
        let all = [
            ("", goals.figure, Some(self.figure), is_rate),
            ("ratio ", goals.ratio.filter(|_| !other_build), self.ratio, is_rate),
            ("CPU ", goals.cpu, self.cpu, false),
            ("peak ", goals.peak, self.peak_mib, false),
        ];
        for (of, goal, value, more) in all {
            let Some(goal) = goal else { continue };
            let reached = value.is_some_and(|value| if more { value >= goal } else { value <= goal });
            let (how, mark) = (if more { '≥' } else { '≤' }, if reached { '✓' } else { '✗' });
            self.wanted.push(format!("{of}{how} {} {mark}", HumanFloatCount(goal)));
        }
    }

    fn cells(&self) -> [String; 9] {
        let ratios = || self.rounds.iter().filter_map(Sample::ratio);
        let ratio = self.ratio.map(|ratio| match (ratios().reduce(f64::min), ratios().reduce(f64::max)) {
            (Some(least), Some(most)) if ratios().count() > 1 => {
                format!("{ratio:.2} ({least:.2}–{most:.2})")
            }
            _ => format!("{ratio:.2}"),
        });
        let limit = self.limit.map(|limit| format!("{} {}", number(limit), self.against));
        let optional = |value: Option<f64>| value.map(number).unwrap_or_default();
        [
            self.workload.clone(),
            format!("{} {}", number(self.figure), self.unit),
            limit.unwrap_or_default(),
            ratio.unwrap_or_default(),
            optional(self.cpu),
            optional(self.volumes_cpu),
            optional(self.peak_mib),
            self.wanted.join(", "),
            self.note.clone(),
        ]
    }
}

impl Report {
    /// The table, which is Markdown too.
    pub(crate) fn table(&self) -> String {
        let Self { version, machine, rounds, rows } = self;
        let mut table = Table::new();
        table.load_preset(ASCII_MARKDOWN).set_header(HEAD).add_rows(rows.iter().map(Row::cells));
        format!(
            "davkv {version}; {machine}; medians of {rounds} rounds\n\n{table}\n\nCPU: user + system per \
             1,000 operations, or per GiB; the process measured, and all volumes.\n"
        )
    }
}

/// The middle one; of an even number the mean of the two in the middle.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2)?;
    let lower = values.get(values.len().saturating_sub(1) / 2)?;
    Some(f64::midpoint(*lower, *upper))
}

/// With about three significant digits, or all those before the point, and commas.
fn number(value: f64) -> String {
    let decimals = [100.0, 10.0, 1.0, 0.1].iter().filter(|bound| value < **bound).count();
    format!("{:.decimals$}", HumanFloatCount(value))
}
