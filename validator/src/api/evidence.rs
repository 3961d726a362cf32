//! Evidence over HTTP: what is kept, and each as a file that convinces anyone who has the genesis.

use super::{Answered, Problem, Shared, document, fresh_json, prove::file, read::parse};
use axum::{
    extract::{Path, State},
    response::Response,
};
use ledger::Digest;

pub(super) async fn list(State(shared): State<Shared>) -> Response {
    let all = shared.handle.evidence.all();
    let kept = all.iter().map(|kept| document::Evidence::new(kept.digest, &kept.evidence));
    fresh_json(&kept.collect::<Vec<_>>())
}

pub(super) async fn one(
    State(shared): State<Shared>,
    Path(digest): Path<String>,
) -> Answered<Response> {
    let digest: Digest = parse("digest", &digest)?;
    let all = shared.handle.evidence.all();
    let kept = all.iter().find(|kept| kept.digest == digest);
    let kept = kept.ok_or_else(|| Problem::not_found("No such evidence is kept here."))?;
    Ok(file(kept.bytes.clone(), &format!("{digest}.{}", crate::evidence::SUFFIX)))
}
