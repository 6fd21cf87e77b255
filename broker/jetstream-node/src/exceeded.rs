//! What the log says when messages are refused because too much is stored, not more often than nats-server says it.
//! Which ones are refused is the business of `stream::room`; a full disk is told by `space`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use weir_jsapi::{ApiError, StorageType, errors};

/// Between two lines about the server.
const SERVER_INTERVAL: Duration = Duration::from_secs(10);
/// Between two lines about an account and a kind of storage.
const ACCOUNT_INTERVAL: Duration = Duration::from_secs(1);

/// When what was said last: one time for the server, one for each account that exceeded its limits lately.
#[derive(Debug, Default)]
pub(crate) struct Exceeded(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    server: Option<Instant>,
    accounts: BTreeMap<(String, &'static str), Instant>,
}

impl Exceeded {
    /// Says why a message was refused, if that is for what is stored already and not for a full disk.
    #[cold]
    pub(crate) fn tell(&self, account: &str, storage: StorageType, refusal: &ApiError, disk_is_full: bool) {
        let now = Instant::now();
        let storage = match storage {
            StorageType::File => "file",
            StorageType::Memory => "memory",
        };
        if refusal.err_code == errors::ACCOUNT_RESOURCES_EXCEEDED.err_code {
            if self.is_due_for_account(account, storage, now) {
                tracing::warn!("JetStream {storage} resource limits exceeded for account: {account:?}");
            }
        } else if !disk_is_full && self.is_due_for_server(now) {
            tracing::error!("JetStream {storage} resource limits exceeded for server");
        }
    }

    fn is_due_for_server(&self, now: Instant) -> bool {
        let mut told = self.0.lock();
        let is_due = told.server.is_none_or(|at| now.duration_since(at) >= SERVER_INTERVAL);
        if is_due {
            told.server = Some(now);
        }
        is_due
    }

    fn is_due_for_account(&self, account: &str, storage: &'static str, now: Instant) -> bool {
        let mut told = self.0.lock();
        told.accounts.retain(|_, at| now.duration_since(*at) < ACCOUNT_INTERVAL);
        let is_due = !told.accounts.contains_key(&(account.to_owned(), storage));
        if is_due {
            told.accounts.insert((account.to_owned(), storage), now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_stays_exceeded_is_told_again_after_a_while() {
        let exceeded = Exceeded::default();
        let account = |name: &str, now| exceeded.is_due_for_account(name, "file", now);
        let start = Instant::now();
        assert_eq!([account("A", start), account("A", start), account("B", start)], [true, false, true]);
        assert_eq!([exceeded.is_due_for_server(start), exceeded.is_due_for_server(start)], [true, false]);
        let later = start + ACCOUNT_INTERVAL;
        assert_eq!([account("A", later), exceeded.is_due_for_server(later)], [true, false]);
        assert_eq!(exceeded.0.lock().accounts.len(), 1);
        assert!(exceeded.is_due_for_server(start + SERVER_INTERVAL));
    }
}
