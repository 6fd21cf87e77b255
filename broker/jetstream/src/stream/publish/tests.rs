//! Counters, batches and schedules, on a machine over memory.

use weir_jsapi::DiscardPolicy;
use weir_stdx::rng::SeededRng;

use super::*;
use crate::command::{FastLimits, FastRecord, Firing, FiringAction, FlowReply, Outcome, StreamCommand};
use crate::mem_store::MemStore;

type Machine = StreamMachine<MemStore>;

const SECOND_NANOS: u64 = 1_000_000_000;
/// 2026-01-30T10:20:30Z
const NOW: u64 = 1_769_768_430 * SECOND_NANOS;

fn stream(change: impl FnOnce(&mut StreamConfig)) -> Machine {
    let mut config = StreamConfig {
        name: "S".to_owned(),
        subjects: vec!["s.>".to_owned()],
        max_msg_size: -1,
        duplicate_window: 120_000_000_000,
        ..StreamConfig::default()
    };
    change(&mut config);
    StreamMachine::new(config, UnixNanos(1), MemStore::default()).expect("new")
}

fn record(subject: &str, fields: &[(&str, &str)], payload: &str) -> PublishRecord {
    let block = fields.iter().fold(Bytes::new(), |block, (name, value)| headers::with(&block, name, value));
    PublishRecord {
        subject: Bytes::copy_from_slice(subject.as_bytes()),
        headers: block,
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        timestamp: UnixNanos(NOW),
    }
}

fn apply(machine: &mut Machine, command: StreamCommand) -> Vec<PublishOutcome> {
    let command = StreamCommand::decode(command.encode()).expect("round trip");
    match machine.apply(command).expect("apply") {
        Outcome::Published { outcomes, .. } => outcomes,
        other => panic!("{other:?}"),
    }
}

fn code(outcome: &PublishOutcome) -> u32 {
    match outcome {
        PublishOutcome::Rejected(error) => error.err_code,
        other => panic!("{other:?}"),
    }
}

fn put(machine: &mut Machine, record: PublishRecord) -> PublishOutcome {
    apply(machine, StreamCommand::Publish(vec![record])).remove(0)
}

fn stored(machine: &Machine, seq: u64) -> StoredMessage {
    match machine.store().get(seq).expect("store") {
        Lookup::Found(message) => message,
        other => panic!("{seq}: {other:?}"),
    }
}

fn last_seq(machine: &Machine) -> u64 {
    machine.store().state().last_seq
}

#[test]
fn a_subject_that_stores_cannot_name_is_refused() {
    let mut machine = stream(|_| ());
    let longest = format!("s.{}", "a".repeat(SUBJECT_BYTES_MAX - 2));
    let refused = put(&mut machine, record(&format!("{longest}a"), &[], "x"));
    assert_eq!(code(&refused), errors::STREAM_STORE_FAILED.error().err_code);
    assert!(matches!(put(&mut machine, record(&longest, &[], "x")), PublishOutcome::Stored { .. }));
}

#[test]
fn counters_add_without_bound() {
    let mut machine = stream(|config| config.allow_msg_counter = true);
    let big = "9".repeat(40);
    for (increment, wanted) in [("5", "5"), ("-7", "-2"), ("+2", "0"), (&big, &big)] {
        let outcome = put(&mut machine, record("s.a", &[("Nats-Incr", increment)], ""));
        assert!(matches!(&outcome, PublishOutcome::Counted { value, .. } if value == wanted), "{outcome:?}");
    }
    assert_eq!(&stored(&machine, 2).payload[..], br#"{"val":"-2"}"#);
    assert_eq!(code(&put(&mut machine, record("s.a", &[], ""))), 10169);
    assert_eq!(code(&put(&mut machine, record("s.a", &[("Nats-Incr", "x")], ""))), 10171);
    assert_eq!(code(&put(&mut machine, record("s.a", &[("Nats-Incr", "1")], "x"))), 10170);
    let fields = [("Nats-Incr", "1"), ("Nats-Expected-Last-Sequence", "4")];
    assert_eq!(code(&put(&mut machine, record("s.a", &fields, ""))), 10171);
    assert_eq!(code(&put(&mut stream(|_| {}), record("s.a", &[("Nats-Incr", "1")], ""))), 10168);
}

#[test]
fn a_sourced_counter_adds_what_its_origin_gained() {
    let mut machine = stream(|config| config.allow_msg_counter = true);
    put(&mut machine, record("s.a", &[("Nats-Incr", "1")], ""));
    let mut sourced = |stream: &str, value: u32| {
        let source = format!("{stream} 7 > > o.a");
        let fields = [("Nats-Incr", "99"), ("Nats-Stream-Source", source.as_str())];
        let body = format!(r#"{{"val":"{value}"}}"#);
        let outcome = machine.publish(record("s.a", &fields, &body), Origin::Server, &mut Vec::new());
        match outcome.expect("store") {
            PublishOutcome::Counted { value, .. } => value,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(sourced("A", 10), "11");
    assert_eq!(sourced("B", 5), "16");
    assert_eq!(sourced("A", 12), "18");
    let last = stored(&machine, 4);
    assert_eq!(headers::get_str(&last.headers, "Nats-Incr"), Some("2"));
    let sources = headers::get_str(&last.headers, "Nats-Counter-Sources");
    assert_eq!(sources, Some(r#"{"A":{"o.a":"12"},"B":{"o.a":"5"}}"#));
}

fn atomic(machine: &mut Machine, records: Vec<PublishRecord>) -> PublishOutcome {
    apply(machine, StreamCommand::PublishAtomic { batch: Bytes::from_static(b"id"), records }).remove(0)
}

#[test]
fn an_atomic_batch_is_stored_whole_or_not_at_all() {
    let mut machine = stream(|config| config.allow_atomic = true);
    put(&mut machine, record("s.a", &[("Nats-Msg-Id", "1")], "x"));
    let expecting = |seq: &str| {
        vec![
            record("s.b", &[("Nats-Expected-Last-Sequence", "1")], "x"),
            record("s.c", &[("Nats-Expected-Last-Subject-Sequence", seq)], "y"),
        ]
    };
    assert_eq!(code(&atomic(&mut machine, expecting("1"))), 10071);
    assert_eq!(last_seq(&machine), 1);
    let done = atomic(&mut machine, expecting("0"));
    assert_eq!(done, PublishOutcome::Committed { seq: 3, batch: Bytes::from_static(b"id"), count: 2 });
    let twice =
        vec![record("s.b", &[], ""), record("s.b", &[("Nats-Expected-Last-Subject-Sequence", "2")], "")];
    assert_eq!(code(&atomic(&mut machine, twice)), 10164);
    let id = |id: &str| record("s.b", &[("Nats-Msg-Id", id)], "");
    assert_eq!(code(&atomic(&mut machine, vec![id("2"), id("1")])), 10201);
    assert_eq!(code(&atomic(&mut machine, vec![id("2"), id("2")])), 10201);
    assert_eq!(
        code(&atomic(&mut machine, vec![record("s.b", &[("Nats-Expected-Last-Msg-Id", "1")], "")])),
        10177
    );
    assert_eq!(last_seq(&machine), 3);
    assert!(matches!(atomic(&mut machine, vec![id("2"), id("3")]), PublishOutcome::Committed { seq: 5, .. }));
}

#[test]
fn a_batch_counts_what_it_wrote_itself() {
    let mut machine = stream(|config| {
        config.allow_atomic = true;
        config.discard = DiscardPolicy::New;
        config.max_msgs = 3;
    });
    let some = |count: usize| (0..count).map(|_| record("s.a", &[], "x")).collect::<Vec<_>>();
    assert_eq!(code(&atomic(&mut machine, some(4))), 10077);
    assert!(matches!(atomic(&mut machine, some(3)), PublishOutcome::Committed { seq: 3, .. }));
    let mut counters = stream(|config| {
        config.allow_atomic = true;
        config.allow_msg_counter = true;
    });
    let add = |by: &str| record("s.a", &[("Nats-Incr", by)], "");
    atomic(&mut counters, vec![add("1"), add("2"), add("3")]);
    assert_eq!(&stored(&counters, 3).payload[..], br#"{"val":"6"}"#);
}

const FAST: FastLimits = FastLimits { timeout: 10 * SECOND_NANOS, inflight_max: 2 };

fn fast(machine: &mut Machine, reply: &str, record: PublishRecord) -> PublishOutcome {
    let reply = Bytes::copy_from_slice(reply.as_bytes());
    let records = vec![FastRecord { record, reply }];
    apply(machine, StreamCommand::PublishFast { limits: FAST, records }).remove(0)
}

fn flow(machine: &mut Machine, gap: &str, seq: u64, operation: u8) -> Vec<FlowReply> {
    match fast(machine, &format!("i.id.2.{gap}.{seq}.{operation}.$FI"), record("s.a", &[], "x")) {
        PublishOutcome::Flow(replies) => replies,
        other => panic!("{other:?}"),
    }
}

fn committed(seq: u64, count: u64) -> FlowReply {
    FlowReply::Published(PublishOutcome::Committed { seq, batch: Bytes::from_static(b"id"), count })
}

#[test]
fn a_fast_batch_tells_how_far_it_got() {
    let mut machine = stream(|config| config.allow_batched = true);
    let ack = |seq| FlowReply::Ack { seq, every: 2 };
    assert_eq!(flow(&mut machine, "fail", 1, 0), [ack(0)]);
    assert_eq!(flow(&mut machine, "fail", 2, 1), [ack(2)]);
    assert_eq!(flow(&mut machine, "fail", 3, 1), []);
    assert_eq!(flow(&mut machine, "fail", 3, 4), [ack(2)]);
    assert_eq!(machine.fast_batch_replies().len(), 1);
    let restored = StreamMachine::restore(machine.checkpoint_state(), MemStore::default()).expect("restored");
    assert_eq!(restored.fast_batch_replies(), machine.fast_batch_replies());
    assert_eq!(flow(&mut machine, "fail", 4, 2), [committed(4, 4)]);
    assert_eq!(code(&fast(&mut machine, "i.id.2.fail.5.1.$FI", record("s.a", &[], "x"))), 10208);
}

#[test]
fn a_gap_ends_a_batch_that_allows_none() {
    let mut machine = stream(|config| config.allow_batched = true);
    flow(&mut machine, "fail", 1, 0);
    let gap = FlowReply::Gap { expected: 2, found: 3 };
    assert_eq!(flow(&mut machine, "fail", 3, 1), [gap.clone(), committed(1, 1)]);
    flow(&mut machine, "ok", 1, 0);
    let ack = FlowReply::Ack { seq: 2, every: 2 };
    assert_eq!(flow(&mut machine, "ok", 3, 1), [gap, ack]);
    assert_eq!(flow(&mut machine, "ok", 4, 3), [committed(3, 3)]);
    assert_eq!(last_seq(&machine), 3);
}

#[test]
fn nothing_of_a_batch_is_stored_after_what_was_refused() {
    let mut machine = stream(|config| config.allow_batched = true);
    flow(&mut machine, "fail", 1, 0);
    let wrong = record("s.a", &[("Nats-Expected-Last-Sequence", "9")], "x");
    let PublishOutcome::Flow(replies) = fast(&mut machine, "i.id.2.fail.2.1.$FI", wrong) else { panic!() };
    assert!(matches!(&replies[..], [FlowReply::Error { seq: 2, .. }, done] if *done == committed(1, 1)));
    assert_eq!(code(&fast(&mut machine, "i.id.2.fail.3.1.$FI", record("s.a", &[], "x"))), 10208);
    assert_eq!(last_seq(&machine), 1);
}

#[test]
fn silent_fast_batches_are_forgotten_and_their_number_is_bounded() {
    let mut machine = stream(|config| config.allow_batched = true);
    let start = |machine: &mut Machine, id: &str, at: u64| {
        let mut first = record("s.a", &[], "x");
        first.timestamp = UnixNanos(at);
        fast(machine, &format!("i.{id}.2.ok.1.0.$FI"), first)
    };
    start(&mut machine, "a", NOW);
    start(&mut machine, "b", NOW);
    assert_eq!(code(&start(&mut machine, "c", NOW)), 10211);
    assert!(matches!(start(&mut machine, "c", NOW + 10 * SECOND_NANOS), PublishOutcome::Flow(_)));
    assert_eq!(machine.fast_batch_replies().len(), 1);
}

fn scheduling(machine: &mut Machine, pattern: &str, more: &[(&str, &str)]) -> PublishOutcome {
    let mut fields = vec![("Nats-Schedule", pattern), ("Nats-Schedule-Target", "s.target")];
    fields.extend(more);
    put(machine, record("s.schedule", &fields, "body"))
}

fn schedules() -> Machine {
    stream(|config| {
        config.allow_msg_schedules = true;
        config.allow_rollup_hdrs = true;
        config.allow_msg_ttl = true;
    })
}

fn fire(machine: &mut Machine, now: u64) -> Vec<Firing> {
    let firings = machine.due_schedules(UnixNanos(now));
    apply(machine, StreamCommand::FireSchedules { now: UnixNanos(now), firings: firings.clone() });
    firings
}

#[test]
fn a_schedule_fires_once_and_is_gone() {
    let mut machine = schedules();
    let more = [("Nats-Schedule-TTL", "5m"), ("Color", "red"), ("Nats-Msg-Id", "1")];
    assert_eq!(
        scheduling(&mut machine, "@at 2026-01-30T10:21:00Z", &more),
        PublishOutcome::Stored { seq: 1 }
    );
    let due = NOW + 30 * SECOND_NANOS;
    assert_eq!(machine.next_schedule(), Some(UnixNanos(due)));
    let state = machine.checkpoint_state();
    assert_eq!(
        StreamMachine::restore(state, MemStore::default()).expect("restored").next_schedule(),
        machine.next_schedule()
    );
    assert_eq!(fire(&mut machine, due - 1), []);
    let firings = fire(&mut machine, due);
    let message = stored(&machine, 2);
    assert_eq!((&message.subject[..], &message.payload[..]), (&b"s.target"[..], &b"body"[..]));
    assert_eq!(
        std::str::from_utf8(&message.headers).expect("text"),
        "NATS/1.0\r\nColor: red\r\nNats-Scheduler: s.schedule\r\nNats-Schedule-Next: purge\r\nNats-TTL: 5m\r\n\r\n"
    );
    assert!(matches!(machine.store().get(1), Ok(Lookup::Missing)));
    assert_eq!(machine.next_schedule(), None);
    // Proposed twice, by an old leader and a new one.
    apply(&mut machine, StreamCommand::FireSchedules { now: UnixNanos(due), firings });
    assert_eq!(last_seq(&machine), 2);
}

#[test]
fn a_repeating_schedule_goes_on_with_its_sources_last_message() {
    let mut machine = schedules();
    put(&mut machine, record("s.source", &[("Color", "blue")], "sourced"));
    scheduling(&mut machine, "@every 10s", &[("Nats-Schedule-Source", "s.source")]);
    for round in 1..=3 {
        let firings = fire(&mut machine, NOW + round * 10 * SECOND_NANOS);
        assert!(matches!(&firings[..], [Firing { action: FiringAction::Repeat { .. }, .. }]), "{firings:?}");
    }
    let message = stored(&machine, 5);
    assert_eq!(&message.payload[..], b"sourced");
    assert_eq!(headers::get_str(&message.headers, "Nats-Schedule-Next"), Some("2026-01-30T10:21:10Z"));
    assert_eq!(machine.next_schedule(), Some(UnixNanos(NOW + 40 * SECOND_NANOS)));
    put(
        &mut machine,
        record("s.end", &[("Nats-Scheduler", "s.schedule"), ("Nats-Schedule-Next", "purge")], ""),
    );
    assert!(matches!(machine.store().get(2), Ok(Lookup::Missing)));
    fire(&mut machine, NOW + 40 * SECOND_NANOS);
    assert_eq!((last_seq(&machine), machine.next_schedule()), (6, None));
}

#[test]
fn schedules_that_make_no_sense_are_refused() {
    let mut machine = schedules();
    for (pattern, more, wanted) in [
        ("@sometimes", vec![], 10189),
        ("@hourly", vec![("Nats-Schedule-Time-Zone", "Mars/Base")], 10223),
        ("@hourly", vec![("Nats-Schedule-TTL", "x")], 10191),
        ("@hourly", vec![("Nats-Schedule-Rollup", "all")], 10192),
        ("@hourly", vec![("Nats-Rollup", "all")], 10192),
        ("@hourly", vec![("Nats-Schedule-Source", "s.*")], 10203),
        ("@hourly", vec![("Nats-Schedule-Source", "t.x")], 10203),
        ("@hourly", vec![("Nats-Schedule-Next", "2026-01-30T10:21:10Z")], 10212),
        ("@hourly", vec![("Nats-Scheduler", "s.x")], 10212),
    ] {
        assert_eq!(code(&scheduling(&mut machine, pattern, &more)), wanted, "{pattern} {more:?}");
    }
    for target in ["", "s.*", "t.x", "s.schedule"] {
        let fields = [("Nats-Schedule", "@hourly"), ("Nats-Schedule-Target", target)];
        assert_eq!(code(&put(&mut machine, record("s.schedule", &fields, ""))), 10190, "{target}");
    }
    assert_eq!(code(&scheduling(&mut stream(|_| {}), "@hourly", &[])), 10188);
}

#[test]
fn batches_at_random_leave_every_sequence_once_and_in_order() {
    let mut random = SeededRng::new(7);
    let mut machine = stream(|config| {
        config.allow_atomic = true;
        config.allow_batched = true;
    });
    let mut expected = 0;
    for round in 0..500 {
        let before = last_seq(&machine);
        assert_eq!(before, expected);
        let size = random.next_u64() % 5 + 1;
        let breaks = random.next_u64().is_multiple_of(3);
        let mut records: Vec<_> =
            (0..size).map(|part| record("s.a", &[], &format!("{round} {part}"))).collect();
        if breaks {
            let place = usize::try_from(random.next_u64() % size).expect("small");
            records[place] = record("s.a", &[("Nats-Expected-Stream", "T")], "");
        }
        match atomic(&mut machine, records) {
            PublishOutcome::Committed { seq, count, .. } => {
                assert!(!breaks);
                assert_eq!((seq, count), (before + size, size));
                expected = seq;
            }
            other => assert_eq!((breaks, code(&other)), (true, 10060)),
        }
    }
}
