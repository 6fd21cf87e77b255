//! A cursor over the text of a configuration that knows lines and columns. It knows no grammar.

use std::sync::Arc;

use crate::error::ConfError;

/// A place in the text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Position {
    pub(crate) offset: usize,
    pub(crate) line: u32,
    line_start: usize,
}

impl Position {
    /// nats-server's column: bytes since the line feed that began the line, that feed included.
    pub(crate) fn column(&self) -> u32 {
        u32::try_from(self.offset.saturating_sub(self.line_start)).unwrap_or(u32::MAX)
    }
}

/// The cursor.
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: Position,
    file: Arc<str>,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str, file: Arc<str>) -> Self {
        Self { text, at: Position { offset: 0, line: 1, line_start: 0 }, file }
    }

    pub(crate) fn position(&self) -> Position {
        self.at
    }

    pub(crate) fn file(&self) -> &Arc<str> {
        &self.file
    }

    /// The next character, `None` at the end. A NUL character ends the text, as in nats-server.
    pub(crate) fn peek(&self) -> Option<char> {
        self.text[self.at.offset..].chars().next().filter(|c| *c != '\0')
    }

    /// The character after the next one.
    pub(crate) fn peek_second(&self) -> Option<char> {
        self.text[self.at.offset..].chars().nth(1).filter(|c| *c != '\0')
    }

    pub(crate) fn next(&mut self) -> Option<char> {
        let character = self.peek()?;
        if character == '\n' {
            self.at.line += 1;
            self.at.line_start = self.at.offset;
        }
        self.at.offset += character.len_utf8();
        Some(character)
    }

    /// Takes the next character when it is `wanted`.
    pub(crate) fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.next();
        }
        found
    }

    /// The text from an earlier offset up to here.
    pub(crate) fn since(&self, offset: usize) -> &'a str {
        &self.text[offset..self.at.offset]
    }

    /// The text before the cursor ends with a line feed.
    pub(crate) fn after_line_feed(&self) -> bool {
        self.text[..self.at.offset].ends_with('\n')
    }

    pub(crate) fn skip_while(&mut self, wanted: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&wanted) {
            self.next();
        }
    }

    /// Skips a comment (`#` or `//`) up to the end of its line; says whether there was one.
    pub(crate) fn skip_comment(&mut self) -> bool {
        let hash = self.peek() == Some('#');
        let slashes = self.peek() == Some('/') && self.peek_second() == Some('/');
        if hash || slashes {
            self.skip_while(|c| !is_line_end(c));
        }
        hash || slashes
    }

    /// A syntax error at the cursor.
    pub(crate) fn error(&self, message: impl Into<String>) -> ConfError {
        ConfError::syntax(&self.file, self.at.line, self.at.column(), message)
    }
}

/// Blank, within a line.
pub(crate) fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t'
}

pub(crate) fn is_line_end(c: char) -> bool {
    c == '\n' || c == '\r'
}

pub(crate) fn is_key_separator(c: char) -> bool {
    c == '=' || c == ':'
}

/// A character as nats-server shows it in a message; the end of the text is its NUL.
pub(crate) fn shown(c: Option<char>) -> String {
    match c {
        Some('\n') => "\\n".to_owned(),
        Some(c) => c.to_string(),
        None => "\0".to_owned(),
    }
}
