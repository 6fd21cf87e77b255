//! Client of the brokers' admin service: what a broker knows, and the few orders that changing a cluster needs.
//! Every call has a deadline; nothing is retried here.
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::controllers::cluster::names::GRPC_PORT;

/// The generated messages and client.
pub mod api {
    #![expect(unused_qualifications, clippy::allow_attributes_without_reason, reason = "generated")]
    tonic::include_proto!("weir.admin.v1");
}

use api::admin_client::AdminClient;
use api::{
    RemovePeerRequest, ReplicasRequest, StatusReply, StatusRequest, StreamReplica, TransferLeadershipRequest,
};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a question may take.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an order may take: it waits for a quorum.
const ORDER_TIMEOUT: Duration = Duration::from_secs(15);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The token cannot be sent.
    #[error("the token in the cluster's Secret is no header value")]
    Token,
    /// No answer.
    #[error("broker {broker}: {}", words(source))]
    Call {
        /// Who was asked.
        broker: String,
        /// What came back.
        source: Box<Status>,
    },
}

impl AdminError {
    /// The broker refuses for now: something has to happen first.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Call { source, .. } if source.code() == Code::FailedPrecondition)
    }
}

/// What went wrong, in words.
fn words(status: &Status) -> String {
    match status.message() {
        "" => status.code().description().to_owned(),
        message => message.to_owned(),
    }
}

/// The admin service of one broker.
#[derive(Clone)]
pub struct Admin {
    broker: String,
    client: AdminClient<Channel>,
    token: MetadataValue<Ascii>,
}

impl Admin {
    /// Prepares calls to a broker at an IP address; connects at the first call.
    pub fn new(broker: &str, ip: &str, token: &str) -> Result<Self, AdminError> {
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        let endpoint = Endpoint::from_shared(format!("http://{host}:{GRPC_PORT}"))
            .map_err(|error| AdminError::Call {
                broker: broker.to_owned(),
                source: Box::new(Status::invalid_argument(error.to_string())),
            })?
            .connect_timeout(CONNECT_TIMEOUT);
        let token = format!("Bearer {token}").parse().map_err(|_| AdminError::Token)?;
        Ok(Self { broker: broker.to_owned(), client: AdminClient::new(endpoint.connect_lazy()), token })
    }

    fn request<T>(&self, message: T, timeout: Duration) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.token.clone());
        request.set_timeout(timeout);
        request
    }

    async fn call<T>(
        &self,
        timeout: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, AdminError> {
        let answer = tokio::time::timeout(timeout, call)
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
        answer
            .map(tonic::Response::into_inner)
            .map_err(|source| AdminError::Call { broker: self.broker.clone(), source: Box::new(source) })
    }

    /// What this broker knows of itself and its cluster.
    pub async fn status(&self) -> Result<StatusReply, AdminError> {
        let request = self.request(StatusRequest {}, QUESTION_TIMEOUT);
        self.call(QUESTION_TIMEOUT, self.client.clone().status(request)).await
    }

    /// Stream replicas that a server holds, as this broker knows.
    pub async fn replicas(&self, server_name: &str) -> Result<Vec<StreamReplica>, AdminError> {
        let request = self.request(ReplicasRequest { server_name: server_name.to_owned() }, QUESTION_TIMEOUT);
        Ok(self.call(QUESTION_TIMEOUT, self.client.clone().replicas(request)).await?.streams)
    }

    /// Makes this broker give away what it leads. Returns what could not be moved.
    pub async fn transfer_leadership(&self) -> Result<Vec<String>, AdminError> {
        let request = self.request(TransferLeadershipRequest {}, ORDER_TIMEOUT);
        Ok(self.call(ORDER_TIMEOUT, self.client.clone().transfer_leadership(request)).await?.failed)
    }

    /// Takes a server out of the meta group. False when this broker is not the one to ask.
    pub async fn remove_peer(&self, server_name: &str) -> Result<bool, AdminError> {
        let request = self.request(RemovePeerRequest { server_name: server_name.to_owned() }, ORDER_TIMEOUT);
        Ok(self.call(ORDER_TIMEOUT, self.client.clone().remove_peer(request)).await?.removed)
    }
}
