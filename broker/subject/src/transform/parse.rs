//! One token of a transform's destination. Not what it yields.

use super::TransformError;

/// What one token of the destination stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Literal(Box<str>),
    /// The last token `>`: what the source's `>` matched.
    Tail,
    /// A function of one source token. Before `resolve` the index counts wildcards from 1.
    Token {
        index: usize,
        function: Function,
    },
    /// A hash of some source tokens (of all when none is named).
    Partition {
        buckets: u32,
        indexes: Vec<usize>,
    },
    /// A random number below `bound`.
    Random {
        bound: u32,
    },
}

/// What is made of a source token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Function {
    Wildcard,
    SplitFromLeft(usize),
    SplitFromRight(usize),
    SliceFromLeft(usize),
    SliceFromRight(usize),
    Left(usize),
    Right(usize),
    Split(Box<str>),
}

/// Upper-case letters may be written in lower case as well; others may not be in upper case.
const NAMES: [&str; 10] = [
    "Wildcard",
    "Partition",
    "SplitFromLeft",
    "SplitFromRight",
    "SliceFromLeft",
    "SliceFromRight",
    "Right",
    "Left",
    "Split",
    "Random",
];

impl Part {
    pub(super) fn is_function(&self) -> bool {
        !matches!(self, Self::Literal(_) | Self::Tail)
    }

    pub(super) fn works_on_literals(&self) -> bool {
        matches!(self, Self::Partition { .. } | Self::Random { .. })
    }

    pub(super) fn indexes(&self) -> &[usize] {
        match self {
            Self::Token { index, .. } => std::slice::from_ref(index),
            Self::Partition { indexes, .. } => indexes,
            Self::Literal(_) | Self::Tail | Self::Random { .. } => &[],
        }
    }

    /// From numbers of wildcards to places of source tokens. What names no wildcard (0) means the first token.
    pub(super) fn resolve(
        self,
        token: &str,
        stars: &[usize],
        has_wildcards: bool,
    ) -> Result<Self, TransformError> {
        let place = |number: usize| match number.checked_sub(1) {
            None => Ok(0),
            Some(at) => stars
                .get(at)
                .copied()
                .ok_or_else(|| TransformError::IndexOutOfRange { token: format!("{token}: [{number}]") }),
        };
        Ok(match self {
            Self::Token { index, function } => Self::Token { index: place(index)?, function },
            // Without wildcards in the source the indexes are not looked at: all of it is hashed.
            Self::Partition { buckets, .. } if !has_wildcards => {
                Self::Partition { buckets, indexes: Vec::new() }
            }
            Self::Partition { buckets, indexes } => Self::Partition {
                buckets,
                indexes: indexes.into_iter().map(place).collect::<Result<_, _>>()?,
            },
            other => other,
        })
    }
}

/// Whether a token looks like `{{function(…)}}`.
pub(super) fn is_mustache(token: &str) -> bool {
    token.len() > 4 && token.starts_with("{{") && token.ends_with("}}")
}

/// Whether a token is a call of a function there is, whatever its arguments.
pub(super) fn is_known_function(token: &str) -> bool {
    call(token).is_some()
}

/// Whether a token stands for a wildcard of the source.
pub(super) fn is_place(token: &str) -> bool {
    if let Some(number) = token.strip_prefix('$') {
        return number.starts_with(|first: char| ('1'..='9').contains(&first));
    }
    is_mustache(token)
        && call(token).is_some_and(|(name, arguments)| {
            name == "Wildcard" && !arguments.is_empty() && !arguments.contains(',')
        })
}

/// The function's name as in `NAMES` and what stands between its parentheses.
fn call(token: &str) -> Option<(&'static str, &str)> {
    let inner = token.strip_prefix("{{")?.strip_suffix("}}")?.trim_ascii();
    let (name, rest) = inner.split_once('(')?;
    let arguments = rest.strip_suffix(')')?;
    let name = name.trim_ascii_end();
    let known = NAMES.into_iter().find(|known| is_name(known, name))?;
    Some((known, arguments))
}

fn is_name(known: &str, name: &str) -> bool {
    known.len() == name.len()
        && known.bytes().zip(name.bytes()).all(|(ours, theirs)| {
            ours == theirs || (ours.is_ascii_uppercase() && ours.to_ascii_lowercase() == theirs)
        })
}

/// Reads one token.
pub(super) fn part(token: &str) -> Result<Part, TransformError> {
    if token == ">" {
        return Ok(Part::Tail);
    }
    if token.len() > 1
        && let Some(number) = token.strip_prefix('$')
    {
        // Much else begins with `$`: what is no number is taken as it is.
        return Ok(match number.parse::<i64>() {
            Ok(number) => Part::Token { index: index(number), function: Function::Wildcard },
            Err(_) => Part::Literal(token.into()),
        });
    }
    if !is_mustache(token) {
        return Ok(Part::Literal(token.into()));
    }
    let Some((name, arguments)) = call(token) else {
        return Err(TransformError::UnknownFunction { token: token.to_owned() });
    };
    let arguments: Vec<&str> = arguments
        .split(',')
        .enumerate()
        .map(|(at, text)| if at == 0 { text } else { text.trim_ascii_start() })
        .collect();
    function(token, name, &arguments)
}

fn function(token: &str, name: &str, arguments: &[&str]) -> Result<Part, TransformError> {
    let token_of = || token.to_owned();
    let number = |text: &str| {
        let parsed = text.trim_matches(' ').parse::<i64>();
        parsed.map_err(|_| TransformError::InvalidArgument { token: token_of() })
    };
    match name {
        "Wildcard" => match arguments {
            [""] => Err(TransformError::NotEnoughArguments { token: token_of() }),
            [only] => Ok(Part::Token { index: index(number(only)?), function: Function::Wildcard }),
            _ => Err(TransformError::TooManyArguments { token: token_of() }),
        },
        "Partition" => {
            let (first, rest) = arguments.split_first().unwrap_or((&"", &[]));
            let buckets =
                bound(number(first)?).ok_or_else(|| TransformError::InvalidArgument { token: token_of() })?;
            let indexes = rest.iter().map(|text| number(text).map(index)).collect::<Result<_, _>>()?;
            Ok(Part::Partition { buckets, indexes })
        }
        "Random" => match arguments {
            [only] => bound(number(only)?)
                .map(|bound| Part::Random { bound })
                .ok_or_else(|| TransformError::InvalidArgument { token: token_of() }),
            _ => Err(TransformError::NotEnoughArguments { token: token_of() }),
        },
        _ => {
            let (which, argument) = match arguments {
                [] | [_] => return Err(TransformError::NotEnoughArguments { token: token_of() }),
                [which, argument] => (number(which)?, *argument),
                _ => return Err(TransformError::TooManyArguments { token: token_of() }),
            };
            let function = if name == "Split" {
                if argument.contains([' ', '.']) {
                    return Err(TransformError::InvalidArgument { token: token_of() });
                }
                Function::Split(argument.into())
            } else {
                let size = i32::try_from(number(argument)?)
                    .map_err(|_| TransformError::InvalidArgument { token: token_of() })?;
                // A size that is not positive does nothing.
                sized(name, usize::try_from(size).unwrap_or(0))
            };
            Ok(Part::Token { index: index(which), function })
        }
    }
}

fn sized(name: &str, size: usize) -> Function {
    match name {
        "SplitFromLeft" => Function::SplitFromLeft(size),
        "SplitFromRight" => Function::SplitFromRight(size),
        "SliceFromLeft" => Function::SliceFromLeft(size),
        "SliceFromRight" => Function::SliceFromRight(size),
        "Left" => Function::Left(size),
        _ => Function::Right(size),
    }
}

/// Numbers below 1 name the first token, as in nats-server.
fn index(number: i64) -> usize {
    usize::try_from(number).unwrap_or(0)
}

/// How many numbers there are to choose from; as a 32-bit number that may wrap.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "wraps as in nats-server")]
fn bound(number: i64) -> Option<u32> {
    (number <= i64::from(i32::MAX)).then_some(number as u32)
}
