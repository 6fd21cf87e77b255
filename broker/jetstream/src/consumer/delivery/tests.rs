//! Delivery scenarios: effects as text, the replicated state checked against the leader's after every step.

mod groups;

use weir_jsapi::request::CreateConsumerRequest;
use weir_jsapi::subject::{ApiRequest, parse_ack};
use weir_jsapi::{DeliverPolicy, RetentionPolicy, StreamConfig};

use super::*;
use crate::command::{ConsumerDelta, Outcome, PublishOutcome, PublishRecord, StreamCommand};
use crate::config::{ConsumerLimitsInForce, StreamLimitsInForce, normalise_stream};
use crate::consumer::Position;
use crate::mem_store::MemStore;

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1000 * SECOND;

struct Scenario {
    machine: StreamMachine<MemStore>,
    delivery: ConsumerDelivery,
    now: UnixNanos,
    /// Inboxes nobody listens to.
    gone: Vec<Bytes>,
}

fn stream_config(retention: RetentionPolicy) -> StreamConfig {
    let config = StreamConfig {
        name: "S".to_owned(),
        subjects: vec!["s.>".to_owned()],
        retention,
        ..StreamConfig::default()
    };
    normalise_stream(config, &StreamLimitsInForce::default(), false, &|_| None).expect("valid stream")
}

fn pull() -> ConsumerConfig {
    ConsumerConfig { durable: "c".to_owned(), ack_policy: AckPolicy::Explicit, ..ConsumerConfig::default() }
}

fn push() -> ConsumerConfig {
    ConsumerConfig { deliver_subject: "d".to_owned(), ..pull() }
}

impl Scenario {
    fn new(config: ConsumerConfig) -> Self {
        Self::on(RetentionPolicy::Limits, config, &[])
    }

    fn on(retention: RetentionPolicy, config: ConsumerConfig, stored: &[&str]) -> Self {
        let mut machine =
            StreamMachine::new(stream_config(retention), UnixNanos(1), MemStore::default()).expect("new");
        publish(&mut machine, UnixNanos(SECOND), stored);
        let now = UnixNanos(START);
        let request = CreateConsumerRequest { stream_name: "S".to_owned(), config, ..Default::default() };
        let subject = ApiRequest::ConsumerCreate { stream: "S", name: Some("c"), filter: None };
        let prepared = machine
            .prepare_consumer(&subject, request, "", &ConsumerLimitsInForce::default(), now)
            .expect("valid consumer");
        let outcome = machine.apply(prepared.command.expect("a new consumer")).expect("apply");
        assert_eq!(outcome, Outcome::ConsumerReady { existed: false });
        let delivery = Self::lead(&machine, now);
        Self { machine, delivery, now, gone: Vec::new() }
    }

    fn lead(machine: &StreamMachine<MemStore>, now: UnixNanos) -> ConsumerDelivery {
        let (name, consumer) = machine.consumers().next().expect("one consumer");
        let setting =
            Setting { account: Arc::from("A"), message_max: 1 << 20, seed: 7, subject_scope: Box::default() };
        ConsumerDelivery::new("S", name, consumer, &Arc::new(setting), now)
    }

    fn publish(&mut self, subjects: &[&str]) -> Vec<String> {
        publish(&mut self.machine, self.now, subjects);
        self.poll()
    }

    fn request(&mut self, reply: &str, body: &str) -> Vec<String> {
        let mut out = Vec::new();
        let gone = self.gone.clone();
        let reply = Bytes::copy_from_slice(reply.as_bytes());
        let listens = |inbox: &[u8]| !gone.iter().any(|entry| entry == inbox);
        self.delivery.handle_pull_request(
            self.now,
            &self.machine,
            &listens,
            &reply,
            body.as_bytes(),
            &mut out,
        );
        self.finish(out)
    }

    /// Acknowledges by stream sequence; asks for a confirmation at `ok`.
    fn ack(&mut self, seq: u64, body: &str) -> Vec<String> {
        let mut out = Vec::new();
        let subject = format!("$JS.ACK.S.c.1.{seq}.{seq}.0.0");
        let ack = parse_ack(&subject).expect("ack subject");
        let body = body.as_bytes();
        self.delivery.handle_ack(self.now, &self.machine, &|_| true, &ack, body, Some(b"ok"), &mut out);
        self.finish(out)
    }

    fn after(&mut self, nanos: u64) -> Vec<String> {
        self.now = UnixNanos(self.now.0 + nanos);
        self.poll()
    }

    fn poll(&mut self) -> Vec<String> {
        self.finish(Vec::new())
    }

    /// Polls, replicates what was recorded, and gives the other effects as text.
    fn finish(&mut self, mut out: Vec<Effect>) -> Vec<String> {
        let gone = self.gone.clone();
        let listens = |inbox: &[u8]| !gone.iter().any(|entry| entry == inbox);
        while self.delivery.poll(self.now, &self.machine, &listens, 2, &mut out).expect("poll")
            == Progress::More
        {}
        let events = out
            .iter()
            .filter_map(|effect| if let Effect::Record(event) = effect { Some(*event) } else { None });
        let delta = ConsumerDelta { name: "c".to_owned(), events: events.collect() };
        let command = StreamCommand::ConsumerDeltas(vec![delta]);
        let command = StreamCommand::decode(command.encode()).expect("round trip");
        self.machine.apply(command).expect("apply");
        let replicated = &self.machine.consumer("c").expect("consumer").state;
        assert_eq!(*replicated, self.delivery.state, "replicas agree with the leader");
        let counted = self.machine.store().num_pending(&self.delivery.filter, self.delivery.cursor);
        if self.delivery.state.skip_list.is_empty() {
            assert_eq!(self.delivery.num_pending(&self.machine), counted, "pending count is exact");
        }
        out.iter().filter_map(describe).collect()
    }

    fn delete(&mut self, seq: u64) {
        self.machine.apply(StreamCommand::DeleteMessage { seq, erase: false }).expect("apply");
        self.poll();
    }
}

fn publish(machine: &mut StreamMachine<MemStore>, now: UnixNanos, subjects: &[&str]) {
    let record = |subject: &&str| PublishRecord {
        subject: Bytes::copy_from_slice(subject.as_bytes()),
        headers: Bytes::new(),
        payload: Bytes::from_static(b"payload"),
        timestamp: now,
    };
    let records: Vec<_> = subjects.iter().map(record).collect();
    let outcome = machine.apply(StreamCommand::Publish(records)).expect("apply");
    let Outcome::Published { outcomes, .. } = outcome else { panic!("{outcome:?}") };
    assert!(outcomes.iter().all(|outcome| matches!(outcome, PublishOutcome::Stored { .. })), "{outcomes:?}");
}

fn describe(effect: &Effect) -> Option<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(match effect {
        Effect::Record(_) => return None,
        Effect::Deliver(delivery) => {
            let reply = text(&delivery.reply);
            let ack = parse_ack(&reply).expect("ack subject");
            format!(
                "{} <- {} #{} x{} c{} left {}",
                text(&delivery.to),
                text(&delivery.subject),
                ack.stream_seq,
                ack.delivery_count,
                ack.consumer_seq,
                ack.pending
            )
        }
        Effect::Status { to, headers, reply } => {
            let lines = text(headers).trim_end().replace("\r\n", " | ");
            let reply = reply.as_ref().map(|_| " (asks)").unwrap_or_default();
            format!("{} <- {}{reply}", text(to), lines.trim_start_matches("NATS/1.0 "))
        }
        Effect::AckReply { to } => format!("{} <- confirmed", text(to)),
        Effect::Advisory { subject, .. } => {
            format!("advisory {}", subject.trim_start_matches("$JS.EVENT.ADVISORY."))
        }
        Effect::Inactive => "inactive".to_owned(),
        Effect::Unreadable { stream_seq } => format!("unreadable {stream_seq}"),
    })
}

const NONE: [&str; 0] = [];

#[test]
fn requests_are_served_in_turn() {
    let mut scenario = Scenario::new(pull());
    assert_eq!(scenario.request("a", r#"{"batch":2,"expires":5000000000}"#), NONE);
    assert_eq!(scenario.request("b", r#"{"batch":1,"expires":5000000000}"#), NONE);
    assert_eq!(
        scenario.publish(&["s.1", "s.2", "s.3", "s.4"]),
        ["a <- s.1 #1 x1 c1 left 3", "b <- s.2 #2 x1 c2 left 2", "a <- s.3 #3 x1 c3 left 1"]
    );
    assert_eq!(scenario.request("c", ""), ["c <- s.4 #4 x1 c4 left 0"]);
}

#[test]
fn requests_end_with_the_status_of_the_reference() {
    let mut scenario = Scenario::on(RetentionPolicy::Limits, pull(), &["s.1"]);
    assert_eq!(scenario.request("a", "{"), ["a <- 400 Bad Request - unexpected end of JSON input"]);
    assert_eq!(
        scenario.request("a", r#"{"no_wait":true,"batch":5}"#),
        ["a <- s.1 #1 x1 c1 left 0", "a <- 404 No Messages"]
    );
    assert_eq!(scenario.request("a", r#"{"no_wait":true,"batch":1}"#), ["a <- 404 No Messages"]);
    scenario.request("a", r#"{"batch":5,"expires":1000000000,"max_bytes":100}"#);
    assert_eq!(
        scenario.after(SECOND),
        ["a <- 408 Request Timeout | Nats-Pending-Messages: 5 | Nats-Pending-Bytes: 100"]
    );
    scenario.request("a", r#"{"batch":5,"expires":1000000000,"max_bytes":10}"#);
    assert_eq!(
        scenario.publish(&["s.2"]),
        ["a <- 409 Message Size Exceeds MaxBytes | Nats-Pending-Messages: 5 | Nats-Pending-Bytes: 10"]
    );
    assert_eq!(
        scenario.request("a", r#"{"batch":1,"expires":1000000000,"max_bytes":1000}"#),
        [
            "a <- s.2 #2 x1 c2 left 0",
            "a <- 409 Batch Completed | Nats-Pending-Messages: 0 | Nats-Pending-Bytes: 957"
        ]
    );
    assert_eq!(
        scenario.request("a", r#"{"expires":10,"idle_heartbeat":6}"#),
        ["a <- 400 Bad Request - heartbeat value too large"]
    );
}

#[test]
fn limits_of_requests_are_those_of_the_configuration() {
    let config = ConsumerConfig {
        max_batch: 3,
        max_expires: 90 * SECOND as i64,
        max_bytes: 5,
        max_waiting: 1,
        ..pull()
    };
    let mut scenario = Scenario::new(config);
    assert_eq!(scenario.request("a", "4"), ["a <- 409 Exceeded MaxRequestBatch of 3"]);
    assert_eq!(
        scenario.request("a", r#"{"batch":1,"expires":91000000000}"#),
        ["a <- 409 Exceeded MaxRequestExpires of 1m30s"]
    );
    assert_eq!(
        scenario.request("a", r#"{"batch":1,"max_bytes":6}"#),
        ["a <- 409 Exceeded MaxRequestMaxBytes of 5"]
    );
    assert_eq!(scenario.request("a", "1"), NONE);
    assert_eq!(scenario.request("b", "1"), ["b <- 409 Exceeded MaxWaiting"]);
    scenario.gone.push(Bytes::from_static(b"a"));
    assert_eq!(scenario.request("b", "1"), NONE, "a left: its place is free");
}

#[test]
fn waiting_requests_get_heartbeats() {
    let mut scenario = Scenario::new(pull());
    scenario.request("a", r#"{"batch":2,"expires":10000000000,"idle_heartbeat":1000000000}"#);
    assert_eq!(scenario.delivery.next_timer(), Some(UnixNanos(START + SECOND)));
    assert_eq!(
        scenario.after(SECOND),
        ["a <- 100 Idle Heartbeat | Nats-Last-Consumer: 0 | Nats-Last-Stream: 0"]
    );
    scenario.publish(&["s.1"]);
    assert_eq!(scenario.after(SECOND / 2), NONE);
    assert_eq!(
        scenario.after(SECOND / 2),
        ["a <- 100 Idle Heartbeat | Nats-Last-Consumer: 1 | Nats-Last-Stream: 1"]
    );
}

#[test]
fn unacknowledged_messages_come_again_after_their_wait() {
    let mut scenario = Scenario::on(RetentionPolicy::Limits, pull(), &["s.1", "s.2"]);
    scenario.request("a", "2");
    assert_eq!(scenario.ack(1, ""), ["ok <- confirmed"]);
    scenario.request("a", "5");
    assert_eq!(scenario.after(29 * SECOND), NONE);
    assert_eq!(scenario.after(SECOND), ["a <- s.2 #2 x2 c3 left 0"]);
    assert_eq!(scenario.ack(2, "+WPI"), ["ok <- confirmed"]);
    assert_eq!(scenario.after(30 * SECOND), ["a <- s.2 #2 x3 c4 left 0"]);
    scenario.ack(2, "+ACK");
    assert_eq!(scenario.delivery.state.ack_floor, Position { consumer_seq: 4, stream_seq: 2 });
    assert_eq!(scenario.after(60 * SECOND), NONE);
}

#[test]
fn backoff_sets_each_wait() {
    let config = ConsumerConfig { backoff: vec![SECOND as i64, 3 * SECOND as i64], ..pull() };
    let mut scenario = Scenario::on(RetentionPolicy::Limits, config, &["s.1"]);
    scenario.request("a", "9");
    assert_eq!(scenario.after(SECOND), ["a <- s.1 #1 x2 c2 left 0"]);
    assert_eq!(scenario.after(2 * SECOND), NONE);
    assert_eq!(scenario.after(SECOND), ["a <- s.1 #1 x3 c3 left 0"]);
    assert_eq!(scenario.after(3 * SECOND), ["a <- s.1 #1 x4 c4 left 0"]);
}

#[test]
fn naks_bring_a_message_back_at_once_or_after_their_delay() {
    let mut scenario = Scenario::on(RetentionPolicy::Limits, pull(), &["s.1"]);
    scenario.request("a", "9");
    let naked = "advisory CONSUMER.MSG_NAKED.S.c";
    assert_eq!(scenario.ack(1, "-NAK"), [naked, "ok <- confirmed", "a <- s.1 #1 x2 c2 left 0"]);
    assert_eq!(scenario.ack(1, r#"-NAK {"delay": 2000000000}"#), [naked, "ok <- confirmed"]);
    assert_eq!(scenario.after(SECOND), NONE);
    assert_eq!(scenario.after(SECOND), ["a <- s.1 #1 x3 c3 left 0"]);
    assert_eq!(scenario.ack(1, "-NAK 1m30s"), [naked, "ok <- confirmed"]);
    assert_eq!(scenario.after(89 * SECOND), NONE);
    assert_eq!(scenario.after(SECOND), ["a <- s.1 #1 x4 c4 left 0"]);
}

#[test]
fn terminated_messages_do_not_come_back() {
    let mut scenario = Scenario::on(RetentionPolicy::Limits, pull(), &["s.1"]);
    scenario.request("a", "9");
    assert_eq!(scenario.ack(1, "+TERM too odd"), ["advisory CONSUMER.MSG_TERMINATED.S.c", "ok <- confirmed"]);
    assert_eq!(scenario.after(31 * SECOND), NONE);
}

#[test]
fn sampled_acks_report_how_long_they_took() {
    let config = ConsumerConfig { sample_freq: "100%".to_owned(), ..pull() };
    let mut scenario = Scenario::on(RetentionPolicy::Limits, config, &["s.1"]);
    scenario.request("a", "9");
    assert_eq!(scenario.after(SECOND), NONE);
    assert_eq!(scenario.ack(1, ""), ["advisory $JS.EVENT.METRIC.CONSUMER.ACK.S.c", "ok <- confirmed"]);
    let config = ConsumerConfig { sample_freq: "50".to_owned(), ..pull() };
    let mut scenario = Scenario::on(RetentionPolicy::Limits, config, &["s.1"; 200]);
    scenario.request("a", "200");
    let sampled = (1..=200).filter(|&seq| scenario.ack(seq, "").len() == 2).count();
    assert!((80..=120).contains(&sampled), "{sampled} of 200");
}

#[test]
fn next_acknowledges_and_asks_for_more() {
    let mut scenario = Scenario::on(RetentionPolicy::Limits, pull(), &["s.1", "s.2", "s.3"]);
    scenario.request("a", "1");
    assert_eq!(scenario.ack(1, "+NXT 2"), ["ok <- s.2 #2 x1 c2 left 1", "ok <- s.3 #3 x1 c3 left 0"]);
    assert_eq!(scenario.delivery.state.pending.len(), 2);
}

#[test]
fn deliveries_stop_at_max_deliver() {
    let config = ConsumerConfig { max_deliver: 2, ..pull() };
    let mut scenario = Scenario::on(RetentionPolicy::WorkQueue, config, &["s.1"]);
    scenario.request("a", "9");
    assert_eq!(scenario.after(30 * SECOND), ["a <- s.1 #1 x2 c2 left 0"]);
    assert_eq!(scenario.after(30 * SECOND), ["advisory CONSUMER.MAX_DELIVERIES.S.c"]);
    assert_eq!(scenario.after(60 * SECOND), NONE);
    assert_eq!(scenario.machine.state().messages, 1, "kept, though nobody gets it");
    assert_eq!(scenario.delivery.state.pending.len(), 0);
    assert_eq!(scenario.delivery.state.ack_floor, Position::default(), "nobody acknowledged it");
    assert_eq!(scenario.ack(1, ""), ["ok <- confirmed"]);
    assert_eq!(scenario.machine.state().messages, 0, "a late ack still counts");
}

#[test]
fn max_ack_pending_holds_new_messages_back() {
    let config = ConsumerConfig { max_ack_pending: 2, ..pull() };
    let mut scenario = Scenario::on(RetentionPolicy::Limits, config, &["s.1", "s.2", "s.3"]);
    assert_eq!(scenario.request("a", "9").len(), 2);
    assert_eq!(scenario.ack(2, ""), ["ok <- confirmed", "a <- s.3 #3 x1 c3 left 0"]);
    assert_eq!(scenario.delivery.state.ack_floor, Position::default());
}

#[test]
fn ack_all_covers_what_came_before() {
    let config = ConsumerConfig { ack_policy: AckPolicy::All, ..pull() };
    let mut scenario = Scenario::on(RetentionPolicy::Limits, config, &["s.1", "s.2", "s.3"]);
    scenario.request("a", "3");
    scenario.ack(2, "");
    assert_eq!(scenario.delivery.state.ack_floor, Position { consumer_seq: 2, stream_seq: 2 });
    assert_eq!(scenario.delivery.state.pending.len(), 1);
    assert_eq!(scenario.ack(9, ""), NONE, "an ack for what was never sent is not confirmed");
}

#[test]
fn without_acks_delivered_is_done() {
    let config = ConsumerConfig { ack_policy: AckPolicy::None, ..push() };
    let mut scenario = Scenario::on(RetentionPolicy::Interest, config, &[]);
    scenario.delivery.interest_changed(scenario.now, true);
    assert_eq!(scenario.publish(&["s.1"]), ["d <- s.1 #1 x1 c1 left 0"]);
    assert_eq!(scenario.machine.state().messages, 0, "the only interest is satisfied");
}

#[test]
fn filters_choose_and_pending_counts_only_them() {
    let config = ConsumerConfig { filter_subjects: vec!["s.a".to_owned(), "s.b.*".to_owned()], ..pull() };
    let mut scenario = Scenario::on(RetentionPolicy::Limits, config, &["s.a", "s.x", "s.b.1", "s.x", "s.a"]);
    assert_eq!(scenario.request("a", "2"), ["a <- s.a #1 x1 c1 left 2", "a <- s.b.1 #3 x1 c2 left 1"]);
    scenario.delete(5);
    assert_eq!(scenario.delivery.num_pending(&scenario.machine), 0);
    scenario.publish(&["s.x", "s.a"]);
    assert_eq!(scenario.delivery.num_pending(&scenario.machine), 1);
    assert_eq!(scenario.request("a", "1"), ["a <- s.a #7 x1 c3 left 0"]);
}

#[test]
fn acks_are_not_awaited_for_messages_that_left() {
    let mut scenario = Scenario::on(RetentionPolicy::Limits, pull(), &["s.1", "s.2", "s.3"]);
    scenario.request("a", "3");
    scenario.delete(2);
    assert_eq!(scenario.delivery.state.pending.len(), 2);
    scenario.machine.apply(StreamCommand::Purge(crate::command::Purge::default())).expect("apply");
    let info = scenario.delivery.info(scenario.now, &scenario.machine, &|_| true).expect("info");
    assert_eq!((info.num_ack_pending, info.ack_floor.stream_seq), (0, 3));
    scenario.publish(&["s.4", "s.5"]);
    scenario.machine.apply(StreamCommand::Purge(crate::command::Purge::default())).expect("apply");
    assert_eq!(scenario.poll(), NONE);
    assert_eq!(scenario.delivery.state.delivered, Position { consumer_seq: 3, stream_seq: 5 });
    assert_eq!(scenario.poll(), NONE);
}

#[test]
fn deliver_policies_choose_the_start() {
    let stored = ["s.a", "s.b", "s.a", "s.c", "s.b"];
    let first = |config: ConsumerConfig| {
        let mut scenario = Scenario::on(RetentionPolicy::Limits, config, &stored);
        let mut lines = scenario.request("a", r#"{"batch":9,"no_wait":true}"#);
        lines.retain(|line| line.contains('#'));
        lines
            .iter()
            .map(|line| line[..line.find(" x").expect("count")].replace("a <- ", ""))
            .collect::<Vec<_>>()
    };
    let policy = |deliver_policy| ConsumerConfig { deliver_policy, ..pull() };
    assert_eq!(first(policy(DeliverPolicy::All)).len(), 5);
    assert_eq!(first(policy(DeliverPolicy::Last)), ["s.b #5"]);
    assert_eq!(first(policy(DeliverPolicy::New)), NONE);
    let by_sequence = ConsumerConfig { opt_start_seq: 4, ..policy(DeliverPolicy::ByStartSequence) };
    assert_eq!(first(by_sequence), ["s.c #4", "s.b #5"]);
    let last_of_a = ConsumerConfig { filter_subject: "s.a".to_owned(), ..policy(DeliverPolicy::Last) };
    assert_eq!(first(last_of_a), ["s.a #3"]);
    let each = ConsumerConfig { filter_subject: "s.*".to_owned(), ..policy(DeliverPolicy::LastPerSubject) };
    assert_eq!(first(each), ["s.a #3", "s.c #4", "s.b #5"]);
    let time = weir_jsapi::Time::from_unix_nanos(1);
    let by_time = ConsumerConfig { opt_start_time: Some(time), ..policy(DeliverPolicy::ByStartTime) };
    assert_eq!(first(by_time).len(), 5);
}

#[test]
fn last_per_subject_goes_on_with_new_messages() {
    let config = ConsumerConfig {
        deliver_policy: DeliverPolicy::LastPerSubject,
        filter_subject: "s.*".to_owned(),
        ..pull()
    };
    let mut scenario = Scenario::on(RetentionPolicy::Limits, config, &["s.a", "s.b", "s.a"]);
    assert_eq!(scenario.request("a", "1"), ["a <- s.b #2 x1 c1 left 1"]);
    scenario.publish(&["s.b"]);
    assert_eq!(scenario.request("a", "5"), ["a <- s.a #3 x1 c2 left 1", "a <- s.b #4 x1 c3 left 0"]);
}

#[test]
fn push_waits_for_a_subscriber() {
    let mut scenario = Scenario::on(RetentionPolicy::Limits, push(), &["s.1"]);
    assert_eq!(scenario.poll(), NONE);
    scenario.delivery.interest_changed(scenario.now, true);
    assert_eq!(scenario.poll(), ["d <- s.1 #1 x1 c1 left 0"]);
    scenario.delivery.interest_changed(scenario.now, false);
    assert_eq!(scenario.publish(&["s.2"]), NONE);
}

#[test]
fn push_beats_while_idle_and_says_when_it_is_stalled() {
    let config = ConsumerConfig { idle_heartbeat: SECOND as i64, flow_control: true, ..push() };
    let mut scenario = Scenario::new(config);
    scenario.delivery.interest_changed(scenario.now, true);
    assert_eq!(
        scenario.after(SECOND),
        ["d <- 100 Idle Heartbeat | Nats-Last-Consumer: 0 | Nats-Last-Stream: 0"]
    );
    scenario.delivery.push.window = 100;
    let sent = scenario.publish(&["s.1", "s.2", "s.3", "s.4"]);
    assert_eq!(sent.iter().filter(|line| line.contains('#')).count(), 3, "{sent:?}");
    assert_eq!(sent.iter().filter(|line| line.ends_with("100 FlowControl Request (asks)")).count(), 1);
    let beat = scenario.after(SECOND);
    assert!(beat[0].contains("Nats-Consumer-Stalled: $JS.FC.S.c."), "{beat:?}");
    let asked = scenario.delivery.push.asked.clone().expect("an open request").0;
    scenario.delivery.handle_flow_control(scenario.now, b"$JS.FC.S.c.old", b"", &mut Vec::new());
    assert_eq!(scenario.poll(), NONE);
    scenario.delivery.handle_flow_control(scenario.now, &asked, b"", &mut Vec::new());
    assert!(scenario.poll()[0].starts_with("d <- s.4 #4"));
}

#[test]
fn unused_consumers_report_inactivity_once() {
    let config = ConsumerConfig { durable: String::new(), inactive_threshold: 5 * SECOND as i64, ..pull() };
    let mut scenario = Scenario::new(config);
    scenario.request("a", r#"{"batch":1,"expires":9000000000}"#);
    assert_eq!(scenario.after(6 * SECOND), NONE, "a request waits: in use");
    scenario.after(3 * SECOND);
    assert_eq!(scenario.delivery.next_timer(), Some(UnixNanos(START + 14 * SECOND)));
    assert_eq!(scenario.after(5 * SECOND), ["inactive"]);
    assert_eq!(scenario.after(5 * SECOND), NONE);
}

#[test]
fn a_new_leader_goes_on_from_the_replicated_state() {
    let mut scenario = Scenario::on(RetentionPolicy::Limits, pull(), &["s.1", "s.2", "s.3"]);
    scenario.request("a", "2");
    let mut out = Vec::new();
    scenario.request("w", r#"{"batch":3,"expires":1000000000,"max_bytes":1}"#);
    scenario.delivery.stop(StopReason::LeadershipChange, &mut out);
    let checkpoint = scenario.machine.checkpoint_state();
    let store = scenario.machine.store().clone();
    scenario.machine = StreamMachine::restore(checkpoint, store).expect("restore");
    scenario.delivery = Scenario::lead(&scenario.machine, scenario.now);
    assert_eq!(scenario.request("b", "9"), ["b <- s.3 #3 x1 c3 left 0"]);
    assert_eq!(
        scenario.after(30 * SECOND),
        ["b <- s.1 #1 x2 c4 left 0", "b <- s.2 #2 x2 c5 left 0", "b <- s.3 #3 x2 c6 left 0"]
    );
}

#[test]
fn damaged_messages_are_reported_and_passed_over() {
    let mut scenario = Scenario::on(RetentionPolicy::Limits, pull(), &["s.1", "s.2"]);
    scenario.machine.store_mut().damage(1);
    assert_eq!(scenario.request("a", "2"), ["unreadable 1", "a <- s.2 #2 x1 c1 left 0"]);
}

#[test]
fn headers_only_tells_the_size() {
    let config = ConsumerConfig { headers_only: true, ..pull() };
    let mut scenario = Scenario::on(RetentionPolicy::Limits, config, &["s.1"]);
    let mut out = Vec::new();
    let reply = Bytes::from_static(b"a");
    scenario.delivery.handle_pull_request(scenario.now, &scenario.machine, &|_| true, &reply, b"", &mut out);
    scenario.delivery.poll(scenario.now, &scenario.machine, &|_| true, 9, &mut out).expect("poll");
    let Some(Effect::Deliver(delivery)) = out.last() else { panic!("{out:?}") };
    assert_eq!(&delivery.headers[..], b"NATS/1.0\r\nNats-Msg-Size: 7\r\n\r\n");
    assert!(delivery.payload.is_empty());
}

#[test]
fn a_pause_holds_deliveries_back() {
    let mut scenario = Scenario::on(RetentionPolicy::Limits, pull(), &["s.1"]);
    let until = weir_jsapi::Time::from_unix_nanos((START + 10 * SECOND) as i64);
    let config = ConsumerConfig { pause_until: Some(until), ..(*scenario.delivery.config).clone() };
    let command = StreamCommand::UpdateConsumer { name: "c".to_owned(), config: Box::new(config) };
    scenario.machine.apply(command).expect("apply");
    let consumer = scenario.machine.consumer("c").expect("consumer").clone();
    scenario.delivery.update(&consumer, scenario.now);
    assert_eq!(scenario.request("a", "1"), NONE);
    assert_eq!(scenario.delivery.next_timer(), Some(UnixNanos(START + 10 * SECOND)));
    assert_eq!(scenario.after(10 * SECOND), ["a <- s.1 #1 x1 c1 left 0"]);
}

/// One random step of a consumer's life.
#[derive(Debug, Clone, Copy)]
enum Step {
    Publish(u8),
    Request { batch: u8, no_wait: bool },
    Ack { seq: u64, kind: u8 },
    Wait { seconds: u8 },
    Delete { seq: u64 },
    Purge,
    ChangeLeader,
}

fn step() -> impl proptest::strategy::Strategy<Value = Step> {
    use proptest::prelude::*;
    prop_oneof![
        4 => (0..4_u8).prop_map(Step::Publish),
        4 => (1..5_u8, any::<bool>()).prop_map(|(batch, no_wait)| Step::Request { batch, no_wait }),
        5 => (1..20_u64, 0..6_u8).prop_map(|(seq, kind)| Step::Ack { seq, kind }),
        3 => (0..40_u8).prop_map(|seconds| Step::Wait { seconds }),
        1 => (1..20_u64).prop_map(|seq| Step::Delete { seq }),
        1 => Just(Step::Purge),
        1 => Just(Step::ChangeLeader),
    ]
}

fn run_steps(config: ConsumerConfig, retention: RetentionPolicy, steps: &[Step]) {
    const SUBJECTS: [&str; 4] = ["s.a", "s.b", "s.c", "s.a"];
    let policy = config.ack_policy;
    let max_deliver = u64::try_from(config.max_deliver).unwrap_or(u64::MAX).max(1);
    let mut scenario = Scenario::on(retention, config, &[]);
    let mut acknowledged = BTreeSet::new();
    for step in steps {
        let lines = match *step {
            Step::Publish(subject) => scenario.publish(&[SUBJECTS[usize::from(subject)]]),
            Step::Request { batch, no_wait } => scenario
                .request("a", &format!(r#"{{"batch":{batch},"no_wait":{no_wait},"expires":20000000000}}"#)),
            Step::Ack { seq, kind } => {
                let body =
                    ["", "+ACK", "-NAK", "+WPI", "+TERM", r#"-NAK {"delay":5000000000}"#][usize::from(kind)];
                let done = matches!(kind, 0 | 1 | 4) && scenario.delivery.state.pending.contains_key(&seq);
                if done && policy == AckPolicy::All {
                    acknowledged.extend(scenario.delivery.state.pending.range(..=seq).map(|(&seq, _)| seq));
                } else if done {
                    acknowledged.insert(seq);
                }
                scenario.ack(seq, body)
            }
            Step::Wait { seconds } => scenario.after(u64::from(seconds) * SECOND),
            Step::Delete { seq } => {
                scenario.delete(seq);
                Vec::new()
            }
            Step::Purge => {
                let purge = StreamCommand::Purge(crate::command::Purge::default());
                scenario.machine.apply(purge).expect("apply");
                scenario.poll()
            }
            Step::ChangeLeader => {
                let store = scenario.machine.store().clone();
                let restored = StreamMachine::restore(scenario.machine.checkpoint_state(), store);
                scenario.machine = restored.expect("restore");
                scenario.delivery = Scenario::lead(&scenario.machine, scenario.now);
                scenario.poll()
            }
        };
        for line in lines.iter().filter(|line| line.contains('#')) {
            let number = |mark: &str| {
                let rest = &line[line.find(mark).expect("mark") + mark.len()..];
                rest.split(' ').next().expect("number").parse::<u64>().expect("number")
            };
            assert!(!acknowledged.contains(&number(" #")), "{line}: was acknowledged");
            assert!(number(" x") <= max_deliver, "{line}: more often than max_deliver");
        }
        let state = &scenario.delivery.state;
        assert!(state.ack_floor.stream_seq <= state.delivered.stream_seq, "{state:?}");
        assert!(state.pending.keys().all(|&seq| seq <= state.delivered.stream_seq), "{state:?}");
        let timers = scenario.delivery.deadlines.len() + scenario.delivery.queued.len();
        assert_eq!(timers, state.pending.len(), "every pending message is due at some time");
    }
}

proptest::proptest! {
    #[test]
    fn leaders_and_replicas_agree_whatever_happens(
        steps in proptest::collection::vec(step(), 1..60),
        filtered in proptest::bool::ANY,
        all in proptest::bool::ANY,
        limited in proptest::bool::ANY,
        interest in proptest::bool::ANY,
    ) {
        let config = ConsumerConfig {
            filter_subject: if filtered { "s.a".to_owned() } else { String::new() },
            ack_policy: if all { AckPolicy::All } else { AckPolicy::Explicit },
            max_deliver: if limited { 2 } else { -1 },
            max_ack_pending: if limited { 3 } else { 0 },
            ..pull()
        };
        let retention = if interest { RetentionPolicy::Interest } else { RetentionPolicy::Limits };
        run_steps(config, retention, &steps);
    }
}
