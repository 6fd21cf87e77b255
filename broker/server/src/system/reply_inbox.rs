//! Answers from other servers on their way back: one wildcard subscription for all of them, so that a request
//! makes no interest of its own. Bounded in number and in time.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::mpsc;
use weir_hub::Account;

/// Requests that wait for answers at the same time; the oldest is forgotten for a new one.
const PENDING_MAX: usize = 4096;
/// How long answers to a request are passed on.
const PENDING_FOR: Duration = Duration::from_secs(120);

/// Who waits for an answer.
#[derive(Clone)]
pub(super) enum Waiting {
    /// A client of an account: answers are passed on to its reply subject.
    Client { account: Arc<Account>, reply: Arc<str> },
    /// A count of subscribers: answers are numbers.
    Count(mpsc::Sender<u64>),
}

pub(super) struct ReplyInbox {
    prefix: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    /// By number, in order.
    pending: VecDeque<(u64, Instant, Waiting)>,
}

impl ReplyInbox {
    pub(super) fn new(server: &str) -> Self {
        Self { prefix: format!("$SYS._INBOX.{server}."), state: Mutex::default() }
    }

    /// What to subscribe to.
    pub(super) fn pattern(&self) -> String {
        format!("{}*", self.prefix)
    }

    /// A reply subject for one request.
    pub(super) fn expect(&self, waiting: Waiting) -> String {
        let mut state = self.state.lock();
        let now = Instant::now();
        while state.pending.len() >= PENDING_MAX
            || state.pending.front().is_some_and(|(_, since, _)| now - *since > PENDING_FOR)
        {
            state.pending.pop_front();
        }
        state.next += 1;
        let number = state.next;
        state.pending.push_back((number, now, waiting));
        format!("{}{number}", self.prefix)
    }

    /// Who waits for what came to this subject.
    pub(super) fn find(&self, subject: &str) -> Option<Waiting> {
        let number: u64 = subject.strip_prefix(&self.prefix)?.parse().ok()?;
        let state = self.state.lock();
        let at = state.pending.binary_search_by_key(&number, |(number, ..)| *number).ok()?;
        state.pending.get(at).map(|(_, _, waiting)| waiting.clone())
    }

    /// Nobody waits for it any more.
    pub(super) fn forget(&self, subject: &str) {
        let Some(number) = subject.strip_prefix(&self.prefix).and_then(|text| text.parse::<u64>().ok())
        else {
            return;
        };
        self.state.lock().pending.retain(|(known, ..)| *known != number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_request_is_forgotten_when_too_many_wait() {
        let inbox = ReplyInbox::new("abc");
        let (sender, _receiver) = mpsc::channel(1);
        let first = inbox.expect(Waiting::Count(sender.clone()));
        assert!(inbox.find(&first).is_some());
        let mut last = String::new();
        for _ in 0..PENDING_MAX {
            last = inbox.expect(Waiting::Count(sender.clone()));
        }
        assert!(inbox.find(&first).is_none());
        assert!(inbox.find(&last).is_some());
        inbox.forget(&last);
        assert!(inbox.find(&last).is_none());
        assert!(inbox.find("$SYS._INBOX.abc.x").is_none());
        assert!(inbox.find("elsewhere").is_none());
    }
}
