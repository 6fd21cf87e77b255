//! What a stream's leader does when the meta state changed the stream: it takes the new configuration into the
//! stream's own log, and makes the group's members those that the meta state names.

use std::sync::Arc;
use std::time::Duration;

use weir_jetstream::StreamCommand;
use weir_jetstream::meta::StreamAssignment;
use weir_raft::{Group, PeerId};

use super::leader::StreamLeader;

/// When what could not be done is tried again, and how often a group's members are looked at: one that was damaged has
/// itself taken out, and is to come back.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long one member may take to catch up, or to leave.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(120);

/// Runs while the server leads the stream.
pub(crate) async fn follow_assignment(leader: Arc<StreamLeader>) {
    loop {
        let Some(replica) = leader.replica() else { return };
        let assignment = replica.assignment();
        let is_adopted = adopt_config(&leader, &assignment).await;
        let group = replica.replicated.replicator().and_then(|log| log.group());
        if let Some(group) = &group {
            adopt_peers(&leader, group, &assignment).await;
        }
        drop(replica);
        let reassigned = leader.reassigned.notified();
        if is_adopted && group.is_none() {
            reassigned.await;
        } else {
            // Either it is told of a change, or it is time to look again.
            let _ = tokio::time::timeout(INTERVAL, reassigned).await;
        }
    }
}

/// Tells whether it is done.
async fn adopt_config(leader: &Arc<StreamLeader>, assignment: &StreamAssignment) -> bool {
    if leader.config() != assignment.config {
        let command = StreamCommand::UpdateConfig(Box::new((*assignment.config).clone()));
        if let Err(error) = leader.propose(&command).await {
            tracing::debug!("stream {}: taking over its new configuration: {error}", assignment.name());
            return false;
        }
    }
    leader.subscribe_subjects(&leader.config());
    true
}

/// One change at a time; a member that came first, one that left afterwards.
async fn adopt_peers(leader: &StreamLeader, group: &Group, assignment: &StreamAssignment) {
    let status = group.status();
    let wanted: Vec<PeerId> = assignment.peers.iter().map(|id| PeerId(*id)).collect();
    if status.voters.is_empty() {
        return;
    }
    for peer in wanted.iter().filter(|peer| !status.voters.contains(peer)) {
        if let Err(error) = group.add_member(*peer, CHANGE_TIMEOUT).await {
            let name = leader.context.peer_name(*peer);
            tracing::warn!("stream {}: adding server {name} to its group: {error}", assignment.name());
            return;
        }
    }
    for peer in status.voters.iter().filter(|peer| !wanted.contains(peer)) {
        if let Err(error) = group.remove_member(*peer, CHANGE_TIMEOUT).await {
            let name = leader.context.peer_name(*peer);
            tracing::warn!("stream {}: taking server {name} out of its group: {error}", assignment.name());
            return;
        }
    }
}
