//! Judging and completing the configurations clients send, by nats-server's rules and in its words.

mod consumer;
mod publishing;
mod sourcing;
mod stream;

pub(crate) use consumer::set_metadata as set_consumer_metadata;
pub use consumer::{ConsumerLimitsInForce, check_consumer_update, is_valid_group, normalise_consumer};
pub(crate) use sourcing::check_sourcing_at_creation;
pub(crate) use stream::subjects_overlap;
pub use stream::{
    OtherStreams, StreamLimitsInForce, check_stream_update, keep_required_level, normalise_stream,
    required_level, unsupported, with_server_metadata, without_server_metadata,
};

/// Nanoseconds as Go prints a `time.Duration`.
pub(crate) fn go_duration(nanos: u64) -> String {
    weir_stdx::duration::format_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
}

/// A Go duration text in nanoseconds; `None` when it is none or negative.
pub(crate) fn parse_go_duration(text: &str) -> Option<u64> {
    u64::try_from(weir_stdx::duration::parse_nanos(text).ok()?).ok()
}

/// Stream and consumer names: no blanks, dots, wildcards or path separators.
pub fn is_valid_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['.', '*', '>', '/', '\\', ' ', '\t', '\r', '\n', '\x0c'])
}
