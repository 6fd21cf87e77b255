//! What a client is told, and the log says, when it asks for what it may not. Not the judgement.

use super::session::Session;
use tracing::error;
use weir_stdx::quote::quote;

impl Session {
    pub(super) fn refuse_publish(&mut self, subject: &[u8]) {
        self.trace_refusal("Publish to", subject);
        let subject = quote(subject);
        self.error(&format!("Permissions Violation for Publish to {subject}"));
        error!("{} - Publish Violation - Subject {subject}", self.handle.label());
    }

    fn trace_refusal(&self, what: &str, subject: &[u8]) {
        if let Some(trace) = self.ingress.trace() {
            trace.refused(&format!("Permissions Violation for {what} {}", quote(subject)));
        }
    }

    pub(super) fn refuse_reply(&mut self, reply: &[u8]) {
        self.trace_refusal("Publish with Reply of", reply);
        let reply = quote(reply);
        self.error(&format!("Permissions Violation for Publish with Reply of {reply}"));
        error!("{} - Publish Violation - Reply {reply}", self.handle.label());
    }

    pub(super) fn refuse_subscription(&mut self, subject: &[u8], queue: Option<&[u8]>, sid: &[u8]) {
        self.tell_refused_subscription(subject, queue);
        let queue = queue.map(|queue| format!(", Queue: {}", quote(queue))).unwrap_or_default();
        error!(
            "{} - Subscription Violation - Subject {}{queue}, SID {}",
            self.handle.label(),
            quote(subject),
            String::from_utf8_lossy(sid)
        );
    }

    /// The client's part alone.
    pub(super) fn tell_refused_subscription(&mut self, subject: &[u8], queue: Option<&[u8]>) {
        let queue = queue.map(|queue| format!(" using queue {}", quote(queue))).unwrap_or_default();
        self.error(&format!("Permissions Violation for Subscription to {}{queue}", quote(subject)));
    }

    pub(super) fn refuse_tokens(&mut self, subject: &[u8], sid: &[u8]) {
        let (subject, sid) = (quote(subject), String::from_utf8_lossy(sid));
        self.error(&format!("Permissions Violation for Subscription to {subject}, too many tokens"));
        error!(
            "{} - Subscription Violation Too Many Tokens - Subject {subject}, SID {sid}",
            self.handle.label()
        );
    }
}
