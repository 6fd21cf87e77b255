//! Which requests' latencies are measured: by chance, or because a tracing header says so. Not the measuring.

use super::headers::lines;
use crate::account_settings::LatencyConfig;
use std::collections::BTreeMap;

/// The headers that made a request measured.
pub(super) type TraceHeaders = BTreeMap<String, Vec<String>>;

/// Whether a request is measured, and by which headers. `random` gives any number.
pub(super) fn sample(
    latency: &LatencyConfig,
    headers: &[u8],
    random: impl FnOnce() -> u32,
) -> Option<TraceHeaders> {
    let sampling = u32::from(latency.sampling);
    if sampling >= 100 || (sampling > 0 && random() % 100 <= sampling) {
        return Some(TraceHeaders::new());
    }
    let all = canonical(headers);
    let first = |name: &str| all.get(name).and_then(|values| values.first()).map(String::as_str);
    if let Some(uber) = first("Uber-Trace-Id") {
        return is_sampled_uber(uber)
            .then(|| pick(&all, |name| name == "Uber-Trace-Id" || name.starts_with("Uberctx-")));
    }
    let b3 =
        |name: &str| matches!(name, "X-B3-Sampled" | "X-B3-Traceid" | "X-B3-Parentspanid" | "X-B3-Spanid");
    match first("X-B3-Sampled") {
        Some("1") => return Some(pick(&all, b3)),
        Some("0") => return None,
        _ => {}
    }
    if all.contains_key("X-B3-Traceid") {
        return Some(pick(&all, b3));
    }
    if let Some(single) = first("B3") {
        let parts: Vec<&str> = single.split('-').collect();
        let is_denied = parts.get(2) == Some(&"0") || parts == ["0"];
        return (!is_denied).then(|| pick(&all, |name| name == "B3"));
    }
    let parent = first("Traceparent")?;
    is_sampled_parent(parent).then(|| pick(&all, |name| matches!(name, "Traceparent" | "Tracestate")))
}

fn pick(all: &TraceHeaders, wanted: impl Fn(&str) -> bool) -> TraceHeaders {
    all.iter().filter(|(name, _)| wanted(name)).map(|(name, values)| (name.clone(), values.clone())).collect()
}

/// The last of four parts is a hexadecimal number whose lowest bit says so.
fn is_sampled_uber(value: &str) -> bool {
    let parts: Vec<&str> = value.split(':').collect();
    matches!(parts.as_slice(), [_, _, _, flags]
        if (1..=2).contains(&flags.len()) && u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1))
}

/// W3C trace context: the fourth part's lowest bit. What does not fit a signed byte counts as not sampled.
pub(crate) fn is_sampled_parent(value: &str) -> bool {
    let parts: Vec<&str> = value.split('-').collect();
    matches!(parts.as_slice(), [_, _, _, flags]
        if flags.len() == 2 && i8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1))
}

/// All headers by their names in Go's canonical form.
fn canonical(headers: &[u8]) -> TraceHeaders {
    let mut all = TraceHeaders::new();
    for (name, value) in lines(headers) {
        let mut upper = true;
        let name: String = String::from_utf8_lossy(name)
            .chars()
            .map(|letter| {
                let shown = if upper { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() };
                upper = letter == '-';
                shown
            })
            .collect();
        all.entry(name).or_default().push(String::from_utf8_lossy(value).into_owned());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_sampled(headers: &str) -> Option<String> {
        let latency = LatencyConfig { sampling: 0, subject: "l".to_owned() };
        let block = format!("NATS/1.0\r\n{headers}\r\n\r\n");
        sample(&latency, block.as_bytes(), || 0)
            .map(|headers| headers.into_keys().collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn tracing_headers_decide() {
        for (headers, expected) in [
            ("uber-trace-id: 479fefe9525eddb:5adb976bfc1f95c1:479fefe9525eddb:1", Some("Uber-Trace-Id")),
            ("Uber-Trace-Id: 479fefe9525eddb:479fefe9525eddb:0:0", None),
            ("X-B3-Sampled: 1\r\nX-B3-TraceId: a", Some("X-B3-Sampled X-B3-Traceid")),
            ("X-B3-Sampled: 0\r\nX-B3-TraceId: a", None),
            ("X-B3-TraceId: a", Some("X-B3-Traceid")),
            ("b3: 80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90", Some("B3")),
            ("b3: 80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-0-05e3ac9a4f6e3b90", None),
            ("b3: 0", None),
            ("traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Some("Traceparent")),
            ("traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", None),
            ("Other: 1", None),
        ] {
            assert_eq!(is_sampled(headers).as_deref(), expected, "{headers}");
        }
    }
}
