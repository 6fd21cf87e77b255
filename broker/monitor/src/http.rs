//! The HTTP side: paths, headers, and the count of requests.

use std::{future::Future, sync::Arc};

pub use axum::serve::Listener;
use axum::{
    Router,
    extract::{Query as Parameters, State},
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::{
    Source, accountz, connz, healthz, index, internals, json, jsz, metrics, peers,
    query::{Query, Refused},
    routez, subsz, varz,
};

/// The endpoints over one source.
#[derive(Clone)]
pub struct Monitor {
    inner: Arc<Inner>,
}

struct Inner {
    source: Arc<dyn Source>,
}

type Pairs = Parameters<Vec<(String, String)>>;

/// An endpoint that renders JSON from the source and the query.
type Render = fn(&Inner, &Query) -> Result<String, Refused>;

const ENDPOINTS: &[(&str, Render)] = &[
    ("/varz", |inner, _| {
        let source = inner.source.as_ref();
        Ok(json::indented(&varz::varz(source, source.http_requests())))
    }),
    ("/connz", |inner, query| connz::connz(inner.source.as_ref(), query).map(|v| json::indented(&v))),
    ("/routez", |inner, query| routez::routez(inner.source.as_ref(), query).map(|v| json::indented(&v))),
    ("/subsz", |inner, query| subsz::subsz(inner.source.as_ref(), query).map(|v| json::indented(&v))),
    ("/subscriptionsz", |inner, query| {
        subsz::subsz(inner.source.as_ref(), query).map(|v| json::indented(&v))
    }),
    ("/jsz", |inner, query| jsz::jsz(inner.source.as_ref(), query).map(|v| json::indented(&v))),
    ("/accountz", |inner, query| {
        accountz::accountz(inner.source.as_ref(), query).map(|v| json::indented(&v))
    }),
    ("/accstatz", |inner, query| {
        accountz::accstatz(inner.source.as_ref(), query).map(|v| json::indented(&v))
    }),
    ("/gatewayz", |inner, query| peers::gatewayz(inner.source.as_ref(), query).map(|v| json::indented(&v))),
    ("/leafz", |inner, query| peers::leafz(inner.source.as_ref(), query).map(|v| json::indented(&v))),
    ("/ipqueuesz", |inner, query| {
        internals::ipqueuesz(inner.source.as_ref(), query).map(|v| json::indented(&v))
    }),
    ("/debug/vars", |inner, _| Ok(json::indented(&internals::variables(inner.source.as_ref())))),
    ("/stacksz", |_, _| Ok("stacks are a Go runtime's; use a profiler of the system instead\n".to_owned())),
];

impl Monitor {
    /// The endpoints over `source`.
    pub fn new(source: Arc<dyn Source>) -> Self {
        Self { inner: Arc::new(Inner { source }) }
    }

    /// The routes, below `base_path` (empty, or with a leading slash).
    pub fn router(&self, base_path: &str) -> Router {
        let path = |name: &str| format!("{base_path}{name}");
        let root = if base_path.is_empty() { "/".to_owned() } else { base_path.to_owned() };
        let mut router = Router::new()
            .route(&root, get(show_index))
            .route(&path("/healthz"), get(show_health))
            .route(&path("/raftz"), get(show_raft_groups))
            .route(&path("/metrics"), get(show_metrics));
        for &(name, render) in ENDPOINTS {
            let show = move |State(inner): State<Arc<Inner>>, Parameters(pairs): Pairs| async move {
                if name == "/varz" {
                    inner.count(name);
                }
                let answer = render(&inner, &Query::new(pairs));
                // As in the reference: some endpoints count only requests whose parameters can be read.
                let is_unreadable =
                    answer.as_ref().is_err_and(|refused| refused.starts_with("Error decoding"));
                match name {
                    "/varz" | "/ipqueuesz" | "/stacksz" | "/debug/vars" => {}
                    "/connz" | "/routez" if is_unreadable => {}
                    "/subscriptionsz" => inner.count("/subsz"),
                    _ => inner.count(name),
                }
                match answer {
                    Ok(body) => json_response(StatusCode::OK, body),
                    Err(refused) => bad_request(refused),
                }
            };
            router = router.route(&path(name), get(show));
        }
        router.fallback(not_found).with_state(Arc::clone(&self.inner))
    }
}

impl Inner {
    fn count(&self, path: &'static str) {
        self.source.count_http_request(path);
    }
}

async fn show_index(State(inner): State<Arc<Inner>>) -> Response {
    inner.count("/");
    let settings = inner.source.server().settings;
    let page = index::page(&settings.server_name, &settings.version, &settings.http_base_path);
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
}

async fn show_health(State(inner): State<Arc<Inner>>, Parameters(pairs): Pairs) -> Response {
    inner.count("/healthz");
    match healthz::healthz(inner.source.as_ref(), &Query::new(pairs)) {
        Ok(answer) => {
            let status = StatusCode::from_u16(answer.status);
            json_response(status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE), answer.body)
        }
        Err(refused) => bad_request(refused),
    }
}

async fn show_raft_groups(State(inner): State<Arc<Inner>>, Parameters(pairs): Pairs) -> Response {
    match internals::raftz(inner.source.as_ref(), &Query::new(pairs)) {
        Some(groups) => json_response(StatusCode::OK, json::indented(&groups)),
        None => (StatusCode::NOT_FOUND, "No Raft nodes registered").into_response(),
    }
}

async fn show_metrics(State(inner): State<Arc<Inner>>) -> Response {
    inner.count("/metrics");
    let page = metrics::metrics(inner.source.as_ref());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page).into_response()
}

async fn not_found(_: Uri) -> Response {
    let text = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (StatusCode::NOT_FOUND, text, "404 page not found\n").into_response()
}

fn json_response(status: StatusCode, body: String) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")];
    (status, headers, body).into_response()
}

fn bad_request(refused: Refused) -> Response {
    let text = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (StatusCode::BAD_REQUEST, text, refused).into_response()
}

/// Serves until `stop` ends; connections that are open then are cut.
pub async fn serve<L: Listener>(
    listener: L,
    monitor: Monitor,
    base_path: &str,
    stop: impl Future<Output = ()>,
) where
    L::Addr: std::fmt::Debug,
{
    let router = monitor.router(base_path);
    let served = async { axum::serve(listener, router).await };
    tokio::select! {
        result = served => {
            if let Err(error) = result {
                tracing::error!("monitoring ended: {error}");
            }
        }
        () = stop => {}
    }
}
