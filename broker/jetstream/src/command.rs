//! What a stream's log holds, and what applying it answers. Encoding is in `codec`.

use bytes::Bytes;
use weir_jsapi::{ApiError, ConsumerConfig, StreamConfig};
use weir_stdx::time::UnixNanos;

use crate::consumer::{ConsumerEvent, ConsumerState};

/// One publish, stamped by the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishRecord {
    pub subject: Bytes,
    /// The whole header block, or empty.
    pub headers: Bytes,
    pub payload: Bytes,
    /// The leader's clock. The machine keeps it from going backwards within a stream.
    pub timestamp: UnixNanos,
}

/// One message of an origin, with its sequence there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginRecord {
    pub seq: u64,
    pub record: PublishRecord,
}

/// Messages of a mirror's origin, in its order. Their sequences and times become the mirror's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MirrorBatch {
    /// All of the origin up to this sequence was proposed before: a mirror that has less refuses the batch.
    pub after: u64,
    pub records: Vec<OriginRecord>,
    /// The origin has no further message up to this sequence.
    pub up_to: u64,
}

/// Messages of one of a stream's sources, in the origin's order. They carry `Nats-Stream-Source` already.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceBatch {
    /// Which source; see [`crate::sourcing::index_name`].
    pub index_name: String,
    /// Of the origin; empty when it is not known.
    pub identity: String,
    /// The sequence of the message proposed before the first; 0 at the beginning.
    pub after: u64,
    pub records: Vec<OriginRecord>,
}

/// Messages of a stream's backup, in its order, as they were stored once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RestoreBatch {
    pub records: Vec<OriginRecord>,
    /// There is no further message up to this sequence.
    pub up_to: u64,
}

/// Which messages a purge removes: below `below_seq`, or all but the newest `keep`, or all; of one filter if given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Purge {
    pub filter: Option<String>,
    /// Exclusive; 0 is unset.
    pub below_seq: u64,
    /// 0 is unset.
    pub keep: u64,
}

/// Progress of one consumer, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerDelta {
    pub name: String,
    pub events: Vec<ConsumerEvent>,
}

/// What the leader found to be due of a stream's schedules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firing {
    /// When it was due.
    pub at: UnixNanos,
    /// Of the message that is the schedule.
    pub seq: u64,
    pub action: FiringAction,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FiringAction {
    /// Publish, and remove the schedule.
    Once,
    /// Publish, and again at this time; `text` is how headers say it (RFC 3339 in the schedule's zone).
    Repeat { at: UnixNanos, text: String },
    /// The schedule is gone or cannot be read.
    Drop,
}

/// What bounds fast batches, as the leader that took them in was configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FastLimits {
    /// Nanoseconds after which a batch that nothing is heard of is forgotten.
    pub timeout: u64,
    /// Fast batches of one stream.
    pub inflight_max: u64,
}

/// One publish, and the reply subject that makes it part of a fast batch, or an empty one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FastRecord {
    pub record: PublishRecord,
    pub reply: Bytes,
}

/// One entry of a stream's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamCommand {
    /// All that one drain of the ingest queue found.
    Publish(Vec<PublishRecord>),
    DeleteMessage {
        seq: u64,
        erase: bool,
    },
    Purge(Purge),
    /// Remove what is older than `max_age` at this time.
    Expire {
        now: UnixNanos,
    },
    /// A configuration already normalised and checked against the present one.
    UpdateConfig(Box<StreamConfig>),
    /// A consumer with a configuration already normalised.
    CreateConsumer {
        name: String,
        config: Box<ConsumerConfig>,
        created: UnixNanos,
    },
    UpdateConsumer {
        name: String,
        config: Box<ConsumerConfig>,
    },
    DeleteConsumer {
        name: String,
    },
    /// Coalesced progress of any number of consumers.
    ConsumerDeltas(Vec<ConsumerDelta>),
    /// A batch (ADR-50) that is stored whole or not at all.
    PublishAtomic {
        batch: Bytes,
        records: Vec<PublishRecord>,
    },
    /// Like `Publish`, where some messages are of fast batches (ADR-50).
    PublishFast {
        limits: FastLimits,
        records: Vec<FastRecord>,
    },
    /// Publish what is due of the stream's schedules.
    FireSchedules {
        now: UnixNanos,
        firings: Vec<Firing>,
    },
    Mirror(MirrorBatch),
    Source(SourceBatch),
    Restore(RestoreBatch),
    /// A consumer of a backup, with a configuration already normalised, as far as it was.
    RestoreConsumer {
        name: String,
        config: Box<ConsumerConfig>,
        created: UnixNanos,
        state: Box<ConsumerState>,
    },
}

/// What became of one publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishOutcome {
    Stored {
        seq: u64,
    },
    /// A message with this id is stored at `seq` already.
    Duplicate {
        seq: u64,
    },
    Rejected(ApiError),
    /// A counter's increment, stored with its new value.
    Counted {
        seq: u64,
        value: String,
    },
    /// A batch is stored whole; `seq` is its last message's.
    Committed {
        seq: u64,
        batch: Bytes,
        /// Messages of the batch.
        count: u64,
    },
    /// What a fast batch answers on the reply subject of this message, in order; often nothing.
    Flow(Vec<FlowReply>),
}

/// One answer to a client that publishes a fast batch (ADR-50).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlowReply {
    /// The batch is done up to `seq`; the next one comes `every` messages later.
    Ack { seq: u64, every: u16 },
    /// Messages from `expected` on, before `found`, did not come; or one came again.
    Gap { expected: u64, found: u64 },
    /// The message `seq` of the batch was refused.
    Error { seq: u64, error: ApiError },
    /// The only message of the batch is stored at `seq` already.
    Duplicate { seq: u64, batch: Bytes, count: u64 },
    /// The batch is over, or was refused at once.
    Published(PublishOutcome),
}

/// A stored message as the stream republishes it (ADR-28).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Republished {
    pub subject: Bytes,
    /// The message's own headers, then those that say where it is stored.
    pub headers: Bytes,
    /// Empty where only headers are republished.
    pub payload: Bytes,
}

/// What applying a command answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// One outcome for every record, in order, and what the stream's leader publishes again.
    Published {
        outcomes: Vec<PublishOutcome>,
        republished: Vec<Republished>,
    },
    /// How far the stream now is with the origin of a [`MirrorBatch`] or [`SourceBatch`]: less than the batch's last
    /// sequence when some of it was not taken.
    Sourced {
        position: u64,
        /// Why the message after `position` was not taken; without it, messages before the batch are missing.
        refused: Option<ApiError>,
        republished: Vec<Republished>,
    },
    /// Messages removed by a delete, purge or expiry.
    Removed {
        count: u64,
    },
    /// A consumer exists now; `existed` when it did before (the same configuration then).
    ConsumerReady {
        existed: bool,
    },
    Refused(ApiError),
    Done,
}
