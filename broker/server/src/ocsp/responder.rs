//! Requests to OCSP responders over HTTP. Not what is in them.

use std::{sync::OnceLock, time::Duration};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, Uri, body::Bytes};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::sync::Semaphore;
use weir_conf::TlsOptions;

use crate::io_reason;

/// The largest answer that is read.
const MAX_ANSWER_BYTES: usize = 128 * 1024;
/// So many requests may be under way at once.
const MAX_REQUESTS: usize = 32;

type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Asks responders.
pub(super) struct Responder {
    plain: OnceLock<Result<HttpClient, String>>,
    /// Made when a responder first wants TLS: reading the authorities takes a while.
    secure: OnceLock<Result<HttpClient, String>>,
    slots: Semaphore,
}

/// An answer of any status.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

impl Responder {
    pub(super) fn new() -> Self {
        Self { plain: OnceLock::new(), secure: OnceLock::new(), slots: Semaphore::new(MAX_REQUESTS) }
    }

    pub(super) async fn get(&self, url: &str, limit: Duration) -> Result<Answer, String> {
        self.ask("Get", url, Request::builder().method(Method::GET), Bytes::new(), limit).await
    }

    pub(super) async fn post(&self, url: &str, body: Vec<u8>, limit: Duration) -> Result<Answer, String> {
        let request = Request::builder()
            .method(Method::POST)
            .header("Content-Type", "application/ocsp-request")
            .header("Accept", "application/ocsp-response");
        self.ask("Post", url, request, body.into(), limit).await
    }

    async fn ask(
        &self,
        verb: &str,
        url: &str,
        request: hyper::http::request::Builder,
        body: Bytes,
        limit: Duration,
    ) -> Result<Answer, String> {
        let asking = async {
            let _slot = self.slots.acquire().await.map_err(|error| error.to_string())?;
            self.send(url, request, body).await
        };
        let late =
            || Err("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned());
        let outcome = tokio::time::timeout(limit, asking).await.unwrap_or_else(|_| late());
        outcome.map_err(|reason| format!("{verb} {url:?}: {reason}"))
    }

    async fn send(
        &self,
        url: &str,
        request: hyper::http::request::Builder,
        body: Bytes,
    ) -> Result<Answer, String> {
        let uri: Uri = url.parse().map_err(|error| format!("invalid URL: {error}"))?;
        let address = uri.authority().map(ToString::to_string).unwrap_or_default();
        let made = match uri.scheme_str() {
            // Without TLS no authorities are needed, and there may be none.
            Some("http") => {
                self.plain.get_or_init(|| client(&TlsOptions { insecure: true, ..TlsOptions::default() }))
            }
            Some("https") => self.secure.get_or_init(|| client(&TlsOptions::default())),
            other => return Err(format!("unsupported protocol scheme {:?}", other.unwrap_or_default())),
        };
        let client = made.as_ref().map_err(Clone::clone)?;
        let request = request.uri(uri).body(Full::new(body)).map_err(|error| error.to_string())?;
        let response = client.request(request).await.map_err(|error| reason(&error, &address))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes().to_vec();
        Ok(Answer { status, body })
    }
}

fn client(options: &TlsOptions) -> Result<HttpClient, String> {
    let config = weir_net::tls::client_config(options)?.rustls_config();
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build();
    Ok(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector))
}

/// The innermost reason, in the words of Go where it is about a connection.
fn reason(error: &(dyn std::error::Error + 'static), address: &str) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    match innermost.downcast_ref::<std::io::Error>() {
        Some(error) => format!("dial tcp {address}: connect: {}", io_reason(error)),
        None => innermost.to_string(),
    }
}
