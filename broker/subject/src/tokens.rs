//! What a well-formed subject is, and its tokens. Not matching.

/// The byte between two tokens.
pub const SEPARATOR: u8 = b'.';

/// Subjects with more tokens cannot be subscribed to: the trie goes down a level for each.
pub const MAX_TOKENS: usize = 512;

/// The tokens of a subject, empty ones included.
#[derive(Debug, Clone)]
pub struct Tokens<'a> {
    rest: Option<&'a [u8]>,
}

/// Iterates over the tokens of `subject`; an empty subject has one empty token.
pub fn tokens(subject: &[u8]) -> Tokens<'_> {
    Tokens { rest: Some(subject) }
}

impl<'a> Tokens<'a> {
    /// What has not been returned yet; `None` after the last token.
    pub fn rest(&self) -> Option<&'a [u8]> {
        self.rest
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        if let Some(at) = memchr::memchr(SEPARATOR, rest) {
            self.rest = Some(&rest[at + 1..]);
            Some(&rest[..at])
        } else {
            self.rest = None;
            Some(rest)
        }
    }
}

/// The first token of a subject.
pub fn first_token(subject: &[u8]) -> &[u8] {
    memchr::memchr(SEPARATOR, subject).map_or(subject, |at| &subject[..at])
}

/// Whether `subject` may be subscribed to: no empty token, no white space, `>` only as the last token,
/// no more than `MAX_TOKENS` tokens.
pub fn is_valid_subject(subject: &[u8]) -> bool {
    let mut tail_seen = false;
    for (number, token) in tokens(subject).enumerate() {
        if number == MAX_TOKENS || token.is_empty() || tail_seen || token.iter().any(|byte| is_space(*byte)) {
            return false;
        }
        tail_seen = token == b">";
    }
    true
}

/// Whether `subject` may be published to: valid and without wildcard tokens.
pub fn is_valid_literal(subject: &[u8]) -> bool {
    tokens(subject).all(|token| {
        !token.is_empty() && token != b"*" && token != b">" && !token.iter().any(|byte| is_space(*byte))
    })
}

/// Whether a token of `subject` is `*` or `>`.
pub fn has_wildcards(subject: &[u8]) -> bool {
    // Nearly every subject holds neither byte: look for them before looking at tokens.
    memchr::memchr2(b'*', b'>', subject).is_some()
        && tokens(subject).any(|token| token == b"*" || token == b">")
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validity_follows_nats_server() {
        for good in ["a", "a.b", "a.*.c", "*", ">", "a.>", "a*b.>c", "a>", "$JS.API.>", "f\u{fc}"] {
            assert!(is_valid_subject(good.as_bytes()), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a.>.b", ">.a", "a b", "a\tb", "a\r"] {
            assert!(!is_valid_subject(bad.as_bytes()), "{bad:?}");
        }
    }

    #[test]
    fn the_number_of_tokens_is_bounded() {
        let longest = vec!["a"; MAX_TOKENS].join(".");
        assert!(is_valid_subject(longest.as_bytes()));
        assert!(!is_valid_subject(format!("{longest}.a").as_bytes()));
    }

    #[test]
    fn literals_hold_no_wildcard_token() {
        for good in ["a", "a.b", "a*b", "a>b.c>", "foo.b*r"] {
            assert!(is_valid_literal(good.as_bytes()), "{good}");
            assert!(!has_wildcards(good.as_bytes()), "{good}");
        }
        for bad in ["", "a.", "*", "a.*", "a.>", ">", "a..b"] {
            assert!(!is_valid_literal(bad.as_bytes()), "{bad:?}");
        }
        assert!(has_wildcards(b"a.*.b"));
        assert!(has_wildcards(b">"));
    }

    #[test]
    fn first_token_ends_at_the_first_separator() {
        assert_eq!(first_token(b"orders.new"), b"orders");
        assert_eq!(first_token(b"orders"), b"orders");
        assert_eq!(first_token(b""), b"");
    }
}
