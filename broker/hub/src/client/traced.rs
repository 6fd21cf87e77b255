//! Publishes whose trace somebody wants (ADR-41). Not those of everybody else.

use super::session::Session;
use crate::exchange::set_header;
use crate::message_trace::{Begun, DESTINATION, DISABLED, Source, begin, may_be_traced};
use std::sync::Arc;
use weir_proto::Publish;

/// What the trace of a message that is too large says.
const TOO_LARGE: &str = "maximum payload exceeded";

impl Session {
    /// Tells the trace of a message with headers that is refused for its size; `rest` begins with its operation, and
    /// holds as much of it as has come.
    pub(super) fn trace_refused_size(&mut self, rest: &[u8], size: usize) {
        let Some(account) = self.account.clone() else { return };
        let Some(end) = memchr::memchr(b'\n', rest) else { return };
        let (line, behind) = (rest[..end].trim_ascii_end(), rest.get(end + 1..).unwrap_or_default());
        let words: Vec<&[u8]> = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
        let (Some(verb), Some(subject), Some(header_size)) =
            (words.first(), words.get(1), words.len().checked_sub(2).and_then(|at| words.get(at)))
        else {
            return;
        };
        let header_size = std::str::from_utf8(header_size).ok().and_then(|text| text.parse::<usize>().ok());
        let headers = &behind[..behind.len().min(header_size.unwrap_or(0))];
        if !verb.eq_ignore_ascii_case(b"HPUB") || !may_be_traced(headers, &account) {
            return;
        }
        let name = self.handle.state.read().options.name.clone();
        let permissions = self.permissions.clone();
        let may_publish = |subject: &[u8]| {
            permissions.as_ref().is_none_or(|permissions| permissions.may_publish(subject))
                && !self.is_reserved(subject)
        };
        let source = Source::Client { cid: self.handle.id, name: &name, may_publish: &may_publish };
        match begin(&source, &account, subject, headers, size, || 0) {
            Begun::Traced(trace) => {
                trace.refused(TOO_LARGE);
                trace.tell();
            }
            Begun::Refused(destination) => self.refuse_publish(&destination),
            Begun::Untraced | Begun::Disabled | Begun::Dropped => {}
        }
    }

    /// Routes a message with headers that may ask for its trace.
    pub(super) fn publish_traced(&mut self, publish: &Publish<'_>) {
        let Some(account) = self.account.clone() else { return };
        let handle = Arc::clone(&self.handle);
        let name = handle.state.read().options.name.clone();
        let permissions = self.permissions.clone();
        let may_publish = |subject: &[u8]| {
            permissions.as_ref().is_none_or(|permissions| permissions.may_publish(subject))
                && !self.is_reserved(subject)
        };
        let source = Source::Client { cid: handle.id, name: &name, may_publish: &may_publish };
        let bytes = publish.headers.len() + publish.payload.len();
        let random = crate::hub::now().as_nanos();
        let number = || (random ^ (random >> 17)) as u32;
        match begin(&source, &account, publish.subject, publish.headers, bytes, number) {
            Begun::Untraced => self.publish_to_account(publish, None),
            Begun::Dropped => {}
            Begun::Refused(destination) => self.refuse_publish(&destination),
            Begun::Disabled => {
                let headers = set_header(publish.headers, DESTINATION, DISABLED);
                self.publish_to_account(&Publish { headers: &headers, ..*publish }, None);
            }
            Begun::Traced(trace) => {
                self.ingress.set_trace(Some(trace));
                self.publish_to_account(publish, None);
                if let Some(trace) = self.ingress.take_trace() {
                    trace.tell();
                }
            }
        }
    }
}
