//! Go's durations, with their complaints as the text of an error at a place in a file.

use std::time::Duration;

/// Reads a duration that is not negative, such as `1h30m`, `2.5s`, `100ms` or `0`. The error is Go's text.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    weir_stdx::duration::parse_duration(text).map_err(|error| error.to_string())
}
