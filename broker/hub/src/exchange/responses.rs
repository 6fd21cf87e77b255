//! Where responses to imported services go: one-time subjects (`_R_.…`) of the exporting account. Not delivery.

use super::latency::Tracking;
use super::service::{DEFAULT_RESPONSE_THRESHOLD, ServiceExport};
use crate::account::Account;
use crate::account_settings::ResponseType;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use weir_stdx::time::UnixNanos;

/// What every one-time subject begins with.
pub(crate) const PREFIX: &[u8] = b"_R_.";
/// So many responses may be outstanding in an account; requests beyond find nobody.
const MAX_OUTSTANDING: usize = 1 << 20;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Random digits in a one-time subject, and in the part that a server's subjects of an account share.
const RANDOM_DIGITS: usize = 6;
/// Looking for silent services takes at least this long from one time to the next.
const MIN_SWEEP_PAUSE: Duration = Duration::from_millis(5);

/// One expected response, or several.
pub(crate) struct Response {
    /// The one-time subject.
    pub(crate) name: Box<[u8]>,
    /// The requester's account.
    pub(crate) importer: Weak<Account>,
    /// The requester's reply subject.
    pub(crate) to: Box<[u8]>,
    pub(crate) export: Option<Arc<ServiceExport>>,
    pub(crate) response_type: ResponseType,
    /// When it was made or last used, in Unix nanoseconds.
    pub(crate) last_used: AtomicU64,
    pub(crate) started: UnixNanos,
    /// How its latency is told, if it is.
    pub(crate) tracking: Option<Tracking>,
    /// Whether a response came.
    pub(crate) answered: AtomicBool,
}

impl Response {
    fn threshold(&self) -> Duration {
        self.export.as_ref().map_or(DEFAULT_RESPONSE_THRESHOLD, |export| export.response_threshold)
    }

    /// Whether it comes too late now, if nobody has noticed before.
    pub(crate) fn is_expired(&self, now: UnixNanos) -> bool {
        self.expires() <= now
    }

    fn expires(&self) -> UnixNanos {
        UnixNanos(self.last_used.load(Ordering::Relaxed)).saturating_add(self.threshold())
    }
}

/// Why a response is not expected any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Answered,
    NotDelivered,
    TimedOut,
}

/// The outstanding responses of an account that exports services.
#[derive(Default)]
pub(crate) struct Responses {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What this account's one-time subjects on this server begin with, once there is one.
    prefix: Option<Box<[u8]>>,
    table: FxHashMap<Box<[u8]>, Arc<Response>>,
    is_swept: bool,
}

/// What adding a response asks of the account.
pub(crate) struct Added {
    pub(crate) response: Arc<Response>,
    /// The pattern that has to be subscribed to from now on.
    pub(crate) subscribe: Option<Vec<u8>>,
    /// Whether somebody has to look for silence from now on.
    pub(crate) sweep: bool,
}

impl Responses {
    /// Makes a one-time subject that ends with `suffix`; `build` makes the response of it. `None` when too many are outstanding.
    pub(crate) fn add(
        &self,
        mut random: impl FnMut() -> u64,
        suffix: &[u8],
        build: impl FnOnce(Box<[u8]>) -> Response,
    ) -> Option<Added> {
        let mut state = self.state.lock();
        if state.table.len() >= MAX_OUTSTANDING {
            return None;
        }
        let mut subscribe = None;
        let prefix = state.prefix.get_or_insert_with(|| {
            let mut prefix = PREFIX.to_vec();
            append_digits(random(), &mut prefix);
            prefix.push(b'.');
            subscribe = Some([&prefix, &b">"[..]].concat());
            prefix.into()
        });
        let mut name = prefix.to_vec();
        append_digits(random(), &mut name);
        name.extend_from_slice(suffix);
        let response = Arc::new(build(name.into()));
        state.table.insert(response.name.clone(), Arc::clone(&response));
        let sweep = !std::mem::replace(&mut state.is_swept, true);
        Some(Added { response, subscribe, sweep })
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<Arc<Response>> {
        self.state.lock().table.get(name).cloned()
    }

    pub(crate) fn remove(&self, name: &[u8]) -> Option<Arc<Response>> {
        self.state.lock().table.remove(name)
    }

    /// How many are outstanding.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.state.lock().table.len()
    }

    /// Takes out what is silent for too long; tells how long to wait until looking again, `None` when nothing is left.
    fn sweep(&self, now: UnixNanos) -> (Vec<Arc<Response>>, Option<Duration>) {
        let mut state = self.state.lock();
        let expired: Vec<_> =
            state.table.values().filter(|response| response.expires() <= now).cloned().collect();
        for response in &expired {
            state.table.remove(&response.name);
        }
        let next = state.table.values().map(|response| response.expires()).min();
        state.is_swept = next.is_some();
        (expired, next.map(|next| next.since(now).max(MIN_SWEEP_PAUSE)))
    }
}

fn append_digits(mut number: u64, out: &mut Vec<u8>) {
    for _ in 0..RANDOM_DIGITS {
        out.push(DIGITS[(number % 62) as usize]);
        number /= 62;
    }
}

/// Looks for silent services of an account until no response is outstanding.
pub(super) async fn sweep_until_idle(account: Weak<Account>) {
    let mut pause = MIN_SWEEP_PAUSE;
    loop {
        tokio::time::sleep(pause).await;
        let Some(account) = account.upgrade() else { return };
        let (expired, next) = account.exchange().responses.sweep(crate::hub::now());
        for response in expired {
            account.response_ended(&response, Ended::TimedOut);
        }
        let Some(next) = next else { return };
        // Not later than a while: a response with a shorter threshold may come in between.
        pause = next.min(Duration::from_secs(1));
    }
}
