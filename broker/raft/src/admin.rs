//! The admin service: hands each call to an `AdminHandler` (the room that knows the cluster), and a
//! client for it. Knows nothing of what the answers mean.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tonic::{Request, Response, Status};

pub use crate::pb::admin::*;

/// Answers the admin service.
#[tonic::async_trait]
pub trait AdminHandler: Send + Sync + 'static {
    async fn status(&self) -> Result<StatusReply, Status>;
    async fn replicas(&self, request: ReplicasRequest) -> Result<ReplicasReply, Status>;
    async fn transfer_leadership(&self) -> Result<TransferLeadershipReply, Status>;
    async fn join(&self, request: JoinRequest) -> Result<JoinReply, Status>;
    async fn remove_peer(&self, request: RemovePeerRequest) -> Result<RemovePeerReply, Status>;
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
}
