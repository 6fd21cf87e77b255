//! Reading single messages: STREAM.MSG.GET and DIRECT.GET.

use bytes::Bytes;
use weir_jsapi::request::MsgGetRequest;
use weir_jsapi::{ApiError, errors, headers as names};
use weir_stdx::time::UnixNanos;

use super::StreamMachine;
use crate::headers;
use crate::store::{Filter, Lookup, Store, StoredMessage};

/// A direct get's answer: the header block and the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectReply {
    pub headers: Bytes,
    pub payload: Bytes,
}

impl DirectReply {
    fn status(line: &str) -> Self {
        Self { headers: headers::status(line, &[]), payload: Bytes::new() }
    }
}

impl<S: Store> StreamMachine<S> {
    /// The message a STREAM.MSG.GET asks for: by sequence, last of a subject, or next of a subject from a sequence.
    pub fn get_message(&self, request: &MsgGetRequest) -> Result<StoredMessage, ApiError> {
        if request.batch > 0
            || !request.multi_last.is_empty()
            || request.up_to_seq > 0
            || request.up_to_time.is_some()
        {
            return Err(errors::BAD_REQUEST.error());
        }
        let has_last = !request.last_by_subj.is_empty();
        let has_next = !request.next_by_subj.is_empty();
        let has_position = request.seq > 0 || request.start_time.is_some();
        let ambiguous =
            (has_last && (has_next || has_position)) || (request.seq > 0 && request.start_time.is_some());
        if ambiguous || !(has_last || has_next || has_position) {
            return Err(errors::BAD_REQUEST.error());
        }
        self.find(request).ok_or_else(|| errors::NO_MESSAGE_FOUND.error())
    }

    fn find(&self, request: &MsgGetRequest) -> Option<StoredMessage> {
        if !request.last_by_subj.is_empty() {
            return self.found(self.last_seq_of(request.last_by_subj.as_bytes()));
        }
        let from = match request.start_time {
            Some(start) => {
                let nanos = start.unix_nanos().and_then(|nanos| u64::try_from(nanos).ok()).unwrap_or(0);
                self.store.seq_at_or_after(UnixNanos(nanos))
            }
            None => request.seq,
        };
        if !request.next_by_subj.is_empty() {
            let filter = Filter::new([request.next_by_subj.as_str()]);
            return self.store.next_match(&filter, from).ok().flatten();
        }
        if request.start_time.is_some() {
            return self.store.next_match(&Filter::default(), from).ok().flatten();
        }
        self.found(from)
    }

    /// An unreadable message is not served.
    fn found(&self, seq: u64) -> Option<StoredMessage> {
        match self.store.get(seq) {
            Ok(Lookup::Found(message)) if seq > 0 => Some(message),
            _ => None,
        }
    }

    /// DIRECT.GET.S with a JSON body.
    pub fn direct_get(&self, body: &[u8]) -> DirectReply {
        if body.is_empty() {
            return DirectReply::status("408 Empty Request");
        }
        let Ok(request) = weir_jsapi::json::decode_lenient::<MsgGetRequest>(body) else {
            return DirectReply::status("408 Malformed Request");
        };
        if request == MsgGetRequest::default() {
            return DirectReply::status("408 Empty Request");
        }
        match self.get_message(&request) {
            Ok(message) => self.direct_reply(message, request.no_hdr),
            Err(error) if error.is(errors::NO_MESSAGE_FOUND) => DirectReply::status("404 Message Not Found"),
            Err(_) => DirectReply::status("408 Bad Request"),
        }
    }

    /// DIRECT.GET.S.subject: the last message of a subject.
    pub fn direct_get_last(&self, subject: &str) -> DirectReply {
        match self.found(self.last_seq_of(subject.as_bytes())) {
            Some(message) => self.direct_reply(message, false),
            None => DirectReply::status("404 Message Not Found"),
        }
    }

    fn direct_reply(&self, message: StoredMessage, without_headers: bool) -> DirectReply {
        if without_headers {
            return DirectReply { headers: Bytes::new(), payload: message.payload };
        }
        let base = message.headers.strip_suffix(b"\r\n").unwrap_or(b"NATS/1.0\r\n");
        let mut block = Vec::with_capacity(base.len() + 160);
        block.extend_from_slice(base);
        let mut field = |name: &str, value: &[u8]| {
            block.extend_from_slice(name.as_bytes());
            block.extend_from_slice(b": ");
            block.extend_from_slice(value);
            block.extend_from_slice(b"\r\n");
        };
        field(names::STREAM, self.config.name.as_bytes());
        field(names::SUBJECT, &message.subject);
        field(names::SEQUENCE, message.seq.to_string().as_bytes());
        field(names::TIME_STAMP, super::info::time(message.timestamp).to_string().as_bytes());
        block.extend_from_slice(b"\r\n");
        DirectReply { headers: Bytes::from(block), payload: message.payload }
    }
}
