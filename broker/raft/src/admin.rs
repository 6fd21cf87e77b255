//! The admin service: hands each call to an `AdminHandler` (the room that knows the cluster), and a
//! client for it. Knows nothing of what the answers mean.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::net::auth::bearer;
use crate::net::dial::Dialer;

pub use crate::pb::admin::*;

/// Answers the admin service.
#[tonic::async_trait]
pub trait AdminHandler: Send + Sync + 'static {
    async fn status(&self) -> Result<StatusReply, Status>;
    async fn replicas(&self, request: ReplicasRequest) -> Result<ReplicasReply, Status>;
    async fn transfer_leadership(&self) -> Result<TransferLeadershipReply, Status>;
    async fn join(&self, request: JoinRequest) -> Result<JoinReply, Status>;
    async fn remove_peer(&self, request: RemovePeerRequest) -> Result<RemovePeerReply, Status>;
    /// `left` is false on a server that does not lead the group.
    async fn leave(&self, _request: LeaveRequest) -> Result<LeaveReply, Status> {
        Err(Status::unimplemented("this server takes no member out of a group"))
    }
}

type Handler = Arc<dyn AdminHandler>;

/// The handler, set once the room that answers is up.
#[derive(Clone, Default)]
pub(crate) struct AdminService {
    handler: Arc<ArcSwapOption<Handler>>,
}

impl AdminService {
    pub(crate) fn set(&self, handler: Option<Handler>) {
        self.handler.store(handler.map(Arc::new));
    }

    fn handler(&self) -> Result<Handler, Status> {
        match self.handler.load().as_deref() {
            Some(handler) => Ok(Arc::clone(handler)),
            None => Err(Status::unavailable("the server is starting")),
        }
    }
}

#[tonic::async_trait]
impl admin_server::Admin for AdminService {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        self.handler()?.status().await.map(Response::new)
    }

    async fn replicas(&self, request: Request<ReplicasRequest>) -> Result<Response<ReplicasReply>, Status> {
        let reply = self.handler()?.replicas(request.into_inner()).await?;
        Ok(Response::new(reply))
    }

    async fn transfer_leadership(
        &self,
        _: Request<TransferLeadershipRequest>,
    ) -> Result<Response<TransferLeadershipReply>, Status> {
        self.handler()?.transfer_leadership().await.map(Response::new)
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        let reply = self.handler()?.join(request.into_inner()).await?;
        Ok(Response::new(reply))
    }

    async fn remove_peer(
        &self,
        request: Request<RemovePeerRequest>,
    ) -> Result<Response<RemovePeerReply>, Status> {
        let reply = self.handler()?.remove_peer(request.into_inner()).await?;
        Ok(Response::new(reply))
    }

    async fn leave(&self, request: Request<LeaveRequest>) -> Result<Response<LeaveReply>, Status> {
        let reply = self.handler()?.leave(request.into_inner()).await?;
        Ok(Response::new(reply))
    }
}

/// Why a call of the admin service failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("{0}")]
    Connect(String),
    #[error("the cluster secret cannot be sent in a header")]
    Secret,
    #[error("{} ({:?})", .0.message(), .0.code())]
    Refused(Box<Status>),
}

impl From<Status> for AdminError {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

/// Time for one call, the connection included.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Calls the admin service of one broker; connects anew for each call, since calls are rare.
pub struct AdminClient {
    dialer: Dialer,
    endpoint: String,
    token: Option<AsciiMetadataValue>,
}

impl AdminClient {
    /// `endpoint` is `host:port`.
    ///
    /// # Errors
    /// When the secret cannot be a header.
    pub fn new(endpoint: &str, secret: Option<&str>) -> Result<Self, AdminError> {
        let token = match secret {
            Some(secret) => Some(bearer(secret).ok_or(AdminError::Secret)?),
            None => None,
        };
        Ok(Self { dialer: Dialer::new(), endpoint: endpoint.to_owned(), token })
    }

    async fn call<Q, A, F>(
        &self,
        question: Q,
        ask: impl FnOnce(admin_client::AdminClient<Channel>, Request<Q>) -> F,
    ) -> Result<A, AdminError>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let calling = async {
            let channel = self.dialer.connect(&self.endpoint).await;
            let channel = channel.map_err(|e| AdminError::Connect(e.0))?;
            let mut request = Request::new(question);
            if let Some(token) = &self.token {
                request.metadata_mut().insert("authorization", token.clone());
            }
            let answer = ask(admin_client::AdminClient::new(channel), request).await?;
            Ok(answer.into_inner())
        };
        match tokio::time::timeout(CALL_TIMEOUT, calling).await {
            Ok(answer) => answer,
            Err(_) => Err(AdminError::Connect(format!("{}: timeout", self.endpoint))),
        }
    }

    pub async fn status(&self) -> Result<StatusReply, AdminError> {
        let ask = |mut client: admin_client::AdminClient<Channel>, request| async move {
            client.status(request).await
        };
        self.call(StatusRequest {}, ask).await
    }

    pub async fn replicas(&self, request: ReplicasRequest) -> Result<ReplicasReply, AdminError> {
        let ask = |mut client: admin_client::AdminClient<Channel>, request| async move {
            client.replicas(request).await
        };
        self.call(request, ask).await
    }

    pub async fn transfer_leadership(&self) -> Result<TransferLeadershipReply, AdminError> {
        let ask = |mut client: admin_client::AdminClient<Channel>, request| async move {
            client.transfer_leadership(request).await
        };
        self.call(TransferLeadershipRequest {}, ask).await
    }

    pub async fn join(&self, request: JoinRequest) -> Result<JoinReply, AdminError> {
        let ask = |mut client: admin_client::AdminClient<Channel>, request| async move {
            client.join(request).await
        };
        self.call(request, ask).await
    }

    pub async fn leave(&self, request: LeaveRequest) -> Result<LeaveReply, AdminError> {
        let ask = |mut client: admin_client::AdminClient<Channel>, request| async move {
            client.leave(request).await
        };
        self.call(request, ask).await
    }

    pub async fn remove_peer(&self, request: RemovePeerRequest) -> Result<RemovePeerReply, AdminError> {
        let ask = |mut client: admin_client::AdminClient<Channel>, request| async move {
            client.remove_peer(request).await
        };
        self.call(request, ask).await
    }
}
