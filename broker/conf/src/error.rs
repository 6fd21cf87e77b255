//! What can be wrong in a configuration file, with nats-server's texts and the position.

use std::{fmt, sync::Arc};

/// One complaint about a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfError {
    /// The file as it was named on the command line or in `include`; empty for text without a file.
    pub file: Arc<str>,
    /// Line, counted from 1; 0 when the complaint is about the file as a whole.
    pub line: u32,
    /// Column as nats-server counts: from 0 in the first line and from 1 in the others.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// How nats-server words the position.
    pub(crate) form: Form,
}

/// How the position is worded: nats-server is not uniform here, and tools match its texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `Parse error on line N: 'message'`.
    Syntax,
    /// `FILE:LINE:COLUMN: message`.
    Located,
    /// The message alone.
    Bare,
}

impl ConfError {
    pub(crate) fn syntax(file: &Arc<str>, line: u32, column: u32, message: impl Into<String>) -> Self {
        Self { file: file.clone(), line, column, message: message.into(), form: Form::Syntax }
    }

    pub(crate) fn at(file: &Arc<str>, line: u32, column: u32, message: impl Into<String>) -> Self {
        Self { file: file.clone(), line, column, message: message.into(), form: Form::Located }
    }

    pub(crate) fn bare(file: &Arc<str>, line: u32, column: u32, message: impl Into<String>) -> Self {
        Self { file: file.clone(), line, column, message: message.into(), form: Form::Bare }
    }

    /// The complaint with its file and line in front whatever its form: for people.
    pub fn located(&self) -> String {
        match self.form {
            Form::Located => self.to_string(),
            _ if self.line == 0 && self.file.is_empty() => self.message.clone(),
            _ if self.line == 0 => format!("{}: {}", self.file, self.message),
            _ => format!("{}:{}:{}: {}", self.file, self.line, self.column, self.message),
        }
    }
}

impl fmt::Display for ConfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.form {
            Form::Syntax => write!(f, "Parse error on line {}: '{}'", self.line, self.message),
            Form::Located => {
                write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
            }
            Form::Bare => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for ConfError {}

/// Everything wrong with a configuration, in the order found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfErrors {
    /// Never empty.
    pub errors: Vec<ConfError>,
    /// True when the list comes from reading the values (nats-server then ends every line, also the
    /// last, with a line feed), false when the text itself could not be parsed.
    pub list: bool,
}

impl ConfErrors {
    /// All complaints with their positions, separated by `; `: for one log line.
    pub fn located(&self) -> String {
        self.errors.iter().map(ConfError::located).collect::<Vec<_>>().join("; ")
    }
}

impl From<ConfError> for ConfErrors {
    fn from(error: ConfError) -> Self {
        Self { errors: vec![error], list: false }
    }
}

impl fmt::Display for ConfErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.errors {
            write!(f, "{error}")?;
            if self.list {
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfErrors {}

/// The reason of an I/O error in Go's words for the common ones.
pub(crate) fn io_reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::IsADirectory => "is a directory".to_owned(),
        _ => error.to_string(),
    }
}
