//! Subject transforms: from a subject that matches a pattern to another subject, in nats-server's language
//! (`$1`, `{{wildcard(1)}}`, `{{partition(10,1)}}` …, ADR-30). Not where they are applied.

mod apply;
mod parse;
#[cfg(test)]
mod tests;

use crate::tokens::tokens;
use parse::Part;
use std::fmt::{self, Display};

/// What becomes of the subjects that a pattern matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transform {
    source: Box<str>,
    destination: Box<str>,
    parts: Vec<Part>,
    /// The number of tokens before the source's `>`, if it ends with one.
    tail_from: Option<usize>,
}

/// Why there is no such transform, in nats-server's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransformError {
    /// The source or the destination is no subject, or only one of them ends with `>`, or the destination has `*`.
    InvalidSubject,
    /// A token of the destination is empty or holds white space.
    InvalidDestination {
        /// The token.
        token: String,
    },
    /// There is no such function.
    UnknownFunction {
        /// The token.
        token: String,
    },
    /// A function names a wildcard that the source does not have.
    IndexOutOfRange {
        /// The token, and the index where that is known.
        token: String,
    },
    /// A function has too few arguments.
    NotEnoughArguments {
        /// The token.
        token: String,
    },
    /// A function has too many arguments.
    TooManyArguments {
        /// The token.
        token: String,
    },
    /// An argument is no number, or one that makes no sense.
    InvalidArgument {
        /// The token.
        token: String,
    },
    /// Imports can be undone: only `wildcard` is allowed in them.
    NotReversible {
        /// The token.
        token: String,
    },
    /// Imports can be undone: every wildcard has to be used.
    UnusedWildcards {
        /// The destination.
        token: String,
    },
}

impl Display for TransformError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, token) = match self {
            Self::InvalidSubject => return f.write_str("invalid subject"),
            Self::InvalidDestination { token } => ("invalid transform", token),
            Self::UnknownFunction { token } => ("unknown function", token),
            Self::IndexOutOfRange { token } => ("wildcard index out of range", token),
            Self::NotEnoughArguments { token } => ("not enough arguments passed to the function", token),
            Self::TooManyArguments { token } => ("too many arguments passed to the function", token),
            Self::InvalidArgument { token } => ("function argument is invalid or in the wrong format", token),
            Self::NotReversible { token } => {
                ("the only mapping function allowed for import transforms is {{Wildcard()}}", token)
            }
            Self::UnusedWildcards { token } => ("not using all of the token wildcard(s)", token),
        };
        write!(f, "invalid mapping destination: {what}")?;
        if token.is_empty() { Ok(()) } else { write!(f, " in {token}") }
    }
}

impl std::error::Error for TransformError {}

impl Transform {
    /// A transform of what `source` matches; an empty source is `>`.
    pub fn new(source: &str, destination: &str) -> Result<Self, TransformError> {
        Self::build(source, destination, false)
    }

    /// A transform that can be undone: it uses every wildcard and no other function (imports).
    pub fn new_reversible(source: &str, destination: &str) -> Result<Self, TransformError> {
        Self::build(source, destination, true)
    }

    fn build(source: &str, destination: &str, reversible: bool) -> Result<Self, TransformError> {
        let source = if source.is_empty() { ">" } else { source };
        let (from, to) = (Shape::of(source), Shape::of(destination));
        let (Some(from), Some(to)) = (from, to) else { return Err(TransformError::InvalidSubject) };
        if to.stars > 0 || from.has_tail != to.has_tail {
            return Err(TransformError::InvalidSubject);
        }
        let stars: Vec<usize> =
            source.split('.').enumerate().filter(|(_, token)| *token == "*").map(|(at, _)| at).collect();
        let has_wildcards = from.stars > 0 || from.has_tail;
        let mut parts = Vec::new();
        let mut used = 0;
        for token in destination.split('.') {
            let part = parse::part(token)?;
            let is_wildcard = matches!(part, Part::Token { function: parse::Function::Wildcard, .. });
            if reversible && has_wildcards && !is_wildcard && part.is_function() {
                return Err(TransformError::NotReversible { token: token.to_owned() });
            }
            if !has_wildcards && part.is_function() && !part.works_on_literals() {
                return Err(TransformError::IndexOutOfRange { token: token.to_owned() });
            }
            used += part.indexes().len();
            parts.push(part.resolve(token, &stars, has_wildcards)?);
        }
        if reversible && has_wildcards && used < from.stars {
            return Err(TransformError::UnusedWildcards { token: destination.to_owned() });
        }
        let tail_from = from.has_tail.then(|| source.split('.').count() - 1);
        Ok(Self { source: source.into(), destination: destination.into(), parts, tail_from })
    }

    /// The pattern of the subjects that are transformed.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What they become, as it was written.
    pub fn destination(&self) -> &str {
        &self.destination
    }

    /// The transform back; only for those made by `new_reversible`.
    pub fn reverse(&self) -> Option<Self> {
        let (source, _) = untokenize(&self.destination);
        Self::new_reversible(&source, &self.numbered_for_reverse()?).ok()
    }

    /// The old source with each wildcard named by where the destination puts it.
    fn numbered_for_reverse(&self) -> Option<String> {
        let mut order = Vec::new();
        for part in &self.parts {
            if let Part::Token { index, function: parse::Function::Wildcard } = part {
                order.push(*index);
            }
        }
        let tokens: Option<Vec<String>> = self
            .source
            .split('.')
            .enumerate()
            .map(|(at, token)| {
                if token == "*" {
                    order.iter().position(|index| *index == at).map(|place| format!("${}", place + 1))
                } else {
                    Some(token.to_owned())
                }
            })
            .collect();
        Some(tokens?.join("."))
    }
}

struct Shape {
    stars: usize,
    has_tail: bool,
}

impl Shape {
    /// `None` for what is no subject.
    fn of(subject: &str) -> Option<Self> {
        let mut shape = Self { stars: 0, has_tail: false };
        for token in tokens(subject.as_bytes()) {
            if token.is_empty() || shape.has_tail {
                return None;
            }
            shape.has_tail = token == b">";
            shape.stars += usize::from(token == b"*");
        }
        Some(shape)
    }
}

/// Checks a mapping from `source` to `destination` as nats-server's configuration does. An empty destination is fine.
pub fn validate_mapping(source: &str, destination: &str) -> Result<(), TransformError> {
    if destination.is_empty() {
        return Ok(());
    }
    let mut tail_seen = false;
    for token in destination.split('.') {
        if token.is_empty() || tail_seen {
            return Err(TransformError::InvalidDestination { token: token.to_owned() });
        }
        if parse::is_mustache(token) {
            if !parse::is_known_function(token) {
                return Err(TransformError::UnknownFunction { token: token.to_owned() });
            }
            continue;
        }
        if token == ">" {
            tail_seen = true;
        } else if token.contains(['\t', '\n', '\u{c}', '\r', ' ']) {
            return Err(TransformError::InvalidDestination { token: String::new() });
        }
    }
    Transform::new(source, destination).map(drop)
}

/// A pattern as the destination of a transform: `foo.*.*` becomes `foo.$1.$2`.
pub fn tokenize(pattern: &str) -> String {
    let mut number = 0;
    let tokens = pattern.split('.').map(|token| {
        if token == "*" {
            number += 1;
            format!("${number}")
        } else {
            token.to_owned()
        }
    });
    tokens.collect::<Vec<_>>().join(".")
}

/// A destination as a pattern, and its places in order: `foo.$2.{{wildcard(1)}}` becomes `foo.*.*`.
pub fn untokenize(destination: &str) -> (String, Vec<String>) {
    let mut places = Vec::new();
    let tokens = destination.split('.').map(|token| {
        if parse::is_place(token) {
            places.push(token.to_owned());
            "*"
        } else {
            token
        }
    });
    let pattern = tokens.collect::<Vec<_>>().join(".");
    (pattern, places)
}
