//! A transaction in words and as JSON, for every command that shows one.

use super::terminal::{Table, printable, thousands};
use ledger::{Height, Kind, Transaction};
use serde_json::{Value, json};

/// Bytes of a body that are shown as text or digits.
const PREVIEW_BYTES: usize = 64;

/// Adds what a transaction says, row by row.
pub fn describe(transaction: &Transaction<'_>, table: &mut Table) {
    table.row(["kind".to_string(), kind_of(transaction).to_string()]);
    table.row(["author".to_string(), transaction.author().to_string()]);
    table.row(["sequence".to_string(), transaction.sequence().to_string()]);
    table.row(["previous".to_string(), transaction.previous().to_string()]);
    let valid_until = match transaction.valid_until() {
        Height(u64::MAX) => "for ever".to_string(),
        height => format!("height {height}"),
    };
    table.row(["valid".to_string(), valid_until]);
    table.row(["size".to_string(), format!("{} bytes", transaction.bytes().len())]);
    match transaction.transfer() {
        Some(transfer) => {
            table.row(["to".to_string(), transfer.to.to_string()]);
            table.row(["amount".to_string(), thousands(transfer.amount)]);
        }
        None => {
            let body = transaction.body();
            table.row(["body".to_string(), format!("{} bytes: {}", body.len(), preview(body))]);
        }
    }
}

/// Adds what a transaction says to a document.
pub fn describe_json(transaction: &Transaction<'_>, document: &mut Value) {
    document["kind"] = json!(kind_of(transaction));
    document["author"] = json!(transaction.author().to_string());
    document["sequence"] = json!(transaction.sequence());
    document["previous"] = json!(transaction.previous().to_string());
    document["valid_until"] = json!(transaction.valid_until().get());
    document["size"] = json!(transaction.bytes().len());
    document["body"] = json!(hex::encode(transaction.body()));
}

fn kind_of(transaction: &Transaction<'_>) -> &'static str {
    match transaction.kind() {
        Kind::Record => "record",
        Kind::Transfer => "transfer",
        Kind::Council => "council",
    }
}

/// Shows the beginning of a body: its first line if it is text, otherwise digits.
fn preview(body: &[u8]) -> String {
    let start = &body[..body.len().min(PREVIEW_BYTES)];
    let text = match std::str::from_utf8(start) {
        Ok(text) => Some(text),
        // The cut may have gone through a character.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&start[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    };
    let is_whole = |shown: usize| if shown < body.len() { ".." } else { "" };
    match text {
        Some(text) => {
            let line = text.lines().next().unwrap_or_default();
            format!("{:?}{}", printable(line), is_whole(line.len()))
        }
        None => format!("{}{}", hex::encode(start), is_whole(start.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preview_is_safe_and_short() {
        assert_eq!(preview(b"# Title\nmore"), "\"# Title\"..");
        assert_eq!(preview(b"one"), "\"one\"");
        assert_eq!(preview(&[0xff, 0x00]), "ff00");
        assert_eq!(preview(b"\x1b[2J"), "\"\u{fffd}[2J\"");
        let long = "\u{e4}".repeat(100);
        assert!(preview(&long.as_bytes()[1..]).ends_with(".."));
        assert!(preview(format!("x{long}").as_bytes()).ends_with("\".."));
    }
}
