//! When a server may start the meta group, when it must join one, and when it has to wait. Pure: the answer
//! depends on what the routes show now. It never starts a group that a restart or a lost disk could split:
//! every seed must be there, none in a group, and all members must announce the very same set.

use weir_raft::PeerId;

use crate::neighbours::{PeerSeen, Seed};

/// What to do about the meta group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Not all is known yet. `forming` is what to announce.
    Wait { forming: Vec<String>, reason: String },
    /// This server starts the group with these members, itself included.
    Initialise { members: Vec<PeerId>, forming: Vec<String> },
    /// A group exists: ask these of its members to be added.
    Join { members: Vec<PeerSeen> },
}

/// `name` and `id` are this server's; it is in no group yet.
pub(crate) fn decide(name: &str, id: PeerId, seeds: &[Seed], peers: &[PeerSeen]) -> Decision {
    let members: Vec<PeerSeen> = peers.iter().filter(|peer| peer.info.meta).cloned().collect();
    if !members.is_empty() {
        return Decision::Join { members };
    }
    let unresolved = seeds.iter().filter(|seed| **seed == Seed::Unresolved).count();
    if unresolved > 0 {
        let reason = format!("{unresolved} of {} seed routes are not connected yet", seeds.len());
        return Decision::Wait { forming: Vec::new(), reason };
    }
    let mut set: Vec<(&str, PeerId, &[String])> = vec![(name, id, &[])];
    for seed in seeds {
        if let Seed::Peer(peer) = seed
            && peer.name != name
            && !set.iter().any(|(known, ..)| *known == peer.name)
        {
            set.push((&peer.name, peer.info.peer_id, &peer.info.forming));
        }
    }
    set.sort_unstable_by_key(|(name, ..)| *name);
    let forming: Vec<String> = set.iter().map(|(name, ..)| (*name).to_owned()).collect();
    if let Some((other, ..)) = set.iter().find(|(other, _, theirs)| *other != name && *theirs != forming) {
        let reason = format!("server {other} does not see the same seed servers yet");
        return Decision::Wait { forming, reason };
    }
    if set.first().is_some_and(|(first, ..)| *first == name) {
        return Decision::Initialise { members: set.iter().map(|(_, id, _)| *id).collect(), forming };
    }
    let reason = format!("server {} starts the group", forming.first().map_or("?", String::as_str));
    Decision::Wait { forming, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::neighbours::PeerInfo;

    fn peer(name: &str, id: u64, meta: bool, forming: &[&str]) -> PeerSeen {
        let forming = forming.iter().map(|name| (*name).to_owned()).collect();
        PeerSeen {
            name: name.to_owned(),
            info: PeerInfo { peer_id: PeerId(id), grpc: String::new(), meta, forming, tags: Vec::new() },
        }
    }

    #[test]
    fn the_smallest_name_starts_the_group_when_all_announce_the_same_set() {
        let all = ["a", "b", "c"];
        let b = peer("b", 2, false, &all);
        let c = peer("c", 3, false, &all);
        let seeds = [Seed::Itself, Seed::Peer(b.clone()), Seed::Peer(c.clone())];
        let Decision::Initialise { members, .. } = decide("a", PeerId(1), &seeds, &[b, c]) else {
            panic!("must initialise")
        };
        assert_eq!(members, [PeerId(1), PeerId(2), PeerId(3)]);
    }

    #[test]
    fn nobody_starts_while_a_seed_is_missing() {
        let b = peer("b", 2, false, &["a", "b", "c"]);
        let seeds = [Seed::Itself, Seed::Peer(b.clone()), Seed::Unresolved];
        assert!(matches!(decide("a", PeerId(1), &seeds, &[b]), Decision::Wait { .. }));
    }

    #[test]
    fn nobody_starts_while_another_member_sees_a_different_set() {
        let b = peer("b", 2, false, &["b"]);
        let seeds = [Seed::Itself, Seed::Peer(b.clone())];
        assert!(matches!(decide("a", PeerId(1), &seeds, &[b]), Decision::Wait { .. }));
    }

    #[test]
    fn a_server_that_lost_its_disk_joins_what_is_there() {
        let b = peer("b", 2, true, &[]);
        let seeds = [Seed::Itself, Seed::Peer(b.clone())];
        assert_eq!(
            decide("a", PeerId(9), &seeds, std::slice::from_ref(&b)),
            Decision::Join { members: vec![b.clone()] }
        );
    }

    #[test]
    fn servers_that_are_not_weir_take_no_part() {
        let seeds = [Seed::Itself, Seed::Foreign];
        let Decision::Initialise { members, .. } = decide("a", PeerId(1), &seeds, &[]) else {
            panic!("must initialise")
        };
        assert_eq!(members, [PeerId(1)]);
    }
}
