//! How openraft is configured: standard Raft (one leader a term), opaque payloads, erased answers.

use std::fmt;

use bytes::Bytes;
use openraft::impls::TokioRuntime;
use openraft::raft::responder::Responder;
use openraft::vote::RaftLeaderId;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::machine::{LogPosition, Response};
use crate::propose::Share;
use crate::types::PeerInfo;

/// The set of types openraft works with.
#[derive(Debug, Clone, Copy, Default, Eq, PartialEq, Ord, PartialOrd)]
pub(crate) struct TypeConfig {}

impl openraft::RaftTypeConfig for TypeConfig {
    type D = Payload;
    type R = Answer;
    type NodeId = u64;
    type Node = PeerInfo;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = openraft::impls::Vote<LeaderId>;
    type Payload = openraft::EntryPayload<Payload, u64, PeerInfo>;
    type Entry = openraft::impls::Entry<<LeaderId as RaftLeaderId>::Committed, Self::Payload>;
    type AsyncRuntime = TokioRuntime;
    type Responder<T>
        = Proposer<T>
    where
        T: Send + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: Send + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

/// Waits for a proposal's result, and holds its share of the bounds until then.
pub(crate) struct Proposer<T> {
    pub(crate) result: oneshot::Sender<T>,
    pub(crate) share: Share,
}

impl<T: Send + 'static> Responder<TypeConfig, T> for Proposer<T> {
    fn on_complete(self, result: T) {
        drop(self.share);
        // The proposer may have given up.
        let _ = self.result.send(result);
    }
}

pub(crate) type LeaderId = openraft::vote::leader_id_std::LeaderId<u64, u64>;
pub(crate) type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
pub(crate) type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<u64, PeerInfo>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;

/// A normal entry's payload, already encoded as the journal keeps it (its kind byte first), so that
/// neither the journal nor the network copies it again.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Payload(pub(crate) Bytes);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The machine's answer on its way to the proposer. The lock only makes it shareable, as openraft
/// asks; nobody ever waits for it.
#[derive(Debug, Default)]
pub(crate) struct Answer(pub(crate) Mutex<Response>);

/// Outside openraft a log's first entry has index 1, so that 0 can mean "none"; inside it has index 0.
/// `log_id` takes an outside index (at least 1).
pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new_term_index(term, inner_index(index))
}

/// openraft's index of an outside index.
pub(crate) fn inner_index(index: u64) -> u64 {
    index.saturating_sub(1)
}

/// The outside index of openraft's index.
pub(crate) fn outer_index(index: u64) -> u64 {
    index.saturating_add(1)
}

/// The outside position of a log id.
pub(crate) fn position(id: &LogId) -> LogPosition {
    LogPosition { term: id.leader_id.term, index: outer_index(id.index) }
}
