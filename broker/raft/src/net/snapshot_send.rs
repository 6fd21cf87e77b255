//! Sends one snapshot: the machine's view is written to a spool file, then streamed in chunks.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use openraft::error::{NetworkError, StreamingError, Unreachable};
use openraft::raft::SnapshotResponse;
use openraft::type_config::alias::SnapshotOf;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;

use crate::codec::{log_id_to_pb, stored_membership_to_pb, vote_from_pb, vote_to_pb};
use crate::net::auth::stamp;
use crate::net::peers::Peers;
use crate::pb::raft as pb;
use crate::pb::raft::raft_client::RaftClient;
use crate::pb::raft::snapshot_part::Part;
use crate::raft_types::{TypeConfig, Vote};
use crate::snapshot::{SnapshotData, Spool, SpoolFile};
use crate::types::{GroupId, PeerId};

/// Bytes of one chunk.
const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks read ahead of the network.
const CHUNKS_AHEAD: usize = 4;

/// Where a snapshot goes.
pub(crate) struct Sending {
    pub(crate) peers: Arc<Peers>,
    pub(crate) group: GroupId,
    pub(crate) target: PeerId,
    pub(crate) spool: Spool,
}

fn broken(what: &str, error: impl std::fmt::Display) -> StreamingError<TypeConfig> {
    StreamingError::Network(NetworkError::from_string(format!("{what}: {error}")))
}

/// Writes the content out and streams it; the answer is the receiver's vote.
pub(crate) async fn send_snapshot(
    sending: Sending,
    vote: Vote,
    snapshot: SnapshotOf<TypeConfig, SnapshotData>,
) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
    let SnapshotData::Source(source) = snapshot.snapshot else {
        return Err(broken("snapshot", "it has no content to send"));
    };
    let turn = sending.peers.snapshots.acquire().await;
    let _turn = turn.map_err(|e| broken("waiting for others", e))?;
    let spool = sending.spool.clone();
    let file = tokio::task::spawn_blocking(move || spool.write_out(source))
        .await
        .map_err(|e| broken("writing the snapshot out", e))?
        .map_err(|e| broken("writing the snapshot out", e))?;
    let size_bytes = file.size_bytes();
    let header = pb::SnapshotHeader {
        group: sending.group.0,
        vote: Some(vote_to_pb(&vote)),
        last: snapshot.meta.last_log_id.as_ref().map(log_id_to_pb),
        membership: Some(stored_membership_to_pb(&snapshot.meta.last_membership)),
        size_bytes,
    };
    tracing::info!(group = sending.group.0, peer = sending.target.0, size_bytes, "sending a snapshot");
    let channel = sending
        .peers
        .connect(sending.target)
        .await
        .map_err(|e| StreamingError::Unreachable(Unreachable::from_string(e)))?;
    let (parts, outbound) = mpsc::channel(CHUNKS_AHEAD);
    let reading = tokio::task::spawn_blocking(move || read_parts(header, file, &parts));
    let mut request = Request::new(ReceiverStream::new(outbound));
    let peers = &sending.peers;
    stamp(request.metadata_mut(), peers.this, sending.target, peers.token.as_ref());
    let reply = RaftClient::new(channel).snapshot(request).await;
    if let Ok(Err(error)) = reading.await {
        return Err(broken("reading the snapshot", error));
    }
    let reply = reply.map_err(|status| broken("sending the snapshot", status.message()))?;
    let vote = vote_from_pb(reply.into_inner().vote).map_err(|e| broken("answer", e))?;
    Ok(SnapshotResponse::new(vote))
}

/// Feeds header, chunks and trailer. Ends quietly when the receiver is gone. May block.
fn read_parts(
    header: pb::SnapshotHeader,
    mut file: SpoolFile,
    parts: &mpsc::Sender<pb::SnapshotPart>,
) -> std::io::Result<()> {
    let send = |part: Part| {
        let part = pb::SnapshotPart { part: Some(part) };
        parts.blocking_send(part).is_ok()
    };
    if !send(Part::Header(header)) {
        return Ok(());
    }
    let mut file = file.reader()?;
    let mut checksum = 0;
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        let length = read_full(&mut file, &mut chunk)?;
        if length == 0 {
            break;
        }
        chunk.truncate(length);
        checksum = crc32c::crc32c_append(checksum, &chunk);
        if !send(Part::Chunk(Bytes::from(chunk))) {
            return Ok(());
        }
    }
    let trailer = pb::SnapshotTrailer { crc32c: checksum };
    // The receiver answers for itself when it ended early.
    send(Part::Trailer(trailer));
    Ok(())
}

/// Reads until the buffer is full or the file ends.
fn read_full(file: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..) {
        if rest.is_empty() {
            break;
        }
        match file.read(rest) {
            Ok(0) => break,
            Ok(length) => filled = filled.saturating_add(length),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
