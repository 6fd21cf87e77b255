//! Counters of the operator, in Prometheus' text format.
use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

/// The counters; clones share them.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    /// Reconciles by kind and result (`ok`, `error`).
    pub reconciles: IntCounterVec,
    /// How long they took, by kind.
    pub reconcile_seconds: HistogramVec,
    /// Writes to the API server by kind and verb. A converged object causes none.
    pub writes: IntCounterVec,
    /// Requests to brokers by kind of request and result.
    pub broker_requests: IntCounterVec,
    /// 1 while this process holds the lease.
    pub leader: IntGauge,
}

impl Metrics {
    /// All counters, at zero.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let reconciles = counter("weir_operator_reconciles_total", "Reconciles.", &["kind", "result"])?;
        let writes =
            counter("weir_operator_writes_total", "Writes to the Kubernetes API.", &["kind", "verb"])?;
        let broker_requests =
            counter("weir_operator_broker_requests_total", "Requests to brokers.", &["request", "result"])?;
        let reconcile_seconds = HistogramVec::new(
            HistogramOpts::new("weir_operator_reconcile_seconds", "Duration of a reconcile."),
            &["kind"],
        )?;
        let leader = IntGauge::new("weir_operator_leader", "1 while this process holds the lease.")?;
        registry.register(Box::new(reconcile_seconds.clone()))?;
        registry.register(Box::new(leader.clone()))?;
        Ok(Self { registry, reconciles, reconcile_seconds, writes, broker_requests, leader })
    }

    /// The counters as text.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}
