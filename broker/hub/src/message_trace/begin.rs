//! Whether a message is traced: its headers, the account's wishes, the sender's permissions. Not the trace itself.

use super::events::{CLIENT, Event, ROUTER};
use super::{DESTINATION, DISABLED, HOP, MessageTrace};
use crate::account::Account;
use crate::exchange::is_sampled_parent;
use memchr::memmem::Finder;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use tracing::error;

const ONLY: &str = "Nats-Trace-Only";
const ORIGIN_ACCOUNT: &str = "Nats-Trace-Origin-Account";
const PARENT: &str = "traceparent";

static FIND_DESTINATION: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(DESTINATION));

/// Where a message comes from.
pub(crate) enum Source<'s> {
    /// A client of this server.
    Client { cid: u64, name: &'s str, may_publish: &'s dyn Fn(&[u8]) -> bool },
    /// Another server.
    Server { cid: u64, name: &'s str },
}

/// What came of the question.
pub(crate) enum Begun {
    /// Nobody wants a trace.
    Untraced,
    /// Nobody gets one, and servers it goes to must not begin one either.
    Disabled,
    /// The message is traced.
    Traced(Box<MessageTrace>),
    /// It would have been for the trace only, and there is none: it goes nowhere.
    Dropped,
    /// The sender may not publish to this destination: it is told so, and the message goes nowhere.
    Refused(Vec<u8>),
}

/// A quick look that finds nearly all messages untraced.
#[inline]
pub(crate) fn may_be_traced(headers: &[u8], account: &Account) -> bool {
    !headers.is_empty() && (FIND_DESTINATION.find(headers).is_some() || account.exchange().has_trace())
}

/// Decides on a message with these headers. `random` gives any number.
pub(crate) fn begin(
    source: &Source<'_>,
    account: &Arc<Account>,
    subject: &[u8],
    headers: &[u8],
    message_bytes: usize,
    random: impl FnOnce() -> u32,
) -> Begun {
    let Some((all, external)) = trace_headers(headers) else { return Begun::Untraced };
    let first = |name: &str| all.get(name).and_then(|values| values.first()).map(String::as_str);
    let only = !external
        && first(ONLY).is_some_and(|only| matches!(only.to_lowercase().as_str(), "1" | "true" | "on"));
    let without = if only { Begun::Dropped } else { Begun::Disabled };
    if let Some(origin) = first(ORIGIN_ACCOUNT) {
        error!("Message tracing disabled because of header {ORIGIN_ACCOUNT:?} with value={origin:?}");
        return without;
    }
    let destination = if external {
        let settings = account.settings();
        let Some(wish) = &settings.message_trace else { return Begun::Untraced };
        let sampling = u32::from(wish.sampling);
        // Sampled on the first server only.
        if matches!(source, Source::Client { .. })
            && (1..100).contains(&sampling)
            && random() % 100 > sampling
        {
            return Begun::Disabled;
        }
        wish.destination.clone()
    } else {
        first(DESTINATION).unwrap_or_default().to_owned()
    };
    if !weir_subject::is_valid_literal(destination.as_bytes()) {
        error!("Destination {destination:?} is not valid, won't be able to trace events");
        return if only { Begun::Dropped } else { Begun::Untraced };
    }
    let ingress = match source {
        Source::Client { cid, name, may_publish } => {
            if !may_publish(destination.as_bytes()) {
                return Begun::Refused(destination.into_bytes());
            }
            Event::ingress(CLIENT, *cid, name, account.name(), subject)
        }
        Source::Server { cid, name } => Event::ingress(ROUTER, *cid, name, account.name(), subject),
    };
    let hop = match source {
        Source::Client { .. } => String::new(),
        Source::Server { .. } => first(HOP).unwrap_or_default().to_owned(),
    };
    Begun::Traced(Box::new(MessageTrace {
        account: Arc::clone(account),
        destination: destination.into_bytes(),
        only,
        hop,
        hops: 0,
        header: all,
        message_bytes,
        events: RefCell::new(vec![ingress]),
    }))
}

/// All headers, if some ask for a trace, and whether only another tracing system's do.
fn trace_headers(headers: &[u8]) -> Option<(BTreeMap<String, Vec<String>>, bool)> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (mut asked, mut external) = (false, false);
    for (name, value) in crate::exchange::header_lines(headers) {
        if name.is_empty() || value.is_empty() {
            continue;
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if name == DESTINATION.as_bytes() {
            if value == DISABLED {
                return None;
            }
            asked = true;
        } else if name.eq_ignore_ascii_case(PARENT.as_bytes()) {
            external |= is_sampled_parent(&text(value));
        }
        all.entry(text(name)).or_default().push(text(value));
    }
    (asked || external).then_some((all, !asked))
}
