//! Requests to the JetStream API of a broker, and what can come back.
use async_nats::Client;
use async_nats::client::RequestErrorKind;
use serde_json::Value;

use crate::api::v1alpha1::Cluster;
use crate::connections::ConnectError;
use crate::context::Context;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// JetStream says no.
    #[error("{description} (JetStream error {err_code})")]
    Api {
        /// HTTP-like code.
        code: u64,
        /// JetStream's own code.
        err_code: u64,
        /// Its text.
        description: String,
    },
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Nobody answered.
    #[error("no answer from JetStream: {0}")]
    NoAnswer(String),
    /// The answer cannot be read.
    #[error("JetStream answered something else than JSON: {0}")]
    Unreadable(serde_json::Error),
}

impl RequestError {
    /// Whether JetStream gave this code.
    pub fn is_code(&self, wanted: u64) -> bool {
        matches!(self, Self::Api { err_code, .. } if *err_code == wanted)
    }
}

/// The JetStream API of one Cluster.
pub struct JetStream<'a> {
    context: &'a Context,
    cluster: &'a Cluster,
    client: Client,
}

impl<'a> JetStream<'a> {
    /// Uses the connection to a Cluster, or makes one.
    pub async fn connect(context: &'a Context, cluster: &'a Cluster) -> Result<Self, ConnectError> {
        let client = context.connections.get(context, cluster).await?;
        Ok(Self { context, cluster, client })
    }

    /// Asks once. `what` names the request in the metrics. The subject is that after `$JS.API.`.
    pub async fn request(&self, what: &str, subject: &str, body: &Value) -> Result<Value, RequestError> {
        let answer = self.ask(subject, body).await;
        let result = if answer.is_ok() { "ok" } else { "error" };
        self.context.metrics.broker_requests.with_label_values(&[what, result]).inc();
        answer
    }

    async fn ask(&self, subject: &str, body: &Value) -> Result<Value, RequestError> {
        let payload = body.to_string().into();
        let answer = self.client.request(format!("$JS.API.{subject}"), payload).await.map_err(|error| {
            if error.kind() != RequestErrorKind::NoResponders {
                // Perhaps the connection itself: the next request makes another.
                self.context.connections.close(self.cluster);
            }
            RequestError::NoAnswer(error.to_string())
        })?;
        let answer: Value = serde_json::from_slice(&answer.payload).map_err(RequestError::Unreadable)?;
        match answer.get("error") {
            None => Ok(answer),
            Some(error) => {
                let number = |key: &str| error.get(key).and_then(Value::as_u64).unwrap_or(0);
                let description = error.get("description").and_then(Value::as_str).unwrap_or("error");
                Err(RequestError::Api {
                    code: number("code"),
                    err_code: number("err_code"),
                    description: description.to_owned(),
                })
            }
        }
    }
}
