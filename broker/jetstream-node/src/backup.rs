//! Backups of streams: sent to a client piece by piece, taken back from one. The format is `weir_backup`'s.

mod consumers;
pub(crate) mod restoring;
pub(crate) mod sending;
pub(crate) mod session;
pub(crate) mod source;
pub(crate) mod staging;

use crate::context::Context;
use weir_stdx::time::UnixNanos;

/// How long something took, as nats-server logs it.
pub(crate) fn took(start: UnixNanos, end: UnixNanos) -> String {
    let nanos = i64::try_from(end.0.saturating_sub(start.0)).unwrap_or(i64::MAX);
    weir_stdx::duration::format_nanos(nanos)
}

/// Letters of the part of a subject that is new for each backup, as nats-server.
const ID_LEN: usize = 22;

fn new_id(context: &Context) -> String {
    context.random_text(ID_LEN)
}
