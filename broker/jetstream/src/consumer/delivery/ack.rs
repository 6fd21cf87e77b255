//! Acknowledgements: +ACK, -NAK, +WPI, +TERM, +NXT.

use bytes::Bytes;
use weir_jsapi::AckPolicy;
use weir_jsapi::subject::AckSubject;
use weir_stdx::time::UnixNanos;

use super::ConsumerDelivery;
use crate::consumer::{ConsumerEvent, Effect};
use crate::store::Store;
use crate::stream::StreamMachine;

/// What an ack's payload says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AckKind<'a> {
    Ack,
    /// With the text after `-NAK`: a delay.
    Nak(&'a [u8]),
    InProgress,
    /// With its reason.
    Term(&'a [u8]),
    /// With the text after `+NXT`: a pull request's body.
    Next(&'a [u8]),
    Unknown,
}

fn parse(body: &[u8]) -> AckKind<'_> {
    if body.is_empty() || body == b"+ACK" || body == b"+OK" {
        return AckKind::Ack;
    }
    if body == b"+WPI" {
        return AckKind::InProgress;
    }
    if let Some(rest) = body.strip_prefix(b"+NXT") {
        return AckKind::Next(rest);
    }
    if let Some(rest) = body.strip_prefix(b"-NAK") {
        return AckKind::Nak(rest.trim_ascii());
    }
    if let Some(rest) = body.strip_prefix(b"+TERM") {
        return AckKind::Term(rest.trim_ascii());
    }
    AckKind::Unknown
}

/// The delay in a NAK: `{"delay": nanoseconds}` or a Go duration. `None`: none, or not readable (treated as none).
fn nak_delay(text: &[u8]) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Options {
        #[serde(default)]
        delay: i64,
    }
    if text.first() == Some(&b'{') {
        let options: Options = weir_jsapi::json::decode_lenient(text).ok()?;
        return u64::try_from(options.delay).ok();
    }
    crate::config::parse_go_duration(std::str::from_utf8(text).ok()?)
}

impl ConsumerDelivery {
    /// Whether clients acknowledge messages at all; where they do not, nobody listens for it.
    pub fn takes_acks(&self) -> bool {
        matches!(self.config.ack_policy, AckPolicy::Explicit | AckPolicy::All)
    }

    /// An acknowledgement: its parsed subject, body, and where to confirm it if asked. Poll afterwards.
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one inbound message and the surroundings it needs"
    )]
    pub fn handle_ack<S: Store>(
        &mut self,
        now: UnixNanos,
        machine: &StreamMachine<S>,
        has_interest: &dyn Fn(&[u8]) -> bool,
        ack: &AckSubject<'_>,
        body: &[u8],
        reply: Option<&[u8]>,
        out: &mut Vec<Effect>,
    ) {
        self.touch(now);
        let mut confirm = reply;
        match parse(body) {
            AckKind::Ack => {
                self.sample(now, ack.stream_seq, out);
                if !self.acknowledge(now, ack.stream_seq, out) {
                    confirm = None;
                }
            }
            AckKind::Next(request) => {
                self.sample(now, ack.stream_seq, out);
                self.acknowledge(now, ack.stream_seq, out);
                if let Some(reply) = reply {
                    let reply = Bytes::copy_from_slice(reply);
                    self.handle_pull_request(now, machine, has_interest, &reply, request, out);
                }
                confirm = None;
            }
            AckKind::Nak(delay) => self.negative(now, ack, delay, out),
            AckKind::InProgress => self.extend_wait(now, ack.stream_seq, 0, out),
            AckKind::Term(reason) => {
                if !self.acknowledge(now, ack.stream_seq, out) {
                    confirm = None;
                }
                let mut effect = self.ack_advisory("MSG_TERMINATED", "terminated", ack);
                if let (Effect::Advisory { body, .. }, false) = (&mut effect, reason.is_empty()) {
                    body.insert("reason".to_owned(), String::from_utf8_lossy(reason).into());
                }
                out.push(effect);
            }
            AckKind::Unknown => {}
        }
        if let Some(to) = confirm.filter(|to| !to.is_empty()) {
            out.push(Effect::AckReply { to: Bytes::copy_from_slice(to) });
        }
    }

    /// False when the ack concerns nothing this leader delivered: it must not be confirmed.
    pub(super) fn acknowledge(&mut self, now: UnixNanos, seq: u64, out: &mut Vec<Effect>) -> bool {
        if seq > self.state.delivered.stream_seq {
            return false;
        }
        match self.config.ack_policy {
            AckPolicy::None => return true,
            AckPolicy::Explicit => {
                self.unqueue(seq);
                self.forget_deadline(seq);
            }
            AckPolicy::All | AckPolicy::FlowControl => {
                if seq <= self.state.ack_floor.stream_seq {
                    return true;
                }
                let acked: Vec<u64> = self.state.pending.range(..=seq).map(|(&seq, _)| seq).collect();
                for seq in acked {
                    self.unqueue(seq);
                    self.forget_deadline(seq);
                }
            }
        }
        self.record(ConsumerEvent::Acked { stream_seq: seq, at: now }, out);
        true
    }

    /// Tells how long an acknowledgement took, for the share of messages that `sample_freq` (per cent) asks for.
    fn sample(&self, now: UnixNanos, seq: u64, out: &mut Vec<Effect>) {
        if self.config.sample_freq.is_empty() || self.config.ack_policy != AckPolicy::Explicit {
            return;
        }
        let text = self.config.sample_freq.trim_end_matches('%');
        let Some(percent) = text.parse::<u64>().ok().filter(|&percent| percent > 0) else { return };
        let Some(pending) = self.state.pending.get(&seq) else { return };
        // Spread evenly without a source of randomness.
        if percent < 100 && seq.wrapping_mul(0x9E37_79B9_7F4A_7C15) >= u64::MAX / 100 * percent {
            return;
        }
        let numbers = [
            ("consumer_seq", pending.consumer_seq),
            ("stream_seq", seq),
            ("ack_time", now.0.saturating_sub(pending.delivered_at.0)),
            ("deliveries", pending.delivery_count),
        ];
        let effect = self.advisory("ACK", "consumer_ack", &numbers);
        if let Effect::Advisory { mut body, .. } = effect {
            body.insert("type".to_owned(), "io.nats.jetstream.metric.v1.consumer_ack".into());
            let subject = format!("$JS.EVENT.METRIC.CONSUMER.ACK.{}.{}", self.stream, self.name);
            out.push(Effect::Advisory { subject, body });
        }
    }

    fn negative(&mut self, now: UnixNanos, ack: &AckSubject<'_>, delay: &[u8], out: &mut Vec<Effect>) {
        let seq = ack.stream_seq;
        if !self.state.pending.contains_key(&seq) {
            return;
        }
        out.push(self.ack_advisory("MSG_NAKED", "nak", ack));
        if let Some(delay) = nak_delay(delay).filter(|&delay| delay > 0) {
            self.unqueue(seq);
            self.extend_wait(now, seq, delay, out);
            return;
        }
        // Whether its deliveries are used up shows when it would be sent again, as in nats-server.
        self.forget_deadline(seq);
        if self.queued.insert(seq) {
            self.redeliver.push_back(seq);
        }
    }

    /// Restarts a message's wait, or has it end after `delay` nanoseconds if that is not 0.
    fn extend_wait(&mut self, now: UnixNanos, seq: u64, delay: u64, out: &mut Vec<Effect>) {
        let Some(pending) = self.state.pending.get(&seq).copied() else { return };
        let at = match delay {
            0 => now,
            delay => {
                let due = now.0.saturating_add(delay);
                UnixNanos(due.saturating_sub(self.ack_wait(pending.delivery_count)))
            }
        };
        if delay == 0 && self.queued.contains(&seq) {
            return;
        }
        self.forget_deadline(seq);
        self.record(ConsumerEvent::InProgress { stream_seq: seq, at }, out);
        self.schedule(seq);
    }

    fn ack_advisory(&self, kind: &str, name: &str, ack: &AckSubject<'_>) -> Effect {
        let numbers = [
            ("consumer_seq", ack.consumer_seq),
            ("stream_seq", ack.stream_seq),
            ("deliveries", ack.delivery_count),
        ];
        self.advisory(kind, name, &numbers)
    }
}
