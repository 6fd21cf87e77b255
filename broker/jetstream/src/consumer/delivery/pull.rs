//! Pull requests: the ones waiting, who is served next, and what each is told at its end.

use std::collections::VecDeque;

use bytes::Bytes;
use weir_jsapi::request::NextRequest;
use weir_jsapi::{ConsumerConfig, headers as names};
use weir_stdx::time::UnixNanos;

use super::ConsumerDelivery;
use super::priority::{Demand, Membership, Priorities, Verdict};
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
    /// Of consumers with a priority policy.
    member: Option<Box<Membership>>,
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
    /// Some of them may not wait for messages to come.
    has_one_shots: bool,
    /// The inbox that was last found to be listened to, and when.
    heard: Option<(UnixNanos, Bytes)>,
    pub(super) priorities: Priorities,
}

/// A request that gets the message at hand.
pub(super) struct Taken {
    pub reply: Bytes,
    /// To be told with the message, when clients are pinned.
    pub pin: Option<std::sync::Arc<str>>,
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
        let requests = self.timer.filter(|_| !self.waiting.is_empty());
        [requests, self.priorities.next_timer()].into_iter().flatten().min()
    }

    pub(super) fn count_live(&mut self, now: UnixNanos, has_interest: &dyn Fn(&[u8]) -> bool) -> usize {
        let live =
            |request: &&Request| request.expires.is_none_or(|at| now <= at) && has_interest(&request.reply);
        self.waiting.iter().filter(live).count()
    }

    /// Ends all requests; each may be told what it still lacks.
    pub(super) fn stop(&mut self, line: &str, tells_rest: bool, out: &mut Vec<Effect>) {
        for request in self.waiting.drain(..) {
            if tells_rest {
                out.push(request.status(line));
                continue;
            }
            let headers = headers::status(line, &[]);
            out.push(Effect::Status { to: request.reply, reply: None, headers });
        }
    }

    fn add(&mut self, request: Request) {
        let due = [request.expires, request.heartbeat_at].into_iter().flatten().min();
        self.timer = [self.timer.filter(|_| !self.waiting.is_empty()), due].into_iter().flatten().min();
        self.has_one_shots |= request.no_wait;
        self.requeue(request);
    }

    /// Behind the others; with priorities behind those that are as urgent.
    fn requeue(&mut self, request: Request) {
        if !self.priorities.sorts() {
            return self.waiting.push_back(request);
        }
        let rank = |request: &Request| Membership::rank(request.member.as_deref());
        let own = rank(&request);
        let at = self.waiting.partition_point(|other| rank(other) <= own);
        self.waiting.insert(at, request);
    }

    /// The request that takes a message of this size; expired ones and those it does not fit end here.
    pub(super) fn take(
        &mut self,
        now: UnixNanos,
        size: usize,
        demand: Demand,
        has_interest: &dyn Fn(&[u8]) -> bool,
        out: &mut Vec<Effect>,
    ) -> Option<Taken> {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        let pin_free = self.priorities.needs_pin();
        let mut passed = 0;
        while let Some(mut request) = self.waiting.pop_front() {
            if request.expires.is_some_and(|at| now >= at) {
                out.push(request.status("408 Request Timeout"));
                continue;
            }
            match self.priorities.judge(now, pin_free, request.member.as_deref_mut(), demand) {
                Verdict::Serve => {}
                Verdict::Wait => {
                    self.waiting.push_back(request);
                    passed += 1;
                    if passed >= self.waiting.len() {
                        return None;
                    }
                    continue;
                }
                Verdict::WrongPin => {
                    out.push(request.status("423 Nats-Wrong-Pin-Id"));
                    continue;
                }
            }
            if request.bytes_left > 0 && size > request.bytes_left {
                out.push(request.status("409 Message Size Exceeds MaxBytes"));
                if pin_free {
                    self.priorities.release();
                }
                continue;
            }
            if !self.is_heard(now, &request.reply, has_interest) {
                continue;
            }
            return Some(self.serve(now, request, size));
        }
        None
    }

    /// Whether somebody listens on an inbox; asked once while the same request is served at the same time.
    fn is_heard(&mut self, now: UnixNanos, reply: &Bytes, has_interest: &dyn Fn(&[u8]) -> bool) -> bool {
        if let Some((at, heard)) = &self.heard
            && *at == now
            && heard == reply
        {
            return true;
        }
        let is_heard = has_interest(reply);
        self.heard = is_heard.then(|| (now, reply.clone()));
        is_heard
    }

    /// Counts one message to a request, which waits on if it wants more.
    fn serve(&mut self, now: UnixNanos, mut request: Request, size: i64) -> Taken {
        if request.bytes_left > 0 {
            request.bytes_left -= size;
            if request.bytes_left == 0 {
                request.remaining = 1;
            }
        }
        request.remaining -= 1;
        request.delivered += 1;
        let reply = request.reply.clone();
        let pinned = || self.priorities.pin().map(|pin| std::sync::Arc::clone(&pin.id)).unwrap_or_default();
        let pin = self.priorities.pins().then(pinned);
        if request.remaining > 0 {
            if request.heartbeat > 0 {
                request.heartbeat_at = Some(UnixNanos(now.0.saturating_add(request.heartbeat)));
            }
            self.requeue(request);
            return Taken { reply, pin, batch_completed: None };
        }
        let batch_completed = (request.bytes_left > 0).then(|| request.status("409 Batch Completed"));
        Taken { reply, pin, batch_completed }
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
        let ends_some = end_of_stream && self.has_one_shots;
        if !due && !ends_some {
            return;
        }
        self.timer = None;
        self.has_one_shots = false;
        let mut next: Option<UnixNanos> = None;
        let has_one_shots = &mut self.has_one_shots;
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
            *has_one_shots |= request.no_wait;
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

/// A request's body: empty, a number, or JSON; and whether it is JSON.
fn parse(body: &[u8]) -> Result<(NextRequest, bool), String> {
    let body = body.trim_ascii();
    let one = NextRequest { batch: 1, ..NextRequest::default() };
    match body.first() {
        None => Ok((one, false)),
        Some(b'{') => {
            let request: NextRequest = weir_jsapi::json::decode_lenient(body).map_err(name_group_fields)?;
            if request.idle_heartbeat > 0 && request.idle_heartbeat.saturating_mul(2) > request.expires {
                return Err("heartbeat value too large".to_owned());
            }
            Ok((request, true))
        }
        Some(_) => {
            let batch = std::str::from_utf8(body).ok().and_then(|text| text.parse().ok());
            Ok((NextRequest { batch: batch.unwrap_or(1), ..one }, false))
        }
    }
}

/// nats-server keeps a group's fields in a struct without a name of its own.
fn name_group_fields(error: String) -> String {
    const STRUCT: &str = "JSApiConsumerGetNextRequest";
    let of_group = ["group", "min_pending", "min_ack_pending", "id", "priority"];
    match of_group.iter().find(|field| error.contains(&format!(" {STRUCT}.{field} "))) {
        Some(_) => error.replacen(STRUCT, "", 1),
        None => error,
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
    None
}

/// A status without fields, in answer to a request.
fn answer(reply: &Bytes, line: &str) -> Effect {
    Effect::Status { to: reply.clone(), reply: None, headers: headers::status(line, &[]) }
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
        if reply.is_empty() {
            return;
        }
        if self.config.is_push() {
            return out.push(answer(reply, "409 Consumer is push based"));
        }
        let (request, is_json) = match parse(body) {
            Ok(parsed) => parsed,
            Err(error) => return out.push(answer(reply, &format!("400 Bad Request - {error}"))),
        };
        if let Some(line) = refusal(&self.config, &request) {
            return out.push(answer(reply, &line));
        }
        let member = match self.pull.priorities.admit(now, &self.config, is_json.then_some(&request)) {
            Ok(member) => member.map(Box::new),
            Err(line) => return out.push(answer(reply, line)),
        };
        if request.no_wait
            && let Some(line) = self.shortage(now, machine, has_interest, &request, out)
        {
            self.touch(now);
            return out.push(answer(reply, line));
        }
        let limit = usize::try_from(self.config.max_waiting).ok().filter(|&limit| limit > 0);
        if self.pull.waiting.len() >= limit.unwrap_or(WAITING_DEFAULT) {
            self.pull.make_room(now, has_interest, out);
        }
        if self.pull.waiting.len() >= limit.unwrap_or(WAITING_DEFAULT) {
            // A client with heartbeats notices by their absence; telling it would make it ask again at once.
            if request.idle_heartbeat == 0 {
                out.push(answer(reply, "409 Exceeded MaxWaiting"));
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
            member,
        });
        self.touch(now);
    }

    /// The status of a request that would not wait, when there is too little for it.
    fn shortage<S: crate::store::Store>(
        &mut self,
        now: UnixNanos,
        machine: &crate::stream::StreamMachine<S>,
        has_interest: &dyn Fn(&[u8]) -> bool,
        request: &NextRequest,
        out: &mut Vec<Effect>,
    ) -> Option<&'static str> {
        let available = self.num_pending(machine) + self.redeliver.len() as u64;
        if available == 0 {
            return (request.expires == 0).then_some("404 No Messages");
        }
        self.pull.make_room(now, has_interest, out);
        let wanted: i64 = self.pull.waiting.iter().map(|request| request.remaining).sum();
        (available < u64::try_from(wanted).unwrap_or(0)).then_some("408 Requests Pending")
    }
}
