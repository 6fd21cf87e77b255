//! Pull requests: the ones waiting, who is served next, and what each is told at its end.

use std::collections::VecDeque;

use bytes::Bytes;
use weir_jsapi::request::NextRequest;
use weir_jsapi::{ConsumerConfig, headers as names};
use weir_stdx::time::UnixNanos;

use super::ConsumerDelivery;
use crate::consumer::{Effect, Position};
use crate::headers;

/// Requests of consumers that set no `max_waiting` of their own.
const WAITING_DEFAULT: usize = 512;

/// One request that is not satisfied yet.
#[derive(Debug, Clone)]
struct Request {
    reply: Bytes,
    /// Messages still wanted, at least 1.
    remaining: i64,
    /// Bytes still allowed; 0 is unlimited.
    bytes_left: i64,
    delivered: u64,
    no_wait: bool,
    expires: Option<UnixNanos>,
    heartbeat: u64,
    heartbeat_at: Option<UnixNanos>,
}

impl Request {
    fn status(&self, line: &str) -> Effect {
        let fields: [(&str, &dyn std::fmt::Display); 2] =
            [(names::PENDING_MESSAGES, &self.remaining), (names::PENDING_BYTES, &self.bytes_left)];
        Effect::Status { to: self.reply.clone(), reply: None, headers: headers::status(line, &fields) }
    }
}

/// The waiting requests, served in turn.
#[derive(Debug, Default)]
pub(super) struct PullRequests {
    waiting: VecDeque<Request>,
    /// Not later than the first expiry or heartbeat.
    timer: Option<UnixNanos>,
}

/// A request that gets the message at hand.
pub(super) struct Taken {
    pub reply: Bytes,
    batch_completed: Option<Effect>,
}

impl Taken {
    /// What follows the message.
    pub(super) fn finish(self, out: &mut Vec<Effect>) {
        out.extend(self.batch_completed);
    }
}

impl PullRequests {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn next_timer(&self) -> Option<UnixNanos> {
        self.timer.filter(|_| !self.waiting.is_empty())
    }

    pub(super) fn count_live(&mut self, now: UnixNanos, has_interest: &dyn Fn(&[u8]) -> bool) -> usize {
        let live =
            |request: &&Request| request.expires.is_none_or(|at| now <= at) && has_interest(&request.reply);
        self.waiting.iter().filter(live).count()
    }

    pub(super) fn stop(&mut self, line: &str, out: &mut Vec<Effect>) {
        for request in self.waiting.drain(..) {
            let headers = headers::status(line, &[]);
            out.push(Effect::Status { to: request.reply, reply: None, headers });
        }
    }

    fn add(&mut self, request: Request) {
        let due = [request.expires, request.heartbeat_at].into_iter().flatten().min();
        self.timer = [self.timer.filter(|_| !self.waiting.is_empty()), due].into_iter().flatten().min();
        self.waiting.push_back(request);
    }

    /// The request that takes a message of this size; expired ones and those it does not fit end here.
    pub(super) fn take(
        &mut self,
        now: UnixNanos,
        size: usize,
        has_interest: &dyn Fn(&[u8]) -> bool,
        out: &mut Vec<Effect>,
    ) -> Option<Taken> {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        while let Some(mut request) = self.waiting.pop_front() {
            if request.expires.is_some_and(|at| now >= at) {
                out.push(request.status("408 Request Timeout"));
                continue;
            }
            if request.bytes_left > 0 && size > request.bytes_left {
                out.push(request.status("409 Message Size Exceeds MaxBytes"));
                continue;
            }
            if !has_interest(&request.reply) {
                continue;
            }
            if request.bytes_left > 0 {
                request.bytes_left -= size;
                if request.bytes_left == 0 {
                    request.remaining = 1;
                }
            }
            request.remaining -= 1;
            request.delivered += 1;
            let reply = request.reply.clone();
            if request.remaining > 0 {
                if request.heartbeat > 0 {
                    request.heartbeat_at = Some(UnixNanos(now.0.saturating_add(request.heartbeat)));
                }
                self.waiting.push_back(request);
                return Some(Taken { reply, batch_completed: None });
            }
            let batch_completed = (request.bytes_left > 0).then(|| request.status("409 Batch Completed"));
            return Some(Taken { reply, batch_completed });
        }
        None
    }

    /// Ends requests that are out of time, without a subscriber, or (at the end of the stream) not meant to wait;
    /// sends heartbeats that are due.
    pub(super) fn expire(
        &mut self,
        now: UnixNanos,
        end_of_stream: bool,
        delivered: Position,
        has_interest: &dyn Fn(&[u8]) -> bool,
        out: &mut Vec<Effect>,
    ) {
        let due = self.timer.is_some_and(|at| at <= now);
        let one_shot = end_of_stream && self.waiting.iter().any(|request| request.no_wait);
        if !due && !one_shot {
            return;
        }
        self.timer = None;
        let mut next: Option<UnixNanos> = None;
        self.waiting.retain_mut(|request| {
            if request.expires.is_some_and(|at| now >= at) {
                out.push(request.status("408 Request Timeout"));
                return false;
            }
            if end_of_stream && request.no_wait && (request.expires.is_none() || request.delivered > 0) {
                let headers = headers::status("404 No Messages", &[]);
                out.push(Effect::Status { to: request.reply.clone(), reply: None, headers });
                return false;
            }
            if !has_interest(&request.reply) {
                return false;
            }
            if request.heartbeat_at.is_some_and(|at| now >= at) {
                let headers = super::push::heartbeat_headers(delivered, None);
                out.push(Effect::Status { to: request.reply.clone(), reply: None, headers });
                request.heartbeat_at = Some(UnixNanos(now.0.saturating_add(request.heartbeat)));
            }
            next = [next, request.expires, request.heartbeat_at].into_iter().flatten().min();
            true
        });
        self.timer = next;
    }

    /// Forgets requests nobody listens to any more, or that are out of time. For when the queue is full.
    fn make_room(&mut self, now: UnixNanos, has_interest: &dyn Fn(&[u8]) -> bool, out: &mut Vec<Effect>) {
        self.waiting.retain(|request| {
            let expired = request.expires.is_some_and(|at| now >= at);
            if expired {
                out.push(request.status("408 Request Timeout"));
            }
            !expired && has_interest(&request.reply)
        });
    }
}

/// A request's body: empty, a number, or JSON.
fn parse(body: &[u8]) -> Result<NextRequest, String> {
    let body = body.trim_ascii();
    let one = NextRequest { batch: 1, ..NextRequest::default() };
    match body.first() {
        None => Ok(one),
        Some(b'{') => {
            let request: NextRequest = weir_jsapi::json::decode_lenient(body)?;
            if request.idle_heartbeat > 0 && request.idle_heartbeat.saturating_mul(2) > request.expires {
                return Err("heartbeat value too large".to_owned());
            }
            Ok(request)
        }
        Some(_) => {
            let batch = std::str::from_utf8(body).ok().and_then(|text| text.parse().ok());
            Ok(NextRequest { batch: batch.unwrap_or(1), ..one })
        }
    }
}

/// The status line that refuses a request, if it asks for too much.
fn refusal(config: &ConsumerConfig, request: &NextRequest) -> Option<String> {
    if config.max_batch > 0 && request.batch > config.max_batch {
        return Some(format!("409 Exceeded MaxRequestBatch of {}", config.max_batch));
    }
    if config.max_expires > 0 && request.expires > config.max_expires {
        let limit = u64::try_from(config.max_expires).unwrap_or(0);
        return Some(format!("409 Exceeded MaxRequestExpires of {}", crate::config::go_duration(limit)));
    }
    if config.max_bytes > 0 && request.max_bytes > config.max_bytes {
        return Some(format!("409 Exceeded MaxRequestMaxBytes of {}", config.max_bytes));
    }
    if request.min_pending != 0 || request.min_ack_pending != 0 {
        return Some("400 Bad Request - Not a Overflow Priority consumer".to_owned());
    }
    if !request.id.is_empty() {
        return Some("400 Bad Request - Not a Pinned Client Priority consumer".to_owned());
    }
    if !(0..=9).contains(&request.priority) {
        return Some("400 Bad Request - Priority must be between 0 and 9".to_owned());
    }
    None
}

impl ConsumerDelivery {
    /// A request for messages; `num_pending` is only asked for by `no_wait`. Poll afterwards.
    pub fn handle_pull_request<S: crate::store::Store>(
        &mut self,
        now: UnixNanos,
        machine: &crate::stream::StreamMachine<S>,
        has_interest: &dyn Fn(&[u8]) -> bool,
        reply: &Bytes,
        body: &[u8],
        out: &mut Vec<Effect>,
    ) {
        let mut refuse = |line: &str| {
            out.push(Effect::Status { to: reply.clone(), reply: None, headers: headers::status(line, &[]) });
        };
        if reply.is_empty() {
            return;
        }
        if self.config.is_push() {
            return refuse("409 Consumer is push based");
        }
        let request = match parse(body) {
            Ok(request) => request,
            Err(error) => return refuse(&format!("400 Bad Request - {error}")),
        };
        if let Some(line) = refusal(&self.config, &request) {
            return refuse(&line);
        }
        if request.no_wait {
            let available = self.num_pending(machine) + self.redeliver.len() as u64;
            if available == 0 && request.expires == 0 {
                self.touch(now);
                return refuse("404 No Messages");
            }
            let wanted: i64 = self.pull.waiting.iter().map(|request| request.remaining).sum();
            if available > 0 && available < u64::try_from(wanted).unwrap_or(0) {
                self.touch(now);
                return refuse("408 Requests Pending");
            }
        }
        let limit = usize::try_from(self.config.max_waiting).ok().filter(|&limit| limit > 0);
        if self.pull.waiting.len() >= limit.unwrap_or(WAITING_DEFAULT) {
            self.pull.make_room(now, has_interest, out);
        }
        if self.pull.waiting.len() >= limit.unwrap_or(WAITING_DEFAULT) {
            // A client with heartbeats notices by their absence; telling it would make it ask again at once.
            if request.idle_heartbeat == 0 {
                let headers = headers::status("409 Exceeded MaxWaiting", &[]);
                out.push(Effect::Status { to: reply.clone(), reply: None, headers });
            }
            return;
        }
        let after = |nanos: i64| u64::try_from(nanos).ok().filter(|&nanos| nanos > 0);
        self.pull.add(Request {
            reply: reply.clone(),
            remaining: request.batch.max(1),
            bytes_left: request.max_bytes.max(0),
            delivered: 0,
            no_wait: request.no_wait,
            // A time in the past is over at once.
            expires: (request.expires != 0).then(|| UnixNanos(now.0.saturating_add_signed(request.expires))),
            heartbeat: after(request.idle_heartbeat).unwrap_or(0),
            heartbeat_at: after(request.idle_heartbeat).map(|nanos| UnixNanos(now.0.saturating_add(nanos))),
        });
        self.touch(now);
    }
}
