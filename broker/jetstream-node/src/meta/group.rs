//! How this server comes to be a member of the meta group: it starts the group with the others, joins one that is
//! there, or finds itself in it after a restart. The decision is `forming`'s.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_raft::admin::{AdminClient, JoinRequest};
use weir_raft::{Group, PeerId, PeerInfo as RaftPeerInfo};

use super::forming::{Decision, decide};
use crate::context::{Cluster, Context};
use crate::neighbours::{PeerInfo, PeerSeen};

/// How long to wait for news before looking again.
const POLL: Duration = Duration::from_millis(500);
/// How long one member may take to answer a request to join.
const JOIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Waiting longer than this for the group is said in the log, again and again.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether the server is a voting member of an initialised group.
pub(crate) fn is_member(context: &Context, group: &Group) -> bool {
    group.status().voters.contains(&context.peer_id)
}

/// Keeps the other servers' addresses known, and sees to the membership. Runs until aborted.
pub(crate) async fn run(context: Arc<Context>, group: Group) {
    let Some(cluster) = &context.cluster else { return };
    let mut changes = cluster.neighbours.changes();
    let mut waiting_since = tokio::time::Instant::now();
    let mut announced = None;
    loop {
        learn_addresses(&context, cluster);
        let member = is_member(&context, &group);
        let mut forming = Vec::new();
        if !member {
            forming = seek_membership(&context, cluster, &group, &mut waiting_since).await;
        }
        let info = PeerInfo {
            peer_id: context.peer_id,
            grpc: cluster.grpc_advertise.clone(),
            meta: !group.status().voters.is_empty(),
            forming,
            tags: cluster.tags.read().clone(),
        };
        if announced.as_ref() != Some(&info) {
            cluster.neighbours.announce(info.clone());
            announced = Some(info);
        }
        let _ = tokio::time::timeout(POLL, changes.changed()).await;
    }
}

/// Tells the Raft room where the servers are that the routes and the meta state know.
fn learn_addresses(context: &Context, cluster: &Cluster) {
    let members = context
        .members()
        .into_iter()
        .map(|member| (PeerId(member.id), RaftPeerInfo { name: member.name, endpoint: member.endpoint }));
    let seen = cluster
        .neighbours
        .peers()
        .into_iter()
        .map(|PeerSeen { name, info }| (info.peer_id, RaftPeerInfo { name, endpoint: info.grpc }));
    // The routes know the address that works from here; the record may lack its host.
    let known: BTreeMap<PeerId, RaftPeerInfo> = members.chain(seen).collect();
    for (peer, info) in known {
        if peer != context.peer_id && cluster.raft.peer_info(peer).as_ref() != Some(&info) {
            cluster.raft.set_peer(peer, info);
        }
    }
}

/// One step towards membership; returns what to announce as the set this server would form.
async fn seek_membership(
    context: &Arc<Context>,
    cluster: &Cluster,
    group: &Group,
    waiting_since: &mut tokio::time::Instant,
) -> Vec<String> {
    let (seeds, peers) = (cluster.neighbours.seeds(), cluster.neighbours.peers());
    match decide(&context.server_name, context.peer_id, &seeds, &peers) {
        Decision::Wait { forming, reason } => {
            if waiting_since.elapsed() >= PATIENCE {
                *waiting_since = tokio::time::Instant::now();
                tracing::info!("Waiting for the JetStream meta group: {reason}");
            }
            forming
        }
        Decision::Initialise { members, forming } => {
            tracing::info!(
                "Starting the JetStream meta group with {} servers: {}",
                members.len(),
                forming.join(", ")
            );
            if let Err(error) = group.initialize(members).await {
                tracing::warn!("Starting the JetStream meta group: {error}");
            }
            forming
        }
        Decision::Join { members } => {
            join(context, cluster, members).await;
            Vec::new()
        }
    }
}

async fn join(context: &Context, cluster: &Cluster, members: Vec<PeerSeen>) {
    let request = JoinRequest {
        server_name: context.server_name.clone(),
        peer_id: context.peer_id.0,
        grpc: own_address(cluster),
    };
    let mut targets: Vec<String> = members.into_iter().map(|member| member.info.grpc).collect();
    let mut asked = Vec::new();
    while let Some(target) = targets.pop() {
        if asked.contains(&target) {
            continue;
        }
        asked.push(target.clone());
        let Ok(client) = AdminClient::new(&target, cluster.secret.as_deref()) else { continue };
        match tokio::time::timeout(JOIN_TIMEOUT, client.join(request.clone())).await {
            Ok(Ok(reply)) if reply.accepted => {
                tracing::info!("Joined the JetStream meta group");
                return;
            }
            Ok(Ok(reply)) => {
                if !reply.leader_grpc.is_empty() {
                    targets.push(reply.leader_grpc);
                }
                tracing::debug!("{target} does not take this server into the meta group: {}", reply.reason);
            }
            Ok(Err(error)) => tracing::debug!("asking {target} to join the meta group: {error}"),
            Err(_) => {
                tracing::debug!("asking {target} to join the meta group: no answer in {JOIN_TIMEOUT:?}")
            }
        }
    }
}

fn own_address(cluster: &Cluster) -> String {
    cluster.grpc_advertise.clone()
}
