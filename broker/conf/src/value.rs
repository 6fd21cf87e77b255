//! The tree a configuration file parses into: values with their positions.

use std::{collections::BTreeMap, sync::Arc};

/// A map of the configuration. Keys are kept as written; lookups by option name ignore case.
pub type Map = BTreeMap<String, Node>;

/// A value with the place it was written at.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub value: Value,
    /// The file the value was read from.
    pub file: Arc<str>,
    /// Line of the key (of the value itself inside an array), from 1.
    pub line: u32,
    /// Column, from 0 in the first line and from 1 in the others, as nats-server counts.
    pub column: u32,
    /// True once a `$name` elsewhere referred to this entry: nats-server then takes the entry as a
    /// variable and no longer as an option.
    pub used_as_variable: bool,
}

/// A value of the configuration language.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    String(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// Seconds since the Unix epoch.
    Datetime(i64),
    Array(Vec<Node>),
    Map(Map),
}

impl Value {
    /// How many values this is, itself counted.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Array(items) => 1 + items.iter().map(|item| item.value.count()).sum::<usize>(),
            Self::Map(map) => 1 + map.values().map(|node| node.value.count()).sum::<usize>(),
            _ => 1,
        }
    }

    /// The name Go gives the type, which nats-server's error texts show.
    pub fn go_type(&self) -> &'static str {
        match self {
            Self::String(_) => "string",
            Self::Integer(_) => "int64",
            Self::Float(_) => "float64",
            Self::Boolean(_) => "bool",
            Self::Datetime(_) => "time.Time",
            Self::Array(_) => "[]interface {}",
            Self::Map(_) => "map[string]interface {}",
        }
    }
}

impl Node {
    /// The map, when the value is one.
    pub fn as_map(&self) -> Option<&Map> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The value as Go prints it, for what is simple.
    pub(crate) fn shown(&self) -> String {
        match &self.value {
            Value::String(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            Value::Boolean(flag) => flag.to_string(),
            Value::Float(number) => number.to_string(),
            other => other.go_type().to_owned(),
        }
    }

    /// The string, when the value is one.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }
}
