//! What operators and their tools ask: status, health, metrics, and what there is at all.

use super::{Problem, Shared, document::Readiness, fresh_json};
use crate::metrics::CONTENT_TYPE;
use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

const INDEX: &str = "\
Althing, a ledger validator. All answers are JSON unless they say otherwise.

POST /transaction                  the bytes of one signed transaction; 202 once it is accepted
POST /transaction?wait=final       200 once it is final, or 202 after 30 seconds
GET  /transaction/{id}             where it was executed, and what it says
GET  /transaction/{id}/body        the bytes of its body
GET  /account/{key}                balance, and the link that the next transaction must carry
GET  /block/{height}               header, lanes and transactions; `latest` is a height too
GET  /block/{height}?first=N&count=N   another page of its transactions
GET  /proof/transaction/{id}       a file that proves what became of it to who has the genesis alone
GET  /proof/transaction/{id}?height=N   the same of one that was executed long ago
GET  /proof/account/{key}          a file that proves what the account was at the last checkpoint
GET  /proof/absence/{key}          a file that proves that the key had no account then
GET  /verify                       a page that checks such a file in the browser
GET  /council                      who decides, who follows, and what is moved to change that
GET  /evidence                     what validators are proved to have done
GET  /evidence/{digest}            the same as a file that anyone can check
GET  /genesis                      the genesis file
GET  /admission                    the signed key towards which UDP sessions are opened
GET  /status                       the state of this validator
GET  /livez                        200 while the process runs
GET  /readyz                       200 while the validator keeps up, else 503 and why
GET  /metrics                      OpenMetrics text
";

pub(super) async fn index() -> &'static str {
    INDEX
}

pub(super) async fn status(State(shared): State<Shared>) -> Response {
    fresh_json(&*shared.handle.status.snapshot())
}

pub(super) async fn admission(State(shared): State<Shared>) -> Response {
    match shared.handle.admission.current() {
        Some(admission) => fresh_json(&*admission),
        None => Problem::no_sessions().into_response(),
    }
}

pub(super) async fn live() -> &'static str {
    "ok\n"
}

pub(super) async fn ready(State(shared): State<Shared>) -> Response {
    let snapshot = shared.handle.status.snapshot();
    let mut readiness = Readiness { ready: snapshot.ready, reasons: snapshot.reasons.clone() };
    if let Some(refusal) = shared.handle.status.admission().refusal() {
        readiness.ready = false;
        readiness.reasons.push(refusal.help().to_owned());
    }
    let code = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, fresh_json(&readiness)).into_response()
}

pub(super) async fn metrics(State(shared): State<Shared>) -> Response {
    let metrics = &shared.handle.metrics;
    metrics.observe(&shared.handle.status.snapshot());
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], metrics.render()).into_response()
}
