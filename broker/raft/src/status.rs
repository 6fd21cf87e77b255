//! A group's state as its owner is told it, made from what openraft says. Pure.

use openraft::RaftMetrics;

use crate::quiet::Acks;
use crate::quiet_group::heard_at;
use crate::raft_types::{LogId, TypeConfig, outer_index};
use crate::types::{GroupStatus, Leadership, PeerId, ReplicationStatus};

/// Whether `peer` votes whichever configuration comes to hold. A leader goes by the newest one as soon as it has
/// written it; until that is committed, the others may go by the one before it, in which a majority may need
/// this very leader.
fn is_settled(metrics: &RaftMetrics<TypeConfig>, peer: u64) -> bool {
    let configurations = [&metrics.membership_config, &metrics.committed_membership_config];
    let mut voters = configurations.iter().flat_map(|stored| stored.membership().get_joint_config());
    voters.all(|voters| voters.contains(&peer))
}

pub(crate) fn status_of(
    metrics: &RaftMetrics<TypeConfig>,
    leadership: Leadership,
    acks: &Acks,
) -> GroupStatus {
    let index = |id: &Option<LogId>| id.as_ref().map_or(0, |id| outer_index(id.index));
    let membership = metrics.membership_config.membership();
    let last = metrics.last_log_index.map_or(0, outer_index);
    let replication = metrics.replication.iter().flatten();
    let replication = replication.filter(|(peer, _)| **peer != metrics.id);
    let replication = replication.map(|(peer, matched)| {
        let matched = index(matched);
        ReplicationStatus {
            peer: PeerId(*peer),
            matched,
            lag: last.saturating_sub(matched),
            last_contact: heard_at(metrics, acks, *peer).map(|at| at.elapsed()),
            is_settled: is_settled(metrics, *peer),
        }
    });
    GroupStatus {
        is_leader: leadership.is_leader(),
        leader: metrics.current_leader.map(PeerId),
        term: metrics.current_term,
        last,
        committed: index(&metrics.local_committed),
        applied: index(&metrics.last_applied),
        purged: index(&metrics.purged),
        voters: membership.voter_ids().map(PeerId).collect(),
        learners: membership.learner_ids().map(PeerId).collect(),
        joint: membership.get_joint_config().len() > 1,
        replication: replication.collect(),
        failed: metrics.running_state.as_ref().err().map(ToString::to_string),
    }
}

/// Up to which outer index this replica has applied the log and, if it leads, all its members have it on disk.
pub(crate) fn read_by_all(metrics: &RaftMetrics<TypeConfig>) -> u64 {
    let index = |id: &Option<LogId>| id.as_ref().map_or(0, |id| outer_index(id.index));
    let others = metrics.replication.iter().flatten().filter(|(peer, _)| **peer != metrics.id);
    let matched = others.map(|(_, matched)| index(matched)).min();
    index(&metrics.last_applied).min(matched.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use super::*;
    use crate::raft_types::{Membership, StoredMembership, log_id};
    use crate::types::PeerInfo;

    const FIRST: &[u64] = &[1];
    const PAIR: &[u64] = &[1, 2];
    const THREE: &[u64] = &[1, 2, 3];

    fn stored(voters: &[&[u64]]) -> Arc<StoredMembership> {
        let nodes = THREE.iter().map(|peer| (*peer, PeerInfo::default()));
        let voters = voters.iter().map(|set| set.iter().copied().collect::<BTreeSet<_>>()).collect();
        let membership = Membership::new(voters, nodes.collect::<BTreeMap<_, _>>());
        Arc::new(StoredMembership::new(None, membership.expect("voters")))
    }

    /// The followers that count while `effective` is written and `committed` is committed.
    fn settled(effective: &[&[u64]], committed: &[&[u64]]) -> Vec<u64> {
        let mut metrics = RaftMetrics::new_initial(1);
        metrics.membership_config = stored(effective);
        metrics.committed_membership_config = stored(committed);
        metrics.replication = Some([(2, None), (3, None)].into());
        let status = status_of(&metrics, Leadership::Leader { term: 1 }, &Acks::default());
        let settled = status.replication.iter().filter(|replica| replica.is_settled);
        settled.map(|replica| replica.peer.0).collect()
    }

    #[test]
    fn a_new_voter_counts_once_its_configuration_is_committed() {
        assert!(settled(&[FIRST], &[FIRST]).is_empty());
        assert_eq!(settled(&[PAIR, THREE], &[PAIR]), [2], "written by the leader alone");
        assert_eq!(settled(&[PAIR, THREE], &[PAIR, THREE]), [2], "still needs both majorities");
        assert_eq!(settled(&[THREE], &[PAIR, THREE]), [2], "a survivor may lack the last step");
        assert_eq!(settled(&[THREE], &[THREE]), [2, 3]);
    }

    #[test]
    fn an_entry_is_read_once_it_is_applied_here_and_all_members_have_it() {
        let mut metrics = RaftMetrics::new_initial(1);
        assert_eq!(read_by_all(&metrics), 0);
        metrics.last_applied = Some(log_id(1, 9));
        assert_eq!(read_by_all(&metrics), 9, "a follower's");
        metrics.replication = Some([(1, Some(log_id(1, 12))), (2, Some(log_id(1, 7))), (3, None)].into());
        assert_eq!(read_by_all(&metrics), 0, "one has nothing yet");
        metrics.replication = Some([(1, Some(log_id(1, 12))), (2, Some(log_id(1, 7)))].into());
        assert_eq!(read_by_all(&metrics), 7);
    }

    #[test]
    fn a_voter_that_leaves_counts_no_more_as_soon_as_that_is_written() {
        assert_eq!(settled(&[THREE, PAIR], &[THREE]), [2]);
    }
}
