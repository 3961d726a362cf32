//! Reading the ledger over HTTP: accounts, transactions and blocks as executed and durable here.

use super::{Answered, Problem, Shared, document, fresh_json};
use crate::handle::{BlockView, Query, Unreadable};
use axum::{
    Json,
    extract::{Path, Query as Parameters, State, rejection::QueryRejection},
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use ledger::{Cut, Digest, Height, Kind, PublicKey, Transaction};
use serde::Deserialize;
use std::{collections::BTreeMap, fmt::Display, str::FromStr};

/// Transactions of a block in one answer, at most: about 130 KiB of JSON.
pub(super) const PAGE_MAX: u32 = 1_000;

/// What may follow the path of a block.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Page {
    first: u32,
    count: u32,
}

impl Default for Page {
    fn default() -> Self {
        Self { first: 0, count: PAGE_MAX }
    }
}

pub(super) async fn account(
    State(shared): State<Shared>,
    Path(key): Path<String>,
) -> Answered<Response> {
    let key: PublicKey = parse("key", &key)?;
    let view = shared.ask(|reply| Query::Account { key, reply }).await?;
    let detail = "There is no account with this key; a transfer to it makes one.";
    let view = view.ok_or_else(|| Problem::not_found(detail))?;
    Ok(fresh_json(&document::Account {
        key,
        balance: view.balance,
        sequence: view.sequence,
        head: view.head,
        pending_sequence: view.pending_sequence,
        pending_head: view.pending_head,
    }))
}

pub(super) async fn transaction(
    State(shared): State<Shared>,
    Path(id): Path<String>,
) -> Answered<Response> {
    let id: Digest = parse("id", &id)?;
    let view = shared.ask(|reply| Query::Transaction { id, reply }).await?;
    let Some(view) = view.map_err(|Unreadable| Problem::unreadable())? else {
        let status = document::UNKNOWN.to_owned();
        return Ok(fresh_json(&document::Transaction { id, status, place: None, content: None }));
    };
    let content = match &view.bytes {
        None => None,
        Some(bytes) => Some(content(&decode(id, bytes)?)),
    };
    let place = document::Place {
        height: view.height.get(),
        index: view.index,
        outcome: view.outcome.as_str().to_owned(),
    };
    let status = document::FINAL.to_owned();
    Ok(Json(document::Transaction { id, status, place: Some(place), content }).into_response())
}

pub(super) async fn body(
    State(shared): State<Shared>,
    Path(id): Path<String>,
) -> Answered<Response> {
    let id: Digest = parse("id", &id)?;
    let view = shared.ask(|reply| Query::Transaction { id, reply }).await?;
    let view = view.map_err(|Unreadable| Problem::unreadable())?;
    let view = view.ok_or_else(|| Problem::not_found("The transaction is not final here."))?;
    let bytes = view.bytes.ok_or_else(Problem::pruned)?;
    let body = decode(id, &bytes)?.body().to_vec();
    // The bytes are a stranger's: no browser may take them for a page of this site.
    let headers: [(HeaderName, HeaderValue); 3] = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment")),
    ];
    Ok((headers, body).into_response())
}

pub(super) async fn block(
    State(shared): State<Shared>,
    Path(height): Path<String>,
    page: Result<Parameters<Page>, QueryRejection>,
) -> Answered<Response> {
    let Parameters(page) = page.map_err(|error| Problem::bad_request(error.body_text()))?;
    if page.count == 0 || page.count > PAGE_MAX {
        return Err(Problem::bad_request(format!("count: 1 to {PAGE_MAX} transactions")));
    }
    let height = match height.as_str() {
        "latest" => Height(shared.handle.status.snapshot().executed_height),
        number => Height(parse("height", number)?),
    };
    let view = shared.ask(|reply| Query::Block { height, reply }).await?;
    let view = view.map_err(|Unreadable| Problem::unreadable())?;
    let detail = "There is no executed block of this height here, or it is kept no more.";
    let view = view.ok_or_else(|| Problem::not_found(detail))?;
    Ok(fresh_json(&describe(&view, &page)?))
}

/// Reads a part of the path.
pub(super) fn parse<T>(name: &str, text: &str) -> Answered<T>
where
    T: FromStr,
    T::Err: Display,
{
    text.parse().map_err(|error| Problem::bad_request(format!("{name}: {error}")))
}

/// Decodes the bytes that the node keeps of a final transaction.
fn decode(id: Digest, bytes: &[u8]) -> Answered<Transaction<'_>> {
    Transaction::decode(bytes).map_err(|reject| {
        tracing::error!(%id, %reject, "stored transaction does not decode");
        Problem::internal()
    })
}

pub(super) fn content(transaction: &Transaction<'_>) -> document::Content {
    let kind = match transaction.kind() {
        Kind::Record => "record",
        Kind::Transfer => "transfer",
        Kind::Council => "council",
    };
    let transfer = transaction
        .transfer()
        .map(|transfer| document::Transfer { to: transfer.to, amount: transfer.amount });
    document::Content {
        kind: kind.to_owned(),
        author: transaction.author(),
        sequence: transaction.sequence(),
        previous: transaction.previous(),
        valid_until: transaction.valid_until().get(),
        size: transaction.bytes().len() as u64,
        body_bytes: transaction.body().len() as u64,
        transfer,
    }
}

/// Puts a block into words; the page decides which of its transactions are listed.
fn describe(view: &BlockView, page: &Page) -> Answered<document::Block> {
    let cut = Cut::decode(&view.cut).map_err(|reject| {
        tracing::error!(height = view.height.get(), %reject, "stored cut does not decode");
        Problem::internal()
    })?;
    let lanes = cut.lanes.iter().map(|certificate| document::Lane {
        lane: certificate.lane,
        sequence: certificate.sequence,
        digest: certificate.digest,
        signers: index(certificate.signers.count()),
    });
    let mut outcomes = BTreeMap::new();
    for (_, outcome) in &view.outcomes {
        *outcomes.entry(outcome.as_str().to_owned()).or_insert(0) += 1;
    }
    let listed = view.outcomes.iter().zip(0_u32..).map(|((id, outcome), index)| {
        document::Executed { index, id: *id, outcome: outcome.as_str().to_owned() }
    });
    let after = page.first.saturating_add(page.count);
    let transactions_count = index(view.outcomes.len());
    Ok(document::Block {
        height: view.height.get(),
        digest: view.digest,
        epoch: cut.epoch,
        view: cut.view.get(),
        parent: cut.parent,
        time_ms: cut.time_ms,
        executed_height: cut.executed.get(),
        history_root: cut.history_root,
        state_root: cut.state_root,
        set: cut.set,
        next_set: cut.next_set,
        size: view.cut.len() as u64,
        certificate: view.certificate.is_some(),
        lanes: lanes.collect(),
        transactions_count,
        outcomes,
        transactions: listed.filter(|one| (page.first..after).contains(&one.index)).collect(),
        next: (after < transactions_count).then_some(after),
    })
}

/// A count of a block's parts, which the format keeps below 2^32.
fn index(count: usize) -> u32 {
    u32::try_from(count).expect("a block has fewer than 2^32 parts of any kind")
}
