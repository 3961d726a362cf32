//! From where each value of the configuration comes: flag, environment, file or default.

use super::cores::Cpus;
use super::schema::{self, KEYS, Key, PEER_KEYS, Shape, suggest};
use crate::key::Source;
use std::collections::BTreeMap;
use std::fmt;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A whole number or a text; the file has no other values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number that is not negative.
    Number(u64),
}

/// From where a value comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nothing else was said.
    Default,
    /// The file, at this line (the first is 1).
    File(usize),
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File(line) => write!(formatter, "line {line}"),
            Self::Environment(name) => write!(formatter, "${name}"),
            Self::Flag => formatter.write_str("flag"),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(formatter, "{text:?}"),
            Self::Number(number) => number.fmt(formatter),
        }
    }
}

/// A value and its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value, checked against its key's shape.
    pub value: Value,
    /// From where it comes.
    pub origin: Origin,
}

/// One `[[peers]]` entry, its values not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerEntry {
    /// Where the entry starts.
    pub line: usize,
    /// The values of those [`PEER_KEYS`] that are required.
    pub values: [String; 3],
    /// The value of the last one.
    pub history: Option<String>,
}

/// All values with their origins; every key of the schema is present.
#[derive(Clone, Debug)]
pub struct Layers {
    entries: BTreeMap<&'static str, Entry>,
    peers: Vec<PeerEntry>,
}

/// Overrides that a caller passes in, by dotted name.
pub type Flags = [(&'static str, String)];

impl Layers {
    /// Lays file over defaults, environment over both, and flags over all.
    ///
    /// Errors: a sentence without the file's name.
    pub fn read(
        text: &str,
        environment: &dyn Fn(&str) -> Option<String>,
        flags: &Flags,
    ) -> Result<Self, String> {
        let mut layers = Self::defaults()?;
        layers.add_file(text)?;
        layers.add_environment(environment)?;
        layers.add_flags(flags)?;
        Ok(layers)
    }

    fn defaults() -> Result<Self, String> {
        let mut entries = BTreeMap::new();
        for key in &KEYS {
            let literal = key.default.trim_matches('"');
            let value = parse(key, literal).map_err(|why| format!("{} {why}", key.dotted))?;
            entries.insert(key.dotted, Entry { value, origin: Origin::Default });
        }
        Ok(Self { entries, peers: Vec::new() })
    }

    fn add_file(&mut self, text: &str) -> Result<(), String> {
        let line_at = |offset: usize| {
            let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
            1 + before.iter().filter(|byte| **byte == b'\n').count()
        };
        let root = DeTable::parse(text).map_err(|error| {
            let line = line_at(error.span().map_or(0, |span| span.start));
            format!("line {line}: {}", error.message())
        })?;
        for (name, value) in root.get_ref().iter() {
            let line = line_at(name.span().start);
            let at = |why: String| format!("line {line}: {why}");
            match (name.get_ref().as_ref(), value.get_ref()) {
                ("peers", peers) => self.add_peers(peers, &line_at).map_err(at)?,
                (table, DeValue::Table(inner)) => {
                    for (name, value) in inner.iter() {
                        let line = line_at(name.span().start);
                        self.add_from_file(table, name.get_ref(), value, line)
                            .map_err(|why| format!("line {line}: {why}"))?;
                    }
                    // An empty table is a typo as well.
                    if inner.iter().next().is_none() && !tables().any(|known| known == table) {
                        return Err(at(unknown_table(table)));
                    }
                }
                (name, _) => self.add_from_file("", name, value, line).map_err(at)?,
            }
        }
        Ok(())
    }

    fn add_from_file(
        &mut self,
        table: &str,
        name: &str,
        value: &Spanned<DeValue<'_>>,
        line: usize,
    ) -> Result<(), String> {
        let dotted = if table.is_empty() { name.to_string() } else { format!("{table}.{name}") };
        let Some(key) = schema::find(&dotted) else {
            return Err(unknown_key(table, name));
        };
        let value = match value.get_ref() {
            DeValue::String(text) if !is_number(key) => parse(key, text),
            DeValue::Integer(number) if is_number(key) => {
                match u64::from_str_radix(number.as_str().trim_start_matches('+'), number.radix()) {
                    Ok(number) => check_number(key, number),
                    Err(_) => Err(expected(key, number.as_str())),
                }
            }
            other => Err(expected(key, kind_of(other))),
        };
        let value = value.map_err(|why| format!("{dotted} {why}"))?;
        self.entries.insert(key.dotted, Entry { value, origin: Origin::File(line) });
        Ok(())
    }

    fn add_peers(
        &mut self,
        peers: &DeValue<'_>,
        line_at: &dyn Fn(usize) -> usize,
    ) -> Result<(), String> {
        let wrong =
            || "peers are written as [[peers]], each with key, consensus and lanes".to_string();
        let DeValue::Array(peers) = peers else {
            return Err(wrong());
        };
        for peer in peers.iter() {
            let DeValue::Table(table) = peer.get_ref() else {
                return Err(wrong());
            };
            let line = line_at(peer.span().start);
            let mut values = [const { None }; 4];
            for (name, value) in table.iter() {
                let name = name.get_ref().as_ref();
                let Some(place) = PEER_KEYS.iter().position(|known| *known == name) else {
                    return Err(unknown_key("peers", name));
                };
                let DeValue::String(text) = value.get_ref() else {
                    return Err(format!("peers.{name} must be a text"));
                };
                values[place] = Some(text.to_string());
            }
            let [Some(key), Some(consensus), Some(lanes), history] = values else {
                return Err(format!("the entry at line {line} lacks one of key, consensus, lanes"));
            };
            self.peers.push(PeerEntry { line, values: [key, consensus, lanes], history });
        }
        Ok(())
    }

    fn add_environment(
        &mut self,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(), String> {
        for key in &KEYS {
            let variable = key.variable();
            let Some(text) = environment(&variable) else {
                continue;
            };
            let value = parse(key, &text).map_err(|why| format!("{variable} {why}"))?;
            let origin = Origin::Environment(variable);
            self.entries.insert(key.dotted, Entry { value, origin });
        }
        Ok(())
    }

    fn add_flags(&mut self, flags: &Flags) -> Result<(), String> {
        for (dotted, text) in flags {
            let key = schema::find(dotted).expect("flags are named after keys of the schema");
            let value = parse(key, text).map_err(|why| format!("flag for {dotted} {why}"))?;
            self.entries.insert(key.dotted, Entry { value, origin: Origin::Flag });
        }
        Ok(())
    }

    /// Returns the value of a key of the schema.
    pub fn entry(&self, dotted: &str) -> &Entry {
        self.entries.get(dotted).expect("every key of the schema has a default")
    }

    /// Returns the text of a key whose shape is a text.
    pub fn text(&self, dotted: &str) -> &str {
        match &self.entry(dotted).value {
            Value::Text(text) => text,
            Value::Number(_) => unreachable!("the shape of {dotted} is a text"),
        }
    }

    /// Returns the number of a key whose shape is a number.
    pub fn number(&self, dotted: &str) -> u64 {
        match &self.entry(dotted).value {
            Value::Number(number) => *number,
            Value::Text(_) => unreachable!("the shape of {dotted} is a number"),
        }
    }

    /// Returns the `[[peers]]` entries in their order.
    pub fn peers(&self) -> &[PeerEntry] {
        &self.peers
    }
}

/// Reads a value that came as text, and checks it against its key's shape.
fn parse(key: &Key, text: &str) -> Result<Value, String> {
    match key.shape {
        Shape::Number(..) | Shape::Pages(..) => {
            let number = text.parse().map_err(|_| expected(key, &format!("{text:?}")))?;
            check_number(key, number)
        }
        Shape::Choice(words) if !words.contains(&text) => {
            let found = match suggest(text, words.iter().copied()) {
                Some(word) => format!("{text:?}; did you mean {word:?}?"),
                None => format!("{text:?}"),
            };
            Err(expected(key, &found))
        }
        Shape::Address if text.parse::<std::net::SocketAddr>().is_err() => {
            Err(expected(key, &format!("{text:?}")))
        }
        Shape::Cpus if Cpus::parse(text).is_none() => Err(expected(key, &format!("{text:?}"))),
        // Never with what was found: somebody may have written the passphrase itself.
        Shape::Passphrase if Source::parse(text).is_none() => Err(expected(key, "something else")),
        Shape::Path if text.is_empty() => Err(expected(key, "an empty text")),
        Shape::Text
        | Shape::Path
        | Shape::Address
        | Shape::Choice(_)
        | Shape::Cpus
        | Shape::Passphrase => Ok(Value::Text(text.to_string())),
    }
}

const fn is_number(key: &Key) -> bool {
    matches!(key.shape, Shape::Number(..) | Shape::Pages(..))
}

fn check_number(key: &Key, number: u64) -> Result<Value, String> {
    match key.shape {
        Shape::Number(least, most) | Shape::Pages(least, most)
            if number < least || number > most =>
        {
            Err(expected(key, &number.to_string()))
        }
        Shape::Pages(..) if !number.is_multiple_of(4_096) => {
            Err(expected(key, &number.to_string()))
        }
        _ => Ok(Value::Number(number)),
    }
}

fn expected(key: &Key, found: &str) -> String {
    let wanted = match key.shape {
        Shape::Text => "a text".to_string(),
        Shape::Path => "a path".to_string(),
        Shape::Address => "an address such as \"127.0.0.1:4000\"".to_string(),
        Shape::Choice(words) => format!("one of {}", words.join(", ")),
        Shape::Number(least, most) => format!("a whole number from {least} to {most}"),
        Shape::Cpus => "a list of CPUs such as \"0-3,8\", or empty".to_string(),
        Shape::Passphrase => {
            "\"fd:N\", \"credential:NAME\" or empty, and never the passphrase itself".to_string()
        }
        Shape::Pages(least, most) => format!("a multiple of 4096 from {least} to {most}"),
    };
    format!("must be {wanted}, found {found}")
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn tables() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|key| key.split().0).filter(|table| !table.is_empty())
}

fn unknown_table(table: &str) -> String {
    let hint = suggest(table, tables().chain(["peers"]));
    with_hint(format!("unknown table [{table}]"), hint.map(|hint| format!("[{hint}]")))
}

/// Says that a key is unknown, and which one was likely meant: in its table or in another.
fn unknown_key(table: &str, name: &str) -> String {
    if table == "peers" {
        let hint = suggest(name, PEER_KEYS).map(str::to_string);
        return with_hint(format!("unknown key peers.{name}"), hint);
    }
    if !table.is_empty() && !tables().any(|known| known == table) {
        return unknown_table(table);
    }
    let dotted = if table.is_empty() { name.to_string() } else { format!("{table}.{name}") };
    let beside = KEYS.iter().map(Key::split).filter(|(other, _)| *other == table);
    let elsewhere = || KEYS.iter().find(|key| key.split().1 == name).map(|key| key.dotted);
    let hint = elsewhere().or_else(|| suggest(name, beside.map(|(_, name)| name)));
    with_hint(format!("unknown key {dotted}"), hint.map(str::to_string))
}

fn with_hint(what: String, hint: Option<String>) -> String {
    match hint {
        Some(hint) => format!("{what}; did you mean {hint}?"),
        None => format!("{what}; `validator config default` shows all"),
    }
}
