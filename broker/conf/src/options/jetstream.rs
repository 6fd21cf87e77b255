//! Options of JetStream: the server's and an account's share.

use std::{fmt, path::PathBuf, time::Duration};

/// When stored messages are made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Before they are acknowledged.
    Always,
    /// At least this often; what was acknowledged since may be lost with the machine.
    Interval(Duration),
}

/// What bounds batches (`jetstream.limits.batch`). Where a number is `None`, atomic and fast batches have their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchOptions {
    pub inflight_per_stream: Option<usize>,
    pub inflight_total: Option<usize>,
    /// Messages of one atomic batch.
    pub messages: u64,
    /// After which a batch that nothing is heard of is given up.
    pub timeout: Duration,
}

impl Default for BatchOptions {
    fn default() -> Self {
        let timeout = Duration::from_secs(10);
        Self { inflight_per_stream: None, inflight_total: None, messages: 1000, timeout }
    }
}

/// How stored data is encrypted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StoreCipher {
    #[default]
    ChaCha20Poly1305,
    Aes256Gcm,
}

/// A secret of the configuration: compared, never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself: not for logs and answers.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(hidden)")
    }
}

/// The keys of stored data (`jetstream.key` and what belongs to it).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreEncryption {
    /// `None`: stored data is not encrypted.
    pub key: Option<Secret>,
    /// The key before this one, by which a store is opened once more to be put under the new one.
    pub previous_key: Option<Secret>,
    /// `None`: not said.
    pub cipher: Option<StoreCipher>,
}

/// The `jetstream` block.
#[derive(Debug, Clone, PartialEq)]
pub struct JetStreamOptions {
    /// As configured; JetStream keeps its files in a folder `jetstream` in it. `None`: a folder in
    /// the temporary directory.
    pub store_dir: Option<PathBuf>,
    /// Bytes; `None`: 75 % of the machine's memory.
    pub max_memory: Option<u64>,
    /// Bytes; `None`: 75 % of the free space of the store's disk.
    pub max_file: Option<u64>,
    pub sync: SyncPolicy,
    pub encryption: StoreEncryption,
    pub domain: Option<String>,
    /// No two replicas of a stream on servers with the same tag of this prefix; empty: on any.
    pub unique_tag: String,
    /// Refuse unknown fields in API requests.
    pub strict: bool,
    /// Consumers of a stream that sets no limit of its own; 0 is no limit.
    pub default_max_consumers: u64,
    /// Unacknowledged messages of a consumer; 0 and below is no limit.
    pub max_ack_pending: i64,
    /// Replicated streams on a server; 0 and below is no limit.
    pub max_ha_assets: i64,
    /// Messages of one pull request; 0 and below is no limit.
    pub max_request_batch: i64,
    /// The longest duplicate window of streams; `None` is no limit.
    pub duplicate_window: Option<Duration>,
    /// API requests worked on at the same time; 0 is the default (10,000).
    pub request_queue_limit: u64,
    pub batches: BatchOptions,
    /// Messages of one stream that may wait to be stored.
    pub buffered_messages_max: usize,
    /// Their bytes.
    pub buffered_bytes_max: usize,
}

impl Default for JetStreamOptions {
    fn default() -> Self {
        Self {
            store_dir: None,
            max_memory: None,
            max_file: None,
            sync: SyncPolicy::Always,
            encryption: StoreEncryption::default(),
            domain: None,
            unique_tag: String::new(),
            strict: true,
            default_max_consumers: 1000,
            max_ack_pending: 0,
            max_ha_assets: 0,
            max_request_batch: 0,
            duplicate_window: None,
            request_queue_limit: 0,
            batches: BatchOptions::default(),
            buffered_messages_max: 100_000,
            buffered_bytes_max: 128 << 20,
        }
    }
}

/// An account's share of JetStream; -1 is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountJetStream {
    /// Bytes.
    pub max_memory: i64,
    /// Bytes.
    pub max_store: i64,
    pub max_streams: i64,
    pub max_consumers: i64,
    pub max_ack_pending: i64,
    /// Bytes of one stream in memory.
    pub memory_max_stream_bytes: i64,
    /// Bytes of one stream on disk.
    pub store_max_stream_bytes: i64,
    /// Streams have to say their largest size.
    pub max_bytes_required: bool,
}

impl Default for AccountJetStream {
    fn default() -> Self {
        Self {
            max_memory: -1,
            max_store: -1,
            max_streams: -1,
            max_consumers: -1,
            max_ack_pending: -1,
            memory_max_stream_bytes: 0,
            store_max_stream_bytes: 0,
            max_bytes_required: false,
        }
    }
}
