//! Errors of the HTTP interface: problem documents with a stable code.
//!
//! Source: RFC 9457.

use crate::{
    handle::{Expected, RETRY_MS, text},
    refusal::Refusal,
};
use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use ledger::Digest;
use serde::{Deserialize, Serialize};

/// The content type of a problem.
const CONTENT_TYPE: &str = "application/problem+json";

/// A problem document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `about:blank`: the title says what the status means, the code says more.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the status means.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// One sentence on this occurrence.
    pub detail: String,
    /// The stable name to act on: of a [`Refusal`], or one of the interface's own.
    pub code: String,
    /// The transaction that is refused, where its bytes are one.
    #[serde(with = "optional_text", default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Digest>,
    /// The sequence that would be taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_sequence: Option<u64>,
    /// The previous id that would be taken.
    #[serde(with = "optional_text", default, skip_serializing_if = "Option::is_none")]
    pub expected_previous: Option<Digest>,
    /// When the same bytes may be sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_ms: Option<u32>,
}

impl Problem {
    /// A problem of the interface itself.
    fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Box<Self> {
        Box::new(Self {
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            code: code.to_owned(),
            id: None,
            expected_sequence: None,
            expected_previous: None,
            retry_ms: None,
        })
    }

    /// The edge or the node is not willing now.
    pub(super) fn refused(refusal: Refusal) -> Box<Self> {
        let status = StatusCode::from_u16(refusal.http_status()).expect("a table of valid codes");
        let mut problem = Self::new(status, refusal.as_str(), refusal.help());
        problem.retry_ms = refusal.retryable().then_some(RETRY_MS);
        problem
    }

    /// A transaction is refused.
    pub(super) fn refused_transaction(
        id: Digest,
        refusal: Refusal,
        expected: Option<Expected>,
        retry_ms: u32,
    ) -> Box<Self> {
        let mut problem = Self::refused(refusal);
        problem.id = Some(id).filter(|id| *id != Digest::ZERO);
        problem.expected_sequence = expected.map(|link| link.sequence);
        problem.expected_previous = expected.map(|link| link.previous);
        problem.retry_ms = Some(retry_ms).filter(|time| *time > 0);
        problem
    }

    /// The request cannot be understood; `detail` says what is wrong with it.
    pub(super) fn bad_request(detail: impl Into<String>) -> Box<Self> {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    /// What was asked for does not exist here.
    pub(super) fn not_found(detail: impl Into<String>) -> Box<Self> {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// What was asked for existed, and its bytes are kept no more.
    pub(super) fn pruned() -> Box<Self> {
        let detail = "The transaction is final, but its bytes are kept no more; ask an archive.";
        Self::new(StatusCode::GONE, "pruned", detail)
    }

    /// What was asked for is here, but its bytes were found damaged.
    pub(super) fn unreadable() -> Box<Self> {
        let detail =
            "Its bytes were found damaged here and are being repaired; try again, or another.";
        let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "unreadable", detail);
        problem.retry_ms = Some(RETRY_MS);
        problem
    }

    /// What was asked for is executed, and no certified block declares it yet.
    pub(super) fn uncovered() -> Box<Self> {
        let detail =
            "No certified block declares it yet, as it does within some blocks; try again.";
        let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "uncovered", detail);
        problem.retry_ms = Some(RETRY_MS);
        problem
    }

    /// There is no key yet towards which a session could be opened.
    pub(super) fn no_sessions() -> Box<Self> {
        let detail = "This validator opens no UDP sessions yet; try again, or use TCP or HTTP.";
        let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "no_sessions", detail);
        problem.retry_ms = Some(RETRY_MS);
        problem
    }

    /// The path exists, with another method.
    pub(super) fn method_not_allowed() -> Box<Self> {
        let detail = "The path takes another method; GET / lists what there is.";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
    }

    /// The body did not arrive in time.
    pub(super) fn slow_body() -> Box<Self> {
        let detail = "The body did not arrive in time; send it again.";
        Self::new(StatusCode::REQUEST_TIMEOUT, "slow_body", detail)
    }

    /// The node took too long.
    pub(super) fn timeout() -> Box<Self> {
        let detail = "The validator did not answer in time; it may be overloaded: try again.";
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", detail)
    }

    /// The node dropped the question: it stops.
    pub(super) fn unanswered() -> Box<Self> {
        let detail = "The validator dropped the request, as it does when it stops; try another.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unanswered", detail)
    }

    /// The node's own data does not read back.
    pub(super) fn internal() -> Box<Self> {
        let detail = "The validator cannot read its own record; its operator must look at the log.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }
}

impl IntoResponse for Box<Problem> {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).expect("made from a valid status");
        let body = serde_json::to_vec(&*self).expect("text and numbers always serialize");
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE)),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        let mut response = (status, headers, body).into_response();
        if let Some(milliseconds) = self.retry_ms {
            // Whole seconds, at least one: RFC 9110, section 10.2.3.
            let seconds = milliseconds.div_ceil(1_000).max(1);
            let name: HeaderName = header::RETRY_AFTER;
            response.headers_mut().insert(name, HeaderValue::from(seconds));
        }
        response
    }
}

/// [`text`] for a value that may be absent.
mod optional_text {
    use super::{Digest, text};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        value: &Option<Digest>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(digest) => text::serialize(digest, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Digest>, D::Error> {
        #[derive(Deserialize)]
        struct Text(#[serde(with = "text")] Digest);
        Ok(Option::<Text>::deserialize(deserializer)?.map(|Text(digest)| digest))
    }
}
