//! What a mirror or source makes of what its origin's consumer sends: which messages are next, what was lost, when the
//! consumer waits for a word from here. Not storing, not asking for a consumer.

use bytes::Bytes;
use weir_jsapi::headers as names;
use weir_jsapi::subject::AckSubject;

use crate::headers;

/// Heartbeats with the same unanswered request after which replies are taken as not arriving.
const STALLED_BEATS: u32 = 3;

/// What to do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The next one: store it.
    Take,
    /// Of another consumer, or known already.
    Ignore,
    /// Messages before it are missing: begin anew behind the position.
    Lost,
}

/// What to do at a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beat {
    Quiet,
    Lost,
    /// The consumer waits for an answer to this flow-control request. `is_stuck`: answers do not seem to arrive.
    Stalled {
        reply: Bytes,
        is_stuck: bool,
    },
}

/// One consumer of an origin as it is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follower {
    consumer: String,
    is_mirror: bool,
    delivered: u64,
    position: u64,
    lag: u64,
    /// An unanswered flow-control request and how many heartbeats repeated it.
    stalled: Option<(Bytes, u32)>,
}

impl Follower {
    /// `position`: the origin's last sequence that is here, or that the consumer passes over.
    pub fn new(consumer: &str, is_mirror: bool, position: u64) -> Self {
        Self { consumer: consumer.to_owned(), is_mirror, delivered: 0, position, lag: 0, stalled: None }
    }

    /// The origin's sequence of the last message taken.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The consumer's sequence of the last message seen.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Messages of the origin still to come, as it said with the last one.
    pub fn lag(&self) -> u64 {
        self.lag
    }

    /// A message, by its ack subject.
    pub fn message(&mut self, ack: &AckSubject<'_>) -> Step {
        if ack.consumer != self.consumer || ack.delivery_count > 1 {
            return Step::Ignore;
        }
        let is_next_delivery = ack.consumer_seq == self.delivered.saturating_add(1);
        if ack.stream_seq <= self.position {
            self.delivered += u64::from(is_next_delivery);
            return Step::Ignore;
        }
        // A mirror's next sequence is right however often the consumer began anew.
        let is_next = is_next_delivery || (self.is_mirror && ack.stream_seq - 1 == self.position);
        if !is_next {
            let is_old = !self.is_mirror && ack.consumer_seq <= self.delivered;
            return if is_old { Step::Ignore } else { Step::Lost };
        }
        self.delivered = ack.consumer_seq;
        self.position = ack.stream_seq;
        self.lag = ack.pending.saturating_sub(1);
        self.stalled = None;
        Step::Take
    }

    /// A status without a reply.
    pub fn heartbeat(&mut self, block: &[u8]) -> Beat {
        let number = |name: &str| headers::get_str(block, name)?.parse::<u64>().ok();
        if number(names::LAST_CONSUMER).is_some_and(|last| last > 0 && last != self.delivered) {
            return Beat::Lost;
        }
        let Some(reply) = headers::get(block, names::CONSUMER_STALLED).filter(|reply| !reply.is_empty())
        else {
            self.stalled = None;
            return Beat::Quiet;
        };
        let reply = Bytes::copy_from_slice(reply);
        let beats = match &self.stalled {
            Some((known, beats)) if *known == reply => beats.saturating_add(1),
            _ => 1,
        };
        self.stalled = Some((reply.clone(), beats));
        Beat::Stalled { reply, is_stuck: beats >= STALLED_BEATS }
    }

    /// The headers of the answer to a flow-control request: how far this side is.
    pub fn flow_control_answer(&self) -> Bytes {
        Bytes::from(format!(
            "NATS/1.0\r\n{}: {}\r\n{}: {}\r\n\r\n",
            names::LAST_CONSUMER,
            self.delivered,
            names::LAST_STREAM,
            self.position
        ))
    }
}

/// Whether a message without payload is a heartbeat or a flow-control request.
pub fn is_control(block: &[u8], payload: &[u8]) -> bool {
    payload.is_empty() && block.starts_with(b"NATS/1.0 100 ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(stream_seq: u64, consumer_seq: u64) -> AckSubject<'static> {
        AckSubject {
            stream: "S",
            consumer: "c",
            delivery_count: 1,
            stream_seq,
            consumer_seq,
            timestamp: 0,
            pending: 5,
        }
    }

    #[test]
    fn gaps_of_the_origin_are_passed_and_lost_messages_noticed() {
        for is_mirror in [true, false] {
            let mut follower = Follower::new("c", is_mirror, 0);
            assert_eq!(follower.message(&ack(1, 1)), Step::Take);
            assert_eq!(follower.message(&ack(5, 2)), Step::Take, "2 to 4 are gone at the origin");
            assert_eq!(follower.message(&ack(5, 2)), Step::Ignore);
            assert_eq!(follower.message(&ack(9, 4)), Step::Lost);
            assert_eq!((follower.position(), follower.lag()), (5, 4));
        }
    }

    #[test]
    fn other_consumers_and_redeliveries_are_ignored() {
        let mut follower = Follower::new("c", false, 3);
        assert_eq!(follower.message(&AckSubject { consumer: "d", ..ack(4, 1) }), Step::Ignore);
        assert_eq!(follower.message(&AckSubject { delivery_count: 2, ..ack(4, 1) }), Step::Ignore);
        assert_eq!(follower.message(&ack(3, 1)), Step::Ignore);
        assert_eq!(follower.delivered(), 1, "a known message was delivered all the same");
        assert_eq!(follower.message(&ack(4, 2)), Step::Take);
    }

    #[test]
    fn heartbeats_tell_losses_and_stalls() {
        let mut follower = Follower::new("c", false, 0);
        follower.message(&ack(1, 1));
        let beat = |text: &str| Bytes::from(format!("NATS/1.0 100 Idle Heartbeat\r\n{text}\r\n"));
        assert_eq!(follower.heartbeat(&beat("Nats-Last-Consumer: 1\r\n")), Beat::Quiet);
        assert_eq!(follower.heartbeat(&beat("Nats-Last-Consumer: 2\r\n")), Beat::Lost);
        let stalled = beat("Nats-Last-Consumer: 1\r\nNats-Consumer-Stalled: $JS.FC.x\r\n");
        for is_stuck in [false, false, true] {
            let reply = Bytes::from_static(b"$JS.FC.x");
            assert_eq!(follower.heartbeat(&stalled), Beat::Stalled { reply, is_stuck });
        }
    }
}
