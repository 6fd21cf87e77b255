//! Publishes whose trace somebody wants (ADR-41). Not those of everybody else.

use super::session::Session;
use crate::exchange::set_header;
use crate::message_trace::{Begun, DESTINATION, DISABLED, Source, begin};
use std::sync::Arc;
use weir_proto::Publish;

impl Session {
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
