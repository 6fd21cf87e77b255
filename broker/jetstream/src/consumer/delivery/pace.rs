//! How fast messages go out where that is limited: in the rhythm they came in (replay policy `original`), and at most
//! so many bits a second. Not flow control, which follows the client.

use weir_jsapi::{ConsumerConfig, ReplayPolicy};
use weir_stdx::time::UnixNanos;

const SECOND_NANOS: u128 = 1_000_000_000;
/// Gaps between messages up to this are not replayed, as in nats-server.
const GAP_MIN_NANOS: u64 = 1_000_000;

#[derive(Debug, Default)]
pub(super) struct Pace {
    replay: Option<Replay>,
    limit: Option<Limit>,
    /// The message at hand goes out then.
    due: Option<UnixNanos>,
}

/// Messages stored before the consumer began to be served here come in their own rhythm.
#[derive(Debug, Default)]
struct Replay {
    /// The stream's last sequence at the beginning.
    until: Option<u64>,
    last_timestamp: Option<UnixNanos>,
}

/// A bucket of bytes that fills at a constant rate, kept as the time when it would be full.
#[derive(Debug)]
struct Limit {
    bits_per_second: u64,
    burst_bytes: u64,
    full_at: UnixNanos,
}

impl Limit {
    fn nanos(&self, bytes: u64) -> u64 {
        let nanos = u128::from(bytes) * 8 * SECOND_NANOS / u128::from(self.bits_per_second.max(1));
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// How long a message of this size has to wait; larger ones than the bucket count as a full one.
    fn reserve(&mut self, now: UnixNanos, bytes: u64) -> u64 {
        let capacity = self.nanos(self.burst_bytes);
        let base = self.full_at.max(now);
        self.full_at = UnixNanos(base.0.saturating_add(self.nanos(bytes.min(self.burst_bytes))));
        self.full_at.0.saturating_sub(now.0).saturating_sub(capacity)
    }
}

impl Pace {
    /// `burst_bytes`: how much may go at once after a silence.
    pub(super) fn new(config: &ConsumerConfig, burst_bytes: u64) -> Self {
        let replay = (config.replay_policy == ReplayPolicy::Original).then(Replay::default);
        let mut pace = Self { replay, ..Self::default() };
        pace.update(config, burst_bytes);
        pace
    }

    pub(super) fn update(&mut self, config: &ConsumerConfig, burst_bytes: u64) {
        let rate = config.rate_limit_bps;
        if rate != self.limit.as_ref().map_or(0, |limit| limit.bits_per_second) {
            let full_at = UnixNanos::ZERO;
            self.limit = (rate > 0).then_some(Limit { bits_per_second: rate, burst_bytes, full_at });
        }
    }

    /// When the message at hand may go, while that is to come.
    pub(super) fn waits_until(&self, now: UnixNanos) -> Option<UnixNanos> {
        self.due.filter(|&due| now < due)
    }

    pub(super) fn next_timer(&self) -> Option<UnixNanos> {
        self.due
    }

    /// True when the message at hand has to wait; it is asked for once a message, which then goes when it is due.
    pub(super) fn holds(
        &mut self,
        now: UnixNanos,
        last_seq: impl FnOnce() -> u64,
        timestamp: UnixNanos,
        bytes: usize,
    ) -> bool {
        if self.replay.is_none() && self.limit.is_none() {
            return false;
        }
        if let Some(due) = self.due {
            return now < due;
        }
        let mut wait = 0;
        if let Some(replay) = &mut self.replay {
            replay.until.get_or_insert_with(last_seq);
            let gap = replay.last_timestamp.map_or(0, |last| timestamp.0.saturating_sub(last.0));
            wait += if gap > GAP_MIN_NANOS { gap } else { 0 };
        }
        if let Some(limit) = &mut self.limit {
            let start = UnixNanos(now.0.saturating_add(wait));
            wait = wait.saturating_add(limit.reserve(start, u64::try_from(bytes).unwrap_or(u64::MAX)));
        }
        self.due = Some(UnixNanos(now.0.saturating_add(wait)));
        wait > 0
    }

    pub(super) fn sent(&mut self, timestamp: UnixNanos) {
        self.due = None;
        if let Some(replay) = &mut self.replay {
            replay.last_timestamp = Some(timestamp);
        }
    }

    /// Nothing is at hand: what was stored before may be replayed to its end.
    pub(super) fn idle(&mut self, cursor: u64) {
        self.due = None;
        let ended = |replay: &mut Replay| replay.until.is_some_and(|until| cursor > until);
        self.replay.take_if(ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    #[test]
    fn a_rate_lets_a_burst_through_and_spaces_what_follows() {
        let config = ConsumerConfig { rate_limit_bps: 8_000, ..ConsumerConfig::default() };
        let mut pace = Pace::new(&config, 1_000);
        let now = UnixNanos(1_000_000 * MILLI);
        assert!(!pace.holds(now, || 9, now, 1_000));
        pace.sent(now);
        assert!(pace.holds(now, || 9, now, 100));
        assert_eq!(pace.next_timer(), Some(UnixNanos(now.0 + 100 * MILLI)));
        let later = UnixNanos(now.0 + 100 * MILLI);
        assert!(!pace.holds(later, || 9, now, 100));
        pace.sent(now);
        // After a silence there is a burst again, and no more than one.
        let after = UnixNanos(now.0 + 1_000_000 * MILLI);
        assert!(!pace.holds(after, || 9, now, 1_000));
        pace.sent(now);
        assert!(pace.holds(after, || 9, now, 10));
    }

    #[test]
    fn a_replay_keeps_the_gaps_until_the_end_of_what_was_stored() {
        let config = ConsumerConfig { replay_policy: ReplayPolicy::Original, ..ConsumerConfig::default() };
        let mut pace = Pace::new(&config, 0);
        let (now, at) = (UnixNanos(MILLI * 1_000), |milli: u64| UnixNanos(milli * MILLI));
        assert!(!pace.holds(now, || 2, at(0), 1));
        pace.sent(at(0));
        assert!(pace.holds(now, || 2, at(50), 1));
        assert_eq!(pace.next_timer(), Some(UnixNanos(now.0 + 50 * MILLI)));
        assert!(!pace.holds(UnixNanos(now.0 + 50 * MILLI), || 2, at(50), 1));
        pace.sent(at(50));
        pace.idle(3);
        assert!(!pace.holds(now, || 3, at(900), 1));
    }
}
