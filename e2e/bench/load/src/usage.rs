//! Processor time of this process' threads, to show that the generator is not what limits. Not the server's.

use std::fs;
use std::time::Instant;

/// A thread's processor time over a stretch of wall time.
pub(crate) struct Watch {
    began: Instant,
    cpu_nanos: u64,
}

/// What one thread used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    pub(crate) cpu_seconds: f64,
    /// The share of the wall time in which it ran.
    pub(crate) share: f64,
}

impl Watch {
    /// Begins now, for the calling thread.
    pub(crate) fn start() -> Self {
        Self { began: Instant::now(), cpu_nanos: thread_nanos() }
    }

    /// What the calling thread used since.
    pub(crate) fn stop(&self) -> Used {
        let cpu_seconds = thread_nanos().saturating_sub(self.cpu_nanos) as f64 / 1e9;
        let wall = self.began.elapsed().as_secs_f64();
        Used { cpu_seconds, share: if wall > 0.0 { cpu_seconds / wall } else { 0.0 } }
    }
}

fn thread_nanos() -> u64 {
    fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split(' ').next()?.parse().ok())
        .unwrap_or(0)
}
