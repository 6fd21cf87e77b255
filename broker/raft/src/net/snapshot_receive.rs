//! Receives one snapshot into a spool file, checks it, and hands it to its group.

use openraft::{Snapshot, SnapshotMeta};
use tonic::{Status, Streaming};

use crate::codec::{optional_log_id, stored_membership_from_pb, vote_from_pb, vote_to_pb};
use crate::pb::raft as pb;
use crate::pb::raft::snapshot_part::Part;
use crate::raft_types::{SnapshotMeta as Meta, Vote};
use crate::registry::RaftHandle;
use crate::snapshot::{SnapshotData, Spool, SpoolFile};

/// What a header says, decoded.
pub(crate) struct Announced {
    vote: Vote,
    meta: Meta,
    size_bytes: u64,
}

/// Reads the header and names the group.
pub(crate) async fn read_header(
    parts: &mut Streaming<pb::SnapshotPart>,
) -> Result<pb::SnapshotHeader, Status> {
    match parts.message().await?.and_then(|part| part.part) {
        Some(Part::Header(header)) => Ok(header),
        _ => Err(Status::invalid_argument("a snapshot must begin with its header")),
    }
}

pub(crate) fn decode_header(header: pb::SnapshotHeader) -> Result<Announced, Status> {
    let malformed = |e: crate::codec::DecodeError| Status::invalid_argument(e.to_string());
    let last = optional_log_id(header.last).map_err(malformed)?;
    let membership = header.membership.unwrap_or_default();
    Ok(Announced {
        vote: vote_from_pb(header.vote).map_err(malformed)?,
        meta: SnapshotMeta {
            last_log_id: last,
            last_membership: stored_membership_from_pb(membership).map_err(malformed)?,
        },
        size_bytes: header.size_bytes,
    })
}

/// Receives the content and installs it.
pub(crate) async fn receive(
    raft: &RaftHandle,
    spool: &Spool,
    announced: Announced,
    parts: &mut Streaming<pb::SnapshotPart>,
) -> Result<pb::SnapshotReply, Status> {
    let file = receive_content(spool, announced.size_bytes, parts).await?;
    let snapshot = Snapshot { meta: announced.meta, snapshot: SnapshotData::Received(file) };
    let installed = raft.install_full_snapshot(announced.vote, snapshot).await;
    let response = installed.map_err(|e| Status::unavailable(e.to_string()))?;
    Ok(pb::SnapshotReply { vote: Some(vote_to_pb(&response.vote)) })
}

async fn receive_content(
    spool: &Spool,
    size_bytes: u64,
    parts: &mut Streaming<pb::SnapshotPart>,
) -> Result<SpoolFile, Status> {
    let disk = |e: std::io::Error| Status::internal(format!("spool file: {e}"));
    let mut file = spool.create().map_err(disk)?;
    let mut received_bytes = 0_u64;
    let mut checksum = 0;
    loop {
        let part = parts.message().await?.and_then(|part| part.part);
        match part {
            Some(Part::Chunk(chunk)) => {
                received_bytes = received_bytes.saturating_add(chunk.len() as u64);
                if received_bytes > size_bytes {
                    return Err(Status::invalid_argument("more content than announced"));
                }
                checksum = crc32c::crc32c_append(checksum, &chunk);
                let writing = tokio::task::spawn_blocking(move || {
                    file.append(&chunk)?;
                    std::io::Result::Ok(file)
                });
                let written = writing.await.map_err(|e| Status::internal(e.to_string()))?;
                file = written.map_err(disk)?;
            }
            Some(Part::Trailer(trailer)) => {
                if received_bytes != size_bytes || trailer.crc32c != checksum {
                    return Err(Status::data_loss("the snapshot's content is damaged"));
                }
                return Ok(file);
            }
            _ => return Err(Status::invalid_argument("a snapshot must end with its trailer")),
        }
    }
}
