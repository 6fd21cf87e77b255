//! The rules of a stream, one by one.

use weir_jsapi::request::MsgGetRequest;
use weir_jsapi::{AckPolicy, DiscardPolicy, headers as names};

use super::*;
use crate::command::{ConsumerDelta, PublishOutcome, PublishRecord, Purge};
use crate::config::{StreamLimitsInForce, normalise_stream};
use crate::consumer::ConsumerEvent;
use crate::mem_store::MemStore;

type Machine = StreamMachine<MemStore>;

/// A stream S in memory, with what nats-server fills in.
pub(super) fn machine(change: impl FnOnce(&mut StreamConfig)) -> Machine {
    let mut config = StreamConfig { name: "S".to_owned(), ..StreamConfig::default() };
    change(&mut config);
    let config = normalise_stream(config, &StreamLimitsInForce::default(), false, &|_| None)
        .expect("valid configuration");
    StreamMachine::new(config, UnixNanos(1), MemStore::default()).expect("new")
}

fn stream(change: impl FnOnce(&mut StreamConfig)) -> Machine {
    machine(|config| {
        config.subjects = vec![">".to_owned()];
        config.no_ack = true;
        change(config);
    })
}

fn record(subject: &str, headers: &[(&str, &str)], payload: &str, at: u64) -> PublishRecord {
    let block =
        headers.iter().fold(Bytes::new(), |block, (name, value)| crate::headers::with(&block, name, value));
    PublishRecord {
        subject: Bytes::copy_from_slice(subject.as_bytes()),
        headers: block,
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        timestamp: UnixNanos(at),
    }
}

fn put(machine: &mut Machine, record: PublishRecord) -> PublishOutcome {
    let outcome = machine.apply(StreamCommand::Publish(vec![record])).expect("apply");
    let Outcome::Published { mut outcomes, .. } = outcome else { panic!("{outcome:?}") };
    outcomes.remove(0)
}

/// Publishes without headers; gives the sequence, or the code and text of the refusal.
fn publish(machine: &mut Machine, subject: &str, payload: &str) -> Result<u64, String> {
    publish_with(machine, subject, &[], payload)
}

fn publish_with(
    machine: &mut Machine,
    subject: &str,
    headers: &[(&str, &str)],
    payload: &str,
) -> Result<u64, String> {
    match put(machine, record(subject, headers, payload, 1000)) {
        PublishOutcome::Stored { seq } => Ok(seq),
        PublishOutcome::Duplicate { seq } => Err(format!("duplicate of {seq}")),
        PublishOutcome::Rejected(error) => Err(error.to_string()),
        other => panic!("{other:?}"),
    }
}

fn sequences(machine: &Machine) -> Vec<u64> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(message) = machine.store().next_match(&Filter::default(), from).expect("store") {
        found.push(message.seq);
        from = message.seq + 1;
    }
    found
}

fn apply(machine: &mut Machine, command: StreamCommand) -> Outcome {
    let command = StreamCommand::decode(command.encode()).expect("round trip");
    machine.apply(command).expect("apply")
}

fn add_consumer(machine: &mut Machine, name: &str, filter: &str, policy: AckPolicy) {
    let config = ConsumerConfig {
        durable: name.to_owned(),
        filter_subject: filter.to_owned(),
        ack_policy: policy,
        ..ConsumerConfig::default()
    };
    let command = StreamCommand::CreateConsumer {
        name: name.to_owned(),
        config: Box::new(config),
        created: UnixNanos(5),
    };
    assert_eq!(apply(machine, command), Outcome::ConsumerReady { existed: false });
}

fn deliver_and_ack(machine: &mut Machine, name: &str, seq: u64, ack: bool) {
    let at = UnixNanos(7);
    let mut events =
        vec![ConsumerEvent::Delivered { stream_seq: seq, consumer_seq: seq, delivery_count: 1, at }];
    if ack {
        events.push(ConsumerEvent::Acked { stream_seq: seq, at });
    }
    apply(machine, StreamCommand::ConsumerDeltas(vec![ConsumerDelta { name: name.to_owned(), events }]));
}

#[test]
fn limits_by_count_and_bytes_remove_oldest_first() {
    let mut machine = stream(|config| config.max_msgs = 2);
    for _ in 0..4 {
        publish(&mut machine, "a", "x").expect("stored");
    }
    assert_eq!(sequences(&machine), [3, 4]);
    // 1 byte subject, 33 payload and 16 overhead make 50 each.
    let mut machine = stream(|config| config.max_bytes = 100);
    for _ in 0..3 {
        publish(&mut machine, "a", &"x".repeat(33)).expect("stored");
    }
    assert_eq!(sequences(&machine), [2, 3]);
    publish(&mut machine, "a", &"x".repeat(133)).expect("acknowledged, then removed by its own size");
    assert_eq!(sequences(&machine), NO_SEQUENCES);
    assert_eq!((machine.state().first_seq, machine.state().last_seq), (5, 4));
}

const NO_SEQUENCES: [u64; 0] = [];

#[test]
fn limits_by_subject_keep_each_subjects_newest() {
    let mut machine = stream(|config| config.max_msgs_per_subject = 1);
    for subject in ["a", "b", "a", "a"] {
        publish(&mut machine, subject, "x").expect("stored");
    }
    assert_eq!(sequences(&machine), [2, 4]);
}

#[test]
fn limits_by_age_remove_oldest_first() {
    let mut machine = stream(|config| config.max_age = 1_000_000_000);
    for at in [5, 6, 900_000_000] {
        put(&mut machine, record("a", &[], "x", at));
    }
    assert_eq!(machine.next_expiry(), Some(UnixNanos(1_000_000_005)));
    let expire = |now| StreamCommand::Expire { now: UnixNanos(now) };
    assert_eq!(apply(&mut machine, expire(1_000_000_004)), Outcome::Removed { count: 0 });
    assert_eq!(apply(&mut machine, expire(1_000_000_005)), Outcome::Removed { count: 1 });
    assert_eq!(apply(&mut machine, expire(9_000_000_000)), Outcome::Removed { count: 2 });
    assert_eq!(machine.next_expiry(), None);
    assert_eq!((machine.state().first_seq, machine.state().last_seq), (4, 3));
}

#[test]
fn discard_new_refuses_what_does_not_fit() {
    let new = |change: fn(&mut StreamConfig)| {
        stream(|config| {
            config.discard = DiscardPolicy::New;
            change(config);
        })
    };
    let mut machine = new(|config| config.max_msgs = 1);
    assert_eq!(publish(&mut machine, "a", "x"), Ok(1));
    assert_eq!(publish(&mut machine, "a", "x"), Err("maximum messages exceeded (10077)".to_owned()));
    let mut machine = new(|config| config.max_bytes = 100);
    assert_eq!(publish(&mut machine, "a", &"x".repeat(83)), Ok(1));
    assert_eq!(publish(&mut machine, "a", ""), Err("maximum bytes exceeded (10077)".to_owned()));
    let mut machine = new(|config| {
        config.max_msgs_per_subject = 1;
        config.discard_new_per_subject = true;
    });
    assert_eq!(publish(&mut machine, "a", "x"), Ok(1));
    assert_eq!(
        publish(&mut machine, "a", "x"),
        Err("maximum messages per subject exceeded (10077)".to_owned())
    );
    assert_eq!(publish(&mut machine, "b", "x"), Ok(2));
    let mut machine = new(|config| {
        config.max_msgs_per_subject = 1;
        config.max_msgs = 2;
    });
    assert_eq!([publish(&mut machine, "a", "x"), publish(&mut machine, "b", "x")], [Ok(1), Ok(2)]);
    assert_eq!(publish(&mut machine, "b", "x"), Ok(3), "takes its predecessor's place");
    assert_eq!(publish(&mut machine, "c", "x"), Err("maximum messages exceeded (10077)".to_owned()));
}

#[test]
fn message_ids_are_stored_once_within_the_window() {
    let mut machine = stream(|config| config.duplicate_window = 1_000_000_000);
    let id = [(names::MSG_ID, "1")];
    assert_eq!(publish_with(&mut machine, "a", &id, "x"), Ok(1));
    assert_eq!(publish_with(&mut machine, "b", &id, "y"), Err("duplicate of 1".to_owned()));
    let later = record("a", &id, "x", 1000 + 1_000_000_000);
    assert_eq!(put(&mut machine, later), PublishOutcome::Stored { seq: 2 });
    let restored = Machine::restore(machine.checkpoint_state(), machine.store().clone()).expect("restore");
    let mut machine = restored;
    let again = record("a", &id, "x", 1000 + 1_000_000_001);
    assert_eq!(put(&mut machine, again), PublishOutcome::Duplicate { seq: 2 });
}

#[test]
fn expectations_are_checked_against_the_stream() {
    let mut machine = stream(|_| {});
    publish_with(&mut machine, "a", &[(names::MSG_ID, "m1")], "x").expect("stored");
    publish(&mut machine, "b", "x").expect("stored");
    let mut expect = |name, value: &str| publish_with(&mut machine, "a", &[(name, value)], "x");
    assert_eq!(expect(names::EXPECTED_STREAM, "T"), Err("expected stream does not match (10060)".to_owned()));
    assert_eq!(expect(names::EXPECTED_LAST_SEQUENCE, "9"), Err("wrong last sequence: 2 (10071)".to_owned()));
    assert_eq!(expect(names::EXPECTED_LAST_SEQUENCE, "x"), Err("wrong last sequence: 2 (10071)".to_owned()));
    assert_eq!(expect(names::EXPECTED_LAST_SEQUENCE, "2"), Ok(3));
    assert_eq!(expect(names::EXPECTED_LAST_MSG_ID, "m1"), Err("wrong last msg ID:  (10070)".to_owned()));
    assert_eq!(
        expect(names::EXPECTED_LAST_SUBJECT_SEQUENCE, "2"),
        Err("wrong last sequence: 3 (10071)".to_owned())
    );
    assert_eq!(expect(names::EXPECTED_LAST_SUBJECT_SEQUENCE, "3"), Ok(4));
    let of_b =
        [(names::EXPECTED_LAST_SUBJECT_SEQUENCE, "2"), (names::EXPECTED_LAST_SUBJECT_SEQUENCE_SUBJECT, "b")];
    assert_eq!(publish_with(&mut machine, "a", &of_b, "x"), Ok(5));
    let text = "missing sequence for expected last sequence per subject (10193)";
    assert_eq!(publish_with(&mut machine, "a", &of_b[1..], "x"), Err(text.to_owned()));
}

#[test]
fn rollups_replace_what_they_cover() {
    let mut machine = stream(|config| config.allow_rollup_hdrs = true);
    for subject in ["a", "b", "a"] {
        publish(&mut machine, subject, "x").expect("stored");
    }
    assert_eq!(publish_with(&mut machine, "a", &[(names::ROLLUP, "sub")], "x"), Ok(4));
    assert_eq!(sequences(&machine), [2, 4]);
    assert_eq!(publish_with(&mut machine, "c", &[(names::ROLLUP, "ALL")], "x"), Ok(5));
    assert_eq!(sequences(&machine), [5]);
    let refused = publish_with(&mut machine, "c", &[(names::ROLLUP, "foo")], "x");
    assert_eq!(refused, Err("rollup value invalid: \"foo\" (10111)".to_owned()));
    let mut machine = stream(|_| {});
    let refused = publish_with(&mut machine, "c", &[(names::ROLLUP, "sub")], "x");
    assert_eq!(refused, Err("rollup not permitted (10111)".to_owned()));
}

#[test]
fn messages_too_large_or_of_features_that_are_off_are_refused() {
    let mut machine = stream(|config| config.max_msg_size = 10);
    assert_eq!(publish(&mut machine, "a", &"x".repeat(10)), Ok(1));
    let refused = publish(&mut machine, "a", &"x".repeat(11));
    assert_eq!(refused, Err("message size exceeds maximum allowed (10054)".to_owned()));
    let mut machine = stream(|_| {});
    for name in [names::MSG_INCREMENT, names::SCHEDULE, names::STREAM_SOURCE] {
        assert!(publish_with(&mut machine, "a", &[(name, "1")], "x").is_err(), "{name}");
    }
}

#[test]
fn purges_remove_by_filter_sequence_and_count() {
    let filled = || {
        let mut machine = stream(|_| {});
        for subject in ["a", "b", "a", "b", "a"] {
            publish(&mut machine, subject, "x").expect("stored");
        }
        machine
    };
    let purge = |filter: Option<&str>, below_seq, keep| {
        let mut machine = filled();
        let filter = filter.map(str::to_owned);
        let outcome = apply(&mut machine, StreamCommand::Purge(Purge { filter, below_seq, keep }));
        let Outcome::Removed { count } = outcome else { panic!("{outcome:?}") };
        assert_eq!(count + machine.state().messages, 5);
        sequences(&machine)
    };
    assert_eq!(purge(None, 0, 0), NO_SEQUENCES);
    assert_eq!(purge(None, 3, 0), [3, 4, 5]);
    assert_eq!(purge(None, 0, 2), [4, 5]);
    assert_eq!(purge(None, 0, 9), [1, 2, 3, 4, 5]);
    assert_eq!(purge(Some("a"), 0, 0), [2, 4]);
    assert_eq!(purge(Some("a"), 5, 0), [2, 4, 5]);
    assert_eq!(purge(Some("a"), 0, 1), [2, 4, 5]);
    assert_eq!(purge(Some("b"), 0, 1), [1, 3, 4, 5]);
    let mut machine = filled();
    apply(&mut machine, StreamCommand::Purge(Purge { below_seq: 100, ..Purge::default() }));
    assert_eq!(publish(&mut machine, "a", "x"), Ok(100));
}

#[test]
fn deny_flags_and_seals_hold() {
    let delete = StreamCommand::DeleteMessage { seq: 1, erase: true };
    let refusal = |outcome| match outcome {
        Outcome::Refused(error) => error.to_string(),
        other => format!("{other:?}"),
    };
    let mut machine = stream(|config| {
        config.deny_delete = true;
        config.deny_purge = true;
    });
    publish(&mut machine, "a", "x").expect("stored");
    assert_eq!(refusal(apply(&mut machine, delete.clone())), "message delete not permitted (10057)");
    assert_eq!(
        refusal(apply(&mut machine, StreamCommand::Purge(Purge::default()))),
        "stream purge not permitted (10110)"
    );
    let mut machine = stream(|_| {});
    publish(&mut machine, "a", "x").expect("stored");
    let sealed = StreamConfig { sealed: true, ..(**machine.config()).clone() };
    apply(&mut machine, StreamCommand::UpdateConfig(Box::new(sealed)));
    assert_eq!(publish(&mut machine, "a", "x"), Err("invalid operation on sealed stream (10109)".to_owned()));
    assert_eq!(refusal(apply(&mut machine, delete)), "invalid operation on sealed stream (10109)");
}

#[test]
fn deletes_tell_gone_from_never_stored() {
    let mut machine = stream(|_| {});
    for _ in 0..3 {
        publish(&mut machine, "a", "x").expect("stored");
    }
    let mut delete = |seq| match apply(&mut machine, StreamCommand::DeleteMessage { seq, erase: false }) {
        Outcome::Refused(error) => error.to_string(),
        other => format!("{other:?}"),
    };
    assert_eq!(delete(2), "Removed { count: 1 }");
    assert_eq!(delete(2), "sequence 2 not found (10043)");
    assert_eq!(delete(9), "stream store EOF (10057)");
}

#[test]
fn interest_streams_keep_what_somebody_still_needs() {
    let mut machine = stream(|config| config.retention = RetentionPolicy::Interest);
    assert_eq!(publish(&mut machine, "a", "x"), Ok(1), "acknowledged, kept by nobody");
    assert_eq!(machine.state().last_ts, weir_jsapi::Time::from_unix_nanos(1000));
    assert_eq!(sequences(&machine), NO_SEQUENCES);
    add_consumer(&mut machine, "one", "", AckPolicy::Explicit);
    add_consumer(&mut machine, "a-only", "a", AckPolicy::Explicit);
    publish(&mut machine, "a", "x").expect("stored");
    publish(&mut machine, "b", "x").expect("stored");
    deliver_and_ack(&mut machine, "one", 2, true);
    deliver_and_ack(&mut machine, "one", 3, true);
    assert_eq!(sequences(&machine), [2], "3 concerned one consumer only");
    deliver_and_ack(&mut machine, "a-only", 2, true);
    assert_eq!(sequences(&machine), NO_SEQUENCES);
    publish(&mut machine, "a", "x").expect("stored");
    deliver_and_ack(&mut machine, "one", 4, true);
    let outcome = apply(&mut machine, StreamCommand::DeleteConsumer { name: "a-only".to_owned() });
    assert_eq!(outcome, Outcome::Done);
    assert_eq!(sequences(&machine), NO_SEQUENCES, "the last who needed it is gone");
}

#[test]
fn work_queues_remove_what_is_acknowledged() {
    let mut machine = stream(|config| config.retention = RetentionPolicy::WorkQueue);
    publish(&mut machine, "a", "x").expect("stored");
    publish(&mut machine, "a", "x").expect("stored");
    add_consumer(&mut machine, "w", "", AckPolicy::Explicit);
    deliver_and_ack(&mut machine, "w", 1, true);
    deliver_and_ack(&mut machine, "w", 2, false);
    assert_eq!(sequences(&machine), [2]);
    apply(&mut machine, StreamCommand::DeleteConsumer { name: "w".to_owned() });
    assert_eq!(sequences(&machine), [2], "for the next consumer");
}

#[test]
fn a_stream_turned_to_interest_drops_what_nobody_needs() {
    let mut machine = stream(|_| {});
    publish(&mut machine, "a", "x").expect("stored");
    publish(&mut machine, "b", "x").expect("stored");
    add_consumer(&mut machine, "b-only", "b", AckPolicy::Explicit);
    let config = StreamConfig { retention: RetentionPolicy::Interest, ..(**machine.config()).clone() };
    apply(&mut machine, StreamCommand::UpdateConfig(Box::new(config)));
    assert_eq!(sequences(&machine), [2]);
}

#[test]
fn smaller_limits_take_effect_on_update() {
    let mut machine = stream(|_| {});
    for subject in ["a", "b", "a", "a"] {
        publish(&mut machine, subject, "x").expect("stored");
    }
    let config = StreamConfig { max_msgs_per_subject: 2, ..(**machine.config()).clone() };
    apply(&mut machine, StreamCommand::UpdateConfig(Box::new(config)));
    assert_eq!(sequences(&machine), [2, 3, 4]);
}

#[test]
fn messages_are_read_by_sequence_and_subject() {
    let mut machine = stream(|_| {});
    publish_with(&mut machine, "a.1", &[("A", "b")], "one").expect("stored");
    publish(&mut machine, "a.2", "two").expect("stored");
    let get = |request: MsgGetRequest| {
        machine.get_message(&request).map(|message| message.seq).map_err(|e| e.err_code)
    };
    assert_eq!(get(MsgGetRequest { seq: 2, ..Default::default() }), Ok(2));
    assert_eq!(get(MsgGetRequest { seq: 3, ..Default::default() }), Err(10037));
    assert_eq!(get(MsgGetRequest::default()), Err(10003));
    assert_eq!(get(MsgGetRequest { last_by_subj: "a.*".to_owned(), ..Default::default() }), Ok(2));
    assert_eq!(get(MsgGetRequest { next_by_subj: "a.1".to_owned(), ..Default::default() }), Ok(1));
    assert_eq!(
        get(MsgGetRequest { next_by_subj: "a.1".to_owned(), seq: 2, ..Default::default() }),
        Err(10037)
    );
    let reply = machine.direct_get_last("a.1");
    assert_eq!(
        &reply.headers[..],
        b"NATS/1.0\r\nA: b\r\nNats-Stream: S\r\nNats-Subject: a.1\r\nNats-Sequence: 1\r\nNats-Time-Stamp: 1970-01-01T00:00:00.000001Z\r\n\r\n"
    );
    assert_eq!(&reply.payload[..], b"one");
    let line = |body: &str| {
        let replies = machine.direct_get(body.as_bytes(), usize::MAX);
        assert_eq!(replies.len(), 1, "{body}");
        String::from_utf8_lossy(&replies[0].headers).trim_end().to_owned()
    };
    assert_eq!(line(""), "NATS/1.0 408 Empty Request");
    assert_eq!(line("{}"), "NATS/1.0 408 Empty Request");
    assert_eq!(line("{"), "NATS/1.0 408 Malformed Request");
    assert_eq!(line(r#"{"seq":9}"#), "NATS/1.0 404 Message Not Found");
    assert_eq!(line(r#"{"seq":1,"last_by_subj":"a"}"#), "NATS/1.0 408 Bad Request");
    assert_eq!(line(r#"{"seq":1,"no_hdr":true}"#), "");
}

#[test]
fn a_direct_batch_ends_with_what_is_left() {
    let mut machine = stream(|_| {});
    for (subject, payload) in [("a", "1"), ("b", "2"), ("a", "3"), ("c", "4"), ("a", "5")] {
        publish(&mut machine, subject, payload).expect("stored");
    }
    let got = |body: &str, max_bytes: usize| -> Vec<String> {
        let replies = machine.direct_get(body.as_bytes(), max_bytes);
        replies
            .iter()
            .map(|reply| match &reply.payload[..] {
                b"" => String::from_utf8_lossy(&reply.headers).replace("\r\n", "|"),
                payload => String::from_utf8_lossy(payload).into_owned(),
            })
            .collect()
    };
    let end = |pending: u64, last: u64| {
        format!("NATS/1.0 204 EOB|Nats-Num-Pending: {pending}|Nats-Last-Sequence: {last}||")
    };
    assert_eq!(got(r#"{"seq":1,"batch":2}"#, 100), ["1", "2", &end(3, 2)]);
    assert_eq!(got(r#"{"seq":2,"batch":9,"next_by_subj":"a"}"#, 100), ["3", "5", &end(0, 5)]);
    assert_eq!(got(r#"{"seq":1,"batch":9}"#, 3), ["1", "2", &end(3, 2)], "cut by bytes");
    assert_eq!(got(r#"{"seq":6,"batch":9}"#, 100), ["NATS/1.0 404 Message Not Found||"]);
    let many = |last: u64, up_to: u64| {
        format!(
            "NATS/1.0 204 EOB|Nats-Num-Pending: 0|Nats-Last-Sequence: {last}|Nats-UpTo-Sequence: {up_to}||"
        )
    };
    assert_eq!(got(r#"{"multi_last":[">"]}"#, 100), ["2", "4", "5", &many(5, 5)]);
    assert_eq!(got(r#"{"multi_last":["a","b"],"up_to_seq":4}"#, 100), ["2", "3", &many(3, 4)]);
    assert_eq!(got(r#"{"multi_last":["z"]}"#, 100), ["NATS/1.0 404 No Results||"]);
}

#[test]
fn a_first_sequence_is_honoured_up_to_the_last_one() {
    let mut machine = stream(|config| config.first_seq = 5);
    assert_eq!((machine.state().first_seq, machine.state().last_seq), (5, 4));
    assert_eq!(publish(&mut machine, "a", "x"), Ok(5));
    let mut machine = stream(|config| config.first_seq = u64::MAX);
    assert_eq!(publish(&mut machine, "a", "x"), Err("no sequences left (10077)".to_owned()));
}

#[test]
fn message_times_never_go_back() {
    let mut machine = stream(|_| {});
    put(&mut machine, record("a", &[], "x", 100));
    put(&mut machine, record("a", &[], "x", 50));
    let last = machine.get_message(&MsgGetRequest { seq: 2, ..Default::default() }).expect("stored");
    assert_eq!(last.timestamp, UnixNanos(100));
}

#[test]
fn messages_end_with_their_own_lifetime() {
    let mut machine = stream(|config| {
        config.allow_msg_ttl = true;
        config.max_age = 5 * SECOND as i64;
    });
    let mut publish_ttl = |ttl: &str| publish_with(&mut machine, "a", &[(names::MSG_TTL, ttl)], "x");
    let invalid = Err("invalid per-message TTL (10165)".to_owned());
    for text in ["0", "-1", "500ms", "x", "1.5", "10000000000000000000"] {
        assert_eq!(publish_ttl(text), invalid, "{text}");
    }
    assert_eq!(
        [publish_ttl("1"), publish_ttl("1.5s"), publish_ttl("NEVER"), publish_ttl("1h")],
        [Ok(1), Ok(2), Ok(3), Ok(4)]
    );
    publish(&mut machine, "a", "x").expect("stored");
    assert_eq!(machine.next_expiry(), Some(UnixNanos(1000 + SECOND)));
    machine = Machine::restore(machine.checkpoint_state(), machine.store().clone()).expect("restore");
    let mut expire = |now| apply(&mut machine, StreamCommand::Expire { now: UnixNanos(now) });
    assert_eq!(expire(1000 + SECOND), Outcome::Removed { count: 2 });
    assert_eq!(expire(1000 + 5 * SECOND), Outcome::Removed { count: 2 }, "max_age holds for the others");
    assert_eq!(sequences(&machine), [3], "except for those that never expire");
    assert_eq!(machine.next_expiry(), Some(UnixNanos(1000 + 3600 * SECOND)), "no timer for what never ends");
    let refused = publish_with(&mut stream(|_| {}), "a", &[(names::MSG_TTL, "1")], "x");
    assert_eq!(refused, Err("per-message TTL is disabled (10166)".to_owned()));
}

#[test]
fn markers_stand_where_a_subjects_last_message_expired() {
    let mut machine = stream(|config| {
        config.subject_delete_marker_ttl = SECOND as i64;
        config.max_age = 5 * SECOND as i64;
    });
    for subject in ["a", "b", "a"] {
        publish(&mut machine, subject, "x").expect("stored");
    }
    let expire = |now| StreamCommand::Expire { now: UnixNanos(now) };
    assert_eq!(apply(&mut machine, expire(1000 + 5 * SECOND)), Outcome::Removed { count: 3 });
    assert_eq!(sequences(&machine), [4, 5]);
    let marker = machine.get_message(&MsgGetRequest { seq: 5, ..Default::default() }).expect("a marker");
    assert_eq!(&marker.subject[..], b"a");
    assert_eq!(
        &marker.headers[..],
        b"NATS/1.0\r\nNats-Marker-Reason: MaxAge\r\nNats-TTL: 1s\r\nNats-Rollup: sub\r\n\r\n"
    );
    assert_eq!(machine.next_expiry(), Some(UnixNanos(1000 + 6 * SECOND)));
    assert_eq!(apply(&mut machine, expire(1000 + 6 * SECOND)), Outcome::Removed { count: 2 });
    assert_eq!(sequences(&machine), NO_SEQUENCES, "markers leave no markers");
}

const SECOND: u64 = 1_000_000_000;
