//! What people see who look inside: the Raft groups with a replica here, and the queues. Not what clients are told of
//! their streams (see `snapshot`).

use std::sync::Arc;

use weir_jsapi::Time;
use weir_raft::{GroupInside, GroupStatus, PeerId};

use crate::context::Context;
use crate::node::JetStreamNode;
use crate::replicated::{Replicated, StateMachine};

/// A replica of a Raft group.
#[derive(Debug, Clone)]
pub struct GroupView {
    /// Whose stream it is; `None` for the meta group.
    pub account: Option<String>,
    pub name: String,
    pub status: GroupStatus,
    pub inside: GroupInside,
    pub is_candidate: bool,
    /// Name of the leader; empty when there is none.
    pub leader: String,
    /// When this server became the leader; `None` where it does not lead.
    pub leader_since: Option<Time>,
    /// Name of the server that has this replica's vote.
    pub voted_for: String,
    /// The other members.
    pub peers: Vec<GroupPeer>,
}

/// Another member of a group.
#[derive(Debug, Clone)]
pub struct GroupPeer {
    pub name: String,
    /// It has a vote.
    pub is_voter: bool,
    /// The last entry it is known to have; 0 where this server does not lead.
    pub matched: u64,
    /// How long it has been silent, as far as is known.
    pub silence: Option<std::time::Duration>,
}

/// A queue and what is in it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueView {
    pub name: String,
    pub pending: usize,
    /// Taken out and being worked on.
    pub in_progress: usize,
}

impl JetStreamNode {
    /// The Raft groups with a replica here; `None` on a single server.
    #[must_use]
    pub fn groups(&self) -> Option<Vec<GroupView>> {
        self.context.groups()
    }

    /// The queues of JetStream, named as nats-server's where they are the same.
    #[must_use]
    pub fn queues(&self) -> Vec<QueueView> {
        let mut queues = self.context.queues();
        for group in self.groups().unwrap_or_default() {
            let account =
                group.account.as_deref().unwrap_or(self.context.hub.system_account().name()).to_owned();
            let queue = |what: &str, pending: u64| QueueView {
                name: format!("[ACC:{account}] RAFT '{}' {what}", group.name),
                pending: usize::try_from(pending).unwrap_or(usize::MAX),
                in_progress: 0,
            };
            queues.push(queue("entry", group.inside.proposals as u64));
            let unapplied = group.status.committed.saturating_sub(group.status.applied);
            queues.push(queue("committedEntry", unapplied));
        }
        queues
    }
}

impl Context {
    fn groups(&self) -> Option<Vec<GroupView>> {
        self.cluster.as_ref()?;
        let mut groups: Vec<GroupView> =
            self.group_view(&self.meta, None, "_meta_".to_owned()).into_iter().collect();
        for replica in self.all_replicas() {
            let assignment = replica.assignment();
            let account = Some(assignment.account.clone());
            groups.extend(self.group_view(&replica.replicated, account, format!("S-{}", assignment.group)));
        }
        Some(groups)
    }

    /// `None` for a log that is not replicated.
    fn group_view<M: StateMachine>(
        &self,
        replicated: &Arc<Replicated<M>>,
        account: Option<String>,
        name: String,
    ) -> Option<GroupView> {
        let group = replicated.replicator()?.group()?;
        let (status, inside) = (group.status(), group.inside());
        let name_of = |peer: Option<PeerId>| peer.map(|peer| self.peer_name(peer)).unwrap_or_default();
        let members = status.voters.iter().map(|peer| (*peer, true));
        let members = members.chain(status.learners.iter().map(|peer| (*peer, false)));
        let peers = members.filter(|(peer, _)| *peer != self.peer_id).map(|(peer, is_voter)| {
            let known = status.replication.iter().find(|replica| replica.peer == peer);
            GroupPeer {
                name: self.peer_name(peer),
                is_voter,
                matched: known.map_or(0, |replica| replica.matched),
                silence: known.and_then(|replica| replica.last_contact),
            }
        });
        let since = replicated.leading_since().filter(|_| status.is_leader);
        Some(GroupView {
            account,
            name,
            is_candidate: !status.is_leader
                && status.leader.is_none()
                && inside.voted_for == Some(self.peer_id),
            leader: name_of(status.leader),
            leader_since: since
                .map(|since| Time::from_unix_nanos(i64::try_from(since.0).unwrap_or(i64::MAX))),
            voted_for: name_of(inside.voted_for),
            peers: peers.collect(),
            status,
            inside,
        })
    }

    fn queues(&self) -> Vec<QueueView> {
        let queue = |name: String, pending: usize| QueueView { name, pending, in_progress: 0 };
        // Requests do not wait: so many are worked on at the same time.
        let api = usize::try_from(self.api_load.in_flight()).unwrap_or(usize::MAX);
        let mut queues =
            vec![QueueView { name: "JetStream API queue".to_owned(), pending: 0, in_progress: api }];
        for replica in self.all_replicas() {
            let Some(leader) = replica.leader() else { continue };
            let stream = format!("[ACC:{}] stream '{}'", leader.account.name(), leader.name());
            queues.push(queue(format!("{stream} messages"), leader.waiting_messages()));
            queues.push(queue(format!("{stream} acks and pull requests"), leader.waiting_inputs()));
        }
        queues
    }
}
