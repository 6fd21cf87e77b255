//! The log form of the commands that store messages.

use bytes::{BufMut, Bytes, BytesMut};
use weir_stdx::time::UnixNanos;

use super::commands::{FIRE_SCHEDULES, PUBLISH, PUBLISH_ATOMIC, PUBLISH_FAST, VERSION};
use super::{DecodeError, Reader, Writer};
use crate::command::{FastLimits, FastRecord, Firing, FiringAction, PublishRecord, StreamCommand};

const ACTION_ONCE: u8 = 1;
const ACTION_REPEAT: u8 = 2;
const ACTION_DROP: u8 = 3;

/// Bytes of a count that is written once it is known: a varint that is as long as the largest needs to be.
const COUNT_BYTES: usize = 3;

/// A [`StreamCommand::Publish`] in its log form, written message by message, behind room for a frame.
#[derive(Debug)]
pub struct PublishEncoder {
    writer: Writer,
    count_at: usize,
    count: usize,
}

impl PublishEncoder {
    /// Most messages of one command.
    pub const MESSAGES_MAX: usize = (1 << (7 * COUNT_BYTES)) - 1;

    /// Leaves `frame` bytes free at the start.
    pub fn new(frame: usize, capacity: usize) -> Self {
        let mut out = BytesMut::with_capacity(frame + 2 + COUNT_BYTES + capacity);
        out.put_bytes(0, frame);
        out.put_u8(VERSION);
        out.put_u8(PUBLISH);
        out.put_bytes(0, COUNT_BYTES);
        Self { writer: Writer { out }, count_at: frame + 2, count: 0 }
    }

    /// Appends a message, of at most [`Self::MESSAGES_MAX`].
    pub fn push(&mut self, timestamp: UnixNanos, subject: &[u8], headers: &[u8], payload: &[u8]) {
        self.writer.time(timestamp);
        self.writer.bytes(subject);
        self.writer.bytes(headers);
        self.writer.bytes(payload);
        self.count += 1;
    }

    /// Messages so far.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes so far.
    pub fn length(&self) -> usize {
        self.writer.out.len()
    }

    /// The frame and the command.
    pub fn finish(self) -> BytesMut {
        let mut out = self.writer.out;
        let mut rest = self.count.min(Self::MESSAGES_MAX);
        for (place, byte) in out[self.count_at..self.count_at + COUNT_BYTES].iter_mut().enumerate() {
            let more = if place + 1 < COUNT_BYTES { 0x80 } else { 0 };
            *byte = (rest & 0x7f) as u8 | more;
            rest >>= 7;
        }
        out
    }
}

fn size_of<'a>(records: impl Iterator<Item = &'a PublishRecord>) -> usize {
    records.map(|record| record.subject.len() + record.headers.len() + record.payload.len() + 24).sum()
}

fn write(writer: &mut Writer, record: &PublishRecord) {
    writer.time(record.timestamp);
    writer.bytes(&record.subject);
    writer.bytes(&record.headers);
    writer.bytes(&record.payload);
}

fn read(reader: &mut Reader) -> Result<PublishRecord, DecodeError> {
    let timestamp = reader.time("timestamp")?;
    let subject = reader.bytes("subject")?;
    let headers = reader.bytes("headers")?;
    let payload = reader.bytes("payload")?;
    Ok(PublishRecord { subject, headers, payload, timestamp })
}

pub(super) fn encode(kind: u8, records: &[PublishRecord]) -> Bytes {
    let mut writer = Writer::new(VERSION, kind, size_of(records.iter()) + 10);
    write_all(&mut writer, records);
    writer.finish()
}

fn write_all(writer: &mut Writer, records: &[PublishRecord]) {
    writer.varint(records.len() as u64);
    for record in records {
        write(writer, record);
    }
}

pub(super) fn decode(reader: &mut Reader) -> Result<Vec<PublishRecord>, DecodeError> {
    let count = reader.count("publish count")?;
    let mut records = Vec::with_capacity(count);
    for _ in 0..count {
        records.push(read(reader)?);
    }
    Ok(records)
}

pub(super) fn encode_atomic(batch: &[u8], records: &[PublishRecord]) -> Bytes {
    let mut writer = Writer::new(VERSION, PUBLISH_ATOMIC, size_of(records.iter()) + batch.len() + 20);
    writer.bytes(batch);
    write_all(&mut writer, records);
    writer.finish()
}

pub(super) fn decode_atomic(reader: &mut Reader) -> Result<StreamCommand, DecodeError> {
    let batch = reader.bytes("batch")?;
    Ok(StreamCommand::PublishAtomic { batch, records: decode(reader)? })
}

pub(super) fn encode_fast(limits: FastLimits, records: &[FastRecord]) -> Bytes {
    let replies: usize = records.iter().map(|fast| fast.reply.len() + 2).sum();
    let size = size_of(records.iter().map(|fast| &fast.record)) + replies;
    let mut writer = Writer::new(VERSION, PUBLISH_FAST, size + 30);
    writer.varint(limits.timeout);
    writer.varint(limits.inflight_max);
    writer.varint(records.len() as u64);
    for fast in records {
        writer.bytes(&fast.reply);
        write(&mut writer, &fast.record);
    }
    writer.finish()
}

pub(super) fn decode_fast(reader: &mut Reader) -> Result<StreamCommand, DecodeError> {
    let limits = FastLimits { timeout: reader.varint("timeout")?, inflight_max: reader.varint("limit")? };
    let count = reader.count("publish count")?;
    let mut records = Vec::with_capacity(count);
    for _ in 0..count {
        let reply = reader.bytes("reply")?;
        records.push(FastRecord { record: read(reader)?, reply });
    }
    Ok(StreamCommand::PublishFast { limits, records })
}

pub(super) fn encode_firings(now: UnixNanos, firings: &[Firing]) -> Bytes {
    let mut writer = Writer::new(VERSION, FIRE_SCHEDULES, firings.len() * 56 + 20);
    writer.time(now);
    writer.varint(firings.len() as u64);
    for firing in firings {
        writer.time(firing.at);
        writer.varint(firing.seq);
        match &firing.action {
            FiringAction::Once => writer.u8(ACTION_ONCE),
            FiringAction::Repeat { at, text } => {
                writer.u8(ACTION_REPEAT);
                writer.time(*at);
                writer.bytes(text.as_bytes());
            }
            FiringAction::Drop => writer.u8(ACTION_DROP),
        }
    }
    writer.finish()
}

pub(super) fn decode_firings(reader: &mut Reader) -> Result<StreamCommand, DecodeError> {
    let now = reader.time("now")?;
    let count = reader.count("schedule count")?;
    let mut firings = Vec::with_capacity(count);
    for _ in 0..count {
        let at = reader.time("time of a schedule")?;
        let seq = reader.varint("sequence of a schedule")?;
        let action = match reader.u8("what becomes of a schedule")? {
            ACTION_ONCE => FiringAction::Once,
            ACTION_REPEAT => {
                let at = reader.time("next time of a schedule")?;
                FiringAction::Repeat { at, text: reader.string("next time of a schedule")? }
            }
            ACTION_DROP => FiringAction::Drop,
            found => return Err(DecodeError::Kind { what: "what becomes of a schedule", found }),
        };
        firings.push(Firing { at, seq, action });
    }
    Ok(StreamCommand::FireSchedules { now, firings })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_written_message_by_message_is_the_command_of_these_messages() {
        for count in [0, 1, 127, 128, 300, 20_000] {
            let records: Vec<PublishRecord> = (0..count)
                .map(|number: u64| PublishRecord {
                    subject: Bytes::from(format!("s.{number}")),
                    headers: if number.is_multiple_of(3) {
                        Bytes::from_static(b"NATS/1.0\r\n\r\n")
                    } else {
                        Bytes::new()
                    },
                    payload: Bytes::from(vec![7; (number % 300) as usize]),
                    timestamp: UnixNanos(number),
                })
                .collect();
            let mut encoder = PublishEncoder::new(17, 100);
            for record in &records {
                encoder.push(record.timestamp, &record.subject, &record.headers, &record.payload);
            }
            assert_eq!(encoder.count(), records.len());
            let framed = encoder.finish();
            assert_eq!(framed[..17], [0; 17]);
            let decoded = StreamCommand::decode(framed.freeze().slice(17..));
            assert_eq!(decoded, Ok(StreamCommand::Publish(records)));
        }
    }
}
