//! A route that takes bytes too slowly: cut, or waited for while it moves, as `cluster.write_timeout` says.
//! Not clients (the hub's).

use crate::session::Session;
use std::time::{Duration, Instant};
use tracing::info;
use weir_conf::WriteTimeoutPolicy;
use weir_hub::CloseReason;
use weir_stdx::duration::format_duration;

/// What waited for a route that was too slow, when the time for it began anew.
pub(crate) struct Slow {
    since: Instant,
    chunks: usize,
    bytes: usize,
}

impl Session {
    fn write_deadline(&self) -> Duration {
        self.topology.options().write_deadline.unwrap_or_else(|| self.topology.hub.limits().write_deadline)
    }

    /// When the route is to be looked at because it does not take what is written.
    pub(crate) fn writing_ends(&self) -> Option<Instant> {
        self.link.outbox.blocked_since()?;
        self.link.outbox.writing_since().map(|since| since + self.write_deadline())
    }

    /// Cuts a route that took nothing for too long, or, where the options want that, one that took too little.
    pub(crate) fn judge_writing(&mut self) -> Result<(), CloseReason> {
        let deadline = self.write_deadline();
        let is_over = |since: Instant| since.elapsed() >= deadline;
        if !self.link.outbox.writing_since().is_some_and(is_over) {
            return Ok(());
        }
        let is_first = self.slow.is_none();
        let (chunks, bytes) = self.link.outbox.backlog();
        info!(
            "{} - Slow Consumer {}: WriteDeadline of {} exceeded with {chunks} chunks of {bytes} total bytes.",
            self.link.label(),
            if is_first { "Detected" } else { "State" },
            format_duration(deadline),
        );
        if is_first {
            self.topology.count_slow();
        }
        let closes = self.topology.options().write_timeout == WriteTimeoutPolicy::Close;
        // Without any progress nobody is there to wait for.
        if closes || !self.link.outbox.has_progressed() {
            return Err(CloseReason::SlowConsumerWriteDeadline);
        }
        self.link.outbox.begin_anew();
        self.slow = Some(Slow { since: Instant::now(), chunks, bytes });
        Ok(())
    }

    /// Notes that a route that was too slow has taken what waited for it.
    pub(crate) fn judge_recovery(&mut self) {
        if self.link.outbox.writing_since().is_none()
            && let Some(Slow { since, chunks, bytes }) = self.slow.take()
        {
            info!(
                "{} - Slow Consumer Recovered: Flush took {:.3}s with {chunks} chunks of {bytes} total bytes.",
                self.link.label(),
                since.elapsed().as_secs_f64()
            );
        }
    }
}
