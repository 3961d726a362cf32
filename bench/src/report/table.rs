//! A report for the terminal: the machine in a few lines, then one aligned table for each suite.

use std::fmt::Write as _;

use crate::hardware::{Disk, Machine};
use crate::report::{Measure, Ratio, Report, Row, RowState, SuiteReport, SuiteState};
use crate::statistics::CONFIDENCE;

/// Writes the whole report as text, without colour.
pub fn render(report: &Report) -> String {
    let mut text = machine_text(&report.machine);
    for suite in &report.suites {
        text.push('\n');
        text.push_str(&suite_text(suite));
    }
    if !report.warnings.is_empty() {
        text.push('\n');
    }
    for warning in &report.warnings {
        push(&mut text, format_args!("warning: {warning}\n"));
    }
    text
}

/// The facts that figures must never be quoted without.
fn machine_text(machine: &Machine) -> String {
    let cpu = &machine.cpu;
    let mut text = String::new();
    let model = known(cpu.model.as_deref());
    let hypervisor = if cpu.virtualized == Some(true) { ", virtual" } else { "" };
    let usable = cpu.usable;
    let governor = known(cpu.governor.as_deref());
    push(
        &mut text,
        format_args!("cpu      {model}, {usable} processors{hypervisor}, governor {governor}\n"),
    );
    push(&mut text, format_args!("         {}\n", cpu.features.join(" ")));
    let memory = machine.memory_bytes.map(gibibytes);
    push(&mut text, format_args!("memory   {}\n", known(memory.as_deref())));
    push(&mut text, format_args!("kernel   {}\n", known(machine.kernel.as_deref())));
    push(&mut text, format_args!("disk     {}\n", disk_text(&machine.disk)));
    let build = &machine.build;
    let modified = if build.modified == Some(true) { " (modified)" } else { "" };
    push(
        &mut text,
        format_args!(
            "build    {}, {}{modified}, {}\n",
            build.profile,
            known(build.commit.as_deref()),
            build.rustc
        ),
    );
    text
}

fn disk_text(disk: &Disk) -> String {
    let micros = |value: Option<f64>| value.map_or_else(|| "unknown".to_owned(), number);
    format!(
        "{} on {}, {}; 4 KiB durable in {} us p50, {} us p99",
        known(disk.file_system.as_deref()),
        known(disk.device.as_deref()),
        disk.path,
        micros(disk.sync_us_p50),
        micros(disk.sync_us_p99),
    )
}

fn suite_text(suite: &SuiteReport) -> String {
    let mut text = format!("{} ({:.1} s)", suite.name, suite.elapsed_s);
    let reason = suite.reason.as_deref().unwrap_or("no reason given");
    match suite.state {
        SuiteState::Run => text.push('\n'),
        SuiteState::Skipped => push(&mut text, format_args!(" skipped: {reason}\n")),
        SuiteState::Interrupted => push(&mut text, format_args!(" interrupted: {reason}\n")),
    }
    let mut table = Table::default();
    if suite.rows.iter().any(|row| !row.measures.is_empty()) {
        table.line(
            ["", "metric", "median", "", "95 % interval", "cv", "ratio", ""].map(str::to_owned),
        );
    }
    for row in &suite.rows {
        if row.baseline.is_none() && row.state != RowState::Skipped {
            table.gap();
        }
        let is_baseline = suite.rows.iter().any(|other| other.baseline.as_ref() == Some(&row.name));
        add_row(&mut table, row, is_baseline);
    }
    if !suite.rows.is_empty() {
        text.push_str(&table.render());
    }
    text
}

fn add_row(table: &mut Table, row: &Row, is_baseline: bool) {
    let state = match row.state {
        RowState::Ok => "",
        RowState::Noisy => "NOISY",
        RowState::Invalid => "INVALID",
        RowState::Skipped => "skipped",
        RowState::Failed => "FAILED",
    };
    let mut name = row.name.clone();
    for measure in &row.measures {
        let ratio = match measure.ratio {
            Some(Ratio { median, low, high, .. }) => {
                format!("{}x [{} .. {}]", number(median), number(low), number(high))
            }
            None if is_baseline => "baseline".to_owned(),
            None => String::new(),
        };
        let is_first = !name.is_empty();
        table.line([
            std::mem::take(&mut name),
            measure.metric.clone(),
            number(measure.median),
            measure.unit.clone(),
            interval(measure),
            format!("{:.1} %", measure.variation * 100.0),
            ratio,
            if is_first { state.to_owned() } else { String::new() },
        ]);
    }
    if !name.is_empty() {
        table.note(&name);
    }
    for note in &row.notes {
        table.note(&format!("  {note}"));
    }
    let reason = row.reason.as_deref().unwrap_or_default();
    match (row.state, &row.bottleneck) {
        // Noise is in the column of variations already.
        (RowState::Ok | RowState::Noisy, _) => {}
        (_, Some(bottleneck)) => table.note(&format!("  {state}: {bottleneck}-bound: {reason}")),
        (_, None) => table.note(&format!("  {state}: {reason}")),
    }
}

fn interval(measure: &Measure) -> String {
    if measure.samples.len() == 1 {
        return "one round".to_owned();
    }
    let range = format!("{} .. {}", number(measure.low), number(measure.high));
    if measure.confidence >= CONFIDENCE {
        range
    } else {
        // Too few rounds for 95 %: the whole range, with the confidence that it has.
        format!("{range} ({:.0} %)", measure.confidence * 100.0)
    }
}

/// A number with about four digits, and commas between thousands.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 1_000.0 {
        return thousands(&format!("{value:.0}"));
    }
    let decimals = match size {
        100.0.. => 1,
        10.0.. => 2,
        _ if size == 0.0 => 0,
        0.1.. => 3,
        _ => 5,
    };
    format!("{value:.decimals$}")
}

fn thousands(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    let mut text = sign.to_owned();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn known(value: Option<&str>) -> &str {
    value.unwrap_or("unknown")
}

fn gibibytes(bytes: u64) -> String {
    let tenths = bytes / ((1 << 30) / 10);
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

fn push(text: &mut String, part: std::fmt::Arguments<'_>) {
    text.write_fmt(part).expect("a string takes everything");
}

/// The number of a table's columns.
const COLUMNS: usize = 8;

/// Lines with aligned columns, and lines that run across them.
#[derive(Default)]
pub(crate) struct Table {
    lines: Vec<Line>,
}

enum Line {
    Cells(Box<[String; COLUMNS]>),
    Note(String),
}

impl Table {
    pub(crate) fn line(&mut self, cells: [String; COLUMNS]) {
        self.lines.push(Line::Cells(Box::new(cells)));
    }

    pub(crate) fn note(&mut self, text: &str) {
        self.lines.push(Line::Note(text.to_owned()));
    }

    pub(crate) fn gap(&mut self) {
        self.note("");
    }

    /// Words to the left, figures to the right, no space at line ends.
    pub(crate) fn render(&self) -> String {
        let mut widths = [0; COLUMNS];
        for line in &self.lines {
            if let Line::Cells(cells) = line {
                for (width, cell) in widths.iter_mut().zip(cells.iter()) {
                    *width = (*width).max(cell.chars().count());
                }
            }
        }
        let mut text = String::new();
        for line in &self.lines {
            let line = match line {
                Line::Cells(cells) => aligned(cells, &widths),
                Line::Note(note) => format!("  {note}"),
            };
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

fn aligned(cells: &[String; COLUMNS], widths: &[usize; COLUMNS]) -> String {
    let mut line = String::new();
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let space = " ".repeat(width - cell.chars().count());
        line.push_str("  ");
        // Median, interval, variation and ratio are figures.
        if matches!(column, 2 | 4 | 5 | 6) {
            line.extend([space.as_str(), cell]);
        } else {
            line.extend([cell, space.as_str()]);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{row, sample};

    #[test]
    fn numbers_have_about_four_digits() {
        let written = [0.0, 0.01234, 0.5, 1.0, 12.345, 123.45, 1234.5, -1_234_567.0].map(number);
        let expected = ["0", "0.01234", "0.500", "1.000", "12.35", "123.5", "1,234", "-1,234,567"];
        assert_eq!(written[..5], expected[..5]);
        assert!(written[5] == "123.5" || written[5] == "123.4", "{}", written[5]);
        assert!(written[6] == "1,234" || written[6] == "1,235", "{}", written[6]);
        assert_eq!(written[7], expected[7]);
    }

    #[test]
    fn a_report_shows_machine_figures_and_what_is_wrong_with_them() {
        let text = render(&sample());
        for part in [
            "Test CPU, 2 processors, virtual, governor performance",
            "ext4 on /dev/vda, /data; 4 KiB durable in 400.0 us p50, 900.0 us p99",
            "work (1.0 s) interrupted: stopped after 1 of 2 groups",
            "a::work/items=8",
            "baseline",
            "0.500x [0.500 .. 0.500]",
            "1.000 .. 2.000 (50 %)",
            "rejected: 3 busy",
            "INVALID: generator-bound: sent 9 of 10 in time",
            "warning: other work was running",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
        assert!(text.lines().all(|line| line.trim_end() == line), "no space at line ends");
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::default();
        add_row(&mut table, &row("a::short", None, [1.0, 1.0], 1.0), true);
        add_row(&mut table, &row("a::very::long", None, [1_000.0, 1_000.0], 1.0), true);
        let text = table.render();
        let places: Vec<_> = text.lines().map(|line| line.find("time_us")).collect();
        assert!(places[0].is_some());
        assert_eq!(places[0], places[1], "{text}");
    }

    #[test]
    fn a_single_round_has_no_interval() {
        let mut once = row("a::work", None, [1.0, 1.0], 1.0);
        once.measures[0].samples.truncate(1);
        let mut table = Table::default();
        add_row(&mut table, &once, false);
        assert!(table.render().contains("one round"), "{}", table.render());
    }

    #[test]
    fn a_row_without_figures_gives_its_reason() {
        let mut skipped = row("a::work", None, [1.0, 1.0], 1.0);
        skipped.measures.clear();
        skipped.state = RowState::Skipped;
        skipped.reason = Some("no ring here".to_owned());
        let mut table = Table::default();
        add_row(&mut table, &skipped, false);
        assert_eq!(table.render(), "  a::work/items=8\n    skipped: no ring here\n");
    }
}
