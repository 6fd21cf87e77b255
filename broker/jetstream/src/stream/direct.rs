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

/// Messages, and bytes of them, that are gathered at once: what a stream is held for.
const STEP_MESSAGES_MAX: usize = 256;
const STEP_BYTES_MAX: usize = 1 << 20;
/// Messages looked back through for each of those.
const SEARCH_STEP: usize = 16;

/// One reply to a direct get: the header block and the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectReply {
    pub headers: Bytes,
    pub payload: Bytes,
}

/// What a reply of a batch says of the others.
#[derive(Debug, Clone, Copy)]
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

/// A direct get on its way: what is still to be replied. The stream may change between its steps, as it may between the
/// requests of a client that asks for one message after the other.
#[derive(Debug)]
pub struct DirectGet {
    no_headers: bool,
    batch: InBatch,
    sent_bytes: usize,
    max_bytes: usize,
    /// Replies that may still come; messages of one batch.
    left: u64,
    rest: Rest,
}

#[derive(Debug)]
enum Rest {
    /// Messages in order that pass the filter, from a sequence on.
    Ordered {
        filter: Filter,
        from: u64,
        is_first: bool,
    },
    /// Subjects whose last message before `up_to` is looked for, from `at` down.
    Searched {
        up_to: u64,
        at: u64,
        sequences: BTreeSet<u64>,
        wanted: BTreeSet<Vec<u8>>,
        from: u64,
    },
    /// Last messages of subjects, as of `up_to`.
    Listed {
        up_to: u64,
        sequences: std::collections::btree_set::IntoIter<u64>,
        from: u64,
    },
    Done,
}

impl DirectGet {
    pub fn is_done(&self) -> bool {
        matches!(self.rest, Rest::Done)
    }
}

/// What a request begins with.
enum Begun {
    Replies(Vec<DirectReply>),
    More(DirectGet),
}

impl<S: Store> StreamMachine<S> {
    /// DIRECT.GET.S with a JSON body: the first replies, and what goes on with `direct_next` if there are more. The
    /// replies of a batch end once they hold `max_bytes`, or the smaller limit that the request names.
    pub fn direct_begin(&self, body: &[u8], max_bytes: usize) -> (Vec<DirectReply>, Option<DirectGet>) {
        match self.begin(body, max_bytes) {
            Begun::Replies(replies) => (replies, None),
            Begun::More(get) => (Vec::new(), Some(get)),
        }
    }

    /// The next replies: few enough that the stream is not held up.
    pub fn direct_next(&self, get: &mut DirectGet) -> Vec<DirectReply> {
        let mut replies = Vec::new();
        let mut bytes = 0;
        for _ in 0..STEP_MESSAGES_MAX {
            let before = get.sent_bytes;
            match get.rest {
                Rest::Ordered { .. } => self.next_ordered(get, &mut replies),
                Rest::Searched { .. } => self.search(get, &mut replies),
                Rest::Listed { .. } => self.next_listed(get, &mut replies),
                Rest::Done => break,
            }
            bytes += get.sent_bytes - before;
            if bytes >= STEP_BYTES_MAX {
                break;
            }
        }
        replies
    }

    /// All replies at once.
    pub fn direct_get(&self, body: &[u8], max_bytes: usize) -> Vec<DirectReply> {
        let (mut replies, more) = self.direct_begin(body, max_bytes);
        if let Some(mut get) = more {
            while !get.is_done() {
                replies.extend(self.direct_next(&mut get));
            }
        }
        replies
    }

    fn begin(&self, body: &[u8], max_bytes: usize) -> Begun {
        let request = match read_request(body) {
            Ok(request) => request,
            Err(line) => return Begun::Replies(vec![DirectReply::status(line)]),
        };
        let asked_bytes = usize::try_from(request.max_bytes).ok().filter(|asked| *asked > 0);
        let max_bytes = asked_bytes.map_or(max_bytes, |asked| asked.min(max_bytes));
        if !request.multi_last.is_empty() {
            return self.begin_last_of_many(&request, max_bytes);
        }
        if request.batch != 0 {
            return Begun::More(self.begin_batch(&request, max_bytes));
        }
        Begun::Replies(vec![match self.get_message(&MsgGetRequest {
            up_to_seq: 0,
            up_to_time: None,
            ..request.clone()
        }) {
            Ok(message) if request.no_hdr => DirectReply { headers: Bytes::new(), payload: message.payload },
            Ok(message) => self.direct_reply(message, None),
            Err(_) => DirectReply::status("404 Message Not Found"),
        }])
    }

    /// DIRECT.GET.S.subject: the last message of a subject.
    pub fn direct_get_last(&self, subject: &str) -> DirectReply {
        match self.found(self.last_seq_of(subject.as_bytes())) {
            Some(message) => self.direct_reply(message, None),
            None => DirectReply::status("404 Message Not Found"),
        }
    }

    /// Messages in order from a sequence or time, of one filter.
    fn begin_batch(&self, request: &MsgGetRequest, max_bytes: usize) -> DirectGet {
        let filter = match request.next_by_subj.as_str() {
            "" => Filter::all(),
            subject => Filter::new([subject]),
        };
        let from = request.start_time.map_or(request.seq, |start| {
            let nanos = start.unix_nanos().and_then(|nanos| u64::try_from(nanos).ok()).unwrap_or(0);
            self.store.seq_at_or_after(UnixNanos(nanos))
        });
        DirectGet {
            no_headers: request.no_hdr,
            batch: InBatch { pending: self.store.num_pending(&filter, from), last_seq: 0 },
            sent_bytes: 0,
            max_bytes,
            left: u64::try_from(request.batch).unwrap_or(0),
            rest: Rest::Ordered { filter, from, is_first: true },
        }
    }

    fn next_ordered(&self, get: &mut DirectGet, replies: &mut Vec<DirectReply>) {
        let Rest::Ordered { filter, from, is_first } = &mut get.rest else { return };
        let wanted = get.left > 0 && get.sent_bytes < get.max_bytes;
        // What cannot be read ends the batch, as its end does.
        let found = if wanted { self.store.next_match(filter, *from).ok().flatten() } else { None };
        let Some(message) = found else {
            replies.push(if *is_first && get.left > 0 {
                DirectReply::status("404 Message Not Found")
            } else {
                DirectReply::end_of_batch(get.batch, None)
            });
            get.rest = Rest::Done;
            return;
        };
        *is_first = false;
        *from = message.seq + 1;
        get.left -= 1;
        let seq = message.seq;
        get.sent_bytes += size(&message);
        replies.push(if get.no_headers {
            DirectReply { headers: Bytes::new(), payload: message.payload }
        } else {
            get.batch.pending = get.batch.pending.saturating_sub(1);
            self.direct_reply(message, Some(get.batch))
        });
        get.batch.last_seq = seq;
    }

    /// The last message of each subject that one of the filters matches, as of a sequence or time.
    fn begin_last_of_many(&self, request: &MsgGetRequest, max_bytes: usize) -> Begun {
        let none = || Begun::Replies(vec![DirectReply::status("404 No Results")]);
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
        let Some((sequences, wanted)) = self.last_of_many(&request.multi_last, up_to) else {
            return Begun::Replies(vec![DirectReply::status("413 Too Many Results")]);
        };
        if sequences.is_empty() && wanted.is_empty() {
            return none();
        }
        Begun::More(DirectGet {
            no_headers: false,
            batch: InBatch { pending: 0, last_seq: 0 },
            sent_bytes: 0,
            max_bytes,
            left: u64::try_from(request.batch).ok().filter(|most| *most > 0).unwrap_or(u64::MAX),
            rest: Rest::Searched { up_to, at: up_to, sequences, wanted, from: request.seq },
        })
    }

    /// The sequences of last messages, and the subjects whose last ones are too new; `None` when there are more than
    /// one request may get.
    fn last_of_many(&self, filters: &[String], up_to: u64) -> Option<(BTreeSet<u64>, BTreeSet<Vec<u8>>)> {
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
        Some((sequences, too_new))
    }

    /// One step back through the stream, which finds what was last of all subjects then.
    fn search(&self, get: &mut DirectGet, replies: &mut Vec<DirectReply>) {
        let Rest::Searched { up_to, at, sequences, wanted, from } = &mut get.rest else { return };
        let first = self.store.state().first_seq.max(1);
        for _ in 0..SEARCH_STEP {
            if wanted.is_empty() || *at < first {
                let sequences = std::mem::take(sequences);
                if sequences.is_empty() {
                    replies.push(DirectReply::status("404 No Results"));
                    get.rest = Rest::Done;
                    return;
                }
                get.batch.pending = sequences.len() as u64;
                get.rest = Rest::Listed { up_to: *up_to, sequences: sequences.into_iter(), from: *from };
                return;
            }
            if let Some(message) = self.found(*at)
                && wanted.remove(&message.subject[..])
            {
                sequences.insert(*at);
            }
            *at -= 1;
        }
    }

    fn next_listed(&self, get: &mut DirectGet, replies: &mut Vec<DirectReply>) {
        let Rest::Listed { up_to, sequences, from } = &mut get.rest else { return };
        let next = if get.left > 0 && get.sent_bytes < get.max_bytes { sequences.next() } else { None };
        let Some(seq) = next else {
            replies.push(DirectReply::end_of_batch(get.batch, Some(*up_to)));
            get.rest = Rest::Done;
            return;
        };
        get.batch.pending = get.batch.pending.saturating_sub(1);
        if seq < *from {
            return;
        }
        let Some(message) = self.found(seq) else {
            replies.push(DirectReply::status("404 Message Not Found"));
            get.rest = Rest::Done;
            return;
        };
        get.sent_bytes += size(&message);
        get.left -= 1;
        replies.push(self.direct_reply(message, Some(get.batch)));
        get.batch.last_seq = seq;
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
