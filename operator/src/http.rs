//! `/healthz` and `/metrics` of the operator.
use std::net::SocketAddr;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;

use crate::metrics::Metrics;

/// Serves until the process ends.
pub async fn serve(address: SocketAddr, metrics: Metrics) -> anyhow::Result<()> {
    let render = move || {
        let metrics = metrics.clone();
        async move { metrics.render().map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())) }
    };
    let router = Router::new().route("/healthz", get(|| async { "ok\n" })).route("/metrics", get(render));
    let listener = tokio::net::TcpListener::bind(address).await?;
    axum::serve(listener, router).await?;
    Ok(())
}
