//! Replies that a client may publish because it was asked (`allow_responses`). Not its other permissions.

use crate::permissions::{Permissions, ResponsePermission};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use weir_stdx::time::UnixNanos;

/// After so many new replies, or a second, those that are used up are forgotten, as in nats-server.
const PRUNE_AFTER: usize = 4096;
const PRUNE_EVERY_NANOS: u64 = 1_000_000_000;
/// More are not kept, whatever was configured.
const MAX_REPLIES: usize = 1 << 16;

/// What one client may answer.
pub(crate) struct Replies {
    permissions: Arc<Permissions>,
    rule: ResponsePermission,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// When a request came, and how many answers there were.
    entries: FxHashMap<Box<[u8]>, (UnixNanos, u64)>,
    since_prune: usize,
    last_prune: UnixNanos,
}

impl Replies {
    /// `None` when the permissions do not depend on requests.
    pub(crate) fn new(permissions: &Arc<Permissions>) -> Option<Self> {
        let rule = permissions.allow_responses?;
        Some(Self { permissions: Arc::clone(permissions), rule, table: Mutex::new(Table::default()) })
    }

    /// Notes a request's reply subject, unless the client may publish there anyway.
    pub(crate) fn note(&self, reply: &[u8], now: UnixNanos) {
        if self.permissions.may_publish(reply) || self.allows(reply, now) {
            return;
        }
        let mut table = self.table.lock();
        if table.entries.len() < MAX_REPLIES {
            table.entries.insert(reply.into(), (now, 0));
        }
        table.since_prune += 1;
        let age = now.as_nanos().saturating_sub(table.last_prune.as_nanos());
        if table.since_prune > PRUNE_AFTER || age > PRUNE_EVERY_NANOS {
            table.entries.retain(|_, (asked, answers)| {
                !self.rule.is_used_up(*answers) && !self.rule.is_too_late(*asked, now)
            });
            table.since_prune = 0;
            table.last_prune = now;
        }
    }

    /// Counts one answer to `subject`; whether it is allowed.
    pub(crate) fn allows(&self, subject: &[u8], now: UnixNanos) -> bool {
        let mut table = self.table.lock();
        let Some((asked, answers)) = table.entries.get_mut(subject) else { return false };
        let is_allowed = !self.rule.is_used_up(*answers) && !self.rule.is_too_late(*asked, now);
        *answers += 1;
        if !is_allowed {
            table.entries.remove(subject);
        }
        is_allowed
    }
}

impl ResponsePermission {
    fn is_used_up(&self, answers: u64) -> bool {
        self.max_messages.is_some_and(|max| answers >= max)
    }

    fn is_too_late(&self, asked: UnixNanos, now: UnixNanos) -> bool {
        self.expires.is_some_and(|limit| now.since(asked) > limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn replies(max: Option<u64>, expires: Option<Duration>) -> Replies {
        let mut permissions = Permissions {
            allow_responses: Some(ResponsePermission { max_messages: max, expires }),
            ..Permissions::default()
        };
        permissions.publish.allow = Some(Vec::new());
        Replies::new(&Arc::new(permissions)).expect("responses are allowed")
    }

    #[test]
    fn a_request_allows_so_many_answers() {
        let replies = replies(Some(2), None);
        let now = UnixNanos(1);
        assert!(!replies.allows(b"inbox", now));
        replies.note(b"inbox", now);
        assert!(replies.allows(b"inbox", now) && replies.allows(b"inbox", now));
        assert!(!replies.allows(b"inbox", now) && !replies.allows(b"inbox", now));
        replies.note(b"inbox", now);
        assert!(replies.allows(b"inbox", now));
    }

    #[test]
    fn an_answer_may_come_too_late() {
        let replies = replies(None, Some(Duration::from_secs(1)));
        replies.note(b"inbox", UnixNanos(0));
        assert!(replies.allows(b"inbox", UnixNanos(1_000_000_000)));
        assert!(!replies.allows(b"inbox", UnixNanos(1_000_000_001)));
    }

    #[test]
    fn what_is_used_up_is_forgotten() {
        let replies = replies(Some(1), Some(Duration::from_secs(1)));
        for number in 0..5000_u32 {
            replies.note(format!("inbox.{number}").as_bytes(), UnixNanos(u64::from(number) * 1_000_000));
        }
        assert!(replies.table.lock().entries.len() <= 2002);
    }
}
