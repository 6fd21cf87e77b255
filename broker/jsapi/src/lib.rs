//! The JetStream API as data: configuration, state, request and response types, API subjects, message headers and the
//! error table, with the JSON that nats-server 2.15 reads and prints. No behaviour of streams or consumers lives here.

pub mod account;
pub mod advisory;
pub mod config;
pub mod consumer;
pub mod error;
pub mod errors;
pub mod headers;
pub mod json;
pub mod request;
pub mod response;
pub mod stream;
pub mod subject;
pub mod time;

pub use account::{AccountInfo, AccountLimits, ApiStats, Tier};
pub use config::{
    ConsumerLimits, DiscardPolicy, ExternalStream, PersistMode, Placement, Republish, RetentionPolicy,
    StorageType, StoreCompression, StreamConfig, StreamConsumerSource, StreamSource, SubjectTransform,
};
pub use consumer::{
    AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy, PriorityGroupState, PriorityPolicy, ReplayPolicy,
    SequenceInfo,
};
pub use error::{ApiError, ErrorDefinition};
pub use stream::{ClusterInfo, PeerInfo, StreamAlternate, StreamInfo, StreamSourceInfo, StreamState};
pub use time::Time;

/// The version of nats-server whose behaviour this API follows; clients switch features on by it.
pub const SERVER_VERSION: &str = "2.15.1";
/// The JetStream API level that goes with [`SERVER_VERSION`].
pub const API_LEVEL: u32 = 5;
