//! Text in double quotes as nats-server writes it in errors and logs. Not JSON.

/// `bytes` in double quotes: what does not print is escaped, and so is every byte that is no UTF-8.
///
/// Source: the rules of Go's `strconv.Quote`, which `%q` follows.
pub fn quote(bytes: &[u8]) -> String {
    let mut quoted = String::with_capacity(bytes.len() + 2);
    quoted.push('"');
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|letter| push_escaped(&mut quoted, letter));
        for byte in chunk.invalid() {
            quoted.push_str(&format!("\\x{byte:02x}"));
        }
    }
    quoted.push('"');
    quoted
}

fn push_escaped(quoted: &mut String, letter: char) {
    match letter {
        '"' => quoted.push_str("\\\""),
        '\\' => quoted.push_str("\\\\"),
        '\x07' => quoted.push_str("\\a"),
        '\x08' => quoted.push_str("\\b"),
        '\x0c' => quoted.push_str("\\f"),
        '\n' => quoted.push_str("\\n"),
        '\r' => quoted.push_str("\\r"),
        '\t' => quoted.push_str("\\t"),
        '\x0b' => quoted.push_str("\\v"),
        ' '..='~' => quoted.push(letter),
        '\0'..='\x7f' => quoted.push_str(&format!("\\x{:02x}", u32::from(letter))),
        // Rust's tables of what prints stand in for Go's.
        _ if letter.escape_debug().len() == 1 => quoted.push(letter),
        '\u{80}'..='\u{ffff}' => quoted.push_str(&format!("\\u{:04x}", u32::from(letter))),
        _ => quoted.push_str(&format!("\\U{:08x}", u32::from(letter))),
    }
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn text_is_quoted_as_go_does() {
        for (bytes, expected) in [
            (&b"foo.bar"[..], r#""foo.bar""#),
            (b"a\"b\\c", r#""a\"b\\c""#),
            (b"\0\x01\x07\x08\t\n\x0b\x0c\r\x1f\x7f", r#""\x00\x01\a\b\t\n\v\f\r\x1f\x7f""#),
            (b"\xff\xc3(", r#""\xff\xc3(""#),
            ("äß€😀".as_bytes(), "\"äß€😀\""),
            ("\u{85}\u{2028}\u{e0001}".as_bytes(), r#""\u0085\u2028\U000e0001""#),
        ] {
            assert_eq!(quote(bytes), expected, "{bytes:?}");
        }
    }
}
