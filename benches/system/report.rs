//! What is told: a table for people and for the README, JSON, and a picture of the ratios.

use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::stage::Sample;

const MIB: f64 = 1_048_576.0;

/// All rows, and of which machine they are.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    version: String,
    machine: String,
    rows: Vec<Row>,
}

/// One line of the table.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Row {
    workload: String,
    unit: String,
    /// The figure of each round, in turn with those of the limit.
    figures: Vec<f64>,
    figure: f64,
    /// What the limit is of, and its figures.
    against: String,
    limits: Vec<f64>,
    limit: Option<f64>,
    ratio: Option<f64>,
    /// CPU seconds per 1,000 operations, or per GiB.
    cpu: Option<f64>,
    volumes_cpu: Option<f64>,
    peak_mib: Option<f64>,
    wanted: Vec<Wanted>,
    /// What else there is to say.
    note: String,
}

/// Something that a row should reach.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Wanted {
    of: Of,
    /// `≥` or `≤`.
    how: char,
    bound: f64,
    reached: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Of {
    Figure,
    Ratio,
    Cpu,
    Peak,
}

impl Row {
    /// A row with the medians of these samples.
    pub(crate) fn new(workload: &str, unit: &str, samples: &[Sample]) -> Self {
        let of =
            |get: fn(&Sample) -> Option<f64>| median(&samples.iter().filter_map(get).collect::<Vec<_>>());
        let figures: Vec<_> = samples.iter().map(|sample| sample.rate).collect();
        Self {
            workload: workload.to_owned(),
            unit: unit.to_owned(),
            figure: median(&figures).unwrap_or_default(),
            figures,
            cpu: of(|sample| sample.cpu),
            volumes_cpu: of(|sample| sample.volumes_cpu),
            peak_mib: samples
                .iter()
                .filter_map(|sample| sample.peak)
                .max()
                .map(|bytes| as_float(bytes) / MIB),
            ..Self::default()
        }
    }

    /// A row with a single figure.
    pub(crate) fn single(workload: &str, unit: &str, figure: f64) -> Self {
        Self::new(workload, unit, &[Sample { rate: figure, cpu: None, volumes_cpu: None, peak: None }])
    }

    /// Beside its limit, measured in the same rounds.
    pub(crate) fn against(mut self, what: &str, limits: Vec<f64>) -> Self {
        let ratios: Vec<_> = self.figures.iter().zip(&limits).map(|(figure, limit)| figure / limit).collect();
        (self.ratio, self.limit) = (median(&ratios), median(&limits));
        (self.against, self.limits) = (what.to_owned(), limits);
        self
    }

    pub(crate) fn at_least(self, of: Of, bound: f64) -> Self {
        self.wants(of, '≥', bound, |value| value >= bound)
    }

    pub(crate) fn at_most(self, of: Of, bound: f64) -> Self {
        self.wants(of, '≤', bound, |value| value <= bound)
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    fn wants(mut self, of: Of, how: char, bound: f64, reached: impl Fn(f64) -> bool) -> Self {
        let value = match of {
            Of::Figure => Some(self.figure),
            Of::Ratio => self.ratio,
            Of::Cpu => self.cpu,
            Of::Peak => self.peak_mib,
        };
        self.wanted.push(Wanted { of, how, bound, reached: value.is_some_and(reached) });
        self
    }

    /// Whether it has a ratio that shall be high.
    fn is_in_picture(&self) -> bool {
        let costs = self.wanted.iter().any(|wanted| wanted.of == Of::Ratio && wanted.how == '≤');
        self.ratio.is_some() && !costs
    }

    fn cells(&self) -> [String; 9] {
        let ratio = self.ratio.map(|ratio| match extremes(&self.figures, &self.limits) {
            Some((least, most)) if self.figures.len() > 1 => format!("{ratio:.2} ({least:.2}–{most:.2})"),
            _ => format!("{ratio:.2}"),
        });
        let limit = self.limit.map(|limit| format!("{} {}", number(limit), self.against));
        [
            self.workload.clone(),
            format!("{} {}", number(self.figure), self.unit),
            limit.unwrap_or_default(),
            ratio.unwrap_or_default(),
            optional(self.cpu),
            optional(self.volumes_cpu),
            optional(self.peak_mib),
            self.wanted.iter().map(Wanted::text).collect::<Vec<_>>().join(", "),
            self.note.clone(),
        ]
    }
}

impl Wanted {
    fn text(&self) -> String {
        let of = match self.of {
            Of::Figure => "",
            Of::Ratio => "ratio ",
            Of::Cpu => "CPU ",
            Of::Peak => "peak ",
        };
        format!("{of}{} {} {}", self.how, commas(&self.bound.to_string()), mark(self.reached))
    }
}

impl Report {
    pub(crate) fn new(machine: String) -> Self {
        Self { version: env!("CARGO_PKG_VERSION").to_owned(), machine, rows: Vec::new() }
    }

    /// Adds a row, in place of one of the same name.
    pub(crate) fn add(&mut self, row: Row) {
        match self.rows.iter_mut().find(|other| other.workload == row.workload) {
            Some(place) => *place = row,
            None => self.rows.push(row),
        }
    }

    /// Adds the rows of an earlier run.
    pub(crate) fn add_file(&mut self, path: &Path) -> Result<(), Failure> {
        let name = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
        let earlier: Self = serde_json::from_str(&text).map_err(|error| format!("{name}: {error}"))?;
        if earlier.machine != self.machine {
            eprintln!("{name} is of another machine: {}", earlier.machine);
        }
        earlier.rows.into_iter().for_each(|row| self.add(row));
        Ok(())
    }

    pub(crate) fn json(&self) -> Result<String, Failure> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    /// The table, which is Markdown too.
    pub(crate) fn table(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let head =
            ["workload", "figure", "limit", "ratio", "CPU s", "nginx CPU s", "peak MiB", "wanted", "note"];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(self.rows.iter().map(Row::cells));
        let mut widths = [0; 9];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text =
            format!("davkv {}; {}; medians of {} rounds\n\n", self.version, self.machine, self.rounds());
        for (n, row) in rows.iter().enumerate() {
            let line: Vec<_> =
                row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            text += &["| ", &line.join(" | "), " |\n"].concat();
            if n == 0 {
                text += &["|", &widths.map(|width| "-".repeat(width + 2)).join("|"), "|\n"].concat();
            }
        }
        text + "\nCPU: user + system per 1,000 operations, or per GiB; the process measured, and all volumes.\n"
    }

    /// How many rounds there were: rows of earlier runs may have had others.
    fn rounds(&self) -> String {
        let rounds = || self.rows.iter().map(|row| row.figures.len());
        match (rounds().min().unwrap_or_default(), rounds().max().unwrap_or_default()) {
            (least, most) if least == most => most.to_string(),
            (least, most) => format!("{least} to {most}"),
        }
    }

    /// The ratios as bars, each with a mark where it should end.
    pub(crate) fn svg(&self) -> String {
        const ROW: usize = 26;
        let rows: Vec<_> = self.rows.iter().filter(|row| row.is_in_picture()).collect();
        let height = 60 + ROW * rows.len() + 30;
        let mut svg = format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 {height}" width="860" height="{height}" font-family="system-ui, sans-serif" font-size="13" role="img" aria-label="davkv's rate as a part of the limit">
"#
        );
        svg += STYLE;
        svg += r#"<text class="ink" x="10" y="22" font-size="15" font-weight="600">davkv beside the limit of the same hardware</text>
"#;
        svg += r#"<text class="faint" x="10" y="42">bar: rate ÷ limit; mark: what is wanted; CPU: the master's seconds per 1,000 operations (uploads: per GiB)</text>
"#;
        for (n, row) in rows.iter().enumerate() {
            svg += &bar(row, 60 + ROW * n);
        }
        let foot = height - 12;
        let machine = escape(&self.machine);
        let _infallible =
            writeln!(svg, r#"<text class="faint" x="10" y="{foot}" font-size="10">{machine}</text>"#);
        svg + "</svg>\n"
    }
}

/// Both modes get colours of their own; whoever knows no mode gets the light ones.
const STYLE: &str = "<style>
.ink { fill: #1f2328 } .faint { fill: #656d76 } .track { fill: #d0d7de; fill-opacity: .5 }
.reached { fill: #2da44e } .missed { fill: #d4a72c } .plain { fill: #6e9fd6 } .mark { stroke: #1f2328; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
.ink { fill: #e6edf3 } .faint { fill: #9198a1 } .track { fill: #3d444d } .mark { stroke: #e6edf3 }
}
</style>
";

/// One row of the picture: name, bar, mark, figures.
fn bar(row: &Row, top: usize) -> String {
    const LEFT: f64 = 150.0;
    const FULL: f64 = 340.0;
    /// beyond its limit a bar goes on for a little
    const MOST: f64 = 1.15;
    let ratio = row.ratio.unwrap_or_default();
    let wanted = row.wanted.iter().find(|wanted| wanted.of == Of::Ratio);
    let class = wanted.map_or("plain", |wanted| if wanted.reached { "reached" } else { "missed" });
    let (width, baseline) = (FULL * ratio.min(MOST), top + 14);
    let cpu = row.cpu.map(|cpu| format!(", CPU {} s", number(cpu))).unwrap_or_default();
    let figures = format!("{ratio:.2}  {} {}{cpu}", number(row.figure), row.unit);
    let mut svg = String::new();
    let mark = wanted.map(|wanted| {
        let x = LEFT + FULL * wanted.bound;
        format!(
            r#"<line class="mark" x1="{x:.0}" x2="{x:.0}" y1="{}" y2="{}"/>"#,
            top.saturating_sub(1),
            top + 19
        )
    });
    let _infallible = writeln!(
        svg,
        r#"<text class="ink" x="10" y="{baseline}">{}</text><rect class="track" x="{LEFT}" y="{top}" width="{FULL}" height="18" rx="2"/><rect class="{class}" x="{LEFT}" y="{top}" width="{width:.0}" height="18" rx="2"/>{}<text class="ink" x="{:.0}" y="{baseline}" xml:space="preserve">{}</text>"#,
        escape(&row.workload),
        mark.unwrap_or_default(),
        LEFT + FULL * MOST + 14.0,
        escape(&figures),
    );
    svg
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn mark(reached: bool) -> char {
    if reached { '✓' } else { '✗' }
}

/// The middle one; of an even number the mean of the two in the middle.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2)?;
    let lower = sorted.get(sorted.len().saturating_sub(1) / 2)?;
    Some(f64::midpoint(*lower, *upper))
}

/// The least and the greatest ratio of any round.
fn extremes(figures: &[f64], limits: &[f64]) -> Option<(f64, f64)> {
    let ratios = || figures.iter().zip(limits).map(|(figure, limit)| figure / limit);
    Some((ratios().min_by(f64::total_cmp)?, ratios().max_by(f64::total_cmp)?))
}

fn optional(value: Option<f64>) -> String {
    value.map(number).unwrap_or_default()
}

/// With the digits that say something, and commas.
fn number(value: f64) -> String {
    let decimals = match value {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        0.1.. => 3,
        _ if value > 0.0 => 4,
        _ => 0,
    };
    commas(&format!("{value:.decimals$}"))
}

fn commas(number: &str) -> String {
    let whole = number.find('.').unwrap_or(number.len());
    let mut text = String::new();
    for (n, digit) in number.chars().enumerate() {
        if 0 < n && n < whole && (whole - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[allow(clippy::cast_precision_loss, reason = "figures for people: 53 bits are plenty")]
fn as_float(number: u64) -> f64 {
    number as f64
}
