//! Raft groups and queues of JetStream as the monitor shows them, in nats-server's words.

use weir_jetstream_node::{GroupPeer, GroupView};
use weir_jsapi::stream::StreamState;
use weir_monitor::{Queue, RaftGroup, RaftPeer};
use weir_stdx::duration::format_duration;

use super::RunningJetStream;
use crate::identity::short_hash;

impl RunningJetStream {
    /// The Raft groups with a replica here, each in its stream's account; `None` without a cluster.
    pub(crate) fn raft_groups(&self, server_name: &str, system_account: &str) -> Option<Vec<RaftGroup>> {
        let id = short_hash(server_name);
        let groups = self.node.groups()?.into_iter();
        Some(groups.map(|view| group(view, &id, system_account)).collect())
    }

    pub(crate) fn queues(&self) -> impl Iterator<Item = Queue> {
        self.node.queues().into_iter().map(|queue| Queue {
            name: queue.name,
            pending: queue.pending as u64,
            in_progress: queue.in_progress as u64,
        })
    }
}

fn group(view: GroupView, own_id: &str, system_account: &str) -> RaftGroup {
    let status = &view.status;
    let size = status.voters.len() as u64;
    RaftGroup {
        id: own_id.to_owned(),
        state: match (status.is_leader, view.is_candidate) {
            (true, _) => "LEADER",
            (false, true) => "CANDIDATE",
            (false, false) => "FOLLOWER",
        }
        .to_owned(),
        size,
        quorum_needed: size / 2 + 1,
        committed: status.committed,
        applied: status.applied,
        leader: id_of(&view.leader),
        leader_since: view.leader_since,
        ever_had_leader: !view.leader.is_empty() || status.committed > 0,
        term: status.term,
        voted_for: id_of(&view.voted_for),
        pterm: view.inside.last_term,
        pindex: status.last,
        system_account: true,
        traffic_account: system_account.to_owned(),
        ipq_proposal_len: view.inside.proposals as u64,
        ipq_apply_len: status.committed.saturating_sub(status.applied),
        wal: StreamState {
            messages: status.last.saturating_sub(status.purged),
            bytes: view.inside.log_bytes,
            first_seq: status.purged + 1,
            last_seq: status.last,
            ..StreamState::default()
        },
        wal_error: status.failed.clone().unwrap_or_default(),
        peers: view.peers.iter().map(|member| (short_hash(&member.name), peer(member))).collect(),
        account: view.account.unwrap_or_else(|| system_account.to_owned()),
        name: view.name,
        ..RaftGroup::default()
    }
}

fn id_of(name: &str) -> String {
    if name.is_empty() { String::new() } else { short_hash(name) }
}

fn peer(member: &GroupPeer) -> RaftPeer {
    RaftPeer {
        name: member.name.clone(),
        known: member.is_voter,
        last_replicated_index: member.matched,
        last_seen: member.silence.map(format_duration).unwrap_or_default(),
    }
}
