//! Names of message headers that JetStream reads and writes (ADR-4, nats-server 2.15).

pub const MSG_ID: &str = "Nats-Msg-Id";
pub const EXPECTED_STREAM: &str = "Nats-Expected-Stream";
pub const EXPECTED_LAST_SEQUENCE: &str = "Nats-Expected-Last-Sequence";
pub const EXPECTED_LAST_SUBJECT_SEQUENCE: &str = "Nats-Expected-Last-Subject-Sequence";
pub const EXPECTED_LAST_SUBJECT_SEQUENCE_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";
pub const EXPECTED_LAST_MSG_ID: &str = "Nats-Expected-Last-Msg-Id";
pub const ROLLUP: &str = "Nats-Rollup";
pub const ROLLUP_SUBJECT: &str = "sub";
pub const ROLLUP_ALL: &str = "all";
pub const MSG_SIZE: &str = "Nats-Msg-Size";
pub const STREAM_SOURCE: &str = "Nats-Stream-Source";
pub const STREAM_IDENTITY: &str = "Nats-Stream-Identity";
pub const MARKER_REASON: &str = "Nats-Marker-Reason";
pub const MSG_TTL: &str = "Nats-TTL";
pub const MSG_INCREMENT: &str = "Nats-Incr";
pub const COUNTER_SOURCES: &str = "Nats-Counter-Sources";
pub const BATCH_ID: &str = "Nats-Batch-Id";
pub const BATCH_SEQUENCE: &str = "Nats-Batch-Sequence";
pub const BATCH_COMMIT: &str = "Nats-Batch-Commit";
pub const SCHEDULE: &str = "Nats-Schedule";
pub const SCHEDULE_TTL: &str = "Nats-Schedule-TTL";
pub const SCHEDULE_TARGET: &str = "Nats-Schedule-Target";
pub const SCHEDULE_SOURCE: &str = "Nats-Schedule-Source";
pub const SCHEDULE_ROLLUP: &str = "Nats-Schedule-Rollup";
pub const SCHEDULE_TIME_ZONE: &str = "Nats-Schedule-Time-Zone";
pub const SCHEDULE_NEXT: &str = "Nats-Schedule-Next";
/// The value of [`SCHEDULE_NEXT`] that ends a schedule.
pub const SCHEDULE_NEXT_PURGE: &str = "purge";
pub const SCHEDULER: &str = "Nats-Scheduler";
pub const REQUIRED_API_LEVEL: &str = "Nats-Required-Api-Level";

pub const STREAM: &str = "Nats-Stream";
pub const SUBJECT: &str = "Nats-Subject";
pub const SEQUENCE: &str = "Nats-Sequence";
pub const TIME_STAMP: &str = "Nats-Time-Stamp";
pub const NUM_PENDING: &str = "Nats-Num-Pending";
pub const LAST_SEQUENCE: &str = "Nats-Last-Sequence";
pub const UP_TO_SEQUENCE: &str = "Nats-UpTo-Sequence";

pub const LAST_CONSUMER: &str = "Nats-Last-Consumer";
pub const LAST_STREAM: &str = "Nats-Last-Stream";
pub const CONSUMER_STALLED: &str = "Nats-Consumer-Stalled";
pub const PENDING_MESSAGES: &str = "Nats-Pending-Messages";
pub const PENDING_BYTES: &str = "Nats-Pending-Bytes";
pub const PIN_ID: &str = "Nats-Pin-Id";
