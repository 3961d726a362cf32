//! A mix in a file: every key once, and errors that name the key and what to write.

use super::{HotAuthors, HotReceivers, Mix, RecordSize, Share};
use crate::config::schema::suggest;
use ledger::limits::{TRANSACTION_BYTES_MAX, TRANSACTION_OVERHEAD};
use std::collections::BTreeMap;
use toml::de::{DeTable, DeValue};

/// Bytes of a file at most: a mix is one screen of text.
pub const FILE_BYTES_MAX: u64 = 64 * 1024;
/// The layout that is read here.
const VERSION: u64 = 1;
/// Characters of a name at most: it stands in a line of a report.
const NAME_CHARACTERS_MAX: usize = 40;
/// Sizes at most: more than a reader of the report tells apart.
const SIZES_MAX: usize = 16;
/// Hot receivers at most: more are not hot.
const RECEIVERS_MAX: u64 = 10_000;

/// What a value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Version,
    Name,
    Sizes,
    Shares,
    Share,
    Count,
}

/// All keys, in the order of the file.
const KEYS: [(&str, Shape); 12] = [
    ("version", Shape::Version),
    ("name", Shape::Name),
    ("records.bytes", Shape::Sizes),
    ("records.percent", Shape::Shares),
    ("transfers.percent", Shape::Share),
    ("transfers.hot_percent", Shape::Share),
    ("transfers.hot_receivers", Shape::Count),
    ("transfers.new_percent", Shape::Share),
    ("authors.hot_percent", Shape::Share),
    ("authors.hot_transactions_percent", Shape::Share),
    ("hostile.invalid_percent", Shape::Share),
    ("hostile.duplicate_percent", Shape::Share),
];

impl Shape {
    fn wanted(self) -> String {
        match self {
            Self::Version => VERSION.to_string(),
            Self::Name => format!("a text of 1 to {NAME_CHARACTERS_MAX} letters, digits, - and _"),
            Self::Sizes => format!(
                "a list of 1 to {SIZES_MAX} whole numbers from {TRANSACTION_OVERHEAD} to \
                 {TRANSACTION_BYTES_MAX}, such as [256, 1024]"
            ),
            Self::Shares => {
                "a list of percentages from 0 to 100 with at most four decimals, such as \
                             [90, 10]"
                    .to_string()
            }
            Self::Share => "a percentage from 0 to 100 with at most four decimals".to_string(),
            Self::Count => format!("a whole number from 1 to {RECEIVERS_MAX}"),
        }
    }
}

/// A value that has its key's shape.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Name(String),
    Number(u64),
    Sizes(Vec<usize>),
    Shares(Vec<Share>),
    Share(Share),
}

/// Reads a mix.
///
/// Errors: one line that names the key and says what to write.
pub fn parse(text: &str) -> Result<Mix, String> {
    let found = Found::read(text)?;
    found.required("version", "version = 1")?;
    found.required("name", "name = \"mine\"")?;
    let transfers = found.share("transfers.percent").unwrap_or_default();
    let (hot_receivers, new_receivers) = found.receivers(transfers)?;
    let invalid = found.share("hostile.invalid_percent").unwrap_or_default();
    let duplicates = found.share("hostile.duplicate_percent").unwrap_or_default();
    found.at_most_all("hostile.invalid_percent", "hostile.duplicate_percent")?;
    Ok(Mix {
        name: found.name(),
        records: found.records(transfers)?,
        transfers,
        hot_receivers,
        new_receivers,
        hot_authors: found.hot_authors()?,
        invalid,
        duplicates,
    })
}

/// The values of a file, with the lines of their keys (the first is 1).
struct Found(BTreeMap<&'static str, (usize, Value)>);

impl Found {
    fn read(text: &str) -> Result<Self, String> {
        let line_at = |offset: usize| {
            let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
            1 + before.iter().filter(|byte| **byte == b'\n').count()
        };
        let root = DeTable::parse(text).map_err(|error| {
            let line = line_at(error.span().map_or(0, |span| span.start));
            // Some messages of the reader go over several lines.
            let message: Vec<&str> = error.message().lines().collect();
            format!("line {line}: {}", message.join(", "))
        })?;
        let mut found = Self(BTreeMap::new());
        for (name, value) in root.get_ref().iter() {
            let line = line_at(name.span().start);
            let DeValue::Table(inner) = value.get_ref() else {
                found.add(name.get_ref(), value.get_ref(), line)?;
                continue;
            };
            let table = name.get_ref().as_ref();
            if !tables().any(|known| known == table) {
                let hint = suggest(table, tables()).map(|hint| format!("[{hint}]"));
                return Err(with_hint(line, &format!("unknown table [{table}]"), hint));
            }
            for (name, value) in inner.iter() {
                let dotted = format!("{table}.{}", name.get_ref());
                found.add(&dotted, value.get_ref(), line_at(name.span().start))?;
            }
        }
        Ok(found)
    }

    fn add(&mut self, dotted: &str, value: &DeValue<'_>, line: usize) -> Result<(), String> {
        let Some((key, shape)) = KEYS.into_iter().find(|(key, _)| *key == dotted) else {
            let hint = suggest(dotted, KEYS.map(|(key, _)| key)).map(str::to_string);
            return Err(with_hint(line, &format!("unknown key {dotted}"), hint));
        };
        let Some(value) = read_value(shape, value) else {
            let (wanted, written) = (shape.wanted(), written(value));
            return Err(format!("line {line}: {key} must be {wanted}, found {written}"));
        };
        self.0.insert(key, (line, value));
        Ok(())
    }

    fn line(&self, key: &str) -> Option<usize> {
        self.0.get(key).map(|(line, _)| *line)
    }

    fn required(&self, key: &str, example: &str) -> Result<(), String> {
        match self.line(key) {
            Some(_) => Ok(()),
            None => Err(format!("{key} is missing: write {example}")),
        }
    }

    /// A key that means nothing without another.
    fn needs(&self, key: &str, other: &str, example: &str) -> Result<(), String> {
        match (self.line(key), self.line(other)) {
            (Some(line), None) => {
                Err(format!("line {line}: {key} needs {other}: write {example} beside it"))
            }
            (None, _) | (_, Some(_)) => Ok(()),
        }
    }

    /// Two shares of one whole.
    fn at_most_all(&self, one: &str, other: &str) -> Result<(), String> {
        let share = |key| self.share(key).unwrap_or_default();
        let sum = share(one).and(share(other));
        match self.line(one).max(self.line(other)) {
            Some(line) if sum > Share::ALL => Err(format!(
                "line {line}: {one} and {other} must add up to at most 100, found {sum}"
            )),
            _ => Ok(()),
        }
    }

    fn name(&self) -> Option<String> {
        match self.0.get("name") {
            Some((_, Value::Name(name))) => Some(name.clone()),
            _ => None,
        }
    }

    fn share(&self, key: &str) -> Option<Share> {
        match self.0.get(key) {
            Some((_, Value::Share(share))) => Some(*share),
            _ => None,
        }
    }

    fn number(&self, key: &str) -> Option<u64> {
        match self.0.get(key) {
            Some((_, Value::Number(number))) => Some(*number),
            _ => None,
        }
    }

    fn records(&self, transfers: Share) -> Result<Vec<RecordSize>, String> {
        self.needs("records.percent", "records.bytes", "bytes = [512]")?;
        let Some((_, Value::Sizes(sizes))) = self.0.get("records.bytes") else {
            return match transfers {
                Share::ALL => Ok(Vec::new()),
                _ => Err("records.bytes is missing: write bytes = [512] below [records], or \
                          percent = 100 below [transfers]"
                    .to_string()),
            };
        };
        let (line, shares) = match self.0.get("records.percent") {
            Some((line, Value::Shares(shares))) => (*line, shares.clone()),
            _ if sizes.len() == 1 => (0, vec![Share::ALL]),
            _ => {
                return Err(format!(
                    "records.percent is missing: write the shares of the {} sizes of \
                     records.bytes, such as [90, 10]",
                    sizes.len()
                ));
            }
        };
        if shares.len() != sizes.len() {
            return Err(format!(
                "line {line}: records.percent must have one share for each of the {} sizes of \
                 records.bytes, found {}",
                sizes.len(),
                shares.len()
            ));
        }
        let sum = shares.iter().fold(Share::NONE, |sum, share| sum.and(*share));
        if sum != Share::ALL {
            return Err(format!("line {line}: records.percent must add up to 100, found {sum}"));
        }
        let sizes = sizes.iter().zip(shares);
        Ok(sizes.map(|(bytes, share)| RecordSize { bytes: *bytes, share }).collect())
    }

    fn receivers(&self, transfers: Share) -> Result<(Option<HotReceivers>, Share), String> {
        let keys = ["transfers.hot_percent", "transfers.hot_receivers", "transfers.new_percent"];
        for key in keys {
            if let Some(line) = self.line(key).filter(|_| transfers.is_none()) {
                return Err(format!(
                    "line {line}: {key} needs transfers: write their share above 0 beside it, such as \
                     percent = 30"
                ));
            }
        }
        let [hot, receivers, new] = keys;
        self.needs(hot, receivers, "hot_receivers = 8")?;
        self.needs(receivers, hot, "hot_percent = 50")?;
        self.at_most_all(hot, new)?;
        let counted = self.share(hot).zip(self.number(receivers));
        let counted = counted.map(|(share, count)| HotReceivers {
            share,
            count: u32::try_from(count).expect("its shape has a limit"),
        });
        Ok((counted, self.share(new).unwrap_or_default()))
    }

    fn hot_authors(&self) -> Result<Option<HotAuthors>, String> {
        let [hot, sent] = ["authors.hot_percent", "authors.hot_transactions_percent"];
        self.needs(hot, sent, "hot_transactions_percent = 50")?;
        self.needs(sent, hot, "hot_percent = 1")?;
        let Some((authors, transactions)) = self.share(hot).zip(self.share(sent)) else {
            return Ok(None);
        };
        let line = self.line(hot).unwrap_or_default();
        if authors.is_none() || authors == Share::ALL {
            return Err(format!(
                "line {line}: {hot} must be above 0 and below 100, found {authors}"
            ));
        }
        if transactions < authors {
            return Err(format!(
                "line {line}: hot authors send more than others: {sent} must be at least {hot}, found \
                 {transactions} and {authors}"
            ));
        }
        Ok(Some(HotAuthors { authors, transactions }))
    }
}

fn tables() -> impl Iterator<Item = &'static str> {
    KEYS.iter().filter_map(|(key, _)| Some(key.split_once('.')?.0))
}

fn with_hint(line: usize, what: &str, hint: Option<String>) -> String {
    match hint {
        Some(hint) => format!("line {line}: {what}; did you mean {hint}?"),
        None => {
            let known = KEYS.map(|(key, _)| key).join(", ");
            format!("line {line}: {what}; a mix has {known}")
        }
    }
}

/// Reads a value of a shape; none for one of another.
fn read_value(shape: Shape, value: &DeValue<'_>) -> Option<Value> {
    match shape {
        Shape::Version => number(value, VERSION, VERSION).map(Value::Number),
        Shape::Count => number(value, 1, RECEIVERS_MAX).map(Value::Number),
        Shape::Share => share(value).map(Value::Share),
        Shape::Name => match value {
            DeValue::String(text) if is_name(text) => Some(Value::Name(text.to_string())),
            _ => None,
        },
        Shape::Shares => list(value, share).map(Value::Shares),
        Shape::Sizes => list(value, size).map(Value::Sizes),
    }
}

fn is_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=NAME_CHARACTERS_MAX).contains(&text.len()) && text.bytes().all(is_plain)
}

fn number(value: &DeValue<'_>, least: u64, most: u64) -> Option<u64> {
    let DeValue::Integer(number) = value else {
        return None;
    };
    let digits = number.as_str().trim_start_matches('+');
    let number = u64::from_str_radix(digits, number.radix()).ok()?;
    (least..=most).contains(&number).then_some(number)
}

fn size(value: &DeValue<'_>) -> Option<usize> {
    usize::try_from(number(value, 0, u64::MAX)?)
        .ok()
        .filter(|size| (TRANSACTION_OVERHEAD..=TRANSACTION_BYTES_MAX).contains(size))
}

fn share(value: &DeValue<'_>) -> Option<Share> {
    match value {
        DeValue::Integer(number) if number.radix() == 10 => Share::parse(number.as_str()),
        DeValue::Float(number) => Share::parse(number.as_str()),
        _ => None,
    }
}

fn list<T>(value: &DeValue<'_>, read: impl Fn(&DeValue<'_>) -> Option<T>) -> Option<Vec<T>> {
    let DeValue::Array(items) = value else {
        return None;
    };
    if items.is_empty() || items.len() > SIZES_MAX {
        return None;
    }
    items.iter().map(|item| read(item.get_ref())).collect()
}

/// Says what stands in the file.
fn written(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.as_str().to_string(),
        DeValue::Float(number) => number.as_str().to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date".to_string(),
        DeValue::Array(items) => {
            let items: Vec<String> =
                items.iter().take(SIZES_MAX + 1).map(|item| written(item.get_ref())).collect();
            format!("[{}]", items.join(", "))
        }
        DeValue::Table(_) => "a table".to_string(),
    }
}

#[cfg(test)]
mod tests;
