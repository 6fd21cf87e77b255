//! What a stream's log holds, and what applying it answers. Encoding is in `codec`.

use bytes::Bytes;
use weir_jsapi::{ApiError, ConsumerConfig, StreamConfig};
use weir_stdx::time::UnixNanos;

use crate::consumer::ConsumerEvent;

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
