//! Checks a report against the table in `schema.md`, so that the document cannot differ from it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;

/// The published document.
pub const DOCUMENT: &str = include_str!("../../schema.md");

static RULES: LazyLock<BTreeMap<&'static str, Rule>> = LazyLock::new(|| parse(DOCUMENT));

/// What the document says of one key.
#[derive(Debug, PartialEq, Eq)]
struct Rule {
    kind: Kind,
    nullable: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Text,
    OneOf(Vec<&'static str>),
    Integer,
    Number,
    Boolean,
    List,
    Map,
    Object,
}

/// Checks that every key is documented, every documented key there, and every value of its type.
///
/// Errors: the first difference, with its path.
pub fn validate(report: &Value) -> Result<(), String> {
    check_object("", report)
}

fn check(path: &str, value: &Value) -> Result<(), String> {
    let rule = RULES.get(path).ok_or_else(|| format!("`{path}` is not in the schema"))?;
    if value.is_null() {
        return if rule.nullable { Ok(()) } else { Err(format!("`{path}` is null")) };
    }
    let fits = match &rule.kind {
        Kind::Text => value.is_string(),
        Kind::OneOf(names) => value.as_str().is_some_and(|text| names.contains(&text)),
        Kind::Integer => value.is_u64() || value.is_i64(),
        Kind::Number => value.is_number(),
        Kind::Boolean => value.is_boolean(),
        Kind::List => return check_list(path, value),
        Kind::Map => return check_map(path, value),
        Kind::Object => return check_object(path, value),
    };
    if fits { Ok(()) } else { Err(format!("`{path}` is {value}, not {:?}", rule.kind)) }
}

fn check_list(path: &str, value: &Value) -> Result<(), String> {
    let list = value.as_array().ok_or_else(|| format!("`{path}` is no list"))?;
    let element = format!("{path}[]");
    list.iter().try_for_each(|value| check(&element, value))
}

fn check_map(path: &str, value: &Value) -> Result<(), String> {
    let map = value.as_object().ok_or_else(|| format!("`{path}` is no map"))?;
    let element = format!("{path}{{}}");
    map.values().try_for_each(|value| check(&element, value))
}

fn check_object(path: &str, value: &Value) -> Result<(), String> {
    let object = value.as_object().ok_or_else(|| format!("`{path}` is no object"))?;
    let prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
    for (key, value) in object {
        check(&format!("{prefix}{key}"), value)?;
    }
    for documented in RULES.keys() {
        let key = documented.strip_prefix(&prefix).unwrap_or_default();
        let is_child = !key.is_empty() && !key.contains(['.', '[', '{']);
        if is_child && !object.contains_key(key) {
            return Err(format!("`{documented}` is missing"));
        }
    }
    Ok(())
}

/// Reads the rows of the document's table: "| `key` | type | meaning |".
fn parse(document: &'static str) -> BTreeMap<&'static str, Rule> {
    document
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|line| {
            let (key, rest) = line.split_once("` | ").expect("a key ends before its type");
            let (kind, _) = rest.split_once(" | ").expect("a type ends before its meaning");
            (key, parse_rule(kind))
        })
        .collect()
}

fn parse_rule(text: &'static str) -> Rule {
    let (name, nullable) = match text.strip_suffix(" or null") {
        Some(name) => (name, true),
        None => (text, false),
    };
    let kind = match name {
        "string" => Kind::Text,
        "integer" => Kind::Integer,
        "number" => Kind::Number,
        "boolean" => Kind::Boolean,
        "list" => Kind::List,
        "map" => Kind::Map,
        "object" => Kind::Object,
        _ => {
            let names = name.strip_prefix("one of ").expect("the document has no other types");
            Kind::OneOf(names.split(", ").collect())
        }
    };
    Rule { kind, nullable }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::tests::sample;

    fn value() -> Value {
        serde_json::to_value(sample()).unwrap()
    }

    #[test]
    fn a_report_follows_the_document() {
        assert_eq!(validate(&value()), Ok(()));
    }

    #[test]
    fn every_key_of_the_document_is_written() {
        // In the sample each list has an element, and each object is there at least once.
        let mut paths = Vec::new();
        collect("", &value(), &mut paths);
        for documented in RULES.keys() {
            assert!(paths.iter().any(|path| path == documented), "{documented} is never written");
        }
    }

    fn collect(path: &str, value: &Value, paths: &mut Vec<String>) {
        paths.push(path.to_owned());
        match value {
            Value::Array(list) => {
                list.iter().for_each(|value| collect(&format!("{path}[]"), value, paths));
            }
            Value::Object(map) => {
                let is_map = RULES.get(path).is_some_and(|rule| rule.kind == Kind::Map);
                for (key, value) in map {
                    let child = match (is_map, path) {
                        (true, _) => format!("{path}{{}}"),
                        (false, "") => key.clone(),
                        (false, _) => format!("{path}.{key}"),
                    };
                    collect(&child, value, paths);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn differences_are_found_and_named() {
        let change = |pointer: &str, new: Value| {
            let mut value = value();
            *value.pointer_mut(pointer).unwrap() = new;
            validate(&value).unwrap_err()
        };
        assert!(change("/schema", json!("other")).contains("`schema`"));
        assert!(change("/schema_version", json!(1.5)).contains("`schema_version`"));
        assert!(change("/suites/0/state", json!("done")).contains("`suites[].state`"));
        assert!(change("/suites/0/rows", json!({})).contains("no list"));
        assert!(change("/machine/cpu", json!([])).contains("no object"));
        assert!(change("/machine/mitigations", json!([])).contains("no map"));
        assert!(change("/elapsed_s", json!(null)).contains("is null"));
        assert!(change("/machine/build/rivals", json!(0)).contains("rivals"));
    }

    #[test]
    fn missing_and_unknown_keys_are_refused_at_every_depth() {
        let mut without = value();
        without.pointer_mut("/suites/0/rows/0").unwrap().as_object_mut().unwrap().remove("state");
        assert_eq!(validate(&without).unwrap_err(), "`suites[].rows[].state` is missing");
        let mut with = value();
        with["machine"]["cpu"]["color"] = json!("blue");
        assert_eq!(validate(&with).unwrap_err(), "`machine.cpu.color` is not in the schema");
        assert!(validate(&json!({})).unwrap_err().contains("is missing"));
        assert!(validate(&json!(3)).is_err());
    }
}
