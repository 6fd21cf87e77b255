//! The grammar of the configuration language: a superset of JSON with bare strings, optional
//! separators, comments, includes and variables. Its accepted texts and messages are
//! nats-server's; deeper nesting than [`DEPTH_MAX`] is refused.

mod strings;

use std::{
    cell::Cell,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    digest,
    error::{ConfError, ConfErrors, io_reason},
    number::{self, Numeric},
    scan::{Position, Scanner, is_blank, is_key_separator, is_line_end, shown},
    sources::{Sources, SystemSources},
    value::{Map, Node, Value},
};

/// How deep maps, arrays, includes and variables may nest, together.
const DEPTH_MAX: usize = 100;

/// How many values a configuration may have, those that variables stand for counted each time, and
/// those of included files too: a few lines could else stand for more than any memory holds.
const VALUES_MAX: usize = 1_000_000;

/// A parsed configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    pub root: Map,
    /// The file as named by the caller; empty for text.
    pub file: Arc<str>,
    /// `sha256:<hex>` over the values, as nats-server prints it.
    pub digest: String,
}

/// Parses a file and what it includes, with the real file system and environment.
pub fn parse_file(path: &Path) -> Result<Document, ConfErrors> {
    parse_file_from(path, &SystemSources)
}

pub(crate) fn parse_file_from(path: &Path, sources: &dyn Sources) -> Result<Document, ConfErrors> {
    let root = read_and_parse(path, sources, 0, &Cell::new(VALUES_MAX))?;
    let file: Arc<str> = path.to_string_lossy().into();
    Ok(Document { digest: digest::digest(&root), root, file })
}

/// Parses a text; includes are relative to the working directory.
pub fn parse_text(text: &str, sources: &dyn Sources) -> Result<Document, ConfErrors> {
    let left = Cell::new(VALUES_MAX);
    let root = Parser::new(text, "".into(), PathBuf::new(), sources, 0, &left).top()?;
    Ok(Document { digest: digest::digest(&root), root, file: "".into() })
}

fn read_and_parse(
    path: &Path,
    sources: &dyn Sources,
    depth: usize,
    left: &Cell<usize>,
) -> Result<Map, ConfError> {
    let file: Arc<str> = path.to_string_lossy().into();
    let text = sources
        .read(path)
        .map_err(|error| ConfError::bare(&file, 0, 0, format!("open {file}: {}", io_reason(&error))))?;
    let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
    Parser::new(&text, file, folder, sources, depth, left).top()
}

/// The path without `.` and, where that is plain, without `..`: as Go prints it.
fn cleaned(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(clean.components().next_back(), Some(Component::Normal(_))) => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}

/// What stood where a key was expected.
enum Entry {
    Key { name: String, at: Position },
    Include(String),
}

struct Parser<'a> {
    scanner: Scanner<'a>,
    folder: PathBuf,
    sources: &'a dyn Sources,
    depth: usize,
    /// Values that may still come.
    left: &'a Cell<usize>,
    /// The maps being read, outermost first: where variables are looked up.
    scopes: Vec<Map>,
}

impl<'a> Parser<'a> {
    fn new(
        text: &'a str,
        file: Arc<str>,
        folder: PathBuf,
        sources: &'a dyn Sources,
        depth: usize,
        left: &'a Cell<usize>,
    ) -> Self {
        Self { scanner: Scanner::new(text, file), folder, sources, depth, left, scopes: vec![] }
    }

    /// Takes `count` values from what may still come.
    fn spend(&mut self, count: usize) -> Result<(), ConfError> {
        match self.left.get().checked_sub(count) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => {
                let message = format!("the configuration has more than {VALUES_MAX} values");
                Err(self.scanner.error(message))
            }
        }
    }

    /// The whole text.
    fn top(mut self) -> Result<Map, ConfError> {
        self.enter()?;
        self.scopes.push(Map::new());
        loop {
            self.scanner.skip_while(char::is_whitespace);
            match self.scanner.peek() {
                None => break,
                // JSON's outer braces are allowed and mean nothing.
                Some('{' | '}') => {
                    self.scanner.next();
                    continue;
                }
                _ if self.scanner.skip_comment() => continue,
                Some('/') => return Err(self.scanner.error("Unexpected EOF.")),
                Some(_) => {}
            }
            match self.top_key()? {
                Entry::Include(path) => self.include(&path)?,
                Entry::Key { name, at } => {
                    if !self.key_end() && self.scanner.peek().is_none() {
                        let (file, at) = (self.scanner.file(), self.scanner.position());
                        let message = format!("config is invalid ({file}:{}:{})", at.line, at.column());
                        return Err(ConfError::bare(file, at.line, at.column(), message));
                    }
                    let value = self.value()?;
                    self.set(name, at, value);
                }
            }
            self.top_value_end()?;
        }
        Ok(self.scopes.pop().unwrap_or_default())
    }

    fn top_key(&mut self) -> Result<Entry, ConfError> {
        match self.scanner.peek() {
            Some(c) if is_key_separator(c) => {
                Err(self.scanner.error(format!("Unexpected key separator '{c}'")))
            }
            Some(quote @ ('"' | '\'')) => self.quoted_key(quote, "Unexpected EOF."),
            _ => self.bare_key(),
        }
    }

    fn quoted_key(&mut self, quote: char, at_end: &str) -> Result<Entry, ConfError> {
        self.scanner.next();
        let at = self.scanner.position();
        self.scanner.skip_while(|c| c != quote);
        let name = self.scanner.since(at.offset).to_owned();
        if !self.scanner.take(quote) {
            return Err(self.scanner.error(at_end));
        }
        Ok(Entry::Key { name, at })
    }

    fn bare_key(&mut self) -> Result<Entry, ConfError> {
        let at = self.scanner.position();
        self.scanner.skip_while(|c| !c.is_whitespace() && !is_key_separator(c));
        let name = self.scanner.since(at.offset);
        let keyword = self.scanner.peek().is_some_and(char::is_whitespace);
        if keyword && name.eq_ignore_ascii_case("include") {
            return self.include_path().map(Entry::Include);
        }
        Ok(Entry::Key { name: name.to_owned(), at })
    }

    /// From the end of a key to the start of its value: blanks, one separator, blanks.
    /// Says whether there was a separator.
    fn key_end(&mut self) -> bool {
        self.scanner.skip_while(char::is_whitespace);
        let separated = self.scanner.peek().is_some_and(is_key_separator);
        if separated {
            self.scanner.next();
        }
        self.scanner.skip_while(is_blank);
        separated
    }

    fn top_value_end(&mut self) -> Result<(), ConfError> {
        // A lone slash is skipped, as nats-server does.
        self.scanner.skip_while(is_blank);
        while self.scanner.peek() == Some('/') && self.scanner.peek_second() != Some('/') {
            self.scanner.next();
            self.scanner.skip_while(is_blank);
        }
        if self.scanner.skip_comment() {
            return Ok(());
        }
        match self.scanner.next() {
            None | Some('\n' | '\r' | ';' | ',' | '}') => Ok(()),
            other => Err(self.scanner.error(format!(
                "Expected a top-level value to end with a new line, comment or EOF, but got '{}' instead.",
                shown(other)
            ))),
        }
    }

    fn include_path(&mut self) -> Result<String, ConfError> {
        self.scanner.skip_while(is_blank);
        let expected = |what: &str| format!("Expected include value but found {what}");
        let refused = match self.scanner.peek() {
            Some(quote @ ('"' | '\'')) => {
                self.scanner.next();
                let start = self.scanner.position().offset;
                self.scanner.skip_while(|c| c != quote);
                let path = self.scanner.since(start).to_owned();
                if !self.scanner.take(quote) {
                    return Err(self.scanner.error("Unexpected EOF."));
                }
                return Ok(path);
            }
            Some('[') => "start of an array",
            Some('{') => "start of a map",
            Some('(') => "start of a block",
            Some('\\') => "escape sequence",
            Some(c) if c.is_ascii_digit() || c == '-' => "start of a number",
            Some(c) if is_line_end(c) => "new line",
            _ => {
                let start = self.scanner.position().offset;
                self.scanner
                    .skip_while(|c| !is_line_end(c) && !is_blank(c) && !matches!(c, ';' | '}' | '\''));
                let path = self.scanner.since(start).to_owned();
                self.scanner.take('\'');
                return Ok(path);
            }
        };
        Err(self.scanner.error(expected(refused)))
    }

    /// Takes the entries of another file into the map being read.
    fn include(&mut self, path: &str) -> Result<(), ConfError> {
        self.spend(1)?;
        let full = cleaned(&self.folder.join(path));
        let entries = read_and_parse(&full, self.sources, self.depth + 1, self.left).map_err(|inner| {
            let at = self.scanner.position();
            let message = format!("error parsing include file '{path}', {inner}");
            ConfError::bare(self.scanner.file(), at.line, at.column(), message)
        })?;
        if let Some(scope) = self.scopes.last_mut() {
            scope.extend(entries);
        }
        Ok(())
    }

    fn set(&mut self, name: String, at: Position, value: Value) {
        let node = self.node(value, at);
        if let Some(scope) = self.scopes.last_mut() {
            // The last of several equal keys wins, as in nats-server.
            scope.insert(name, node);
        }
    }

    fn node(&self, value: Value, at: Position) -> Node {
        Node {
            value,
            file: self.scanner.file().clone(),
            line: at.line,
            column: at.column(),
            used_as_variable: false,
        }
    }

    fn enter(&mut self) -> Result<(), ConfError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            let message = format!("values, includes or variables nest deeper than {DEPTH_MAX}");
            return Err(self.scanner.error(message));
        }
        Ok(())
    }

    fn value(&mut self) -> Result<Value, ConfError> {
        self.spend(1)?;
        self.scanner.skip_while(is_blank);
        match self.scanner.peek() {
            Some('[') => self.array(),
            Some('{') => self.map(),
            Some('\'') => self.single_quoted(),
            Some('"') => self.double_quoted(),
            Some('(') => self.block(),
            Some('.') => {
                self.scanner.next();
                Err(self.scanner.error("Floats must start with a digit"))
            }
            Some(c) if is_line_end(c) => {
                self.scanner.next();
                Err(self.scanner.error("Expected value but found new line"))
            }
            Some(c) if c == '-' || c.is_ascii_digit() => {
                let start = self.scanner.position();
                match number::scan(&mut self.scanner)? {
                    Numeric::Value(value) => Ok(value),
                    Numeric::BareString => self.bare(start),
                }
            }
            _ => {
                let start = self.scanner.position();
                self.bare(start)
            }
        }
    }

    fn array(&mut self) -> Result<Value, ConfError> {
        self.enter()?;
        self.scanner.next();
        let mut items = Vec::new();
        loop {
            self.scanner.skip_while(char::is_whitespace);
            if self.scanner.skip_comment() {
                continue;
            }
            match self.scanner.peek() {
                Some(']') => break,
                Some('/' | ',') => {
                    self.scanner.next();
                    return Err(self.scanner.error("Unexpected array value terminator ','."));
                }
                // At the end of the text the missing value is said with the missing terminator.
                _ => {}
            }
            let quoted = matches!(self.scanner.peek(), Some('"' | '\''));
            let mut at = self.scanner.position();
            // The reference counts a quoted string from behind its quote.
            at.offset += usize::from(quoted);
            let value = self.value()?;
            if matches!(value, Value::Map(_) | Value::Array(_)) {
                // The reference places a map or an array where it ends.
                at = self.scanner.position();
            }
            items.push(self.node(value, at));
            if self.array_value_end()? {
                break;
            }
        }
        self.scanner.take(']');
        self.depth -= 1;
        Ok(Value::Array(items))
    }

    /// After a value of an array; true when the array's end follows.
    fn array_value_end(&mut self) -> Result<bool, ConfError> {
        loop {
            self.scanner.skip_while(is_blank);
            if !self.scanner.skip_comment() {
                break;
            }
        }
        match self.scanner.peek() {
            Some(']') => Ok(true),
            Some('\n' | '\r' | ',' | '/') => {
                self.scanner.next();
                Ok(false)
            }
            other => {
                self.scanner.next();
                Err(self.scanner.error(format!(
                    "Expected an array value terminator \",\" or an array terminator \"]\", but got '{}' instead.",
                    shown(other)
                )))
            }
        }
    }

    fn map(&mut self) -> Result<Value, ConfError> {
        self.enter()?;
        self.scanner.next();
        self.scopes.push(Map::new());
        loop {
            self.scanner.skip_while(char::is_whitespace);
            if self.scanner.skip_comment() {
                continue;
            }
            match self.map_key()? {
                None => break,
                Some(Entry::Include(path)) => self.include(&path)?,
                Some(Entry::Key { name, at }) => {
                    self.key_end();
                    self.scanner.skip_while(char::is_whitespace);
                    self.refuse_missing_value(&name)?;
                    let value = self.value()?;
                    self.set(name, at, value);
                }
            }
            if self.map_value_end()? {
                break;
            }
        }
        self.scanner.take('}');
        self.depth -= 1;
        Ok(Value::Map(self.scopes.pop().unwrap_or_default()))
    }

    fn map_key(&mut self) -> Result<Option<Entry>, ConfError> {
        let at_end = "Unexpected EOF processing map.";
        match self.scanner.peek() {
            None => Err(self.scanner.error(at_end)),
            Some('}') => Ok(None),
            Some(']') => Err(self.scanner.error("Unexpected array end ']' processing map.")),
            Some(c) if is_key_separator(c) => {
                Err(self.scanner.error(format!("Unexpected key separator '{c}'.")))
            }
            Some(quote @ ('"' | '\'')) => {
                self.quoted_key(quote, "Unexpected EOF processing quoted map key.").map(Some)
            }
            Some(_) => self.bare_key().map(Some),
        }
    }

    fn refuse_missing_value(&mut self, name: &str) -> Result<(), ConfError> {
        match self.scanner.peek() {
            Some(',') => Err(self.scanner.error("Unexpected map value terminator \",\".")),
            Some('}') => Err(self.scanner.error(format!("Expected a value for '{name}'"))),
            _ => Ok(()),
        }
    }

    /// After a value of a map; true when the map's end follows.
    fn map_value_end(&mut self) -> Result<bool, ConfError> {
        loop {
            self.scanner.skip_while(is_blank);
            if !self.scanner.skip_comment() {
                break;
            }
        }
        match self.scanner.peek() {
            Some('}') => Ok(true),
            Some('\n' | '\r' | ',' | ';' | '/') => {
                self.scanner.next();
                Ok(false)
            }
            other => {
                self.scanner.next();
                Err(self.scanner.error(format!(
                    "Expected a map value terminator \",\" or a map terminator \"}}\", but got '{}' instead.",
                    shown(other)
                )))
            }
        }
    }
}
