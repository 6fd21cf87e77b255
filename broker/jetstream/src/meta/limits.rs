//! What an account may use, and whether one more stream fits: judged before a command is proposed, by nats-server's
//! rules. Bytes count by what streams reserve (`max_bytes`), not by what they hold.

use weir_jsapi::{ApiError, StorageType, StreamConfig, errors};

use super::{MetaMachine, StreamAssignment};
use crate::config::StreamLimitsInForce;

/// What an account may use; -1 is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountLimitsInForce {
    pub max_streams: i64,
    /// The most a stream may allow itself.
    pub max_consumers: i64,
    /// Bytes over all streams and, unless limits are by tier, over all replicas.
    pub max_memory: i64,
    pub max_storage: i64,
    /// Limits are by tier: only streams with as many replicas count.
    pub is_tiered: bool,
    /// The account has no limits for this number of replicas, and so may have no such stream.
    pub is_refused: bool,
    /// Bytes that a server on its own has; -1 in a cluster, where placement looks for room.
    pub server_memory: i64,
    pub server_storage: i64,
    pub stream: StreamLimitsInForce,
}

impl Default for AccountLimitsInForce {
    fn default() -> Self {
        Self {
            max_streams: -1,
            max_consumers: -1,
            max_memory: -1,
            max_storage: -1,
            is_tiered: false,
            is_refused: false,
            server_memory: -1,
            server_storage: -1,
            stream: StreamLimitsInForce::default(),
        }
    }
}

impl AccountLimitsInForce {
    /// What a stream of so many bytes and replicas counts.
    fn share(&self, bytes: i64, replicas: i64) -> i64 {
        let copies = if self.is_tiered { 1 } else { replicas.max(1) };
        bytes.max(0).saturating_mul(copies)
    }

    fn counts(&self, stream: &StreamAssignment, config: &StreamConfig) -> bool {
        let is_same_tier = stream.config.num_replicas.max(1) == config.num_replicas.max(1);
        stream.config.name != config.name && (!self.is_tiered || is_same_tier)
    }

    fn exceeded(storage: StorageType) -> ApiError {
        match storage {
            StorageType::File => errors::STORAGE_RESOURCES_EXCEEDED.error(),
            StorageType::Memory => errors::MEMORY_RESOURCES_EXCEEDED.error(),
        }
    }
}

impl MetaMachine {
    /// Bytes set aside by `max_bytes` of all streams, one replica each.
    pub fn reserved_by_all(&self, storage: StorageType) -> i64 {
        let streams = self.streams().filter(|stream| stream.config.storage == storage);
        streams.fold(0, |sum: i64, stream| sum.saturating_add(stream.config.max_bytes.max(0)))
    }

    /// One stream more, with this configuration.
    pub(super) fn check_new_in_account(
        &self,
        account: &str,
        config: &StreamConfig,
        limits: &AccountLimitsInForce,
    ) -> Result<(), ApiError> {
        if limits.is_refused {
            return Err(errors::NO_LIMITS.error());
        }
        let count = self.all_of(account).filter(|stream| limits.counts(stream, config)).count();
        if usize::try_from(limits.max_streams).is_ok_and(|limit| limit > 0 && count >= limit) {
            return Err(errors::MAXIMUM_STREAMS_LIMIT.error());
        }
        // One that names no size counts as one byte, so that a full account takes no more.
        let added = if config.max_bytes < 0 { 1 } else { config.max_bytes };
        self.check_bytes(account, config, (added, added), limits)
    }

    /// A stream that is there, with another configuration.
    pub(super) fn check_changed_in_account(
        &self,
        account: &str,
        current: &StreamConfig,
        config: &StreamConfig,
        limits: &AccountLimitsInForce,
    ) -> Result<(), ApiError> {
        if limits.is_refused {
            return Err(errors::NO_LIMITS.error());
        }
        let bytes = config.max_bytes.max(0);
        let more = bytes.saturating_sub(current.max_bytes.max(0)).max(0);
        self.check_bytes(account, config, (bytes, more), limits)
    }

    /// `bytes` count in the account, `more` on the server beside what is reserved there.
    fn check_bytes(
        &self,
        account: &str,
        config: &StreamConfig,
        (bytes, more): (i64, i64),
        limits: &AccountLimitsInForce,
    ) -> Result<(), ApiError> {
        if config.max_consumers > 0 && limits.max_consumers > 0 && config.max_consumers > limits.max_consumers
        {
            return Err(errors::MAXIMUM_CONSUMERS_LIMIT.error());
        }
        let (in_account, on_server) = match config.storage {
            StorageType::File => (limits.max_storage, limits.server_storage),
            StorageType::Memory => (limits.max_memory, limits.server_memory),
        };
        let others = self
            .all_of(account)
            .filter(|stream| stream.config.storage == config.storage && limits.counts(stream, config));
        let reserved = others.fold(0, |sum: i64, stream| {
            sum.saturating_add(limits.share(stream.config.max_bytes, stream.config.num_replicas))
        });
        let wanted = limits.share(bytes, config.num_replicas);
        let exceeds = |limit: i64, reserved: i64, wanted: i64| {
            limit >= 0 && (reserved > limit || wanted > limit - reserved)
        };
        if exceeds(in_account, reserved, wanted)
            || exceeds(on_server, self.reserved_by_all(config.storage), more)
        {
            return Err(AccountLimitsInForce::exceeded(config.storage));
        }
        Ok(())
    }
}
