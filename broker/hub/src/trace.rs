//! Log lines of every operation, for `-V`: costs nothing while it is off. Not other log lines.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tracing::{Level, trace};
use weir_proto::ClientOp;

/// Payloads are shown up to this size in bytes; 0 is all of them.
static MAX_SHOWN_BYTES: AtomicUsize = AtomicUsize::new(0);

/// Only headers are shown.
static HEADERS_ONLY: AtomicBool = AtomicBool::new(false);

/// What operations shown in the log (`-V`) tell of messages: at most `max_bytes` (0 is no limit), and
/// with `headers_only` nothing of their payload. For the whole process, like the log.
pub fn show_in_traces(max_bytes: u64, headers_only: bool) {
    MAX_SHOWN_BYTES.store(usize::try_from(max_bytes).unwrap_or(usize::MAX), Ordering::Relaxed);
    HEADERS_ONLY.store(headers_only, Ordering::Relaxed);
}

/// Whether anybody wants to see operations.
pub fn is_on() -> bool {
    tracing::enabled!(Level::TRACE)
}

/// One operation from a client; `bytes` are all of it.
pub(crate) fn operation_in(label: &str, bytes: &[u8], op: &ClientOp<'_>) {
    let end = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
    let line = String::from_utf8_lossy(bytes[..end].trim_ascii_end());
    match op {
        ClientOp::Connect(_) => trace!("{label} - <<- [{}]", redact(&line)),
        // As nats-server: nothing that means something from a client.
        ClientOp::Ok | ClientOp::Err(_) | ClientOp::Info(_) => {}
        ClientOp::Publish(publish) => {
            trace!("{label} - <<- [{line}]");
            payload(label, "<<-", publish.headers, publish.payload);
        }
        _ => trace!("{label} - <<- [{line}]"),
    }
}

/// An operation with a verb and arguments that cannot be read.
pub(crate) fn unread_in(label: &str, verb: &[u8], arguments: &[u8]) {
    trace!("{label} - <<- [{} {}]", String::from_utf8_lossy(verb), String::from_utf8_lossy(arguments));
}

/// The end of a subscription, whoever wanted it.
pub(crate) fn subscription_ended(label: &str, sid: &[u8]) {
    trace!("{label} - <-> [DELSUB {}]", String::from_utf8_lossy(sid));
}

/// One operation from another server: its line, and headers and payload where it has some.
pub fn route_in(label: &str, line: &[u8], message: Option<(&[u8], &[u8])>) {
    let line = String::from_utf8_lossy(line.trim_ascii_end());
    trace!("{label} - <<- [{}]", if line.starts_with("CONNECT") { redact(&line) } else { line });
    if let Some((headers, body)) = message {
        payload(label, "<<-", headers, body);
    }
}

/// One message to a connection.
pub fn message_out(label: &str, line: &[u8], headers: &[u8], body: &[u8]) {
    trace!("{label} - ->> [{}]", String::from_utf8_lossy(line.trim_ascii_end()));
    payload(label, "->>", headers, body);
}

/// A publish that goes to another subject than the client said.
pub(crate) fn mapping(label: &str, from: &[u8], to: &[u8]) {
    trace!("{label} - <<- [MAPPING {} -> {}]", String::from_utf8_lossy(from), String::from_utf8_lossy(to));
}

/// Anything else to a connection.
pub fn out(label: &str, text: &str) {
    trace!("{label} - ->> [{text}]");
}

fn payload(label: &str, direction: &str, headers: &[u8], body: &[u8]) {
    let max = MAX_SHOWN_BYTES.load(Ordering::Relaxed);
    if let Some(shown) = shown(headers, body, max, HEADERS_ONLY.load(Ordering::Relaxed)) {
        trace!("{label} - {direction} MSG_PAYLOAD: [{shown}]");
    }
}

/// A message as the log shows it; `None` when there is nothing to show.
fn shown(headers: &[u8], body: &[u8], max: usize, headers_only: bool) -> Option<String> {
    // Headers end with an empty line, which is no part of what is shown of them alone.
    let all = match headers_only {
        true => Cow::Borrowed(headers.strip_suffix(b"\r\n\r\n")?),
        false if headers.is_empty() => Cow::Borrowed(body),
        false => Cow::Owned([headers, body].concat()),
    };
    if all.is_empty() {
        return None;
    }
    if max > 0 && all.len() > max {
        let text = format!("{:?}", String::from_utf8_lossy(&all[..max]));
        return Some(format!("{}...\"", text.strip_suffix('"').unwrap_or(&text)));
    }
    Some(format!("{:?}", String::from_utf8_lossy(&all)))
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
    fn messages_are_shown_as_far_as_asked_for() {
        let show = |max, headers_only| shown(b"NATS/1.0\r\nA: b\r\n\r\n", b"hello", max, headers_only);
        assert_eq!(show(0, false).as_deref(), Some("\"NATS/1.0\\r\\nA: b\\r\\n\\r\\nhello\""));
        assert_eq!(show(0, true).as_deref(), Some("\"NATS/1.0\\r\\nA: b\""));
        assert_eq!(show(4, false).as_deref(), Some("\"NATS...\""));
        assert_eq!(shown(b"", b"hello", 0, true), None);
        assert_eq!(shown(b"", b"", 0, false), None);
    }

    #[test]
    fn secrets_are_not_shown() {
        let line = r#"CONNECT {"user":"u","pass":"se\"cret", "auth_token" : "tok"}"#;
        assert_eq!(redact(line), r#"CONNECT {"user":"u","pass":"[REDACTED]", "auth_token" : "[REDACTED]"}"#);
        assert_eq!(redact("CONNECT {}"), "CONNECT {}");
        assert_eq!(redact(r#"CONNECT {"pass":"#), r#"CONNECT {"pass":"#);
    }
}
