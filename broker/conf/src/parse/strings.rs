//! Strings of every kind, and the variables that bare strings can be.

use std::path::PathBuf;

use super::Parser;
use crate::{
    error::ConfError,
    scan::{Position, is_blank, is_line_end, shown},
    value::Value,
};

impl Parser<'_> {
    pub(super) fn single_quoted(&mut self) -> Result<Value, ConfError> {
        self.scanner.next();
        let start = self.scanner.position().offset;
        self.scanner.skip_while(|c| c != '\'');
        let text = self.scanner.since(start).to_owned();
        if !self.scanner.take('\'') {
            return Err(self.scanner.error("Unexpected EOF."));
        }
        Ok(Value::String(text))
    }

    pub(super) fn double_quoted(&mut self) -> Result<Value, ConfError> {
        self.scanner.next();
        let mut text = String::new();
        loop {
            let start = self.scanner.position().offset;
            self.scanner.skip_while(|c| c != '"' && c != '\\');
            text.push_str(self.scanner.since(start));
            match self.scanner.next() {
                None => return Err(self.scanner.error("Unexpected EOF.")),
                Some('"') => return Ok(Value::String(text)),
                Some(_) => self.escape(&mut text)?,
            }
        }
    }

    /// A block string: from `(` to a `)` alone on its line.
    pub(super) fn block(&mut self) -> Result<Value, ConfError> {
        self.scanner.next();
        let start = self.scanner.position().offset;
        loop {
            self.scanner.skip_while(|c| c != ')');
            if self.scanner.peek().is_none() {
                return Err(self.scanner.error("Unexpected EOF processing block."));
            }
            let alone =
                self.scanner.after_line_feed() && self.scanner.peek_second().is_none_or(|c| c == '\n');
            if alone {
                let text = self.scanner.since(start).to_owned();
                self.scanner.next();
                return Ok(Value::String(text));
            }
            self.scanner.next();
        }
    }

    /// A bare string, boolean or variable that began at `start`.
    pub(super) fn bare(&mut self, start: Position) -> Result<Value, ConfError> {
        let mut text = self.scanner.since(start.offset).to_owned();
        let mut escaped = false;
        loop {
            let from = self.scanner.position().offset;
            self.scanner.skip_while(|c| !ends_bare(c) && c != '\\');
            text.push_str(self.scanner.since(from));
            if !self.scanner.take('\\') {
                break;
            }
            escaped = true;
            self.escape(&mut text)?;
        }
        let quote_ended = self.scanner.take('\'');
        if escaped || quote_ended {
            return Ok(Value::String(text));
        }
        match text.to_lowercase().as_str() {
            "true" | "on" | "yes" => Ok(Value::Boolean(true)),
            "false" | "off" | "no" => Ok(Value::Boolean(false)),
            _ => match text.strip_prefix('$') {
                Some(name) => self.variable(name),
                None => Ok(Value::String(text)),
            },
        }
    }

    /// An escape sequence; the cursor is behind its backslash.
    fn escape(&mut self, text: &mut String) -> Result<(), ConfError> {
        match self.scanner.next() {
            Some('t') => text.push('\t'),
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('"') => text.push('"'),
            Some('\\') => text.push('\\'),
            Some('x') => text.push(self.escaped_byte()?),
            other => {
                return Err(self.scanner.error(format!(
                    "Invalid escape character '{}'. Only the following escape characters are allowed: \\xXX, \\t, \\n, \\r, \\\", \\\\.",
                    shown(other)
                )));
            }
        }
        Ok(())
    }

    fn escaped_byte(&mut self) -> Result<char, ConfError> {
        let start = self.scanner.position().offset;
        for _ in 0..2 {
            match self.scanner.peek() {
                Some(c) if !is_line_end(c) => self.scanner.next(),
                _ => {
                    return Err(self
                        .scanner
                        .error("Expected two hexadecimal digits after '\\x', but hit end of line"));
                }
            };
        }
        let digits = self.scanner.since(start);
        u8::from_str_radix(digits, 16).map(char::from).map_err(|_| {
            self.scanner.error(format!("Expected two hexadecimal digits after '\\x', but got '{digits}'"))
        })
    }

    /// The value a `$name` stands for: an earlier key of this map or of one around it, else the
    /// environment. A bcrypt hash is not a variable.
    fn variable(&mut self, name: &str) -> Result<Value, ConfError> {
        if name.starts_with("2a$") {
            return Ok(Value::String(format!("${name}")));
        }
        for scope in self.scopes.iter_mut().rev() {
            if let Some(node) = scope.get_mut(name) {
                node.used_as_variable = true;
                let value = node.value.clone();
                self.spend(value.count())?;
                return Ok(value);
            }
        }
        let at = self.scanner.position();
        let fail = |what: String| {
            let message = format!("variable reference for '{name}' on line {} {what}", at.line);
            ConfError::bare(self.scanner.file(), at.line, at.column(), message)
        };
        let Some(text) = self.sources.variable(name) else {
            return Err(fail("can not be found".to_owned()));
        };
        let assignment = format!("pk={text}");
        let inner =
            Parser::new(&assignment, "".into(), PathBuf::new(), self.sources, self.depth + 1, self.left);
        let mut map = inner.top().map_err(|e| fail(format!("could not be parsed: {e}")))?;
        match map.remove("pk") {
            Some(node) => Ok(node.value),
            None => Err(fail("can not be found".to_owned())),
        }
    }
}

fn ends_bare(c: char) -> bool {
    is_line_end(c) || is_blank(c) || matches!(c, ';' | ',' | ']' | '}' | '\'')
}
