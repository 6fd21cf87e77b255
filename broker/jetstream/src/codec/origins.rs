//! Batches of mirrors, sources and backups in their log form.

use super::{DecodeError, Reader, Writer};
use crate::command::{MirrorBatch, OriginRecord, PublishRecord, RestoreBatch, SourceBatch};

/// About how many bytes the records take.
pub(super) fn size(records: &[OriginRecord]) -> usize {
    let one =
        |record: &PublishRecord| record.subject.len() + record.headers.len() + record.payload.len() + 32;
    records.iter().map(|entry| one(&entry.record)).sum()
}

pub(super) fn write_mirror(writer: &mut Writer, batch: &MirrorBatch) {
    writer.varint(batch.after);
    writer.varint(batch.up_to);
    write_records(writer, &batch.records);
}

pub(super) fn read_mirror(reader: &mut Reader) -> Result<MirrorBatch, DecodeError> {
    let after = reader.varint("sequence before the batch")?;
    let up_to = reader.varint("last sequence of the batch")?;
    Ok(MirrorBatch { after, up_to, records: read_records(reader)? })
}

pub(super) fn write_source(writer: &mut Writer, batch: &SourceBatch) {
    writer.bytes(batch.index_name.as_bytes());
    writer.bytes(batch.identity.as_bytes());
    writer.varint(batch.after);
    write_records(writer, &batch.records);
}

pub(super) fn read_source(reader: &mut Reader) -> Result<SourceBatch, DecodeError> {
    let index_name = reader.string("name of a source")?;
    let identity = reader.string("identity of an origin")?;
    let after = reader.varint("sequence before the batch")?;
    Ok(SourceBatch { index_name, identity, after, records: read_records(reader)? })
}

pub(super) fn write_restore(writer: &mut Writer, batch: &RestoreBatch) {
    writer.varint(batch.up_to);
    write_records(writer, &batch.records);
}

pub(super) fn read_restore(reader: &mut Reader) -> Result<RestoreBatch, DecodeError> {
    let up_to = reader.varint("last sequence of the batch")?;
    Ok(RestoreBatch { up_to, records: read_records(reader)? })
}

fn write_records(writer: &mut Writer, records: &[OriginRecord]) {
    writer.varint(records.len() as u64);
    for OriginRecord { seq, record } in records {
        writer.varint(*seq);
        writer.time(record.timestamp);
        writer.bytes(&record.subject);
        writer.bytes(&record.headers);
        writer.bytes(&record.payload);
    }
}

fn read_records(reader: &mut Reader) -> Result<Vec<OriginRecord>, DecodeError> {
    let count = reader.count("record count")?;
    let mut records = Vec::with_capacity(count);
    for _ in 0..count {
        let seq = reader.varint("sequence of the origin")?;
        let timestamp = reader.time("timestamp")?;
        let subject = reader.bytes("subject")?;
        let headers = reader.bytes("headers")?;
        let payload = reader.bytes("payload")?;
        records.push(OriginRecord { seq, record: PublishRecord { subject, headers, payload, timestamp } });
    }
    Ok(records)
}
