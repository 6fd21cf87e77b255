//! The one place of this room that reads the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

use weir_stdx::time::UnixNanos;

/// Nanoseconds since 1970. A clock before that reads as 0.
pub(crate) fn now() -> UnixNanos {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixNanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
