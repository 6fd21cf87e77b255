//! Typed reads of configuration values, collecting nats-server's complaints instead of stopping at
//! the first.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{
    duration::parse_duration,
    error::{ConfError, io_reason},
    options::{Unserved, WriteTimeoutPolicy},
    sources::Sources,
    url::Url,
    value::{Map, Node, Value},
};

/// Collects what is wrong while the values are read.
pub(crate) struct Reader<'a> {
    pub(crate) errors: Vec<ConfError>,
    pub(crate) warnings: Vec<ConfError>,
    pub(crate) unserved: Vec<Unserved>,
    /// `store_dir` at the top of the file, for a `jetstream` block that comes later.
    pub(crate) store_dir: Option<PathBuf>,
    /// Where wrong types are reported while set: for blocks whose values have no position of their
    /// own in the reference's complaints.
    pub(crate) blamed: Option<(Arc<str>, u32, u32)>,
    /// What is wrong and is said only when a server starts, not by `-t`.
    pub(crate) late: Vec<String>,
    /// The file says how long authentication may take.
    pub(crate) auth_timeout_given: bool,
    /// What a single operator's JWT says of where account claims are, and of the system account.
    pub(crate) operator_resolver: Option<String>,
    pub(crate) operator_system_account: Option<String>,
    /// The claims of the operators.
    pub(crate) operator_claims: Vec<serde_json::Value>,
    pub(crate) sources: &'a dyn Sources,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(sources: &'a dyn Sources) -> Self {
        Self {
            errors: Vec::new(),
            warnings: Vec::new(),
            unserved: Vec::new(),
            store_dir: None,
            blamed: None,
            late: Vec::new(),
            auth_timeout_given: false,
            operator_resolver: None,
            operator_system_account: None,
            operator_claims: Vec::new(),
            sources,
        }
    }

    /// There is a file, not a folder, of this name.
    pub(crate) fn is_file(&self, path: &Path) -> bool {
        self.sources.read(path).is_ok()
    }

    /// The text of a file that the configuration names; the error is Go's.
    pub(crate) fn file(&self, path: &Path) -> Result<String, String> {
        read_file(self.sources, path)
    }

    pub(crate) fn error(&mut self, node: &Node, message: impl Into<String>) {
        self.errors.push(ConfError::at(&node.file, node.line, node.column, message));
    }

    pub(crate) fn warning(&mut self, node: &Node, field: &str, reason: &str) {
        let message = format!("invalid use of field {field:?}: {reason}");
        self.warnings.push(ConfError::at(&node.file, node.line, node.column, message));
    }

    /// A key nobody knows; tolerated when it is there to be referred to as a variable.
    pub(crate) fn unknown(&mut self, key: &str, node: &Node) {
        if !node.used_as_variable {
            self.error(node, format!("unknown field {key:?}"));
        }
    }

    /// An option of nats-server that has no effect here yet.
    pub(crate) fn unserved(&mut self, key: impl Into<String>, node: &Node) {
        let place = format!("{}:{}:{}", node.file, node.line, node.column);
        self.unserved.push(Unserved { key: key.into(), place });
    }

    /// An option whose absence would leave the server less protected than its file says.
    pub(crate) fn refuse(&mut self, key: &str, node: &Node) {
        self.error(
            node,
            format!(
                "{key:?} is not supported yet, and starting without it would protect less than this configuration asks for"
            ),
        );
    }

    /// A complaint that the reference words as a warning of its own.
    pub(crate) fn plain_warning(&mut self, node: &Node, message: impl Into<String>) {
        self.warnings.push(ConfError::at(&node.file, node.line, node.column, message));
    }

    fn wrong_type(&mut self, node: &Node, wanted: &str) {
        let message =
            format!("interface conversion: interface {{}} is {}, not {wanted}", node.value.go_type());
        match &self.blamed {
            Some((file, line, column)) => self.errors.push(ConfError::at(file, *line, *column, message)),
            None => self.error(node, message),
        }
    }

    /// The entries of a map, in the order of the file.
    pub(crate) fn entries<'n>(&mut self, node: &'n Node) -> Option<Vec<(&'n String, &'n Node)>> {
        let map = self.map(node)?;
        let mut entries: Vec<_> = map.iter().collect();
        entries.sort_by_key(|(_, entry)| (entry.line, entry.column));
        Some(entries)
    }

    /// Seconds as a number, or a duration. Complaints begin with `what`.
    pub(crate) fn seconds(&mut self, node: &Node, what: &str) -> Option<Duration> {
        self.seconds_or(node, what, "wrong type")
    }

    /// [`Self::seconds`] with other words for a wrong type.
    pub(crate) fn seconds_or(&mut self, node: &Node, what: &str, wrong_type: &str) -> Option<Duration> {
        self.seconds_at(node, node, what, wrong_type)
    }

    /// [`Self::seconds_or`] with complaints at another place.
    pub(crate) fn seconds_at(
        &mut self,
        place: &Node,
        node: &Node,
        what: &str,
        wrong_type: &str,
    ) -> Option<Duration> {
        match &node.value {
            // Below zero is no time at all.
            Value::Integer(seconds) => Some(Duration::from_secs(u64::try_from(*seconds).unwrap_or(0))),
            Value::Float(seconds) => Some(Duration::try_from_secs_f64(*seconds).unwrap_or_default()),
            Value::String(text) => match parse_duration(text) {
                Ok(duration) => Some(duration),
                Err(reason) => {
                    self.error(place, format!("{what} {reason}"));
                    None
                }
            },
            _ => {
                self.error(place, format!("{what} {wrong_type}"));
                None
            }
        }
    }

    /// A string or a list of strings.
    pub(crate) fn strings(&mut self, what: &str, node: &Node) -> Vec<String> {
        match &node.value {
            Value::String(text) => vec![text.clone()],
            Value::Array(items) => {
                let mut strings = Vec::with_capacity(items.len());
                for item in items {
                    match item.as_str() {
                        Some(text) => strings.push(text.to_owned()),
                        None => {
                            let kind = item.value.go_type();
                            self.error(
                                item,
                                format!("error parsing {what}: unsupported type in array {kind}"),
                            );
                        }
                    }
                }
                strings
            }
            other => {
                self.error(node, format!("error parsing {what}: unsupported type {}", other.go_type()));
                Vec::new()
            }
        }
    }

    /// `default`, `close` or `retry`.
    pub(crate) fn write_timeout(&mut self, node: &Node) -> Option<WriteTimeoutPolicy> {
        match self.string(node)?.as_str() {
            "default" => Some(WriteTimeoutPolicy::Default),
            "close" => Some(WriteTimeoutPolicy::Close),
            "retry" => Some(WriteTimeoutPolicy::Retry),
            _ => {
                self.error(node, "write_timeout must be 'default', 'close' or 'retry'");
                None
            }
        }
    }

    pub(crate) fn string(&mut self, node: &Node) -> Option<String> {
        match &node.value {
            Value::String(text) => Some(text.clone()),
            _ => {
                self.wrong_type(node, "string");
                None
            }
        }
    }

    pub(crate) fn boolean(&mut self, node: &Node) -> Option<bool> {
        match node.value {
            Value::Boolean(flag) => Some(flag),
            _ => {
                self.wrong_type(node, "bool");
                None
            }
        }
    }

    pub(crate) fn integer(&mut self, node: &Node) -> Option<i64> {
        match node.value {
            Value::Integer(number) => Some(number),
            _ => {
                self.wrong_type(node, "int64");
                None
            }
        }
    }

    /// An integer that fits the target type.
    pub(crate) fn number<T: TryFrom<i64>>(&mut self, field: &str, node: &Node) -> Option<T> {
        let number = self.integer(node)?;
        let narrowed = T::try_from(number).ok();
        if narrowed.is_none() {
            let size = if number < 0 { "negative" } else { "too big" };
            self.error(node, format!("{field} value is {size}"));
        }
        narrowed
    }

    pub(crate) fn map<'n>(&mut self, node: &'n Node) -> Option<&'n Map> {
        let map = node.as_map();
        if map.is_none() {
            self.wrong_type(node, "map[string]interface {}");
        }
        map
    }

    pub(crate) fn array<'n>(&mut self, node: &'n Node) -> Option<&'n [Node]> {
        match &node.value {
            Value::Array(items) => Some(items),
            _ => {
                self.wrong_type(node, "[]interface {}");
                None
            }
        }
    }

    /// A duration as Go writes it; a plain number is seconds, with a warning.
    pub(crate) fn duration(&mut self, field: &str, node: &Node) -> Option<Duration> {
        match &node.value {
            Value::String(text) => match parse_duration(text) {
                Ok(duration) => Some(duration),
                Err(reason) => {
                    self.error(node, format!("error parsing {field}: {reason}"));
                    None
                }
            },
            Value::Integer(seconds) => {
                self.warning(node, field, &format!("{field} should be converted to a duration"));
                u64::try_from(*seconds).ok().map(Duration::from_secs)
            }
            _ => {
                self.warning(node, field, &format!("{field} should be converted to a duration"));
                self.wrong_type(node, "int64");
                None
            }
        }
    }

    /// `host:port`, `:port` or a bare port.
    pub(crate) fn listen(&mut self, node: &Node) -> Option<(Option<String>, i32)> {
        match &node.value {
            Value::Integer(_) => self.number::<i32>("port", node).map(|port| (None, port)),
            Value::String(text) => match split_listen(text) {
                Ok((host, port)) => Some(((!host.is_empty()).then_some(host), port)),
                Err(reason) => {
                    self.error(node, reason);
                    None
                }
            },
            other => {
                let message = format!("expected port or host:port, got {}", other.go_type());
                self.error(node, message);
                None
            }
        }
    }

    /// A list of URLs; equal ones are taken once.
    pub(crate) fn urls(&mut self, kind: &str, node: &Node) -> Vec<Url> {
        let mut urls = Vec::new();
        let mut seen = BTreeSet::new();
        for item in self.array(node).unwrap_or_default() {
            let Some(text) = self.string(item) else { continue };
            if !seen.insert(text.clone()) {
                self.warning(item, &text, &format!("Duplicate {kind} entry detected"));
                continue;
            }
            urls.extend(self.url(kind, item, &text));
        }
        urls
    }

    /// One URL.
    pub(crate) fn url(&mut self, kind: &str, node: &Node, text: &str) -> Option<Url> {
        let url = Url::parse(text);
        if url.is_none() {
            self.error(node, format!("error parsing {kind} url [{:?}]", text.trim()));
        }
        url
    }
}

/// The text of a file; the error is Go's.
pub(crate) fn read_file(sources: &dyn Sources, path: &Path) -> Result<String, String> {
    sources.read(path).map_err(|error| format!("open {}: {}", path.display(), io_reason(&error)))
}

/// Splits `host:port`; the host may be empty or a bracketed IPv6 address.
pub(crate) fn split_listen(text: &str) -> Result<(String, i32), String> {
    let not_an_address = || format!("could not parse address string {text:?}");
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:").ok_or_else(not_an_address)?,
        None => text.rsplit_once(':').ok_or_else(not_an_address)?,
    };
    if !text.starts_with('[') && host.contains(':') {
        return Err(not_an_address());
    }
    let number = port.trim().parse().map_err(|_| format!("could not parse port {port:?}"))?;
    Ok((host.to_owned(), number))
}
