//! Small texts: durations, URLs, sizes, quoting.

use weir_conf::{Url, format_duration, friendly_bytes, parse_duration};

pub(crate) fn words(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(duration) = parse_duration(&text) {
        let written = format_duration(duration);
        assert_eq!(parse_duration(&written).ok(), Some(duration), "{written}");
    }
    if let Some(url) = Url::parse(&text) {
        let _ = (url.authority(4222), url.to_string());
    }
    if let Ok(number) = text.trim().parse() {
        let _ = friendly_bytes(number);
    }
    let quoted = weir_stdx::quote::quote(data);
    assert!(quoted.len() >= 2 && quoted.bytes().all(|byte| byte >= 0x20 && byte != 0x7f), "{quoted}");
}
