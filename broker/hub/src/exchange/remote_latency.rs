//! Latency of services whose responder is on another server: that server measures its part, and tells the
//! requester's over the system account, as nats-server does. Not the measurements of one server (`latency`).

use super::latency::{Metric, Responder};
use super::request_info::{ClientInfo, to_json};
use super::responses::PREFIX;
use crate::account::Account;
use crate::client::ClientHandle;
use crate::hub::{Hub, now};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use weir_stdx::time::UnixNanos;

/// What the one-time subject of a measured request ends with, behind the hash of the server that measures.
const SUFFIX: &[u8] = b".T";
/// So long one half waits for the other, or a responder's server for its answer.
const KEPT_FOR: Duration = Duration::from_secs(120);
/// From so many on, old ones are looked for; beyond the other number new ones are not taken.
const TIDY_FROM: usize = 1024;
const KEPT_MAX: usize = 64 * 1024;

/// Whether a request with this reply subject is measured by its requester's server.
#[inline]
pub(crate) fn is_measured(reply: &[u8]) -> bool {
    reply.ends_with(SUFFIX) && reply.starts_with(PREFIX)
}

/// What is appended to the one-time subject of a measured request.
pub(super) fn suffix(node: &str) -> Vec<u8> {
    if node.is_empty() { Vec::new() } else { [b".", node.as_bytes(), SUFFIX].concat() }
}

/// Things that are forgotten when they are old or too many.
struct Kept<T>(FxHashMap<Box<[u8]>, (UnixNanos, T)>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(FxHashMap::default())
    }
}

impl<T> Kept<T> {
    fn insert(&mut self, name: &[u8], value: T) {
        let at = now();
        if self.0.len() >= TIDY_FROM && self.0.len().is_power_of_two() || self.0.len() >= KEPT_MAX {
            self.0.retain(|_, (since, _)| at.since(*since) < KEPT_FOR);
        }
        if self.0.len() < KEPT_MAX {
            self.0.insert(name.into(), (at, value));
        }
    }

    fn remove(&mut self, name: &[u8]) -> Option<(UnixNanos, T)> {
        self.0.remove(name)
    }
}

/// Measured requests that a client got from other servers and has not answered.
#[derive(Default)]
pub(crate) struct RemoteRequests {
    is_any: AtomicBool,
    open: Mutex<Kept<()>>,
}

impl RemoteRequests {
    pub(crate) fn note(&self, reply: &[u8]) {
        self.open.lock().insert(reply, ());
        self.is_any.store(true, Ordering::Release);
    }

    /// When a request with that reply subject came, if it is answered for the first time.
    #[inline]
    pub(crate) fn answered(&self, subject: &[u8]) -> Option<UnixNanos> {
        if !self.is_any.load(Ordering::Relaxed) || !is_measured(subject) {
            return None;
        }
        let mut open = self.open.lock();
        let found = open.remove(subject);
        self.is_any.store(!open.0.is_empty(), Ordering::Release);
        found.map(|(at, ())| at)
    }
}

/// The responder's part, as it goes to the requester's server.
#[derive(Serialize, Deserialize)]
struct Report {
    account: String,
    req_id: String,
    m2: Part,
}

#[derive(Serialize, Deserialize)]
struct Part {
    #[serde(default)]
    status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    responder: Option<Value>,
    start: String,
    service: i64,
    system: i64,
    total: i64,
}

/// Tells the requester's server how long a client of this one took to answer.
pub(crate) fn report(
    system: &Arc<Account>,
    account: &Account,
    client: &ClientHandle,
    subject: &[u8],
    asked: UnixNanos,
) {
    let node = subject.split(|byte| *byte == b'.').rev().nth(1).unwrap_or_default();
    let info = ClientInfo::of_client(client, true, &system.exchange().options);
    let took = i64::try_from(now().since(asked).as_nanos()).unwrap_or(i64::MAX);
    let rtt = i64::try_from(info.rtt_nanos).unwrap_or(i64::MAX);
    let service = took.saturating_sub(rtt).max(0);
    let report = Report {
        account: account.name().to_owned(),
        req_id: String::from_utf8_lossy(subject).into_owned(),
        m2: Part {
            status: 200,
            responder: serde_json::to_value(&info).ok(),
            start: asked.to_rfc3339(),
            service,
            system: 0,
            total: service.saturating_add(rtt),
        },
    };
    system.publish(&[b"$SYS.LATENCY.M2.", node].concat(), None, b"", &to_json(&report));
}

/// One half of a measurement that waits for the other.
enum Half {
    /// This server's, and where the whole is told.
    Own(Box<Metric>, String),
    Other(Box<Part>),
}

/// Halves of an account's measurements.
#[derive(Default)]
pub(crate) struct Halves(Mutex<Kept<Half>>);

impl Halves {
    /// This server's half: gives back the whole, when the other one is there.
    pub(super) fn own(&self, name: &[u8], metric: Metric, subject: &str) -> Option<Metric> {
        let mut halves = self.0.lock();
        match halves.remove(name) {
            Some((_, Half::Other(part))) => Some(merged(metric, *part)),
            _ => {
                halves.insert(name, Half::Own(Box::new(metric), subject.to_owned()));
                None
            }
        }
    }

    /// The other server's half: gives back the whole and where it is told, when this server's is there.
    fn other(&self, name: &[u8], part: Part, is_expected: bool) -> Option<(Metric, String)> {
        let mut halves = self.0.lock();
        match halves.remove(name) {
            Some((_, Half::Own(metric, subject))) => Some((merged(*metric, part), subject)),
            _ => {
                if is_expected {
                    halves.insert(name, Half::Other(Box::new(part)));
                }
                None
            }
        }
    }
}

fn merged(mut metric: Metric, part: Part) -> Metric {
    let rtt = part.responder.as_ref().and_then(|info| info.get("rtt")?.as_u64()).unwrap_or(0);
    let service = u64::try_from(part.service).unwrap_or(0);
    metric.system = metric.service.saturating_sub(service.saturating_add(rtt));
    metric.service = service;
    metric.responder = part.responder.map(Responder::Other);
    metric
}

impl Hub {
    /// Takes what another server measured, as it came in over the system account. Tells what is wrong with it.
    pub fn take_remote_latency(&self, body: &[u8]) -> Result<(), String> {
        let report: Report = serde_json::from_slice(body)
            .map_err(|error| format!("Error unmarshalling remote latency measurement: {error}"))?;
        let Some(account) = self.account(&report.account) else {
            return Err(format!("Could not lookup account {:?} for latency measurement", report.account));
        };
        let name = report.req_id.as_bytes();
        let exchange = account.exchange();
        let is_expected = exchange.responses.get(name).is_some_and(|response| response.tracking.is_some());
        if let Some((metric, subject)) = exchange.halves.other(name, report.m2, is_expected) {
            account.publish(subject.as_bytes(), None, b"", &to_json(&metric));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_time_subjects_with_the_mark_are_measured() {
        assert!(is_measured(b"_R_.abcdef.123456.NODE.T"));
        assert!(!is_measured(b"_R_.abcdef.123456"));
        assert!(!is_measured(b"orders.T"));
        assert_eq!(suffix("NODE"), b".NODE.T");
        assert_eq!(suffix(""), b"");
    }

    #[test]
    fn a_request_is_answered_once() {
        let requests = RemoteRequests::default();
        let reply = b"_R_.a.b.NODE.T";
        assert_eq!(requests.answered(reply), None);
        requests.note(reply);
        assert!(requests.answered(reply).is_some());
        assert_eq!(requests.answered(reply), None);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut kept = Kept::default();
        for number in 0..KEPT_MAX + 10 {
            kept.insert(&number.to_le_bytes(), ());
        }
        assert_eq!(kept.0.len(), KEPT_MAX);
    }
}
