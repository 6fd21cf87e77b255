//! A consumer's replicated state inside a checkpoint.

use std::collections::{BTreeMap, BTreeSet};

use weir_stdx::time::UnixNanos;

use super::{DecodeError, Reader, Writer};
use crate::consumer::{ConsumerState, Pending, Position};

fn write_position(writer: &mut Writer, position: Position) {
    writer.varint(position.consumer_seq);
    writer.varint(position.stream_seq);
}

fn read_position(reader: &mut Reader) -> Result<Position, DecodeError> {
    Ok(Position {
        consumer_seq: reader.varint("consumer sequence")?,
        stream_seq: reader.varint("stream sequence")?,
    })
}

fn write_time(writer: &mut Writer, time: Option<UnixNanos>) {
    writer.time(time.unwrap_or(UnixNanos::ZERO));
}

fn read_time(reader: &mut Reader) -> Result<Option<UnixNanos>, DecodeError> {
    Ok(Some(reader.time("time of activity")?).filter(|time| *time != UnixNanos::ZERO))
}

pub(crate) fn write_consumer_state(writer: &mut Writer, state: &ConsumerState) {
    write_position(writer, state.delivered);
    write_position(writer, state.ack_floor);
    write_time(writer, state.last_delivered_at);
    write_time(writer, state.last_acked_at);
    writer.varint(state.pending.len() as u64);
    for (seq, pending) in &state.pending {
        writer.varint(*seq);
        writer.varint(pending.consumer_seq);
        writer.varint(pending.delivery_count);
        writer.time(pending.delivered_at);
    }
    writer.varint(state.exhausted.len() as u64);
    for seq in &state.exhausted {
        writer.varint(*seq);
    }
    // What is delivered already needs no keeping.
    let from = state.skip_list.partition_point(|&seq| seq <= state.delivered.stream_seq);
    writer.varint((state.skip_list.len() - from) as u64);
    for seq in &state.skip_list[from..] {
        writer.varint(*seq);
    }
    writer.varint(state.resume_at);
    writer.varint(state.purged_to);
}

pub(crate) fn read_consumer_state(reader: &mut Reader) -> Result<ConsumerState, DecodeError> {
    let delivered = read_position(reader)?;
    let ack_floor = read_position(reader)?;
    let last_delivered_at = read_time(reader)?;
    let last_acked_at = read_time(reader)?;
    let mut pending = BTreeMap::new();
    for _ in 0..reader.count("pending count")? {
        let seq = reader.varint("pending sequence")?;
        let consumer_seq = reader.varint("pending consumer sequence")?;
        let delivery_count = reader.varint("delivery count")?;
        let delivered_at = reader.time("time of delivery")?;
        pending.insert(seq, Pending { consumer_seq, delivered_at, delivery_count });
    }
    let mut exhausted = BTreeSet::new();
    for _ in 0..reader.count("exhausted count")? {
        exhausted.insert(reader.varint("exhausted sequence")?);
    }
    let mut skip_list = Vec::new();
    for _ in 0..reader.count("skip list count")? {
        skip_list.push(reader.varint("skip list sequence")?);
    }
    let resume_at = reader.varint("resume sequence")?;
    let purged_to = reader.varint("purged sequence")?;
    Ok(ConsumerState {
        delivered,
        ack_floor,
        pending,
        exhausted,
        skip_list,
        resume_at,
        purged_to,
        last_delivered_at,
        last_acked_at,
    })
}
