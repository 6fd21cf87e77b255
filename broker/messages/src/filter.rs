//! Which subjects a reader wants.

use bytes::Bytes;

/// A set of subject patterns; none means every subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    patterns: Vec<Bytes>,
}

impl Filter {
    /// Every subject.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// A filter for these patterns. A lone `>` is the same as none.
    #[must_use]
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        Self::from_bytes(patterns.into_iter().map(|pattern| Bytes::copy_from_slice(pattern.as_bytes())))
    }

    /// `new` for patterns that are bytes already.
    #[must_use]
    pub fn from_bytes(patterns: impl IntoIterator<Item = Bytes>) -> Self {
        let patterns: Vec<Bytes> = patterns.into_iter().collect();
        if patterns.iter().any(|pattern| &pattern[..] == b">") {
            return Self::default();
        }
        Self { patterns }
    }

    /// True when every subject passes.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.patterns.is_empty()
    }

    #[must_use]
    pub fn patterns(&self) -> &[Bytes] {
        &self.patterns
    }

    #[must_use]
    pub fn matches(&self, subject: &[u8]) -> bool {
        self.patterns.is_empty()
            || self.patterns.iter().any(|pattern| weir_subject::matches(pattern, subject))
    }

    /// The subject, when the filter is for exactly one literal one.
    #[must_use]
    pub fn single_literal(&self) -> Option<&Bytes> {
        match &self.patterns[..] {
            [pattern] if !weir_subject::has_wildcards(pattern) => Some(pattern),
            _ => None,
        }
    }
}
