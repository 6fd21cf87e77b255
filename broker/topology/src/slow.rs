//! A route that takes bytes too slowly: cut, or waited for while it moves, as `cluster.write_timeout` says.
//! Not clients (the hub's).

use crate::session::Session;
use std::time::{Duration, Instant};
use tracing::info;
use weir_conf::WriteTimeoutPolicy;
use weir_hub::CloseReason;
use weir_stdx::duration::format_duration;

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
        let is_first = !std::mem::replace(&mut self.is_slow, true);
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
        if closes || self.link.outbox.blocked_since().is_some_and(is_over) {
            return Err(CloseReason::SlowConsumerWriteDeadline);
        }
        self.link.outbox.begin_anew();
        Ok(())
    }
}
