//! API errors: the table of codes and texts (generated from `errors.tsv`), and the value a response carries.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One row of the error table. The text may hold one `{placeholder}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorDefinition {
    /// HTTP-like status, 400 to 503.
    pub code: u16,
    /// The number clients look at, 10002 to 10227.
    pub err_code: u32,
    /// The text, with its placeholder if it has one.
    pub description: &'static str,
}

impl ErrorDefinition {
    /// The error as it is, for texts without a placeholder.
    pub fn error(&self) -> ApiError {
        ApiError { code: self.code, err_code: self.err_code, description: self.description.to_owned() }
    }

    /// The error with its first placeholder filled in. A text without one is left as it is.
    pub fn with(&self, value: impl fmt::Display) -> ApiError {
        let description = match (self.description.find('{'), self.description.find('}')) {
            (Some(open), Some(close)) if open < close => {
                format!("{}{}{}", &self.description[..open], value, &self.description[close + 1..])
            }
            _ => self.description.to_owned(),
        };
        ApiError { code: self.code, err_code: self.err_code, description }
    }
}

impl From<ErrorDefinition> for ApiError {
    fn from(definition: ErrorDefinition) -> Self {
        definition.error()
    }
}

/// The `error` object of an API response and of a publish acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ApiError {
    pub code: u16,
    #[serde(skip_serializing_if = "crate::json::is_zero_u32")]
    pub err_code: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
}

impl ApiError {
    /// True when this is the given row of the table, whatever its text was filled with.
    pub fn is(&self, definition: ErrorDefinition) -> bool {
        self.err_code == definition.err_code
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.description, self.err_code)
    }
}

impl std::error::Error for ApiError {}

/// Turns the rows of the table into public constants.
macro_rules! error_definitions {
    ($($name:ident = $code:literal, $err_code:literal, $description:literal;)*) => {
        $(
            #[doc = $description]
            pub const $name: $crate::error::ErrorDefinition = $crate::error::ErrorDefinition {
                code: $code,
                err_code: $err_code,
                description: $description,
            };
        )*
    };
}

pub(crate) use error_definitions;

/// Renders `errors.rs` from the text of `errors.tsv`; the drift test compares its result with the checked-in file.
#[doc(hidden)]
pub fn render_table(tsv: &str) -> String {
    let mut out = String::from(
        "//! Generated from `errors.tsv` by `cargo run -p weir-jsapi --example error-table`; do not edit.\n\n\
         use crate::error::error_definitions;\n\nerror_definitions! {\n",
    );
    for line in tsv.lines().skip(1) {
        let mut columns = line.split('\t');
        let (Some(err_code), Some(code), Some(constant), Some(description)) =
            (columns.next(), columns.next(), columns.next(), columns.next())
        else {
            continue;
        };
        let name = constant_name(constant);
        out.push_str(&format!("    {name} = {code}, {err_code}, {description:?};\n"));
    }
    out.push_str("}\n");
    out
}

/// `JSStreamNotFoundErr` becomes `STREAM_NOT_FOUND`.
fn constant_name(go_name: &str) -> String {
    let name = go_name.strip_prefix("JS").unwrap_or(go_name);
    let name =
        ["ErrorF", "ErrF", "Err", "F"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
    let letters: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (index, letter) in letters.iter().enumerate() {
        let after_lower =
            index > 0 && (letters[index - 1].is_lowercase() || letters[index - 1].is_ascii_digit());
        let before_lower = index > 0
            && letters[index - 1].is_uppercase()
            && letters.get(index + 1).is_some_and(|next| next.is_lowercase());
        if letter.is_uppercase() && (after_lower || before_lower) {
            out.push('_');
        }
        out.push(letter.to_ascii_uppercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors;

    #[test]
    fn generated_table_matches_the_source() {
        let rendered = render_table(include_str!("../errors.tsv"));
        assert_eq!(
            rendered,
            include_str!("errors.rs"),
            "run `cargo run -p weir-jsapi --example error-table`"
        );
    }

    #[test]
    fn placeholders_are_filled() {
        assert_eq!(errors::STREAM_WRONG_LAST_SEQUENCE.with(7).description, "wrong last sequence: 7");
        assert_eq!(errors::STREAM_NOT_FOUND.error().err_code, 10059);
    }
}
