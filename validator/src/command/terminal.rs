//! What the commands print: aligned tables, readable numbers, colour only where it is wanted.

use super::Exit;
use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::path::Path;
use std::time::Duration;

/// Prints text; a reader who has gone away is no error.
pub fn say(text: &str) {
    if cfg!(test) {
        // The harness keeps this for a test that fails.
        return print!("{text}");
    }
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Writes bytes to standard output, and nothing else.
///
/// Errors: host unfit, when nobody takes them: what was asked for is not there then.
pub fn write_bytes(bytes: &[u8]) -> Result<(), Exit> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .map_err(|error| Exit::host_unfit(format!("standard output: {error}")))
}

/// Reads a file, `-` for standard input, one byte further than it may be long, so that more is noticed.
///
/// Errors: usage, when it cannot be read.
pub fn read_bytes(file: &Path, bytes_max: usize) -> Result<Vec<u8>, Exit> {
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        File::open(file).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    read.map_err(|error| Exit::usage(format!("{}: {error}", file.display())))?;
    Ok(bytes)
}

/// Prints a line on standard error.
pub fn complain(line: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(format!("{line}\n").as_bytes());
}

/// Prints a JSON document.
pub fn say_json(document: &serde_json::Value) {
    say(&format!("{document:#}\n"));
}

/// Writes a number with a comma between thousands: `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Writes a count and what is counted: `1 segment`, `2 segments`.
pub fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", thousands(count))
}

/// Writes microseconds in the unit that a reader wants: `420 us`, `8.4 ms`, `84 ms`, `1.20 s`.
pub fn micros(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} us"),
        1_000..10_000 => format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100),
        10_000..1_000_000 => format!("{} ms", micros / 1_000),
        _ => format!("{}.{:02} s", micros / 1_000_000, micros % 1_000_000 / 10_000),
    }
}

/// Writes a duration like [`micros`].
pub fn duration(duration: Duration) -> String {
    micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

/// Writes a count of bytes in binary units: `512 B`, `4.0 KiB`, `1.5 GiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = u128::from(bytes) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// Reads a duration: a whole number and `us`, `ms`, `s`, `m` or `h`.
///
/// Errors: a sentence for the user.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|character: char| !character.is_ascii_digit());
    let (number, unit) = text.split_at(split.unwrap_or(text.len()));
    let wrong = || format!("`{text}` is not a duration such as 20s, 500ms or 2m");
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let micros = match unit {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        _ => return Err(wrong()),
    };
    let micros = number.checked_mul(micros).ok_or_else(wrong)?;
    Ok(Duration::from_micros(micros))
}

/// Shortens hexadecimal text for a table: the first eight digits.
pub fn short(hexadecimal: &str) -> String {
    let end = hexadecimal.len().min(8);
    hexadecimal.get(..end).unwrap_or(hexadecimal).to_string()
}

/// Cleans text that came from elsewhere, so that it cannot move the cursor of a terminal.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|character| if character.is_control() { '\u{fffd}' } else { character })
        .collect()
}

/// Whether a stream wants colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint {
    colour: bool,
}

impl Paint {
    /// No colour.
    pub const PLAIN: Self = Self { colour: false };

    /// Colour on standard output, where it is a terminal and `NO_COLOR` is not set.
    pub fn stdout() -> Self {
        Self { colour: std::io::stdout().is_terminal() && colour_wanted() }
    }

    /// Something that is as it should be.
    pub fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// Something that is wrong.
    pub fn bad(self, text: &str) -> String {
        self.wrap("31", text)
    }

    /// Something of little weight.
    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// A heading.
    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}

// Source: no-color.org: any value but the empty one forbids colour.
pub(super) fn colour_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|value| value != "dumb")
}

/// How many in a second.
pub fn per_second(count: u64, time: Duration) -> u64 {
    let rate = u128::from(count) * 1_000_000 / time.as_micros().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// One line on a terminal that is written over.
pub struct StatusLine {
    width: usize,
}

impl StatusLine {
    /// A line of standard error; none where that is no terminal.
    pub fn stderr() -> Option<Self> {
        std::io::stderr().is_terminal().then_some(Self { width: 0 })
    }

    /// Writes over what was there; a terminal that has gone away is no error.
    pub fn write(&mut self, line: &str) {
        let line = format!("\r{line:<width$}", width = self.width);
        self.width = line.len() - 1;
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    /// Leaves nothing of it.
    pub fn clear(&mut self) {
        if self.width > 0 {
            self.write("");
            let _ = std::io::stderr().write_all(b"\r");
        }
    }
}

/// On which side the cells of a column stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows with aligned columns.
#[derive(Clone, Debug)]
pub struct Table {
    sides: Vec<Side>,
    rows: Vec<Vec<String>>,
    indent: usize,
}

impl Table {
    /// Starts a table with one column for each side.
    pub fn new(sides: &[Side]) -> Self {
        Self { sides: sides.to_vec(), rows: Vec::new(), indent: 0 }
    }

    /// Moves the whole table to the right.
    pub fn indent(mut self, columns: usize) -> Self {
        self.indent = columns;
        self
    }

    /// Adds a row; missing cells stay empty.
    pub fn row<Cell: Into<String>>(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let cells: Vec<String> = cells.into_iter().map(Into::into).collect();
        assert!(cells.len() <= self.sides.len(), "a cell without a column");
        self.rows.push(cells);
    }

    /// Writes the table, a line for each row, without spaces at line ends.
    pub fn render(&self) -> String {
        let mut widths = vec![0; self.sides.len()];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(visible_width(cell));
            }
        }
        let mut text = String::new();
        for row in &self.rows {
            let mut line = " ".repeat(self.indent);
            for (place, cell) in row.iter().enumerate() {
                if place > 0 {
                    line.push_str("  ");
                }
                let space = " ".repeat(widths[place] - visible_width(cell));
                match self.sides[place] {
                    Side::Left => line.extend([cell.as_str(), &space]),
                    Side::Right => line.extend([space.as_str(), cell]),
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Counts the characters that take space: escape sequences of [`Paint`] do not.
fn visible_width(text: &str) -> usize {
    let mut width = 0;
    let mut escaped = false;
    for character in text.chars() {
        match (escaped, character) {
            (false, '\x1b') => escaped = true,
            (false, _) => width += 1,
            (true, 'm') => escaped = false,
            (true, _) => {}
        }
    }
    width
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let written = [0, 999, 1_000, 123_456, 1_234_567, u64::MAX].map(thousands);
        let expected = ["0", "999", "1,000", "123,456", "1,234,567"];
        assert_eq!(written[..5], expected);
        assert_eq!(written[5], "18,446,744,073,709,551,615");
        assert_eq!(counted(1, "block") + &counted(2_000, "block"), "1 block2,000 blocks");
    }

    #[test]
    fn times_and_sizes_take_the_unit_that_fits() {
        let times = [0, 999, 1_000, 9_999, 10_000, 999_999, 1_204_000].map(micros);
        let expected = ["0 us", "999 us", "1.0 ms", "9.9 ms", "10 ms", "999 ms", "1.20 s"];
        assert_eq!(times, expected);
        assert_eq!(duration(Duration::MAX), micros(u64::MAX));
        let sizes = [0, 1023, 1024, 1536, 10 << 20, 3 << 40, u64::MAX].map(bytes);
        let expected = ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "10.0 MiB", "3.0 TiB"];
        assert_eq!(sizes[..6], expected);
        assert!(sizes[6].ends_with(" TiB"));
    }

    #[test]
    fn durations_are_read_with_their_unit_only() {
        assert_eq!(parse_duration("20s"), Ok(Duration::from_secs(20)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("1h"), Ok(Duration::from_secs(3_600)));
        assert_eq!(parse_duration("7us"), Ok(Duration::from_micros(7)));
        for wrong in ["", "20", "s", "-1s", "1.5s", "20 s", "20d", "99999999999999999999h"] {
            let reason = parse_duration(wrong).unwrap_err();
            assert!(reason.contains("is not a duration"), "{reason}");
        }
    }

    #[test]
    fn columns_line_up_whatever_their_colour() {
        let paint = Paint { colour: true };
        let mut table = Table::new(&[Side::Left, Side::Right]).indent(2);
        table.row([paint.good("up"), "1,000".to_string()]);
        table.row(["a longer cell", "7"]);
        table.row(["alone"]);
        let text = table.render();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "  \x1b[32mup\x1b[0m             1,000");
        assert_eq!(lines[1], "  a longer cell      7");
        assert_eq!(lines[2], "  alone");
    }

    #[test]
    fn plain_paint_and_foreign_text_never_escape() {
        for text in [Paint::PLAIN.good("x"), Paint::PLAIN.bad("x"), Paint::PLAIN.dim("x")] {
            assert_eq!(text, "x");
        }
        assert_eq!(printable("a\x1b[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
        assert_eq!(short("0123456789ab"), "01234567");
        assert_eq!(short("01"), "01");
    }
}
