//! The picture: the ratios as bars, in SVG, each with a mark where it should end.

use crate::report::{Report, Row};

const ROW: usize = 26;
const LEFT: f64 = 150.0;
/// The length of a bar that reaches its limit.
const FULL: f64 = 340.0;
/// A bar that passes its limit goes on up to this ratio.
const MOST: f64 = 1.15;

/// The bars of all rates that have a limit. Costs have none: of them, less is better.
pub(crate) fn svg(report: &Report) -> String {
    let mut bars = String::new();
    let rates = report.rows.iter().filter(|row| row.is_rate());
    let mut top = 60;
    for (row, ratio) in rates.filter_map(|row| Some((row, row.ratio?))) {
        bars += &bar(row, ratio, top);
        top += ROW;
    }
    include_str!("frame.svg")
        .replace("HEIGHT", &(top + 30).to_string())
        .replace("FOOT", &(top + 18).to_string())
        .replace("BARS", &bars)
        .replace("MACHINE", &escape(&report.machine))
}

/// One row of the picture: name, bar, mark, figures.
fn bar(row: &Row, ratio: f64, top: usize) -> String {
    let goal = row.goals.ratio;
    let class = goal.map_or("plain", |goal| if ratio >= goal { "reached" } else { "missed" });
    let mark = goal.map_or_else(String::new, |goal| {
        let (x, y1, y2) = (LEFT + FULL * goal, top - 1, top + 19);
        format!(r#"<line class="mark" x1="{x:.0}" x2="{x:.0}" y1="{y1}" y2="{y2}"/>"#)
    });
    let [name, figure, cpu] =
        [row.workload.clone(), row.figure_text(), row.cpu_text()].map(|text| escape(&text));
    let (width, right, baseline) = (FULL * ratio.min(MOST), LEFT + FULL * MOST + 14.0, top + 14);
    format!(
        r#"<text class="ink" x="10" y="{baseline}">{name}</text><rect class="track" x="{LEFT}" y="{top}" width="{FULL}" height="18" rx="2"/><rect class="{class}" x="{LEFT}" y="{top}" width="{width:.0}" height="18" rx="2"/>{mark}<text class="ink" x="{right:.0}" y="{baseline}" xml:space="preserve">{ratio:.2}  {figure}{cpu}</text>
"#
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
