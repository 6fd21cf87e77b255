//! JetStream as pure machines: streams, consumers, the meta group's records and placement. A command goes in, effects
//! and changed state come out, the same on every replica. No clock, no threads, no disk; messages are behind
//! [`Store`]. Not here: Raft, sockets, subscriptions (weir-jetstream-node), JSON of the API (weir-jsapi).

mod ack;
mod batch;
mod codec;
pub mod command;
pub mod config;
pub mod consumer;
pub mod headers;
#[cfg(any(test, feature = "test-util"))]
mod mem_store;
pub mod meta;
mod publish_headers;
pub mod sourcing;
pub mod store;
pub mod stream;

pub use ack::{PubAckWriter, write_flow_reply, write_pub_ack};
pub use batch::{AbandonReason, AtomicBatches, AtomicStep, BatchLimits, BatchTotals, atomic_batch_id};
pub use codec::{DecodeError, PublishEncoder};
pub use command::{
    ConsumerDelta, FastLimits, FastRecord, Firing, FiringAction, FlowReply, MirrorBatch, OriginRecord,
    Outcome, PublishOutcome, PublishRecord, Purge, Republished, RestoreBatch, SourceBatch, StreamCommand,
};
pub use consumer::{
    ConsumerDelivery, ConsumerEvent, ConsumerState, Delivery, Effect, Pending, Position, Progress, Setting,
    StopReason, subject_scope,
};
#[cfg(any(test, feature = "test-util"))]
pub use mem_store::MemStore;
pub use meta::MetaMachine;
pub use store::{Filter, Lookup, Store, StoreFailure, StoreState, StoredMessage, SubjectState};
pub use stream::{Consumer, Origin, RemovalLog, StreamMachine, is_fast_reply, starts_fast_batch};
