//! A backup as a whole, in its order: the state, the consumers, the messages, the end. The writer is told what comes next;
//! the reader judges everything it gives out, and holds one message at a time.

use std::io::Read;

use bytes::Bytes;
use weir_jsapi::StreamState;

use crate::archive::{self, ArchiveReader, Entry, write_entry};
use crate::consumer::ConsumerRecord;
use crate::error::BackupError;
use crate::s2::S2Writer;
use crate::state;

const STATE: &str = "state.json";
const CONSUMERS: &str = "consumers/";
/// Longest JSON of a state or a consumer that is read: a million messages without acknowledgement are 60 MB.
const JSON_BYTES_MAX: u64 = 128 << 20;
/// Longest header block of a message, as for those that are published.
const HEADERS_BYTES_MAX: u64 = u16::MAX as u64;

/// A message of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRecord {
    pub seq: u64,
    /// Nanoseconds since 1970.
    pub timestamp: u64,
    pub subject: Bytes,
    pub headers: Bytes,
    pub payload: Bytes,
}

/// The longest messages that are read, bytes of headers and payload; negative is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageLimits {
    /// Of the server.
    pub max_payload: i64,
    /// Of the stream.
    pub max_msg_size: i64,
}

/// Writes a backup piece by piece.
pub struct BackupWriter {
    out: S2Writer,
    last_seq: u64,
    /// Nanoseconds since 1970, of all that is no message.
    now: i64,
}

impl BackupWriter {
    /// Begins with the state. Its `consumer_count` must be how many consumers follow.
    pub fn new(state: &StreamState, now: i64) -> Self {
        let mut out = S2Writer::default();
        out.put(archive::MAGIC);
        let mut writer = Self { out, last_seq: state.last_seq, now };
        writer.json(STATE.to_owned(), &weir_jsapi::json::encode(state));
        writer
    }

    fn json(&mut self, name: String, json: &[u8]) {
        let entry = Entry {
            name: name.into_bytes(),
            timestamp: self.now,
            payload_length: json.len() as u64,
            ..Entry::default()
        };
        write_entry(&mut self.out, &entry, [json, b""]);
    }

    /// Adds a consumer; what it has of messages behind the last one of the backup is left out.
    pub fn consumer(&mut self, name: &str, mut consumer: ConsumerRecord) {
        consumer.bound(self.last_seq);
        self.json(format!("{CONSUMERS}{name}"), &consumer.encode());
    }

    /// Adds a message.
    pub fn message(&mut self, message: &MessageRecord) {
        let entry = Entry {
            name: message.subject.to_vec(),
            timestamp: i64::try_from(message.timestamp).unwrap_or(i64::MAX),
            sequence: message.seq,
            headers_length: message.headers.len() as u64,
            payload_length: message.payload.len() as u64,
        };
        write_entry(&mut self.out, &entry, [&message.headers, &message.payload]);
    }

    /// Says that this was all.
    pub fn finish(&mut self) {
        write_entry(&mut self.out, &Entry::default(), [b"", b""]);
        self.out.end_block();
    }

    /// Bytes that can be taken.
    pub fn ready(&self) -> usize {
        self.out.ready().len()
    }

    /// Takes up to `count` of them.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        self.out.take(count)
    }
}

/// Reads a backup.
pub struct BackupReader<R> {
    archive: ArchiveReader<R>,
    state: StreamState,
    consumers_left: u64,
    last_seq: u64,
}

impl<R: Read> BackupReader<R> {
    /// Reads the state.
    pub fn open(source: R) -> Result<Self, BackupError> {
        let mut archive = ArchiveReader::open(source)?;
        let entry = archive.next()?;
        if entry.name != STATE.as_bytes() {
            return Err(BackupError::invalid("expected state.json first"));
        }
        let json = archive.take(json_length(&entry)?)?;
        let state = state::decode(&json)?;
        let consumers_left = state.consumer_count;
        let last_seq = state.first_seq.saturating_sub(1);
        Ok(Self { archive, state, consumers_left, last_seq })
    }

    pub fn state(&self) -> &StreamState {
        &self.state
    }

    /// The next consumer with its name; none when all were read, as they must be before the messages.
    pub fn next_consumer(&mut self) -> Result<Option<(String, ConsumerRecord)>, BackupError> {
        if self.consumers_left == 0 {
            return Ok(None);
        }
        self.consumers_left -= 1;
        let entry = self.archive.next()?;
        let found = String::from_utf8_lossy(&entry.name).into_owned();
        let Some(name) = found.strip_prefix(CONSUMERS) else {
            return Err(BackupError::invalid(format!("expected consumer, found {found:?}")));
        };
        let json = self.archive.take(json_length(&entry)?)?;
        Ok(Some((name.to_owned(), ConsumerRecord::decode(name, &json)?)))
    }

    /// The next message; none at the end of the backup.
    pub fn next_message(&mut self, limits: MessageLimits) -> Result<Option<MessageRecord>, BackupError> {
        let entry = self.archive.next()?;
        let seq = entry.sequence;
        if seq == 0 {
            return match entry.is_end() {
                true => Ok(None),
                false => Err(BackupError::invalid("expected message sequence")),
            };
        }
        check_size(&entry, limits)?;
        let refuse = |text: &str| Err(BackupError::invalid(format!("message sequence {seq} {text}")));
        let Ok(length) = usize::try_from(entry.length()) else {
            return refuse("exceeds maximum payload size");
        };
        let content = Bytes::from(self.archive.take(length)?);
        if seq <= self.last_seq {
            return refuse("out of order");
        }
        // The largest number is no sequence: there would be none after it.
        if seq == u64::MAX {
            return refuse("out of range");
        }
        if !is_subject(&entry.name) {
            return refuse("has an invalid subject");
        }
        let Ok(timestamp) = u64::try_from(entry.timestamp) else {
            return refuse("has an invalid timestamp");
        };
        self.last_seq = seq;
        let headers_length = usize::try_from(entry.headers_length).unwrap_or(length).min(length);
        Ok(Some(MessageRecord {
            seq,
            timestamp,
            subject: Bytes::from(entry.name),
            headers: content.slice(..headers_length),
            payload: content.slice(headers_length..),
        }))
    }
}

/// A subject that a message can be delivered under: tokens, none of them empty, without blanks, control characters and
/// wildcards.
fn is_subject(name: &[u8]) -> bool {
    name.len() <= usize::from(u16::MAX)
        && name.split(|byte| *byte == b'.').all(|token| {
            !token.is_empty()
                && !matches!(token, b"*" | b">")
                && token.iter().all(|byte| !byte.is_ascii_control() && *byte != b' ')
        })
}

fn json_length(entry: &Entry) -> Result<usize, BackupError> {
    match usize::try_from(entry.length()) {
        Ok(length) if entry.length() <= JSON_BYTES_MAX => Ok(length),
        _ => Err(BackupError::InvalidArchive),
    }
}

/// Judged before anything is reserved for the message.
fn check_size(entry: &Entry, limits: MessageLimits) -> Result<(), BackupError> {
    let seq = entry.sequence;
    let exceeds = |limit: i64| u64::try_from(limit).is_ok_and(|limit| entry.length() > limit);
    let text = if exceeds(limits.max_payload) {
        "exceeds maximum payload size"
    } else if exceeds(limits.max_msg_size) {
        "exceeds maximum message size"
    } else if entry.headers_length > HEADERS_BYTES_MAX {
        "exceeds maximum header size"
    } else {
        return Ok(());
    };
    Err(BackupError::invalid(format!("message sequence {seq} {text}")))
}

#[cfg(test)]
mod tests;
