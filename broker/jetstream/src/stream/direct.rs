//! DIRECT.GET (ADR-31): stored messages as messages of their own, one, a batch in order, or the last of many
//! subjects. Not who asks, nor where the replies go.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use bytes::Bytes;
use weir_jsapi::headers as names;
use weir_jsapi::request::MsgGetRequest;
use weir_stdx::time::UnixNanos;

use super::StreamMachine;
use crate::headers;
use crate::store::{Filter, Store, StoredMessage};

/// The most subjects whose last messages one request gets, as in nats-server.
const MULTI_LAST_MAX: usize = 1024;

/// One reply to a direct get: the header block and the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectReply {
    pub headers: Bytes,
    pub payload: Bytes,
}

/// What a reply of a batch says of the others.
#[derive(Clone, Copy)]
struct InBatch {
    /// How many come after it.
    pending: u64,
    /// The sequence of the reply before it, 0 for the first.
    last_seq: u64,
}

impl DirectReply {
    /// A reply that is a status line only.
    pub fn status(line: &str) -> Self {
        Self { headers: headers::status(line, &[]), payload: Bytes::new() }
    }

    fn end_of_batch(batch: InBatch, up_to_seq: Option<u64>) -> Self {
        let mut fields: Vec<(&str, &dyn std::fmt::Display)> =
            vec![(names::NUM_PENDING, &batch.pending), (names::LAST_SEQUENCE, &batch.last_seq)];
        if let Some(seq) = &up_to_seq {
            fields.push((names::UP_TO_SEQUENCE, seq));
        }
        Self { headers: headers::status("204 EOB", &fields), payload: Bytes::new() }
    }
}

impl<S: Store> StreamMachine<S> {
    /// DIRECT.GET.S with a JSON body. The replies of a batch end once they hold `max_bytes`, or the
    /// smaller limit that the request names.
    pub fn direct_get(&self, body: &[u8], max_bytes: usize) -> Vec<DirectReply> {
        let request = match read_request(body) {
            Ok(request) => request,
            Err(line) => return vec![DirectReply::status(line)],
        };
        let asked_bytes = usize::try_from(request.max_bytes).ok().filter(|asked| *asked > 0);
        let max_bytes = asked_bytes.map_or(max_bytes, |asked| asked.min(max_bytes));
        if !request.multi_last.is_empty() {
            return self.direct_last_of_many(&request, max_bytes);
        }
        if request.batch != 0 {
            return self.direct_batch(&request, max_bytes);
        }
        vec![match self.get_message(&MsgGetRequest { up_to_seq: 0, up_to_time: None, ..request.clone() }) {
            Ok(message) if request.no_hdr => DirectReply { headers: Bytes::new(), payload: message.payload },
            Ok(message) => self.direct_reply(message, None),
            Err(_) => DirectReply::status("404 Message Not Found"),
        }]
    }

    /// DIRECT.GET.S.subject: the last message of a subject.
    pub fn direct_get_last(&self, subject: &str) -> DirectReply {
        match self.found(self.last_seq_of(subject.as_bytes())) {
            Some(message) => self.direct_reply(message, None),
            None => DirectReply::status("404 Message Not Found"),
        }
    }

    /// Messages in order from a sequence or time, of one filter.
    fn direct_batch(&self, request: &MsgGetRequest, max_bytes: usize) -> Vec<DirectReply> {
        let filter = match request.next_by_subj.as_str() {
            "" => Filter::all(),
            subject => Filter::new([subject]),
        };
        let mut from = request.start_time.map_or(request.seq, |start| {
            let nanos = start.unix_nanos().and_then(|nanos| u64::try_from(nanos).ok()).unwrap_or(0);
            self.store.seq_at_or_after(UnixNanos(nanos))
        });
        let mut batch = InBatch { pending: self.store.num_pending(&filter, from), last_seq: 0 };
        let mut replies = Vec::new();
        let mut sent_bytes = 0;
        for _ in 0..request.batch {
            // What cannot be read ends the batch, as its end does.
            let Ok(Some(message)) = self.store.next_match(&filter, from) else {
                if replies.is_empty() {
                    return vec![DirectReply::status("404 Message Not Found")];
                }
                break;
            };
            from = message.seq + 1;
            let seq = message.seq;
            sent_bytes += size(&message);
            replies.push(if request.no_hdr {
                DirectReply { headers: Bytes::new(), payload: message.payload }
            } else {
                batch.pending = batch.pending.saturating_sub(1);
                self.direct_reply(message, Some(batch))
            });
            batch.last_seq = seq;
            if sent_bytes >= max_bytes {
                break;
            }
        }
        replies.push(DirectReply::end_of_batch(batch, None));
        replies
    }

    /// The last message of each subject that one of the filters matches, as of a sequence or time.
    fn direct_last_of_many(&self, request: &MsgGetRequest, max_bytes: usize) -> Vec<DirectReply> {
        let none = || vec![DirectReply::status("404 No Results")];
        let mut up_to = request.up_to_seq;
        if let Some(time) = request.up_to_time {
            let nanos = time.unix_nanos().and_then(|nanos| u64::try_from(nanos).ok()).unwrap_or(0);
            let after = self.store.seq_at_or_after(UnixNanos(nanos));
            if after <= self.store.state().first_seq {
                return none();
            }
            up_to = after - 1;
        }
        if up_to == 0 {
            up_to = self.store.state().last_seq;
        }
        let Some(sequences) = self.last_of_many(&request.multi_last, up_to) else {
            return vec![DirectReply::status("413 Too Many Results")];
        };
        if sequences.is_empty() {
            return none();
        }
        let mut batch = InBatch { pending: sequences.len() as u64, last_seq: 0 };
        let (mut replies, mut sent_bytes) = (Vec::new(), 0);
        for seq in sequences {
            batch.pending = batch.pending.saturating_sub(1);
            if seq < request.seq {
                continue;
            }
            let Some(message) = self.found(seq) else {
                replies.push(DirectReply::status("404 Message Not Found"));
                return replies;
            };
            sent_bytes += size(&message);
            replies.push(self.direct_reply(message, Some(batch)));
            batch.last_seq = seq;
            if sent_bytes >= max_bytes
                || usize::try_from(request.batch).is_ok_and(|most| most > 0 && replies.len() >= most)
            {
                break;
            }
        }
        replies.push(DirectReply::end_of_batch(batch, Some(up_to)));
        replies
    }

    /// The sequences, in order; `None` when there are more than one request may get.
    fn last_of_many(&self, filters: &[String], up_to: u64) -> Option<BTreeSet<u64>> {
        let mut sequences = BTreeSet::new();
        let mut too_new = BTreeSet::new();
        for filter in filters {
            self.store.for_each_subject(filter.as_bytes(), &mut |subject, state| {
                if state.last <= up_to {
                    sequences.insert(state.last);
                } else if state.first <= up_to {
                    too_new.insert(subject.to_vec());
                }
                if sequences.len() + too_new.len() > MULTI_LAST_MAX {
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            });
            if sequences.len() + too_new.len() > MULTI_LAST_MAX {
                return None;
            }
        }
        // One way back through the stream finds what was last of all the others then.
        let first = self.store.state().first_seq;
        let mut seq = up_to;
        while !too_new.is_empty() && seq >= first.max(1) {
            if let Some(message) = self.found(seq)
                && too_new.remove(&message.subject[..])
            {
                sequences.insert(seq);
            }
            seq -= 1;
        }
        Some(sequences)
    }

    fn direct_reply(&self, message: StoredMessage, batch: Option<InBatch>) -> DirectReply {
        let stored = headers::StoredAt {
            stream: &self.config.name,
            subject: &message.subject,
            seq: message.seq,
            timestamp: message.timestamp,
        };
        let mut block = headers::with_stored_at(&message.headers, &stored);
        if let Some(batch) = batch {
            headers::push(&mut block, names::NUM_PENDING, batch.pending.to_string().as_bytes());
            headers::push(&mut block, names::LAST_SEQUENCE, batch.last_seq.to_string().as_bytes());
        }
        block.extend_from_slice(b"\r\n");
        DirectReply { headers: Bytes::from(block), payload: message.payload }
    }
}

/// What the body asks for, or the status line that refuses it, by nats-server's rules.
fn read_request(body: &[u8]) -> Result<MsgGetRequest, &'static str> {
    if body.is_empty() {
        return Err("408 Empty Request");
    }
    let Ok(request) = weir_jsapi::json::decode_lenient::<MsgGetRequest>(body) else {
        return Err("408 Malformed Request");
    };
    let has = |text: &str| !text.is_empty();
    let (last, next) = (has(&request.last_by_subj), has(&request.next_by_subj));
    let many = !request.multi_last.is_empty();
    if request.seq == 0 && !last && !next && !many && request.start_time.is_none() {
        return Err("408 Empty Request");
    }
    let contradicts = (request.seq > 0 && (last || request.start_time.is_some()))
        || (last && (request.start_time.is_some() || next || request.batch > 0 || many))
        || (next && many)
        || (request.up_to_seq > 0 && request.up_to_time.is_some());
    if contradicts { Err("408 Bad Request") } else { Ok(request) }
}

/// What a message counts toward the bytes of a batch.
fn size(message: &StoredMessage) -> usize {
    message.subject.len() + message.headers.len() + message.payload.len()
}
