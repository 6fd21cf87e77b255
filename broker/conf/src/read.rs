//! Typed reads of configuration values, collecting nats-server's complaints instead of stopping at
//! the first.

use std::time::Duration;

use crate::{
    duration::parse_duration,
    error::ConfError,
    options::Unserved,
    url::Url,
    value::{Map, Node, Value},
};

/// Collects what is wrong while the values are read.
#[derive(Default)]
pub(crate) struct Reader {
    pub(crate) errors: Vec<ConfError>,
    pub(crate) warnings: Vec<ConfError>,
    pub(crate) unserved: Vec<Unserved>,
    /// `store_dir` at the top of the file, for a `jetstream` block that comes later.
    pub(crate) store_dir: Option<std::path::PathBuf>,
}

impl Reader {
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

    fn wrong_type(&mut self, node: &Node, wanted: &str) {
        let message =
            format!("interface conversion: interface {{}} is {}, not {wanted}", node.value.go_type());
        self.error(node, message);
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

    pub(crate) fn map<'a>(&mut self, node: &'a Node) -> Option<&'a Map> {
        let map = node.as_map();
        if map.is_none() {
            self.wrong_type(node, "map[string]interface {}");
        }
        map
    }

    pub(crate) fn array<'a>(&mut self, node: &'a Node) -> Option<&'a [Node]> {
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
        let mut urls: Vec<Url> = Vec::new();
        for item in self.array(node).unwrap_or_default() {
            let Some(text) = self.string(item) else { continue };
            match Url::parse(&text) {
                Some(url) if !urls.contains(&url) => urls.push(url),
                Some(url) => {
                    let reason = format!("Duplicate {kind}: {url} will be ignored");
                    self.warning(item, "routes", &reason);
                }
                None => self.error(item, format!("error parsing {kind} url [{text:?}]")),
            }
        }
        urls
    }
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
