//! The council over HTTP: who decides, who follows, and what is moved to change that.

use super::{Shared, document::council::Council, fresh_json};
use axum::{extract::State, response::Response};

pub(super) async fn council(State(shared): State<Shared>) -> Response {
    fresh_json(&Council::new(&shared.handle.terms.council()))
}
