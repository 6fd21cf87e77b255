//! Push delivery: whether somebody listens, heartbeats, and the flow-control window.

use bytes::Bytes;
use weir_jsapi::{AckPolicy, ConsumerConfig, headers as names};
use weir_stdx::time::UnixNanos;

use super::ConsumerDelivery;
use crate::consumer::{Effect, Position};
use crate::headers;

/// The most bytes that may be in flight under flow control.
const WINDOW_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The window a flow starts with; it doubles with every answer.
const WINDOW_BYTES_START: usize = WINDOW_BYTES_MAX / 16;

#[derive(Debug)]
pub(super) struct Push {
    pub(super) deliver_subject: Bytes,
    active: bool,
    heartbeat: u64,
    heartbeat_at: UnixNanos,
    /// 0: no flow control.
    pub(super) window: usize,
    in_flight: usize,
    /// The unanswered request's subject, and how many bytes its answer covers.
    pub(super) asked: Option<(Bytes, usize)>,
    requests: u64,
    /// Of the requests' subjects.
    prefix: Box<str>,
}

impl Push {
    pub(super) fn new(prefix: String, config: &ConsumerConfig, now: UnixNanos) -> Self {
        let mut push = Self {
            prefix: prefix.into_boxed_str(),
            deliver_subject: Bytes::new(),
            active: false,
            heartbeat: 0,
            heartbeat_at: now,
            window: 0,
            in_flight: 0,
            asked: None,
            requests: 0,
        };
        push.update(config, now);
        push
    }

    pub(super) fn update(&mut self, config: &ConsumerConfig, now: UnixNanos) {
        self.deliver_subject = Bytes::copy_from_slice(config.deliver_subject.as_bytes());
        self.heartbeat = if config.is_push() { u64::try_from(config.idle_heartbeat).unwrap_or(0) } else { 0 };
        self.heartbeat_at = UnixNanos(now.0.saturating_add(self.heartbeat));
        if config.flow_control != (self.window > 0) {
            self.window = if config.flow_control { WINDOW_BYTES_START } else { 0 };
            self.in_flight = 0;
            self.asked = None;
        }
    }

    pub(super) fn is_active(&self) -> bool {
        self.active
    }

    pub(super) fn has_room(&self) -> bool {
        self.active && (self.window == 0 || self.in_flight <= self.window)
    }

    pub(super) fn next_timer(&self) -> Option<UnixNanos> {
        (self.active && self.heartbeat > 0).then_some(self.heartbeat_at)
    }

    /// Accounts for a message that went out; asks for a sign of life when half the window is used, or when the answer
    /// is what acknowledges (`acks_are_due`).
    pub(super) fn sent(&mut self, now: UnixNanos, size: usize, acks_are_due: bool, out: &mut Vec<Effect>) {
        self.heartbeat_at = UnixNanos(now.0.saturating_add(self.heartbeat));
        if self.window == 0 {
            return;
        }
        self.in_flight += size;
        if let Some((_, covered)) = &mut self.asked {
            // The client is a whole window behind its last answer: the one on its way covers this message too.
            if self.in_flight.saturating_sub(*covered) >= self.window {
                *covered += size;
            }
            return;
        }
        if self.in_flight > self.window / 2 || acks_are_due {
            self.ask(now, out);
        }
    }

    /// Asks for a sign of life that covers all that is in flight.
    fn ask(&mut self, now: UnixNanos, out: &mut Vec<Effect>) {
        self.requests += 1;
        let subject = Bytes::from(format!("{}{}", self.prefix, request_token(self.requests, now)));
        out.push(Effect::Status {
            to: self.deliver_subject.clone(),
            reply: Some(subject.clone()),
            headers: headers::status("100 FlowControl Request", &[]),
        });
        self.asked = Some((subject, self.in_flight));
    }

    /// Sends a heartbeat if one is due; true when it did.
    pub(super) fn heartbeat(&mut self, now: UnixNanos, delivered: Position, out: &mut Vec<Effect>) -> bool {
        if self.next_timer().is_none_or(|at| now < at) {
            return false;
        }
        let stalled = self.asked.as_ref().map(|(subject, _)| &subject[..]);
        out.push(Effect::Status {
            to: self.deliver_subject.clone(),
            reply: None,
            headers: heartbeat_headers(delivered, stalled),
        });
        self.heartbeat_at = UnixNanos(now.0.saturating_add(self.heartbeat));
        true
    }
}

/// Four characters that differ from request to request, also across leaders.
fn request_token(count: u64, now: UnixNanos) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut mixed = (now.0 ^ count.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut token = String::with_capacity(4);
    for _ in 0..4 {
        token.push(char::from(DIGITS[(mixed >> 58) as usize % DIGITS.len()]));
        mixed = mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(17);
    }
    token
}

/// `100 Idle Heartbeat` with the last delivered sequences, and the flow-control subject if one is unanswered.
pub(super) fn heartbeat_headers(delivered: Position, stalled: Option<&[u8]>) -> Bytes {
    let stalled = stalled.map(String::from_utf8_lossy);
    let mut fields: Vec<(&str, &dyn std::fmt::Display)> =
        vec![(names::LAST_CONSUMER, &delivered.consumer_seq), (names::LAST_STREAM, &delivered.stream_seq)];
    if let Some(subject) = &stalled {
        fields.push((names::CONSUMER_STALLED, subject));
    }
    headers::status("100 Idle Heartbeat", &fields)
}

impl ConsumerDelivery {
    /// Somebody began or ceased to listen on the deliver subject. Poll afterwards.
    pub fn interest_changed(&mut self, now: UnixNanos, has_interest: bool) {
        if !self.config.is_push() || self.push.active == has_interest {
            return;
        }
        self.push.active = has_interest;
        self.push.in_flight = 0;
        self.push.asked = None;
        self.push.heartbeat_at = UnixNanos(now.0.saturating_add(self.push.heartbeat));
        self.touch(now);
    }

    /// A client answered a flow-control request (a publish to the request's reply). Poll afterwards.
    pub fn handle_flow_control(
        &mut self,
        now: UnixNanos,
        subject: &[u8],
        block: &[u8],
        out: &mut Vec<Effect>,
    ) {
        match self.push.asked.take() {
            Some((asked, covered)) if asked == subject => {
                self.push.in_flight = self.push.in_flight.saturating_sub(covered);
                self.push.window = (self.push.window * 2).min(WINDOW_BYTES_MAX);
            }
            other => {
                self.push.asked = other;
                return;
            }
        }
        if self.config.ack_policy == AckPolicy::FlowControl
            && let Some(seq) = headers::get_str(block, names::LAST_STREAM).and_then(|text| text.parse().ok())
        {
            self.acknowledge(now, seq, out);
        }
    }

    /// A message went out, of this many bytes.
    pub(super) fn push_sent(&mut self, now: UnixNanos, size: usize, out: &mut Vec<Effect>) {
        let acks_are_due = self.config.ack_policy == AckPolicy::FlowControl
            && u64::try_from(self.config.max_ack_pending)
                .is_ok_and(|limit| limit > 0 && self.state.pending.len() as u64 >= limit);
        self.push.sent(now, size, acks_are_due, out);
    }

    /// A heartbeat if one is due; with it the request whose answer acknowledges.
    pub(super) fn push_beat(&mut self, now: UnixNanos, out: &mut Vec<Effect>) {
        let beaten = self.push.heartbeat(now, self.shown_position(), out);
        let asks = self.config.ack_policy == AckPolicy::FlowControl && !self.state.pending.is_empty();
        if beaten && asks && self.push.asked.is_none() {
            self.push.ask(now, out);
        }
    }
}
