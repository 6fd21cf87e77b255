//! Choosing the servers for a stream's replicas.

use super::MetaMachine;
use weir_jsapi::{ApiError, errors};

/// Too few servers; becomes error 10005.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no suitable peers for placement")]
pub struct PlacementError;

impl From<PlacementError> for ApiError {
    fn from(error: PlacementError) -> Self {
        errors::CLUSTER_NO_PEERS.with(error)
    }
}

/// All peers that are `available` (up and reachable), the best for another replica of the stream first: the ones with the
/// fewest replicas, then by a hash of stream and server, so that equal servers share the streams. Those of `first`, which
/// it is to stay with if possible, come before all others.
pub fn rank_peers(
    meta: &MetaMachine,
    stream: &str,
    first: &[u64],
    available: &dyn Fn(u64) -> bool,
) -> Vec<u64> {
    let mut candidates: Vec<u64> = meta.peers().map(|peer| peer.id).filter(|&id| available(id)).collect();
    candidates.sort_by_key(|&id| (!first.contains(&id), meta.replicas_on(id), mix(stream, id), id));
    candidates
}

/// FNV-1a: stable over versions and machines.
fn mix(stream: &str, id: u64) -> u64 {
    stream.bytes().chain(id.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
