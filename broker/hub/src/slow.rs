//! A connection that takes what is written too slowly, of a client or a route: whether to cut it or to wait for it while it
//! moves, and what is said of that. Not who counts it, nor how it is closed.

use std::time::{Duration, Instant};

use tracing::info;
use weir_stdx::duration::format_duration;

use crate::outbox::Outbox;

/// What is known of a connection's slowness. Both lines are nats-server's.
#[derive(Debug, Default)]
pub struct Slow(Option<Waited>);

/// What waited for the connection when the time for it began anew.
#[derive(Debug)]
struct Waited {
    since: Instant,
    chunks: usize,
    bytes: usize,
}

/// A connection did not take in time what was written.
#[derive(Debug, Clone, Copy)]
pub struct Late {
    /// It had been in time until now.
    pub is_first: bool,
    /// It is to be cut; else the time begins anew.
    pub is_cut: bool,
}

impl Slow {
    /// What waited when the connection was too slow is still being written.
    pub fn is_slow(&self) -> bool {
        self.0.is_some()
    }

    /// Whether what is being written takes longer than `deadline`. With `closes`, a connection that does is cut though it
    /// takes something.
    pub fn judge(
        &mut self,
        outbox: &Outbox,
        label: impl FnOnce() -> String,
        deadline: Duration,
        closes: bool,
    ) -> Option<Late> {
        outbox.writing_since().filter(|since| since.elapsed() >= deadline)?;
        let is_first = !self.is_slow();
        let (chunks, bytes) = outbox.backlog();
        info!(
            "{} - Slow Consumer {}: WriteDeadline of {} exceeded with {chunks} chunks of {bytes} total bytes.",
            label(),
            if is_first { "Detected" } else { "State" },
            format_duration(deadline),
        );
        // Without any progress nobody is there to wait for.
        let is_cut = closes || !outbox.has_progressed();
        if !is_cut {
            outbox.begin_anew();
            self.0 = Some(Waited { since: Instant::now(), chunks, bytes });
        }
        Some(Late { is_first, is_cut })
    }

    /// Notes that a connection that was too slow has taken what waited for it.
    pub fn judge_recovery(&mut self, outbox: &Outbox, label: impl FnOnce() -> String) {
        if outbox.writing_since().is_none()
            && let Some(Waited { since, chunks, bytes }) = self.0.take()
        {
            info!(
                "{} - Slow Consumer Recovered: Flush took {:.3}s with {chunks} chunks of {bytes} total bytes.",
                label(),
                since.elapsed().as_secs_f64()
            );
        }
    }
}
