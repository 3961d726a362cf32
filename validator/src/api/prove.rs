//! Proofs over HTTP, and the page that checks them where they are dropped.
//!
//! The page and the genesis come from this validator, so they are no more to be believed than it is: the page
//! shows the digest of the genesis that it used, which its user knows from elsewhere.

use super::{ANSWER_TIME_MAX, Answered, Problem, Shared, read::parse};
use crate::{
    handle::{Query, Unreadable},
    prover::{Failure, Question},
    refusal::Refusal,
    stage::prove::Asked,
};
use axum::{
    body::Body,
    extract::{Path, Query as Parameters, State, rejection::QueryRejection},
    http::{HeaderValue, header},
    response::{Html, IntoResponse, Response},
};
use ledger::{Digest, Height, PublicKey};
use serde::Deserialize;
use std::time::Duration;
use tokio::{
    io::AsyncReadExt as _,
    sync::{Semaphore, oneshot},
    time::Instant,
};

/// Time between two looks for a block that covers what is to be proved: such blocks come by themselves.
const PAUSE: Duration = Duration::from_millis(50);
/// Clients that get the genesis file at the same time, at most.
const DOWNLOADS_MAX: usize = 8;
/// Bytes of the genesis file that are read at a time.
const PIECE_BYTES: usize = 64 * 1_024;

/// The page with everything that it needs; made by `web/build.mjs`.
const PAGE: &str = include_str!("../../web/dist/verify.html");
/// What the page may do: run its own script, and ask this server.
const PAGE_POLICY: &str = include_str!("../../web/dist/verify.csp");

/// What may follow the path of a transaction's proof.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct At {
    height: Option<u64>,
}

pub(super) async fn transaction(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    at: Result<Parameters<At>, QueryRejection>,
) -> Answered<Response> {
    let Parameters(at) = at.map_err(|error| Problem::bad_request(error.body_text()))?;
    let id: Digest = parse("id", &id)?;
    let (height, bytes) = match at.height {
        Some(height) => (Height(height), None),
        None => {
            let view = shared.ask(|reply| Query::Transaction { id, reply }).await?;
            let view = view.map_err(|Unreadable| Problem::unreadable())?;
            let detail = "It is not final here, or was long ago: then say at which ?height=N.";
            let view = view.ok_or_else(|| Problem::not_found(detail))?;
            (view.height, view.bytes)
        }
    };
    let question = Question::Transaction { id, height, bytes };
    shared.prove(&question, &format!("transaction-{id}")).await
}

pub(super) async fn account(
    State(shared): State<Shared>,
    Path(key): Path<String>,
) -> Answered<Response> {
    let key: PublicKey = parse("key", &key)?;
    let question = shared.ask(|reply| Query::State { key, reply }).await?;
    if !is_account(&question) {
        let detail =
            "The key had no account at the last checkpoint; /proof/absence/{key} proves it.";
        return Err(Problem::not_found(detail));
    }
    shared.prove(&question, &format!("account-{key}")).await
}

pub(super) async fn absence(
    State(shared): State<Shared>,
    Path(key): Path<String>,
) -> Answered<Response> {
    let key: PublicKey = parse("key", &key)?;
    let question = shared.ask(|reply| Query::State { key, reply }).await?;
    if is_account(&question) {
        let detail = format!("The key has an account; /proof/account/{key} proves it.");
        return Err(Problem::not_found(detail));
    }
    shared.prove(&question, &format!("absence-{key}")).await
}

const fn is_account(question: &Question) -> bool {
    match question {
        Question::State { state, .. } => !state.is_absence(),
        Question::Transaction { .. } => false,
    }
}

impl Shared {
    /// Asks for a proof until a block covers it.
    async fn prove(&self, question: &Question, name: &str) -> Answered<Response> {
        let until = Instant::now() + ANSWER_TIME_MAX;
        loop {
            let (reply, answer) = oneshot::channel();
            let asked = Asked { question: question.clone(), reply };
            self.handle.prove(asked).map_err(Problem::refused)?;
            let failure = match tokio::time::timeout_at(until, answer).await {
                Ok(Ok(Ok(proof))) => return Ok(file(proof, &format!("{name}.proof"))),
                Ok(Ok(Err(failure))) => failure,
                Ok(Err(_)) => return Err(Problem::unanswered()),
                Err(_) => return Err(Problem::timeout()),
            };
            match failure {
                Failure::NotYet if Instant::now() + PAUSE < until => {
                    tokio::time::sleep(PAUSE).await;
                }
                Failure::NotYet => return Err(Problem::uncovered()),
                Failure::Unknown => {
                    let detail = "It was not executed at that height, or that is kept no more.";
                    return Err(Problem::not_found(detail));
                }
                Failure::Pruned => return Err(Problem::pruned()),
                Failure::Unreadable => return Err(Problem::unreadable()),
            }
        }
    }
}

/// A proof as a file to be kept; a later one would have another header.
pub(super) fn file(proof: Vec<u8>, name: &str) -> Response {
    let disposition = format!("attachment; filename=\"{name}\"");
    let disposition = HeaderValue::try_from(disposition).expect("a name is letters and digits");
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::CONTENT_DISPOSITION, disposition),
    ];
    (headers, proof).into_response()
}

/// The genesis file, piece by piece: it may be larger than all else that a node serves. So few get it at a time.
pub(super) async fn genesis(State(shared): State<Shared>) -> Answered<Response> {
    static DOWNLOADS: Semaphore = Semaphore::const_new(DOWNLOADS_MAX);
    let permit = DOWNLOADS.try_acquire().map_err(|_| Problem::refused(Refusal::Busy))?;
    let absent = |error: std::io::Error| {
        tracing::error!(path = %shared.handle.genesis.display(), %error, "the genesis file is not there");
        Problem::internal()
    };
    let file = tokio::fs::File::open(&shared.handle.genesis).await.map_err(absent)?;
    let length = file.metadata().await.map_err(absent)?.len();
    let pieces = futures::stream::try_unfold((file, permit), async |(mut file, permit)| {
        let mut piece = vec![0; PIECE_BYTES];
        let count = file.read(&mut piece).await?;
        piece.truncate(count);
        Ok::<_, std::io::Error>((count > 0).then_some((piece, (file, permit))))
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CONTENT_LENGTH, HeaderValue::from(length)),
    ];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

pub(super) async fn page() -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY.trim_ascii())),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, Html(PAGE)).into_response()
}
