//! Sizes for people, as nats-server prints them.

/// `512 B`, `64.00 MB`, `1.50 GB`: powers of 1024 with two decimals.
pub fn friendly_bytes(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit < 6 {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.2} {}B", ["", "K", "M", "G", "T", "P", "E"][unit])
}
