//! The report: rows of figures, as a table for people and for the README, and as JSON.

use comfy_table::{Table, presets::ASCII_MARKDOWN};
use indicatif::HumanFloatCount;
use serde::{Deserialize, Serialize};

const HEAD: [&str; 9] =
    ["workload", "figure", "limit", "ratio", "CPU s", "nginx CPU s", "peak MiB", "wanted", "note"];

/// What a client has done, and what that has cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// Operations per second, or what else the unit of the row says.
    pub(crate) rate: f64,
    pub(crate) operations: f64,
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
    /// The figure of each round.
    figures: Vec<f64>,
    figure: f64,
    /// What the limit is of, and its figures in the same rounds.
    against: String,
    limits: Vec<f64>,
    limit: Option<f64>,
    pub(crate) ratio: Option<f64>,
    /// CPU seconds per 1,000 operations, or per GiB.
    cpu: Option<f64>,
    volumes_cpu: Option<f64>,
    peak_mib: Option<f64>,
    /// The goals, and whether they are reached.
    wanted: Vec<String>,
    /// What else there is to say.
    note: String,
    #[serde(skip)]
    samples: Vec<Sample>,
    #[serde(skip)]
    pub(crate) goals: Goals,
}

/// What the figures of a row should reach: of rates and their ratios no less, of costs no more.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Goals {
    figure: Option<f64>,
    pub(crate) ratio: Option<f64>,
    cpu: Option<f64>,
    peak: Option<f64>,
}

/// All rows, and the machine on which they were measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    version: &'static str,
    pub(crate) machine: String,
    rounds: u32,
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
}

impl Row {
    pub(crate) fn new(workload: &str, unit: &str, sample: Sample) -> Self {
        let (workload, unit) = (workload.to_owned(), unit.to_owned());
        Self { workload, unit, samples: vec![sample], ..Self::default() }
    }

    /// With the figure of its limit, if that was measured in the same round.
    pub(crate) fn against(mut self, what: &str, limit: Option<f64>) -> Self {
        self.limits.extend(limit);
        self.against = limit.map(|_| what.to_owned()).unwrap_or_default();
        self
    }

    /// With the figures of another build as the limits.
    pub(crate) fn against_build(self, other: &Self) -> Self {
        let limits = other.samples.iter().map(|sample| sample.rate).collect();
        Self { against: "other build".to_owned(), limits, ..self }
    }

    pub(crate) fn note(self, note: String) -> Self {
        Self { note, ..self }
    }

    /// Adds the samples and limits of another round.
    pub(crate) fn merge(mut self, other: Self) -> Self {
        self.samples.extend(other.samples);
        self.limits.extend(other.limits);
        self
    }

    /// With the medians of all samples, once all rounds are in.
    pub(crate) fn finish(mut self) -> Self {
        self.figures = self.samples.iter().map(|sample| sample.rate).collect();
        self.figure = median(self.figures.clone()).unwrap_or_default();
        self.limit = median(self.limits.clone());
        self.ratio = median(self.ratios());
        self.cpu = median(self.samples.iter().filter_map(|sample| sample.cpu).collect());
        self.volumes_cpu = median(self.samples.iter().filter_map(|sample| sample.volumes_cpu).collect());
        self.peak_mib = self.samples.iter().filter_map(|sample| sample.peak).reduce(f64::max);
        self
    }

    /// With these goals. That of the ratio is about the usual limit, not about another build.
    pub(crate) fn with_goals(mut self, mut goals: Goals, other_build: bool) -> Self {
        goals.ratio = goals.ratio.filter(|_| !other_build);
        let all = [
            ("", goals.figure, Some(self.figure), self.is_rate()),
            ("ratio ", goals.ratio, self.ratio, self.is_rate()),
            ("CPU ", goals.cpu, self.cpu, false),
            ("peak ", goals.peak, self.peak_mib, false),
        ];
        for (of, goal, value, more) in all {
            let Some(goal) = goal else { continue };
            let reached = value.is_some_and(|value| if more { value >= goal } else { value <= goal });
            let (how, mark) = (if more { '≥' } else { '≤' }, if reached { '✓' } else { '✗' });
            self.wanted.push(format!("{of}{how} {} {mark}", HumanFloatCount(goal)));
        }
        Self { goals, ..self }
    }

    /// Whether more is better.
    pub(crate) fn is_rate(&self) -> bool {
        self.unit.ends_with("/s")
    }

    /// The figure with its unit.
    pub(crate) fn figure_text(&self) -> String {
        format!("{} {}", number(self.figure), self.unit)
    }

    /// `, CPU 0.12 s`, where that is known.
    pub(crate) fn cpu_text(&self) -> String {
        self.cpu.map(|cpu| format!(", CPU {} s", number(cpu))).unwrap_or_default()
    }

    /// The ratios of all rounds, the least first.
    fn ratios(&self) -> Vec<f64> {
        let pairs = self.figures.iter().zip(&self.limits);
        let mut ratios: Vec<_> = pairs.map(|(figure, limit)| figure / limit).collect();
        ratios.sort_by(f64::total_cmp);
        ratios
    }

    fn cells(&self) -> [String; 9] {
        let ratios = self.ratios();
        let ratio = self.ratio.map(|ratio| match (ratios.first(), ratios.last()) {
            (Some(least), Some(most)) if ratios.len() > 1 => format!("{ratio:.2} ({least:.2}–{most:.2})"),
            _ => format!("{ratio:.2}"),
        });
        let limit = self.limit.map(|limit| format!("{} {}", number(limit), self.against));
        let optional = |value: Option<f64>| value.map(number).unwrap_or_default();
        [
            self.workload.clone(),
            self.figure_text(),
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
    pub(crate) fn new(machine: String, rounds: u32) -> Self {
        Self { version: env!("CARGO_PKG_VERSION"), machine, rounds, rows: Vec::new() }
    }

    pub(crate) fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    /// The table, which is Markdown too.
    pub(crate) fn table(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let mut table = Table::new();
        table.load_preset(ASCII_MARKDOWN).set_header(HEAD).add_rows(self.rows.iter().map(Row::cells));
        format!(
            "davkv {}; {}; medians of {} rounds\n\n{table}\n\nCPU: user + system per 1,000 operations, \
             or per GiB; the process measured, and all volumes.\n",
            self.version, self.machine, self.rounds,
        )
    }
}

/// The middle one; of an even number the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2)?;
    let lower = values.get(values.len().saturating_sub(1) / 2)?;
    Some(f64::midpoint(*lower, *upper))
}

/// With about three significant digits, or all those before the point, and commas.
fn number(value: f64) -> String {
    let decimals = match value {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        0.1.. => 3,
        _ => 4,
    };
    format!("{:.decimals$}", HumanFloatCount(value))
}
