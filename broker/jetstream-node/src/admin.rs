//! The admin service: what the operator asks before and while it changes a cluster, and what a server asks that
//! wants to join. Answers come from the meta state and from the groups on this server.

use std::sync::Arc;
use std::time::Duration;

use tonic::Status;
use weir_jetstream::meta::{MetaCommand, MetaOutcome, MetaPeer};
use weir_raft::admin::{
    AdminHandler, JoinReply, JoinRequest, LeaveReply, LeaveRequest, Member as MemberMessage, RemovePeerReply,
    RemovePeerRequest, ReplicasReply, ReplicasRequest, StatusReply, StreamReplica as StreamReplicaMessage,
    TransferLeadershipReply,
};
use weir_raft::{Group, GroupId, PeerId, PeerInfo};

use crate::context::{Cluster, Context};

/// How long a member may take to catch up with the meta state, or to leave it.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(25);

/// How long taking a damaged replica out of its group may take; it is asked for again.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Answers for one server.
pub(crate) struct Admin(pub(crate) Arc<Context>);

impl Admin {
    fn cluster(&self) -> Result<(&Cluster, Group), Status> {
        let cluster = self.0.cluster.as_ref().ok_or_else(|| Status::failed_precondition("not clustered"))?;
        let group = self.0.meta.replicator().and_then(|log| log.group());
        Ok((cluster, group.ok_or_else(|| Status::unavailable("the meta group is not open yet"))?))
    }

    /// The gRPC address of the meta leader; empty when there is none.
    fn leader_address(&self, cluster: &Cluster) -> String {
        let leader = self.0.meta.status().leader;
        leader.and_then(|peer| cluster.raft.peer_info(peer)).map(|info| info.endpoint).unwrap_or_default()
    }

    async fn propose(&self, command: MetaCommand) -> Result<MetaOutcome, Status> {
        self.0
            .meta
            .propose_wait(command.encode())
            .await
            .map_err(|error| Status::unavailable(format!("the meta group did not take the change: {error}")))
    }

    /// A server came back under its name with an empty store: its replicas are for the new id now, and the old id
    /// leaves. Streams that only the lost store held stay assigned to it: they are gone, which is not ours to say.
    async fn replace(&self, group: &Group, name: &str, new: PeerId) -> Result<(), Status> {
        let old: Vec<u64> = self
            .0
            .members()
            .iter()
            .filter(|member| member.name == name && member.id != new.0)
            .map(|member| member.id)
            .collect();
        for id in old {
            let streams: Vec<_> = {
                let meta = self.0.meta.lock();
                let held = meta.machine().streams().filter(|stream| stream.peers.contains(&id));
                held.filter(|stream| stream.is_replicated()).cloned().collect()
            };
            for stream in streams {
                let peers = stream.peers.iter().map(|peer| if *peer == id { new.0 } else { *peer }).collect();
                let (account, name) = (stream.account.clone(), stream.name().to_owned());
                self.propose(MetaCommand::MoveStream { account, name, peers }).await?;
            }
            if group.status().voters.contains(&PeerId(id)) {
                group.remove_member(PeerId(id), CHANGE_TIMEOUT).await.map_err(unavailable)?;
            }
            if let MetaOutcome::PeerInUse(streams) = self.propose(MetaCommand::PeerRemoved { id }).await? {
                tracing::error!(
                    "Server {name} lost its store (old id {id}), which alone held: {}",
                    streams.join(", ")
                );
            }
        }
        Ok(())
    }
}

fn unavailable(error: impl std::fmt::Display) -> Status {
    Status::unavailable(error.to_string())
}

#[tonic::async_trait]
impl AdminHandler for Admin {
    async fn status(&self) -> Result<StatusReply, Status> {
        let context = &self.0;
        let status = context.meta.status();
        let behind = context.behind();
        let members = status.members.iter().map(|peer| {
            let info = context.cluster.as_ref().and_then(|cluster| cluster.raft.peer_info(*peer));
            let replica = status.replicas.iter().find(|replica| replica.peer == *peer);
            let own = *peer == context.peer_id;
            let own_address = context.cluster.as_ref().map(|cluster| cluster.grpc_advertise.clone());
            MemberMessage {
                name: context.peer_name(*peer),
                peer_id: peer.0,
                grpc: if own {
                    own_address.unwrap_or_default()
                } else {
                    info.map(|info| info.endpoint).unwrap_or_default()
                },
                voter: true,
                online: (own && status.is_leader) || replica.is_some_and(|replica| replica.online),
                lag: replica.map_or(0, |replica| replica.lag),
            }
        });
        Ok(StatusReply {
            server_name: context.server_name.clone(),
            peer_id: context.peer_id.0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster_name: context.cluster.as_ref().map(|cluster| cluster.name.clone()).unwrap_or_default(),
            jetstream: true,
            meta_member: context.cluster.is_none() || status.members.contains(&context.peer_id),
            meta_leader: status.leader.map(|peer| context.peer_name(peer)).unwrap_or_default(),
            caught_up: behind.is_empty(),
            behind,
            members: members.collect(),
        })
    }

    async fn replicas(&self, request: ReplicasRequest) -> Result<ReplicasReply, Status> {
        let context = &self.0;
        let name = if request.server_name.is_empty() { &context.server_name } else { &request.server_name };
        let ids: Vec<u64> = context
            .members()
            .iter()
            .filter(|member| member.name == *name)
            .map(|member| member.id)
            .chain((name == &context.server_name).then_some(context.peer_id.0))
            .collect();
        let streams: Vec<_> = context
            .meta
            .lock()
            .machine()
            .streams()
            .filter(|stream| stream.peers.iter().any(|peer| ids.contains(peer)))
            .cloned()
            .collect();
        let streams = streams.into_iter().map(|stream| StreamReplicaMessage {
            account: stream.account.clone(),
            stream: stream.name().to_owned(),
            replicas: u32::try_from(stream.peers.len()).unwrap_or(u32::MAX),
            peers: stream.peers.iter().map(|peer| context.peer_name(PeerId(*peer))).collect(),
            leader: context
                .stream_leader(stream.group)
                .map(|peer| context.peer_name(peer))
                .unwrap_or_default(),
        });
        Ok(ReplicasReply { streams: streams.collect() })
    }

    async fn transfer_leadership(&self) -> Result<TransferLeadershipReply, Status> {
        let mut reply = TransferLeadershipReply::default();
        let mut move_away = Vec::new();
        if self.0.cluster.is_some() && self.0.meta.is_leader() {
            move_away.extend(self.0.meta.replicator().cloned().map(|log| ("the meta group".to_owned(), log)));
        }
        for replica in self.0.all_replicas() {
            let assignment = replica.assignment();
            if replica.is_leader() && assignment.is_replicated() {
                let log = replica.replicated.replicator().cloned();
                move_away.extend(log.map(|log| (format!("stream {}", assignment.name()), log)));
            }
        }
        for (what, log) in move_away {
            match log.step_down(None).await {
                Ok(()) => reply.groups_moved += 1,
                Err(reason) => reply.failed.push(format!("{what}: {reason}")),
            }
        }
        Ok(reply)
    }

    async fn join(&self, request: JoinRequest) -> Result<JoinReply, Status> {
        let (cluster, group) = self.cluster()?;
        if !self.0.meta.is_leader() {
            let reason = "this server does not lead the meta group".to_owned();
            return Ok(JoinReply { accepted: false, leader_grpc: self.leader_address(cluster), reason });
        }
        let peer = PeerId(request.peer_id);
        if self.0.meta.lock().machine().is_removed(peer.0) {
            let reason =
                "this server was removed from the cluster: its store must be empty to come back".to_owned();
            return Ok(JoinReply { accepted: false, leader_grpc: String::new(), reason });
        }
        // The routes know the address that reaches it, where it does not know its own.
        let seen = cluster.neighbours.peers().into_iter().find(|seen| seen.info.peer_id == peer);
        let endpoint = seen.map_or(request.grpc, |seen| seen.info.grpc);
        cluster
            .raft
            .set_peer(peer, PeerInfo { name: request.server_name.clone(), endpoint: endpoint.clone() });
        group.add_member(peer, CHANGE_TIMEOUT).await.map_err(unavailable)?;
        let member = MetaPeer { id: peer.0, name: request.server_name.clone(), endpoint };
        self.propose(MetaCommand::PeerAdded(member)).await?;
        self.replace(&group, &request.server_name, peer).await?;
        tracing::info!("Server {} joined the JetStream meta group", request.server_name);
        Ok(JoinReply { accepted: true, ..JoinReply::default() })
    }

    async fn leave(&self, request: LeaveRequest) -> Result<LeaveReply, Status> {
        let (cluster, _) = self.cluster()?;
        let (id, peer) = (GroupId(request.group), PeerId(request.peer_id));
        let group = cluster.raft.group(id).filter(|group| group.status().is_leader);
        let Some(group) = group.filter(|_| peer != self.0.peer_id) else {
            return Ok(LeaveReply { left: false });
        };
        group.remove_member(peer, LEAVE_TIMEOUT).await.map_err(unavailable)?;
        let name = self.0.peer_name(peer);
        tracing::warn!("Group {}: the copy of server {name} is damaged and is made anew", id.0);
        Ok(LeaveReply { left: true })
    }

    async fn remove_peer(&self, request: RemovePeerRequest) -> Result<RemovePeerReply, Status> {
        let (cluster, group) = self.cluster()?;
        if !self.0.meta.is_leader() {
            return Ok(RemovePeerReply { removed: false, leader_grpc: self.leader_address(cluster) });
        }
        let ids: Vec<u64> = self
            .0
            .members()
            .iter()
            .filter(|member| member.name == request.server_name)
            .map(|member| member.id)
            .collect();
        for id in ids {
            if PeerId(id) == self.0.peer_id {
                return Err(Status::failed_precondition(
                    "this server leads the meta group: transfer its leadership first",
                ));
            }
            // First the record, which is refused while the server holds replicas; nothing is placed on it after.
            if let MetaOutcome::PeerInUse(streams) = self.propose(MetaCommand::PeerRemoved { id }).await? {
                return Err(Status::failed_precondition(format!(
                    "server {} holds replicas of {}",
                    request.server_name,
                    streams.join(", ")
                )));
            }
            if group.status().voters.contains(&PeerId(id)) {
                group.remove_member(PeerId(id), CHANGE_TIMEOUT).await.map_err(unavailable)?;
            }
        }
        Ok(RemovePeerReply { removed: true, leader_grpc: String::new() })
    }
}
