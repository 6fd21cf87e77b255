//! What consumers did, in its log form. Messages delivered or acknowledged in a row at the same time, which is what a
//! busy consumer does, are one run.

use weir_stdx::time::UnixNanos;

use super::{DecodeError, Reader, Writer};
use crate::consumer::ConsumerEvent;

const DELIVERED: u8 = 1;
const ACKED: u8 = 2;
const IN_PROGRESS: u8 = 3;
const DROPPED: u8 = 4;
const EXHAUSTED: u8 = 5;
const RESET: u8 = 6;
const DELIVERED_RUN: u8 = 7;
const ACKED_RUN: u8 = 8;

/// Events in one run; bounds what a few damaged bytes can become.
const RUN_MAX: u64 = 256;

/// Writes the events, after how many runs and single ones they are.
pub(super) fn write_events(writer: &mut Writer, events: &[ConsumerEvent]) {
    let mut rest = events;
    let mut groups = 0_u64;
    while !rest.is_empty() {
        rest = &rest[run_length(rest)..];
        groups += 1;
    }
    writer.varint(groups);
    rest = events;
    while let Some(first) = rest.first() {
        let length = run_length(rest);
        match *first {
            ConsumerEvent::Delivered { stream_seq, consumer_seq, at, .. } if length > 1 => {
                writer.u8(DELIVERED_RUN);
                writer.varint(stream_seq);
                writer.varint(consumer_seq);
                writer.varint(length as u64);
                writer.time(at);
            }
            ConsumerEvent::Acked { stream_seq, at } if length > 1 => {
                writer.u8(ACKED_RUN);
                writer.varint(stream_seq);
                writer.varint(length as u64);
                writer.time(at);
            }
            _ => write_one(writer, first),
        }
        rest = &rest[length..];
    }
}

/// How many events from the first on make a run, at least 1.
fn run_length(events: &[ConsumerEvent]) -> usize {
    let follows = |pair: &[ConsumerEvent]| match (&pair[0], &pair[1]) {
        (
            ConsumerEvent::Delivered { stream_seq, consumer_seq, delivery_count: 1, at },
            ConsumerEvent::Delivered {
                stream_seq: next_seq,
                consumer_seq: next_consumer_seq,
                delivery_count: 1,
                at: next_at,
            },
        ) => {
            at == next_at
                && stream_seq.checked_add(1) == Some(*next_seq)
                && consumer_seq.checked_add(1) == Some(*next_consumer_seq)
        }
        (
            ConsumerEvent::Acked { stream_seq, at },
            ConsumerEvent::Acked { stream_seq: next_seq, at: next_at },
        ) => at == next_at && stream_seq.checked_add(1) == Some(*next_seq),
        _ => false,
    };
    let events = &events[..events.len().min(RUN_MAX as usize)];
    1 + events.windows(2).take_while(|pair| follows(pair)).count()
}

fn write_one(writer: &mut Writer, event: &ConsumerEvent) {
    let mut seq_and_time = |kind: u8, stream_seq: u64, at: Option<UnixNanos>| {
        writer.u8(kind);
        writer.varint(stream_seq);
        if let Some(at) = at {
            writer.time(at);
        }
    };
    match *event {
        ConsumerEvent::Delivered { stream_seq, consumer_seq, delivery_count, at } => {
            seq_and_time(DELIVERED, stream_seq, None);
            writer.varint(consumer_seq);
            writer.varint(delivery_count);
            writer.time(at);
        }
        ConsumerEvent::Acked { stream_seq, at } => seq_and_time(ACKED, stream_seq, Some(at)),
        ConsumerEvent::InProgress { stream_seq, at } => seq_and_time(IN_PROGRESS, stream_seq, Some(at)),
        ConsumerEvent::Dropped { stream_seq, at } => seq_and_time(DROPPED, stream_seq, Some(at)),
        ConsumerEvent::Exhausted { stream_seq } => seq_and_time(EXHAUSTED, stream_seq, None),
        ConsumerEvent::Reset { stream_seq } => seq_and_time(RESET, stream_seq, None),
    }
}

pub(super) fn read_events(reader: &mut Reader) -> Result<Vec<ConsumerEvent>, DecodeError> {
    let groups = reader.count("event count")?;
    let mut events = Vec::with_capacity(groups);
    for _ in 0..groups {
        read_group(reader, &mut events)?;
    }
    Ok(events)
}

/// One run or single event.
fn read_group(reader: &mut Reader, events: &mut Vec<ConsumerEvent>) -> Result<(), DecodeError> {
    let kind = reader.u8("event")?;
    let stream_seq = reader.varint("event's stream sequence")?;
    let event = match kind {
        DELIVERED => ConsumerEvent::Delivered {
            stream_seq,
            consumer_seq: reader.varint("event's consumer sequence")?,
            delivery_count: reader.varint("event's delivery count")?,
            at: reader.time("event's time")?,
        },
        ACKED => ConsumerEvent::Acked { stream_seq, at: reader.time("event's time")? },
        IN_PROGRESS => ConsumerEvent::InProgress { stream_seq, at: reader.time("event's time")? },
        DROPPED => ConsumerEvent::Dropped { stream_seq, at: reader.time("event's time")? },
        EXHAUSTED => ConsumerEvent::Exhausted { stream_seq },
        RESET => ConsumerEvent::Reset { stream_seq },
        DELIVERED_RUN => {
            let consumer_seq = reader.varint("event's consumer sequence")?;
            let length = read_length(reader, stream_seq.max(consumer_seq))?;
            let at = reader.time("event's time")?;
            events.extend((0..length).map(|step| ConsumerEvent::Delivered {
                stream_seq: stream_seq + step,
                consumer_seq: consumer_seq + step,
                delivery_count: 1,
                at,
            }));
            return Ok(());
        }
        ACKED_RUN => {
            let length = read_length(reader, stream_seq)?;
            let at = reader.time("event's time")?;
            events.extend((0..length).map(|step| ConsumerEvent::Acked { stream_seq: stream_seq + step, at }));
            return Ok(());
        }
        found => return Err(DecodeError::Kind { what: "consumer event", found }),
    };
    events.push(event);
    Ok(())
}

/// The length of a run whose numbers begin at `from` or below, and stay numbers.
fn read_length(reader: &mut Reader, from: u64) -> Result<u64, DecodeError> {
    let length = reader.varint("length of a run")?;
    if length > RUN_MAX || from.checked_add(length).is_none() {
        let reason = format!("{length} events from {from} on");
        return Err(DecodeError::Invalid { what: "run of events", reason });
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(events: &[ConsumerEvent]) -> usize {
        let mut writer = Writer::new(1, 1, 16);
        write_events(&mut writer, events);
        let bytes = writer.finish();
        let length = bytes.len();
        let (mut reader, _) = Reader::open(bytes, "events", 1).expect("open");
        assert_eq!(read_events(&mut reader).expect("events"), events);
        reader.finish().expect("nothing left over");
        length
    }

    #[test]
    fn what_happens_in_a_row_is_one_run() {
        let at = UnixNanos(77);
        let delivered = |stream_seq, consumer_seq, delivery_count, at| ConsumerEvent::Delivered {
            stream_seq,
            consumer_seq,
            delivery_count,
            at,
        };
        let mut events: Vec<ConsumerEvent> = (1..=1_000).map(|seq| delivered(seq, seq + 5, 1, at)).collect();
        assert!(round_trip(&events) < 100);
        events.extend((1..=1_000).map(|stream_seq| ConsumerEvent::Acked { stream_seq, at }));
        assert!(round_trip(&events) < 200);
        let breaks = [
            delivered(1, 1, 1, at),
            delivered(2, 2, 2, at),
            delivered(3, 3, 1, at),
            delivered(5, 4, 1, at),
            delivered(6, 5, 1, UnixNanos(78)),
            ConsumerEvent::Acked { stream_seq: 6, at },
            ConsumerEvent::Acked { stream_seq: 6, at },
            ConsumerEvent::Acked { stream_seq: u64::MAX, at },
            ConsumerEvent::Reset { stream_seq: 9 },
        ];
        round_trip(&breaks);
        round_trip(&[]);
    }
}
