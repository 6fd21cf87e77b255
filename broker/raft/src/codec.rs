//! Between openraft's types and the bytes of journal, wire and snapshots. Decoding never panics.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};
use openraft::EntryPayload;
use prost::Message;

use crate::group_log::LogRecord;
use crate::pb::raft as pb;
use crate::raft_types::{
    Entry, LeaderId, LogId, Membership, Payload, StoredMembership, Vote, log_id, outer_index,
};
use crate::types::PeerInfo;

/// First byte of an entry: what follows. Low values name the first version of each form.
const KIND_BLANK: u8 = 0;
const KIND_NORMAL: u8 = 1;
const KIND_MEMBERSHIP: u8 = 2;

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("entry without a kind byte")]
    Empty,
    #[error("entry of kind {0}, which this version does not know")]
    UnknownKind(u8),
    #[error("{0} missing")]
    Missing(&'static str),
    #[error("log index 0")]
    ZeroIndex,
    #[error("members: {0}")]
    Membership(String),
    #[error("protobuf: {0}")]
    Protobuf(#[from] prost::DecodeError),
}

impl From<DecodeError> for std::io::Error {
    fn from(error: DecodeError) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

/// A proposal's payload as the journal and the network carry it.
pub(crate) fn normal_payload(body: &[u8]) -> Payload {
    let mut data = BytesMut::with_capacity(body.len().saturating_add(1));
    data.put_u8(KIND_NORMAL);
    data.extend_from_slice(body);
    Payload(data.freeze())
}

/// The body that was proposed.
pub(crate) fn payload_body(payload: &Payload) -> Bytes {
    if payload.0.is_empty() {
        return Bytes::new();
    }
    payload.0.slice(1..)
}

fn entry_data(entry: &Entry) -> Bytes {
    match &entry.payload {
        EntryPayload::Blank => Bytes::from_static(&[KIND_BLANK]),
        EntryPayload::Normal(payload) => payload.0.clone(),
        EntryPayload::Membership(membership) => {
            let message = membership_to_pb(membership);
            let mut data = BytesMut::with_capacity(message.encoded_len().saturating_add(1));
            data.put_u8(KIND_MEMBERSHIP);
            data.extend_from_slice(&message.encode_to_vec());
            data.freeze()
        }
    }
}

fn entry_from(term: u64, index: u64, data: Bytes) -> Result<Entry, DecodeError> {
    if index == 0 {
        return Err(DecodeError::ZeroIndex);
    }
    let payload = match data.first() {
        None => return Err(DecodeError::Empty),
        Some(&KIND_BLANK) => EntryPayload::Blank,
        Some(&KIND_NORMAL) => EntryPayload::Normal(Payload(data)),
        Some(&KIND_MEMBERSHIP) => {
            let message = pb::Membership::decode(data.slice(1..))?;
            EntryPayload::Membership(membership_from_pb(message)?)
        }
        Some(&kind) => return Err(DecodeError::UnknownKind(kind)),
    };
    Ok(Entry { log_id: log_id(term, index), payload })
}

pub(crate) fn entry_to_record(entry: &Entry) -> LogRecord {
    LogRecord {
        index: outer_index(entry.log_id.index),
        term: entry.log_id.leader_id.term,
        payload: entry_data(entry),
    }
}

pub(crate) fn entry_from_record(record: LogRecord) -> Result<Entry, DecodeError> {
    entry_from(record.term, record.index, record.payload)
}

pub(crate) fn entry_to_pb(entry: &Entry) -> pb::Entry {
    pb::Entry {
        term: entry.log_id.leader_id.term,
        index: outer_index(entry.log_id.index),
        data: entry_data(entry),
    }
}

pub(crate) fn entry_from_pb(entry: pb::Entry) -> Result<Entry, DecodeError> {
    entry_from(entry.term, entry.index, entry.data)
}

pub(crate) fn log_id_to_pb(id: &LogId) -> pb::LogId {
    pb::LogId { term: id.leader_id.term, index: outer_index(id.index) }
}

pub(crate) fn log_id_from_pb(id: &pb::LogId) -> Result<LogId, DecodeError> {
    if id.index == 0 {
        return Err(DecodeError::ZeroIndex);
    }
    Ok(log_id(id.term, id.index))
}

pub(crate) fn optional_log_id(id: Option<pb::LogId>) -> Result<Option<LogId>, DecodeError> {
    id.as_ref().map(log_id_from_pb).transpose()
}

pub(crate) fn vote_to_pb(vote: &Vote) -> pb::Vote {
    pb::Vote { term: vote.leader_id.term, voted_for: vote.leader_id.voted_for, committed: vote.committed }
}

pub(crate) fn vote_from_pb(vote: Option<pb::Vote>) -> Result<Vote, DecodeError> {
    let vote = vote.ok_or(DecodeError::Missing("vote"))?;
    Ok(Vote { leader_id: LeaderId { term: vote.term, voted_for: vote.voted_for }, committed: vote.committed })
}

fn membership_to_pb(membership: &Membership) -> pb::Membership {
    let configs =
        membership.get_joint_config().iter().map(|set| pb::VoterSet { peers: set.iter().copied().collect() });
    let members = membership.nodes().map(|(peer, info)| pb::Member {
        peer: *peer,
        name: info.name.clone(),
        endpoint: info.endpoint.clone(),
    });
    pb::Membership { configs: configs.collect(), members: members.collect() }
}

fn membership_from_pb(message: pb::Membership) -> Result<Membership, DecodeError> {
    let configs = message
        .configs
        .into_iter()
        .map(|set| set.peers.into_iter().collect::<BTreeSet<u64>>())
        .collect::<Vec<_>>();
    let nodes = message
        .members
        .into_iter()
        .map(|member| {
            let info = PeerInfo { name: member.name, endpoint: member.endpoint };
            (member.peer, info)
        })
        .collect::<BTreeMap<_, _>>();
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, nodes).map_err(|e| DecodeError::Membership(e.to_string()))
}

pub(crate) fn stored_membership_to_pb(stored: &StoredMembership) -> pb::StoredMembership {
    pb::StoredMembership {
        log_id: stored.log_id().as_ref().map(log_id_to_pb),
        membership: Some(membership_to_pb(stored.membership())),
    }
}

pub(crate) fn stored_membership_from_pb(
    message: pb::StoredMembership,
) -> Result<StoredMembership, DecodeError> {
    let id = optional_log_id(message.log_id)?;
    let membership = membership_from_pb(message.membership.unwrap_or_default())?;
    Ok(StoredMembership::new(id, membership))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership() -> Membership {
        let nodes = [1, 2, 3].map(|peer| {
            let info = PeerInfo { name: format!("n{peer}"), endpoint: format!("host-{peer}:1") };
            (peer, info)
        });
        let nodes = nodes.into_iter().collect::<BTreeMap<_, _>>();
        let voters = vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 3])];
        Membership::new(voters, nodes).unwrap_or_default()
    }

    #[test]
    fn every_kind_of_entry_survives_journal_and_wire() {
        let payloads = [
            EntryPayload::Blank,
            EntryPayload::Normal(normal_payload(b"hello")),
            EntryPayload::Normal(normal_payload(b"")),
            EntryPayload::Membership(membership()),
        ];
        for (index, payload) in (1_u64..).zip(payloads) {
            let entry = Entry { log_id: log_id(7, index), payload };
            let record = entry_to_record(&entry);
            assert_eq!((record.index, record.term), (index, 7));
            assert_eq!(entry_from_record(record), Ok(entry.clone()));
            assert_eq!(entry_from_pb(entry_to_pb(&entry)), Ok(entry));
        }
    }

    #[test]
    fn malformed_entries_are_refused() {
        let entry =
            |term, index, data: &'static [u8]| pb::Entry { term, index, data: Bytes::from_static(data) };
        assert_eq!(entry_from_pb(entry(1, 1, b"")), Err(DecodeError::Empty));
        assert_eq!(entry_from_pb(entry(1, 0, b"\0")), Err(DecodeError::ZeroIndex));
        let unknown = entry_from_pb(entry(1, 1, b"\x09x"));
        assert_eq!(unknown, Err(DecodeError::UnknownKind(9)));
        assert!(entry_from_pb(entry(1, 1, b"\x02\xff\xff")).is_err());
    }

    #[test]
    fn stored_membership_survives() {
        let stored = StoredMembership::new(Some(log_id(3, 9)), membership());
        let message = stored_membership_to_pb(&stored);
        assert_eq!(stored_membership_from_pb(message), Ok(stored));
        let empty = StoredMembership::default();
        let message = stored_membership_to_pb(&empty);
        assert_eq!(stored_membership_from_pb(message), Ok(empty));
    }
}
