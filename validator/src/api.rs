//! HTTP: submit, read, status, health and metrics, on a runtime of its own.
//!
//! It lives on one thread named `api`, together with the clients' TCP connections, and shares
//! nothing with the stages but bounded queues and the status board: so it answers while the node
//! catches up, and a flood of requests costs the stages only what they take from their queue.
//!
//! | request | answer |
//! |---|---|
//! | `POST /transaction[?wait=final]` | 202 accepted, 200 final, or why not |
//! | `GET /transaction/{id}` | where it was executed and what it says, or `unknown` |
//! | `GET /transaction/{id}/body` | the bytes of its body |
//! | `GET /account/{key}` | balance, and the link that its next transaction must carry |
//! | `GET /block/{height}[?first=N&count=N]` | header, lanes, transactions; or `latest` |
//! | `GET /proof/transaction/{id}[?height=N]` | a [`ledger::Proof`] of what became of it |
//! | `GET /proof/account/{key}`, `/proof/absence/{key}` | the same of a key, at the last checkpoint |
//! | `GET /verify` | a page that checks proofs where they are dropped |
//! | `GET /council` | who decides, who follows, and what is moved to change that |
//! | `GET /evidence`, `/evidence/{digest}` | what validators are proved to have done, each as a file |
//! | `GET /genesis` | the genesis file |
//! | `GET /admission` | [`crate::admission::Admission`], towards which UDP sessions are opened |
//! | `GET /status` | [`crate::handle::Status`] |
//! | `GET /livez`, `/readyz` | whether the process runs, whether it keeps up (503 and why) |
//! | `GET /metrics` | OpenMetrics text |
//!
//! Every error is an RFC 9457 problem document with a stable `code`.

mod connection;
mod council;
pub mod document;
mod evidence;
mod probe;
mod problem;
mod prove;
mod read;
mod submit;

pub use problem::Problem;

use crate::{
    handle::{NodeHandle, Stop},
    ingest::{
        accept_on,
        seats::{Mark, Seats, affordable},
        tcp,
    },
    metrics::{HttpLabel, TrafficLabel},
};
use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use std::{io, net::TcpListener, sync::Arc, time::Duration};

/// HTTP connections at the same time, at most, where the limit of open files allows as many.
pub const CONNECTIONS_MAX: usize = 256;
/// Time for the body of a request.
pub const BODY_TIME_MAX: Duration = Duration::from_secs(10);
/// Time for the node to take a transaction or to answer a question.
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// Time that a request with `wait=final` waits before it is answered `accepted`.
pub const FINAL_TIME_MAX: Duration = Duration::from_secs(30);
/// Turns of tasks before timers and new packets are looked at: a turn of a busy connection takes up
/// to a tenth of a millisecond, and a health check shall not wait longer than a few of them.
const TURNS_MAX: u32 = 16;
/// Time for requests under way when the validator stops.
const STOP_TIME_MAX: Duration = Duration::from_secs(1);

const PATH: &str = "http";

/// The bound sockets of the edge's asynchronous half.
#[derive(Debug)]
pub struct Listeners {
    /// For HTTP; see [`crate::ingest::listen`].
    pub http: TcpListener,
    /// For the protocol of [`crate::wire`].
    pub tcp: TcpListener,
}

/// What every handler knows.
#[derive(Clone, Debug)]
struct Shared {
    handle: NodeHandle,
    stop: Stop,
}

/// Makes the runtime and serves both listeners until `stop`; it then ends within a second. This is
/// the whole life of the thread `api`.
///
/// Errors: the system denies what a runtime needs, or a listener cannot be used.
pub fn run(listeners: Listeners, handle: NodeHandle, stop: Stop) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(TURNS_MAX)
        .build()?;
    let Listeners { http, tcp } = listeners;
    let tcp = tcp::serve(tcp, handle.clone(), stop.clone());
    let http = serve(http, handle, stop);
    runtime.block_on(async { tokio::try_join!(tcp, http).map(drop) })
}

/// Serves HTTP until `stop`; it then ends within a second.
///
/// It runs on the caller's runtime, which must have time and I/O enabled.
///
/// Errors: the listener cannot be used by this runtime.
pub async fn serve(listener: TcpListener, handle: NodeHandle, stop: Stop) -> io::Result<()> {
    let seats = affordable(CONNECTIONS_MAX, CONNECTIONS_MAX + tcp::CONNECTIONS_MAX);
    serve_http(listener, handle, stop, seats, connection::PROGRESS_TIME_MAX).await
}

async fn serve_http(
    listener: TcpListener,
    handle: NodeHandle,
    stop: Stop,
    seats: usize,
    progress_time_max: Duration,
) -> io::Result<()> {
    let listener = accept_on(listener)?;
    let seats = Seats::new(PATH, seats, Arc::clone(&handle.metrics));
    let listener = connection::Listener::new(listener, seats, progress_time_max);
    let service = router(Shared { handle, stop: stop.clone() })
        .into_make_service_with_connect_info::<connection::Peer>();
    let stopping = stop.clone();
    let server = axum::serve(listener, service)
        .with_graceful_shutdown(async move { stopping.stopped().await });
    tokio::select! {
        served = server => served,
        () = async { stop.stopped().await; tokio::time::sleep(STOP_TIME_MAX).await } => Ok(()),
    }
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/", get(probe::index))
        .route("/transaction", post(submit::submit))
        .route("/transaction/{id}", get(read::transaction))
        .route("/transaction/{id}/body", get(read::body))
        .route("/account/{key}", get(read::account))
        .route("/block/{height}", get(read::block))
        .route("/proof/transaction/{id}", get(prove::transaction))
        .route("/proof/account/{key}", get(prove::account))
        .route("/proof/absence/{key}", get(prove::absence))
        .route("/council", get(council::council))
        .route("/evidence", get(evidence::list))
        .route("/evidence/{digest}", get(evidence::one))
        .route("/genesis", get(prove::genesis))
        .route("/verify", get(prove::page))
        .route("/admission", get(probe::admission))
        .route("/status", get(probe::status))
        .route("/livez", get(probe::live))
        .route("/readyz", get(probe::ready))
        .route("/metrics", get(probe::metrics))
        .fallback(async || Problem::not_found("There is nothing here; GET / lists what there is."))
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(middleware::from_fn_with_state(shared.clone(), watch))
        .with_state(shared)
}

/// Counts a request, and keeps its connection from being thrown out while it is served.
async fn watch(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let mark: Option<&ConnectInfo<connection::Peer>> = request.extensions().get();
    let served = mark.map(|ConnectInfo(peer)| Mark::serve(&peer.mark));
    let packets = |dir| TrafficLabel { dir, path: PATH };
    let metrics = &shared.handle.metrics;
    metrics.net_packets.get_or_create(&packets("in")).inc();
    let response = next.run(request).await;
    metrics.net_packets.get_or_create(&packets("out")).inc();
    let status = response.status().as_u16();
    metrics.api_responses.get_or_create(&HttpLabel { status }).inc();
    drop(served);
    response
}

impl Shared {
    /// Asks execution and waits for the answer.
    ///
    /// Errors: the queue is full, the validator stops, or it took too long.
    async fn ask<T>(
        &self,
        query: impl FnOnce(tokio::sync::oneshot::Sender<T>) -> crate::handle::Query,
    ) -> Answered<T> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.handle.query(query(reply)).map_err(Problem::refused)?;
        match tokio::time::timeout(ANSWER_TIME_MAX, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(Problem::unanswered()),
            Err(_) => Err(Problem::timeout()),
        }
    }
}

/// A handler's result: an answer, or why there is none.
type Answered<T> = Result<T, Box<Problem>>;

/// JSON that nobody may keep, since the next one differs.
fn fresh_json<T: serde::Serialize>(document: &T) -> Response {
    let no_store = [(axum::http::header::CACHE_CONTROL, "no-store")];
    (no_store, axum::Json(document)).into_response()
}

#[cfg(test)]
mod tests;
