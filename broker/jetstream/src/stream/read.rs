//! Reading single messages: STREAM.MSG.GET. Direct gets are in `direct`.

use weir_jsapi::request::MsgGetRequest;
use weir_jsapi::{ApiError, errors};
use weir_stdx::time::UnixNanos;

use super::StreamMachine;
use crate::store::{Filter, Lookup, Store, StoredMessage};

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
    pub(super) fn found(&self, seq: u64) -> Option<StoredMessage> {
        match self.store.get(seq) {
            Ok(Lookup::Found(message)) if seq > 0 => Some(message),
            _ => None,
        }
    }
}
