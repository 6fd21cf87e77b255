//! What a load has measured, as JSON. Not how it is judged.

use crate::usage::Used;
use std::fmt::Write;

/// Figures of one load.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Messages published (requests, for requests).
    pub(crate) messages: u64,
    /// Messages received.
    pub(crate) delivered: u64,
    pub(crate) seconds: f64,
    generator_cpu_seconds: f64,
    busiest_thread: f64,
    latencies_nanos: Vec<u64>,
}

impl Report {
    pub(crate) fn new(messages: u64, delivered: u64, seconds: f64) -> Self {
        Self { messages, delivered, seconds, ..Self::default() }
    }

    /// Adds what one thread of the generator used.
    pub(crate) fn add_thread(&mut self, used: Used) {
        self.generator_cpu_seconds += used.cpu_seconds;
        self.busiest_thread = self.busiest_thread.max(used.share);
    }

    pub(crate) fn add_latencies(&mut self, nanos: &[u64]) {
        self.latencies_nanos.extend_from_slice(nanos);
    }

    pub(crate) fn into_json(mut self) -> String {
        let mut text = format!(
            "{{\"messages\": {}, \"delivered\": {}, \"seconds\": {:.6}, \"generator_cpu_seconds\": {:.6}, \"busiest_thread\": {:.4}",
            self.messages, self.delivered, self.seconds, self.generator_cpu_seconds, self.busiest_thread
        );
        self.latencies_nanos.sort_unstable();
        for (name, share) in [("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999)] {
            if let Some(nanos) = percentile(&self.latencies_nanos, share) {
                let _ = write!(text, ", \"{name}\": {:.2}", nanos as f64 / 1e3);
            }
        }
        text.push('}');
        text
    }
}

fn percentile(sorted: &[u64], share: f64) -> Option<u64> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last as f64 * share).round() as usize).copied()
}
