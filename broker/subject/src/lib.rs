//! Subjects: their rules, how patterns match, and two indexes keyed by them.
//!
//! A subject is `.`-separated non-empty tokens; in a pattern the token `*` stands for one token and
//! a last token `>` for one or more. It is not: who may use a subject (permissions), or the wire codec.

mod pattern;
mod table;
mod tokens;
mod transform;
mod trie;

pub use pattern::{is_subset, matches, overlaps};
pub use table::{Refused, SubjectTable};
pub use tokens::{
    MAX_TOKENS, SEPARATOR, Tokens, first_token, has_wildcards, is_valid_literal, is_valid_subject, tokens,
};
pub use transform::{Transform, TransformError, tokenize, untokenize, validate_mapping};
pub use trie::{Entries, Trie};
