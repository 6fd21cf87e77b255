//! The node's beat: once a heartbeat it lists its idle groups to each peer, in one message for all of them, and
//! looks after those that others list. Decides nothing itself (see `quiet`).

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::group::Group;
use crate::net::lane::{LaneError, LaneKind};
use crate::net::peers::Peers;
use crate::pb::raft as pb;
use crate::quiet::Listing;
use crate::registry::Registry;
use crate::types::{GroupId, PeerId};

/// Groups on one list; the rest go on further ones.
const MAX_LISTED: usize = 4096;
/// Between two looks while no group is open.
const NO_GROUP_BEAT: Duration = Duration::from_millis(100);
/// Shortest beat, whatever the groups' heartbeats.
const SHORTEST_BEAT: Duration = Duration::from_millis(10);

type Listed = Vec<(Group, Listing)>;

/// Beats until the node stops: `stop` becomes true, or is dropped.
pub(crate) async fn run(peers: Arc<Peers>, registry: Arc<Registry>, mut stop: watch::Receiver<bool>) {
    loop {
        let groups = registry.all();
        let beat = groups.iter().map(|group| group.options().heartbeat).min();
        look(&peers, groups, Instant::now());
        let beat = beat.unwrap_or(NO_GROUP_BEAT).max(SHORTEST_BEAT);
        if tokio::time::timeout(beat, stop.wait_for(|stop| *stop)).await.is_ok() {
            return;
        }
    }
}

fn look(peers: &Arc<Peers>, groups: Vec<Group>, now: Instant) {
    let mut lists: BTreeMap<u64, Listed> = BTreeMap::new();
    for group in groups {
        let Some((listing, others)) = group.quiet().beat(now) else {
            continue;
        };
        for peer in others {
            lists.entry(peer).or_default().push((group.clone(), listing));
        }
    }
    for (peer, mut listed) in lists {
        while !listed.is_empty() {
            let rest = listed.split_off(listed.len().min(MAX_LISTED));
            tokio::spawn(ask(Arc::clone(peers), PeerId(peer), listed, now));
            listed = rest;
        }
    }
}

/// Sends one list, which counts from `sent`, and notes what the peer says of each group. Without an answer nothing
/// is noted: the groups' own clocks tell how long ago the last one was.
async fn ask(peers: Arc<Peers>, peer: PeerId, listed: Listed, sent: Instant) {
    let lease = listed.iter().map(|(group, _)| group.options().lease()).max().unwrap_or_default();
    let groups = listed.iter().map(|(group, listing)| pb::QuietGroup {
        group: group.id().0,
        term: listing.term,
        last_index: listing.last,
    });
    let body = pb::frame::Body::Quiet(pb::QuietRequest { groups: groups.collect() });
    let answer = match peers.lane(peer, LaneKind::Votes).ask(GroupId(0), 0, body) {
        Ok(mut waiting) => waiting.until(sent + lease).await,
        Err(error) => Err(error),
    };
    let refused: HashSet<u64> = match answer {
        Ok(pb::frame::Body::QuietReply(reply)) => reply.refused.into_iter().collect(),
        // A server that knows no lists.
        Ok(_) | Err(LaneError::Refused { .. }) => listed.iter().map(|(group, _)| group.id().0).collect(),
        Err(error) => {
            tracing::debug!(peer = peer.0, %error, "a list of quiet groups was not answered");
            return;
        }
    };
    for (group, listing) in listed {
        if refused.contains(&group.id().0) {
            group.quiet().refused(listing);
        } else {
            group.quiet().agreed(peer.0, listing, sent);
        }
    }
}

/// Answers a peer's list. Touches no Raft beyond what it says of itself.
pub(crate) fn answer(registry: &Registry, from: PeerId, request: &pb::QuietRequest) -> pb::QuietReply {
    let agrees = |asked: &pb::QuietGroup| {
        let listing = Listing { term: asked.term, last: asked.last_index };
        registry.group(GroupId(asked.group)).is_some_and(|group| group.quiet().listed(from.0, listing))
    };
    let (listed, beyond) = request.groups.split_at(request.groups.len().min(MAX_LISTED));
    let refused = listed.iter().filter(|asked| !agrees(asked)).chain(beyond);
    pb::QuietReply { refused: refused.map(|asked| asked.group).collect() }
}
