//! What is wrong with claims, and how badly. Not the looking.

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// In the words of the reference.
    pub text: String,
    /// Whether the claims must not be used.
    pub is_blocking: bool,
    /// Whether the claims are only too early or too late.
    pub is_time: bool,
}

/// All that is wrong, in the order it was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Issues(pub Vec<Issue>);

impl Issues {
    pub(super) fn error(&mut self, text: String) {
        self.0.push(Issue { text, is_blocking: true, is_time: false });
    }

    pub(super) fn warning(&mut self, text: &str) {
        self.0.push(Issue { text: text.to_owned(), is_blocking: false, is_time: false });
    }

    pub(super) fn time(&mut self, text: &str) {
        self.0.push(Issue { text: text.to_owned(), is_blocking: false, is_time: true });
    }

    /// Whether the claims must not be used; `with_times` when their time matters.
    pub fn is_blocking(&self, with_times: bool) -> bool {
        self.0.iter().any(|issue| issue.is_blocking || (with_times && issue.is_time))
    }

    /// The first, if any.
    pub fn first(&self) -> Option<&str> {
        self.0.first().map(|issue| issue.text.as_str())
    }

    /// The blocking ones' texts.
    pub fn errors(&self) -> Vec<&str> {
        self.0.iter().filter(|issue| issue.is_blocking).map(|issue| issue.text.as_str()).collect()
    }
}
