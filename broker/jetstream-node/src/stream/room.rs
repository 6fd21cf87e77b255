//! Whether a stream may take one more message within what its account, and the server, may store. It is asked in the
//! publisher's task: far from the limits it costs one load. How much others use is told by `usage`.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};

use weir_jsapi::{ApiError, StorageType, errors};

use super::replica::StreamReplica;

/// No limit.
const FREE: i64 = i64::MAX;
/// The server itself is full.
const FULL: i64 = i64::MIN;
/// Bytes of a stored message beside subject, headers and payload, as nats-server counts them.
const FILE_OVERHEAD: usize = 30;
const FILE_HEADERS_OVERHEAD: usize = 4;
const MEMORY_OVERHEAD: usize = 16;

/// See the module.
pub(crate) struct Room {
    /// Bytes that the account may have stored, or one of the two above.
    limit: AtomicI64,
    /// Bytes of the account's other streams, with all replicas.
    others: AtomicI64,
    /// Bytes of one replica of this stream, lately.
    own: AtomicI64,
    /// Bytes let in since then; what the stream dropped meanwhile is not taken off.
    since: AtomicI64,
    /// How often a byte of this stream counts.
    copies: AtomicI64,
    storage: StorageType,
    replica: Weak<StreamReplica>,
}

/// What `usage` knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RoomUpdate {
    /// Negative: none.
    pub(crate) limit: i64,
    pub(crate) others: i64,
    pub(crate) own: i64,
    pub(crate) copies: i64,
    pub(crate) server_is_full: bool,
}

impl Room {
    pub(crate) fn new(storage: StorageType, replica: Weak<StreamReplica>) -> Arc<Self> {
        Arc::new(Self {
            limit: AtomicI64::new(FREE),
            others: AtomicI64::new(0),
            own: AtomicI64::new(0),
            since: AtomicI64::new(0),
            copies: AtomicI64::new(1),
            storage,
            replica,
        })
    }

    pub(crate) fn update(&self, update: RoomUpdate) {
        self.others.store(update.others, Ordering::Relaxed);
        self.own.store(update.own, Ordering::Relaxed);
        self.since.store(0, Ordering::Relaxed);
        self.copies.store(update.copies.max(1), Ordering::Relaxed);
        let limit = match update.limit {
            _ if update.server_is_full => FULL,
            ..0 => FREE,
            limit => limit,
        };
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Takes nothing until the next update.
    pub(crate) fn close(&self) {
        self.limit.store(FULL, Ordering::Relaxed);
    }

    /// Why a message of that size (subject, headers, payload) is refused, if it is.
    #[inline]
    pub(crate) fn refusal(&self, subject: usize, headers: usize, payload: usize) -> Option<ApiError> {
        let limit = self.limit.load(Ordering::Relaxed);
        if limit == FREE { None } else { self.judge(limit, self.size(subject, headers, payload)) }
    }

    fn size(&self, subject: usize, headers: usize, payload: usize) -> i64 {
        let overhead = match self.storage {
            StorageType::Memory => MEMORY_OVERHEAD,
            StorageType::File if headers == 0 => FILE_OVERHEAD,
            StorageType::File => FILE_OVERHEAD + FILE_HEADERS_OVERHEAD,
        };
        i64::try_from(subject + headers + payload + overhead).unwrap_or(i64::MAX)
    }

    #[cold]
    fn judge(&self, limit: i64, size: i64) -> Option<ApiError> {
        if limit == FULL {
            return Some(errors::INSUFFICIENT_RESOURCES.error());
        }
        let others = self.others.load(Ordering::Relaxed);
        let copies = self.copies.load(Ordering::Relaxed);
        let total = |own: i64| others.saturating_add(own.saturating_add(size).saturating_mul(copies));
        let known = self.own.load(Ordering::Relaxed);
        let since = self.since.fetch_add(size, Ordering::Relaxed);
        if total(known.saturating_add(since)) <= limit {
            return None;
        }
        // That is an estimate: near the limit it is measured.
        let own = self.replica.upgrade().and_then(|replica| replica.bytes()).unwrap_or(known);
        if total(own) > limit {
            self.since.fetch_sub(size, Ordering::Relaxed);
            return Some(errors::ACCOUNT_RESOURCES_EXCEEDED.error());
        }
        self.own.store(own, Ordering::Relaxed);
        self.since.store(size, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_takes_messages_up_to_the_limit_of_its_account() {
        let room = Room::new(StorageType::Memory, Weak::new());
        assert_eq!(room.refusal(1, 0, 1 << 30), None);
        let update = RoomUpdate { limit: 1000, others: 300, own: 100, copies: 3, server_is_full: false };
        room.update(update);
        // 300 + 3 * (100 + 16 + 1 + payload)
        room.update(update);
        assert_eq!(room.refusal(1, 0, 116), None);
        assert_eq!(room.refusal(1, 0, 117).map(|error| error.err_code), Some(10002));
        room.update(RoomUpdate { server_is_full: true, ..update });
        assert_eq!(room.refusal(1, 0, 0).map(|error| error.err_code), Some(10023));
        room.update(RoomUpdate { limit: -1, ..update });
        assert_eq!(room.refusal(1, 0, 1 << 30), None);
    }
}
