//! A route that takes bytes too slowly: cut, or waited for while it moves, as `cluster.write_timeout` says.
//! Not clients (the hub's).

use std::time::{Duration, Instant};

use weir_conf::WriteTimeoutPolicy;
use weir_hub::CloseReason;

use crate::session::Session;

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
        let closes = self.topology.options().write_timeout == WriteTimeoutPolicy::Close;
        let late = self.slow.judge(&self.link.outbox, || self.link.label(), deadline, closes);
        if late.is_some_and(|late| late.is_first) {
            self.topology.count_slow();
        }
        if late.is_some_and(|late| late.is_cut) {
            return Err(CloseReason::SlowConsumerWriteDeadline);
        }
        Ok(())
    }
}
