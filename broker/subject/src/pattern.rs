//! How patterns relate to literals and to each other. Not an index.

use crate::tokens::tokens;

/// Whether the literal subject `literal` is covered by `pattern`. A literal with an empty token matches nothing.
pub fn matches(pattern: &[u8], literal: &[u8]) -> bool {
    let mut wanted = tokens(pattern);
    let mut given = tokens(literal);
    loop {
        match (wanted.next(), given.next()) {
            (Some(b">"), Some(first)) if wanted.rest().is_none() => {
                return !first.is_empty() && given.all(|token| !token.is_empty());
            }
            (Some(want), Some(token)) => {
                if token.is_empty() || (want != b"*" && want != token) {
                    return false;
                }
            }
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// Whether every literal that `pattern` covers is covered by `of` as well.
pub fn is_subset(pattern: &[u8], of: &[u8]) -> bool {
    let mut inner = tokens(pattern);
    let mut outer = tokens(of);
    loop {
        match (inner.next(), outer.next()) {
            (Some(_), Some(b">")) => return true,
            (Some(b">"), Some(_)) => return false,
            (Some(_), Some(b"*")) => {}
            (Some(left), Some(right)) => {
                if left != right {
                    return false;
                }
            }
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// Whether some literal is covered by both patterns.
pub fn overlaps(one: &[u8], other: &[u8]) -> bool {
    let mut left = tokens(one);
    let mut right = tokens(other);
    loop {
        match (left.next(), right.next()) {
            (Some(b">"), Some(_)) | (Some(_), Some(b">")) => return true,
            (Some(a), Some(b)) => {
                if a != b && a != b"*" && b != b"*" {
                    return false;
                }
            }
            (None, None) => return true,
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_cover_one_or_more_tokens() {
        for (pattern, literal, expected) in [
            ("a.b", "a.b", true),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.*", "a", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            (">", "a..b", false),
            ("*.*", "a.", false),
            ("*.c", "a.b", false),
            ("a.*.c", "a.b.c", true),
            ("a*", "ab", false),
            ("a*", "a*", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), literal.as_bytes()), expected, "{pattern} {literal}");
        }
    }

    #[test]
    fn subsets_are_recognised() {
        for (pattern, of, expected) in [
            ("a.b", "a.*", true),
            ("a.*", "a.b", false),
            ("a.*", "a.>", true),
            ("a.>", "a.*", false),
            ("a.>", ">", true),
            ("a.>", "a.>", true),
            ("*.b", "*.*", true),
            ("a", "a.>", false),
            ("a.b.c", "a.*", false),
        ] {
            assert_eq!(is_subset(pattern.as_bytes(), of.as_bytes()), expected, "{pattern} {of}");
        }
    }

    #[test]
    fn overlaps_are_symmetric() {
        for (one, other, expected) in [
            ("a.*", "*.b", true),
            ("a.>", "a.b.c", true),
            ("a.>", "b.>", false),
            ("a.*", "a.b.c", false),
            ("a.>", "a", false),
            (">", "x", true),
            ("a.*.c", "a.b.*", true),
        ] {
            assert_eq!(overlaps(one.as_bytes(), other.as_bytes()), expected, "{one} {other}");
            assert_eq!(overlaps(other.as_bytes(), one.as_bytes()), expected, "{other} {one}");
        }
    }
}
