//! Log lines of every operation, for `-V`: costs nothing while it is off. Not other log lines.

use std::borrow::Cow;
use tracing::{Level, trace};
use weir_proto::ClientOp;

/// Payloads are shown up to this size in bytes.
const MAX_SHOWN_BYTES: usize = 1024;

/// Whether anybody wants to see operations.
pub(crate) fn is_on() -> bool {
    tracing::enabled!(Level::TRACE)
}

/// One operation from a client; `bytes` are all of it.
pub(crate) fn operation_in(label: &str, bytes: &[u8], op: &ClientOp<'_>) {
    let end = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
    let line = String::from_utf8_lossy(bytes[..end].trim_ascii_end());
    match op {
        ClientOp::Connect(_) => trace!("{label} - <<- [{}]", redact(&line)),
        ClientOp::Publish(publish) => {
            trace!("{label} - <<- [{line}]");
            payload(label, "<<-", publish.headers, publish.payload);
        }
        _ => trace!("{label} - <<- [{line}]"),
    }
}

/// One message to a client.
pub(crate) fn message_out(label: &str, line: &[u8], headers: &[u8], body: &[u8]) {
    trace!("{label} - ->> [{}]", String::from_utf8_lossy(line.trim_ascii_end()));
    payload(label, "->>", headers, body);
}

/// A publish that goes to another subject than the client said.
pub(crate) fn mapping(label: &str, from: &[u8], to: &[u8]) {
    trace!("{label} - <<- [MAPPING {} -> {}]", String::from_utf8_lossy(from), String::from_utf8_lossy(to));
}

/// Anything else to a client.
pub(crate) fn out(label: &str, text: &str) {
    trace!("{label} - ->> [{text}]");
}

fn payload(label: &str, direction: &str, headers: &[u8], body: &[u8]) {
    let mut all = [headers, body].concat();
    all.truncate(MAX_SHOWN_BYTES);
    trace!("{label} - {direction} MSG_PAYLOAD: [{:?}]", String::from_utf8_lossy(&all));
}

/// Hides the values of secrets in the JSON of CONNECT.
fn redact(line: &str) -> Cow<'_, str> {
    let mut shown = Cow::Borrowed(line);
    for key in ["\"pass\"", "\"auth_token\"", "\"jwt\"", "\"sig\"", "\"nkey\""] {
        let Some(at) = shown.find(key) else { continue };
        let after = at + key.len();
        let Some(open) = shown[after..].find('"').map(|found| after + found + 1) else { continue };
        let close = string_end(&shown[open..]).map_or(shown.len(), |found| open + found);
        shown = Cow::Owned(format!("{}[REDACTED]{}", &shown[..open], &shown[close..]));
    }
    shown
}

/// Where a JSON string ends: at the first quote that no backslash precedes.
fn string_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let line = r#"CONNECT {"user":"u","pass":"se\"cret", "auth_token" : "tok"}"#;
        assert_eq!(redact(line), r#"CONNECT {"user":"u","pass":"[REDACTED]", "auth_token" : "[REDACTED]"}"#);
        assert_eq!(redact("CONNECT {}"), "CONNECT {}");
        assert_eq!(redact(r#"CONNECT {"pass":"#), r#"CONNECT {"pass":"#);
    }
}
