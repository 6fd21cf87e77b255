//! How long services take: measurements as `io.nats.server.metric.v1.service_latency`. Not which are taken.

use super::request_info::{ClientInfo, to_json};
use super::responses::Response;
use super::sampling::TraceHeaders;
use crate::account::Account;
use crate::client::ClientHandle;
use crate::hub::now;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use weir_stdx::time::UnixNanos;

const TYPE: &str = "io.nats.server.metric.v1.service_latency";

/// What is needed to tell a request's latency once it is known.
pub(crate) struct Tracking {
    /// Where it is published, in the exporting account.
    pub(super) subject: String,
    pub(super) headers: TraceHeaders,
    pub(super) requester: Option<Arc<ClientHandle>>,
    pub(super) share: bool,
}

/// Who answered.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Responder {
    /// A client of this server.
    Own(Box<ClientInfo>),
    /// One of another, in that server's words.
    Other(serde_json::Value),
}

#[derive(Serialize)]
pub(super) struct Metric {
    #[serde(rename = "type")]
    kind: &'static str,
    id: String,
    timestamp: String,
    status: u16,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    requestor: Option<ClientInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) responder: Option<Responder>,
    #[serde(skip_serializing_if = "TraceHeaders::is_empty")]
    header: TraceHeaders,
    start: String,
    pub(super) service: u64,
    pub(super) system: u64,
    total: u64,
}

/// A request's fate.
pub(super) enum Outcome<'o> {
    /// Somebody answered; a client of this server, or one of another.
    Answered { responder: Option<&'o ClientHandle> },
    /// 400: no reply subject.
    BadRequest,
    /// 408: the requester does not listen any more.
    InterestLost,
    /// 503: nobody took it.
    NotDelivered,
    /// 504: no answer in time.
    TimedOut,
}

impl Outcome<'_> {
    fn status(&self) -> (u16, &'static str) {
        match self {
            Self::Answered { .. } => (200, ""),
            Self::BadRequest => (400, "Bad Request"),
            Self::InterestLost => (408, "Request Timeout"),
            Self::NotDelivered => (503, "Service Unavailable"),
            Self::TimedOut => (504, "Service Timeout"),
        }
    }
}

/// Publishes the measurement of a request that began at `started`.
pub(super) fn tell(exporter: &Arc<Account>, tracking: &Tracking, started: UnixNanos, outcome: &Outcome<'_>) {
    publish(exporter, tracking, &measure(exporter, tracking, started, outcome));
}

/// Publishes a measurement.
pub(super) fn publish(exporter: &Arc<Account>, tracking: &Tracking, metric: &Metric) {
    exporter.publish(tracking.subject.as_bytes(), None, b"", &to_json(metric));
}

/// The measurement of a request that began at `started`.
pub(super) fn measure(
    exporter: &Arc<Account>,
    tracking: &Tracking,
    started: UnixNanos,
    outcome: &Outcome<'_>,
) -> Metric {
    let options = &exporter.exchange().options;
    let info = |client: &ClientHandle, share| ClientInfo::of_client(client, share, options);
    let requestor = tracking.requester.as_deref().map(|client| info(client, tracking.share));
    let responder = match outcome {
        Outcome::Answered { responder: Some(client) } => Some(info(client, true)),
        _ => None,
    };
    let requester_rtt = requestor.as_ref().map_or(0, |info| info.rtt_nanos);
    let responder_rtt = responder.as_ref().map_or(0, |info| info.rtt_nanos);
    let ended = now();
    let took = u64::try_from(ended.since(started).as_nanos()).unwrap_or(u64::MAX);
    let (status, description) = outcome.status();
    let is_answered = status == 200;
    let system = if responder_rtt > 0 { now().since(ended).as_nanos() } else { 0 };
    let system = u64::try_from(system).unwrap_or(0);
    let measured = |value: u64| if is_answered { value } else { 0 };
    Metric {
        kind: TYPE,
        id: event_id(),
        timestamp: now().to_rfc3339(),
        status,
        description,
        requestor,
        responder: responder.map(|info| Responder::Own(Box::new(info))),
        header: tracking.headers.clone(),
        start: UnixNanos(started.as_nanos().saturating_sub(requester_rtt)).to_rfc3339(),
        service: measured(took.saturating_sub(responder_rtt)),
        system: measured(system),
        total: measured(requester_rtt.saturating_add(took).saturating_add(system)),
    }
}

/// A random name for an event, 22 letters and digits as NUIDs have.
pub(crate) fn event_id() -> String {
    let mut seed = [0; 8];
    // Without random numbers from the system events would only share their names.
    let _ = getrandom::fill(&mut seed);
    weir_stdx::id::random_id(&mut weir_stdx::rng::SeededRng::new(u64::from_le_bytes(seed)))
}

impl Response {
    /// Tells the latency of a request that will not be answered.
    pub(super) fn tell_failure(&self, exporter: &Arc<Account>, outcome: &Outcome<'_>) {
        if let Some(tracking) = &self.tracking
            && !self.answered.load(Ordering::Relaxed)
        {
            tell(exporter, tracking, self.started, outcome);
        }
    }
}
