//! `POST /transaction`: the bytes of one transaction in, its fate out.

use super::{
    ANSWER_TIME_MAX, Answered, BODY_TIME_MAX, FINAL_TIME_MAX, Problem, Shared,
    document::{ACCEPTED, FINAL, Submitted},
};
use crate::{
    handle::{Answer, Reply},
    refusal::Refusal,
};
use axum::{
    Json,
    body::Body,
    extract::{Query, Request, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::StreamExt;
use ledger::{Digest, Height, Outcome};
use serde::Deserialize;
use tokio::{sync::mpsc, time::timeout};

/// What may follow the path.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    wait: Option<Wait>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Wait {
    Final,
}

pub(super) async fn submit(
    State(shared): State<Shared>,
    options: Result<Query<Options>, QueryRejection>,
    request: Request,
) -> Answered<Response> {
    let Query(options) = options.map_err(|error| Problem::bad_request(error.body_text()))?;
    let wants_final = options.wait == Some(Wait::Final);
    let bytes_max = shared.handle.limits.transaction_bytes_max;
    let bytes_max = usize::try_from(bytes_max).expect("usize has at least 32 bits");
    if announced(request.headers()).is_some_and(|bytes| bytes > bytes_max as u64) {
        return Err(too_large());
    }
    let body = timeout(BODY_TIME_MAX, collect(request.into_body(), bytes_max));
    let bytes = body.await.map_err(|_| Problem::slow_body())??;
    let (reply, mut answers) = Reply::http(wants_final);
    shared.handle.submit(bytes, reply);
    let first = timeout(ANSWER_TIME_MAX, answers.recv()).await.map_err(|_| Problem::timeout())?;
    match first {
        None => Err(Problem::unanswered()),
        Some(Answer::Refused { id, refusal, expected, retry_ms }) => {
            Err(Problem::refused_transaction(id, refusal, expected, retry_ms))
        }
        Some(Answer::Final { id, height, outcome }) => Ok(is_final(id, height, outcome)),
        Some(Answer::Accepted { id } | Answer::Unknown { id }) if wants_final => {
            Ok(wait(&shared, id, &mut answers).await)
        }
        Some(Answer::Accepted { id } | Answer::Unknown { id }) => Ok(accepted(id)),
    }
}

/// Waits until an accepted transaction is final, but not for ever: a client asks again.
async fn wait(shared: &Shared, id: Digest, answers: &mut mpsc::Receiver<Answer>) -> Response {
    let last = async {
        while let Some(answer) = answers.recv().await {
            if let Answer::Final { id, height, outcome } = answer {
                return Some(is_final(id, height, outcome));
            }
        }
        None
    };
    tokio::select! {
        response = timeout(FINAL_TIME_MAX, last) => {
            response.ok().flatten().unwrap_or_else(|| accepted(id))
        }
        () = shared.stop.stopped() => accepted(id),
    }
}

/// The size that the client says it will send.
fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Collects a body that is no longer than it may be.
async fn collect(body: Body, bytes_max: usize) -> Answered<Vec<u8>> {
    let mut pieces = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| Problem::bad_request("The body ended early."))?;
        if piece.len() > bytes_max - bytes.len() {
            return Err(too_large());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

fn too_large() -> Box<Problem> {
    Problem::refused(Refusal::TooLarge)
}

fn accepted(id: Digest) -> Response {
    let document = Submitted { id, status: ACCEPTED.to_owned(), height: None, outcome: None };
    let location = [(header::LOCATION, format!("/transaction/{id}"))];
    (StatusCode::ACCEPTED, location, Json(document)).into_response()
}

fn is_final(id: Digest, height: Height, outcome: Outcome) -> Response {
    let document = Submitted {
        id,
        status: FINAL.to_owned(),
        height: Some(height.get()),
        outcome: Some(outcome.as_str().to_owned()),
    };
    Json(document).into_response()
}
