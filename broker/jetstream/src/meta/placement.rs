//! Choosing the servers for a stream's replicas.

use super::MetaMachine;
use weir_jsapi::{ApiError, StreamConfig, errors};

/// Too few servers; becomes error 10005.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no suitable peers for placement")]
pub struct PlacementError;

impl From<PlacementError> for ApiError {
    fn from(error: PlacementError) -> Self {
        errors::CLUSTER_NO_PEERS.with(error)
    }
}

/// The peers for a stream: `num_replicas` of those that are `available` (up and reachable), the ones with the fewest
/// replicas first, then by a hash of stream and server, so that equal servers share the streams. `keep` are peers to stay with if possible (when the number of replicas changes).
pub fn choose_peers(
    meta: &MetaMachine,
    config: &StreamConfig,
    keep: &[u64],
    available: &dyn Fn(u64) -> bool,
) -> Result<Vec<u64>, PlacementError> {
    let wanted = usize::try_from(config.num_replicas).unwrap_or(1).max(1);
    let mut candidates = rank_peers(meta, &config.name, keep, available);
    if candidates.len() < wanted {
        return Err(PlacementError);
    }
    candidates.truncate(wanted);
    Ok(candidates)
}

/// All peers that are `available`, the best for another replica of the stream first; those of `first` before all others.
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
