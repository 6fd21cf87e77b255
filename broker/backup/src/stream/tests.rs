//! Whole backups: what is written reads back, what is wrong is refused by name.

use proptest::prelude::*;
use weir_jsapi::ConsumerConfig;

use super::*;
use crate::consumer::Progress;

const FREE: MessageLimits = MessageLimits { max_payload: 1 << 20, max_msg_size: -1 };

fn message(seq: u64, subject: &str, payload: &str) -> MessageRecord {
    MessageRecord {
        seq,
        timestamp: 1_700_000_000_000_000_000 + seq % 1000,
        subject: Bytes::copy_from_slice(subject.as_bytes()),
        headers: Bytes::from_static(b"NATS/1.0\r\nA: b\r\n\r\n"),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
    }
}

fn state(first_seq: u64, last_seq: u64, messages: u64, consumer_count: u64) -> StreamState {
    StreamState { messages, first_seq, last_seq, consumer_count, ..StreamState::default() }
}

fn consumer(name: &str) -> ConsumerRecord {
    let config = ConsumerConfig { name: name.to_owned(), ..ConsumerConfig::default() };
    ConsumerRecord { config, state: Progress::default() }
}

type Read = (StreamState, Vec<(String, ConsumerRecord)>, Vec<MessageRecord>);

fn read(bytes: &[u8], limits: MessageLimits) -> Result<Read, BackupError> {
    let mut reader = BackupReader::open(bytes)?;
    let (mut consumers, mut messages) = (Vec::new(), Vec::new());
    while let Some(consumer) = reader.next_consumer()? {
        consumers.push(consumer);
    }
    while let Some(message) = reader.next_message(limits)? {
        messages.push(message);
    }
    Ok((reader.state().clone(), consumers, messages))
}

fn refused(writer: &mut BackupWriter) -> String {
    writer.out.end_block();
    read(writer.out.ready(), FREE).expect_err("refused").to_string()
}

proptest! {
    #[test]
    fn a_backup_reads_back(
        gaps in proptest::collection::vec(1_u64..1000, 0..40),
        payload in "[a-z]{0,300}",
        names in proptest::collection::btree_set("[a-z]{1,8}", 0..5),
        piece in 1_usize..5000,
    ) {
        let mut seq = 0;
        let messages: Vec<_> = gaps.iter().map(|gap| { seq += gap; message(seq, "a.b", &payload) }).collect();
        let state = state(u64::from(seq > 0), seq, messages.len() as u64, names.len() as u64);
        let mut writer = BackupWriter::new(&state, 7);
        let consumers: Vec<_> = names.into_iter().map(|name| (name.clone(), consumer(&name))).collect();
        for (name, consumer) in &consumers {
            writer.consumer(name, consumer.clone());
        }
        for message in &messages {
            writer.message(message);
        }
        writer.finish();
        let mut bytes = Vec::new();
        while writer.ready() > 0 {
            bytes.extend(writer.take(piece));
        }
        let found = read(&bytes, FREE).expect("readable");
        prop_assert_eq!(found, (state, consumers, messages));
    }

    #[test]
    fn a_backup_cut_anywhere_is_refused(cut in 0_usize..10_000) {
        let mut writer = BackupWriter::new(&state(1, 3, 3, 0), 7);
        for seq in 1..=3 {
            writer.message(&message(seq, "a", "text"));
            // In blocks of their own, so that a cut also falls between messages.
            writer.out.end_block();
        }
        writer.finish();
        let bytes = writer.take(usize::MAX);
        prop_assert!(read(&bytes[..cut % bytes.len()], FREE).is_err());
    }
}

#[test]
fn a_backup_without_its_end_is_not_whole() {
    let mut writer = BackupWriter::new(&state(1, 1, 1, 0), 7);
    writer.message(&message(1, "a", "text"));
    assert_eq!(refused(&mut writer), "EOF");
}

#[test]
fn messages_that_cannot_be_are_refused_by_their_sequence() {
    let one = |message: MessageRecord| {
        let mut writer = BackupWriter::new(&state(5, 9, 1, 0), 7);
        writer.message(&message);
        refused(&mut writer)
    };
    assert_eq!(one(message(4, "a", "")), "message sequence 4 out of order");
    assert_eq!(one(message(u64::MAX, "a", "")), format!("message sequence {} out of range", u64::MAX));
    for subject in ["", "a b", "a..b", "a.*", ">", "a\r\nPUB x"] {
        assert_eq!(one(message(5, subject, "")), "message sequence 5 has an invalid subject");
    }
    let long = MessageRecord { headers: Bytes::from(vec![b'h'; 65_536]), ..message(5, "a", "") };
    assert_eq!(one(long), "message sequence 5 exceeds maximum header size");
}

#[test]
fn messages_that_are_too_long_are_refused_before_they_are_read() {
    let mut writer = BackupWriter::new(&state(1, 1, 1, 0), 7);
    let huge = Entry { name: b"a".to_vec(), sequence: 1, payload_length: 1 << 60, ..Entry::default() };
    write_entry(&mut writer.out, &huge, [b"", b""]);
    assert_eq!(refused(&mut writer), "message sequence 1 exceeds maximum payload size");
    let mut writer = BackupWriter::new(&state(1, 1, 1, 0), 7);
    writer.message(&message(1, "a", "12345"));
    writer.finish();
    let limits = MessageLimits { max_msg_size: 20, ..FREE };
    let error = read(writer.out.ready(), limits).expect_err("refused").to_string();
    assert_eq!(error, "message sequence 1 exceeds maximum message size");
}

#[test]
fn entries_out_of_their_order_are_refused() {
    let mut writer = BackupWriter::new(&state(1, 1, 1, 1), 7);
    writer.message(&message(1, "a", ""));
    assert_eq!(refused(&mut writer), "expected consumer, found \"a\"");
    let mut writer = BackupWriter::new(&state(1, 1, 1, 0), 7);
    writer.consumer("c", consumer("c"));
    assert_eq!(refused(&mut writer), "expected message sequence");
    let mut out = S2Writer::default();
    out.put(archive::MAGIC);
    write_entry(&mut out, &Entry { name: b"other".to_vec(), ..Entry::default() }, [b"", b""]);
    out.end_block();
    assert_eq!(read(out.ready(), FREE).expect_err("refused").to_string(), "expected state.json first");
}

#[test]
fn other_streams_of_bytes_are_refused() {
    assert_eq!(read(b"", FREE).expect_err("refused").to_string(), "EOF");
    assert_eq!(read(b"what is this", FREE).expect_err("refused").to_string(), "s2: corrupt input");
    let mut out = S2Writer::default();
    out.put(b"meta.inf");
    out.end_block();
    let error = read(out.ready(), FREE).expect_err("refused");
    assert!(matches!(error, BackupError::OldFormat), "{error}");
}
