//! What the configuration and an account's share impose on streams and consumers, as the machines want to be told it.
//! The machines judge.

use weir_jetstream::BatchLimits;
use weir_jetstream::config::{ConsumerLimitsInForce, StreamLimitsInForce};
use weir_jetstream::meta::AccountLimitsInForce;
use weir_jsapi::{AccountLimits, ApiError, StorageType, StreamConfig, errors};

use crate::context::Context;

/// Limits of the whole server; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServerLimits {
    /// Consumers of a stream for which neither it nor its account sets a limit.
    pub default_max_consumers: i64,
    /// Unacknowledged messages of a consumer.
    pub max_ack_pending: i64,
    /// Messages of one pull request.
    pub max_request_batch: i64,
    /// Replicated streams on a server.
    pub max_ha_assets: i64,
    /// Nanoseconds.
    pub duplicate_window: i64,
}

/// What a reload may change: bytes for all streams of the server, and limits. Existing streams and consumers keep what
/// was written into their configuration, as with nats-server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerRoom {
    /// Bytes.
    pub max_memory: u64,
    /// Bytes.
    pub max_file: u64,
    pub limits: ServerLimits,
    pub batches: BatchLimits,
}

impl Context {
    /// What the account may use for a stream with this configuration.
    pub(crate) fn stream_limits(
        &self,
        account: &str,
        config: &StreamConfig,
    ) -> Result<AccountLimitsInForce, ApiError> {
        let served = self.accounts.get(account).ok_or_else(|| errors::NOT_ENABLED_FOR_ACCOUNT.error())?;
        let share = served.share();
        let selected = share.select(config.num_replicas);
        let clustered = self.cluster.is_some();
        let of_server = |bytes: u64| if clustered { -1 } else { i64::try_from(bytes).unwrap_or(i64::MAX) };
        let (room, none) = (self.room(), AccountLimits::default());
        let limits = selected.map_or(&none, |(_, limits)| limits);
        Ok(AccountLimitsInForce {
            max_streams: limits.max_streams,
            max_consumers: limits.max_consumers,
            max_memory: limits.max_memory,
            max_storage: limits.max_storage,
            is_tiered: share.is_tiered(),
            is_refused: selected.is_none(),
            server_memory: of_server(room.max_memory),
            server_storage: of_server(room.max_file),
            stream: StreamLimitsInForce {
                clustered,
                max_bytes_required: limits.max_bytes_required,
                max_stream_bytes: match config.storage {
                    StorageType::File => limits.storage_max_stream_bytes,
                    StorageType::Memory => limits.memory_max_stream_bytes,
                },
                max_duplicate_window: room.limits.duplicate_window,
            },
        })
    }

    /// What applies to consumers of a stream with so many replicas.
    pub(crate) fn consumer_limits(
        &self,
        account: &str,
        replicas: i64,
    ) -> Result<ConsumerLimitsInForce, ApiError> {
        let limits = self.accounts.limits(account, replicas).ok_or_else(|| errors::NO_LIMITS.error())?;
        let server = self.room().limits;
        Ok(ConsumerLimitsInForce {
            max_ack_pending: server.max_ack_pending,
            account_max_ack_pending: limits.max_ack_pending,
            max_request_batch: server.max_request_batch,
            account_max_consumers: limits.max_consumers,
            default_max_consumers: server.default_max_consumers,
            clustered: self.cluster.is_some(),
        })
    }
}
