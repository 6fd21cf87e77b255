//! How many API requests are worked on, and how many were dropped because there were too many. Not the work.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::context::Context;

/// Requests worked on at the same time when nothing else is configured, as nats-server's queue.
pub(crate) const REQUESTS_MAX_DEFAULT: u64 = 10_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct ApiLoad {
    max: u64,
    in_flight: AtomicU64,
    /// Dropped since this was last told.
    dropped: AtomicU64,
}

impl ApiLoad {
    /// 0 stands for the default.
    pub(crate) fn new(max: u64) -> Self {
        let max = if max == 0 { REQUESTS_MAX_DEFAULT } else { max };
        Self { max, in_flight: AtomicU64::new(0), dropped: AtomicU64::new(0) }
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Takes one more; false when it has to be dropped. What was taken is given back with `leave`.
    pub(crate) fn enter(&self) -> bool {
        if self.in_flight.fetch_add(1, Ordering::AcqRel) < self.max {
            return true;
        }
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
        self.dropped.fetch_add(1, Ordering::AcqRel);
        false
    }

    /// Gives one back; the number dropped meanwhile is to be told.
    fn leave(&self) -> u64 {
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
        if self.dropped.load(Ordering::Acquire) == 0 { 0 } else { self.dropped.swap(0, Ordering::AcqRel) }
    }
}

impl Context {
    /// One API request is done.
    pub(crate) fn leave_api(&self) {
        let dropped = self.api_load.leave();
        if dropped > 0 {
            tracing::warn!("JetStream API queue limit reached, dropping {dropped} requests");
            self.limit_reached(dropped);
        }
    }

    /// Counts an answered request.
    pub(crate) fn count_request(&self, account: &str, failed: bool) {
        // Requests of accounts without JetStream count nowhere, as in nats-server.
        let Some(account) = self.accounts.get(account) else { return };
        for counters in [&self.api, &account.api] {
            counters.total.fetch_add(1, Ordering::Relaxed);
            counters.errors.fetch_add(u64::from(failed), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_told_once() {
        let load = ApiLoad::new(1);
        assert!(load.enter());
        assert!(!load.enter());
        assert!(!load.enter());
        assert_eq!(load.leave(), 2);
        assert!(load.enter());
        assert_eq!(load.leave(), 0);
        assert_eq!(load.in_flight(), 0);
    }
}
