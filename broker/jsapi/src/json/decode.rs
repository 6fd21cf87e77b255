//! A serde deserializer over [`Value`] with Go's rules and Go's error texts.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};

use super::parse::Value;

/// Fields that are Go's `int`, where the default would be `int64`.
const INT_FIELDS: [&str; 14] = [
    "quorum_needed",
    "max_consumers",
    "num_replicas",
    "max_deliver",
    "max_waiting",
    "max_ack_pending",
    "max_batch",
    "batch",
    "offset",
    "max_bytes",
    "min_pending",
    "priority",
    "chunk_size",
    "window_size",
];
/// Fields whose own readers refuse `null`, which elsewhere means "unset".
const ENUM_FIELDS: [&str; 8] = [
    "retention",
    "discard",
    "storage",
    "persist_mode",
    "compression",
    "deliver_policy",
    "ack_policy",
    "replay_policy",
];
/// Fields that are Go's `time.Duration`.
const DURATION_FIELDS: [&str; 11] = [
    "max_age",
    "duplicate_window",
    "subject_delete_marker_ttl",
    "inactive_threshold",
    "ack_wait",
    "backoff",
    "idle_heartbeat",
    "max_expires",
    "expires",
    "priority_timeout",
    "pause_remaining",
];

#[derive(Debug)]
pub(crate) struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

pub(crate) fn decode<T: DeserializeOwned>(value: Value, root: Option<&'static str>) -> Result<T, String> {
    let path = Path { root, strict: true, parent: None, step: Step::Root };
    T::deserialize(Node { value, path }).map_err(|error| error.0)
}

pub(crate) fn decode_lenient<T: DeserializeOwned>(
    value: Value,
    root: Option<&'static str>,
) -> Result<T, String> {
    let path = Path { root, strict: false, parent: None, step: Step::Root };
    T::deserialize(Node { value, path }).map_err(|error| error.0)
}

#[derive(Clone, Copy)]
enum Step<'p> {
    Root,
    Field(&'p str),
    Key(&'p str),
    Index(usize),
}

/// Where a value stands in its document, as a chain of borrowed steps.
#[derive(Clone, Copy)]
struct Path<'p> {
    root: Option<&'static str>,
    /// Unknown fields are errors.
    strict: bool,
    parent: Option<&'p Self>,
    step: Step<'p>,
}

impl<'p> Path<'p> {
    fn child(&'p self, step: Step<'p>) -> Self {
        Path { root: self.root, strict: self.strict, parent: Some(self), step }
    }

    fn write(&self, out: &mut String) {
        if let Some(parent) = self.parent {
            parent.write(out);
        }
        match self.step {
            Step::Root => out.push_str(self.root.unwrap_or_default()),
            Step::Field(name) | Step::Key(name) => {
                out.push('.');
                out.push_str(name);
            }
            Step::Index(index) => out.push_str(&format!(".{index}")),
        }
    }

    /// The innermost struct field's name: decides between Go's integer types.
    fn field(&self) -> &str {
        match self.step {
            Step::Field(name) => name,
            _ => self.parent.map_or("", Self::field),
        }
    }

    fn mismatch(&self, found: &str, go_type: &str) -> Error {
        let mut place = String::new();
        self.write(&mut place);
        match self.step {
            Step::Root => Error(format!("json: cannot unmarshal {found} into Go value of type {go_type}")),
            Step::Index(_) => Error(format!("json: cannot unmarshal {found} into {place} of type {go_type}")),
            Step::Field(_) | Step::Key(_) => Error(format!(
                "json: cannot unmarshal {found} into Go struct field {place} of type {go_type}"
            )),
        }
    }
}

struct Node<'p> {
    value: Value,
    path: Path<'p>,
}

impl Node<'_> {
    fn integer<T: std::str::FromStr>(&self, go_type: &str) -> Result<T, Error> {
        let go_type = match self.path.field() {
            field if go_type == "int64" && DURATION_FIELDS.contains(&field) => "time.Duration",
            // A stream's max_bytes is int64, a consumer's is int; their parents tell them apart.
            "max_bytes" if self.path.root == Some("StreamConfigRequest") => go_type,
            field if go_type == "int64" && INT_FIELDS.contains(&field) => "int",
            _ => go_type,
        };
        match &self.value {
            Value::Number(text) => {
                text.parse().map_err(|_| self.path.mismatch(&format!("number {text}"), go_type))
            }
            other => Err(self.path.mismatch(other.kind(), go_type)),
        }
    }
}

macro_rules! integers {
    ($($method:ident, $visit:ident, $type:ty, $go:literal;)*) => {
        $(
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
                visitor.$visit(self.integer::<$type>($go)?)
            }
        )*
    };
}

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = Error;

    integers! {
        deserialize_i8, visit_i8, i8, "int8";
        deserialize_i16, visit_i16, i16, "int16";
        deserialize_i32, visit_i32, i32, "int32";
        deserialize_i64, visit_i64, i64, "int64";
        deserialize_u8, visit_u8, u8, "uint8";
        deserialize_u16, visit_u16, u16, "uint16";
        deserialize_u32, visit_u32, u32, "uint32";
        deserialize_u64, visit_u64, u64, "uint64";
        deserialize_f32, visit_f32, f32, "float32";
        deserialize_f64, visit_f64, f64, "float64";
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(_) => self.deserialize_bool(visitor),
            Value::Number(_) => self.deserialize_i64(visitor),
            Value::String(_) => self.deserialize_string(visitor),
            Value::Array(_) => self.deserialize_seq(visitor),
            Value::Object(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Bool(flag) => visitor.visit_bool(flag),
            other => Err(self.path.mismatch(other.kind(), "bool")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::String(text) => visitor.visit_string(text),
            other => {
                let is_time = matches!(
                    self.path.field(),
                    "opt_start_time" | "start_time" | "up_to_time" | "pause_until"
                );
                Err(self.path.mismatch(other.kind(), if is_time { "time.Time" } else { "string" }))
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Array(items) => {
                let items = items.into_iter().enumerate();
                visitor.visit_seq(Items { items, path: &self.path })
            }
            other => {
                let element = match self.path.field() {
                    "backoff" => "time.Duration",
                    "sources" => "*server.StreamSource",
                    "subject_transforms" => "server.SubjectTransformConfig",
                    _ => "string",
                };
                Err(self.path.mismatch(other.kind(), &format!("[]{element}")))
            }
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Object(fields) => visitor.visit_map(Fields {
                fields: fields.into_iter(),
                known: None,
                current: None,
                path: &self.path,
            }),
            other => Err(self.path.mismatch(other.kind(), "map[string]string")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let path = Path { root: self.path.root.or(Some(name)), ..self.path };
        let is_root = matches!(path.step, Step::Root);
        match self.value {
            Value::Object(fields) => visitor.visit_map(Fields {
                fields: fields.into_iter(),
                known: Some(known),
                current: None,
                path: &path,
            }),
            // In Go `null` leaves the struct as it was.
            Value::Null if is_root => visitor.visit_map(Fields {
                fields: Vec::new().into_iter(),
                known: Some(known),
                current: None,
                path: &path,
            }),
            other => {
                let name = if is_root { path.root.unwrap_or(name) } else { name };
                Err(path.mismatch(other.kind(), &format!("server.{name}")))
            }
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.value {
            Value::String(text) if variants.contains(&text.as_str()) => {
                let text: StrDeserializer<'_, Error> = text.as_str().into_deserializer();
                visitor.visit_enum(text)
            }
            other => Err(unknown_variant(name, other)),
        }
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

/// Each enum of nats-server has its own words for a value it does not know.
fn unknown_variant(name: &str, value: &Value) -> Error {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(text) => text.clone(),
        other => other.kind().to_owned(),
    };
    match name {
        "StoreCompression" | "compression" if matches!(value, Value::String(_) | Value::Null) => {
            Error("unknown compression algorithm".to_owned())
        }
        "StoreCompression" => {
            let kind = value.kind();
            Error(format!("json: cannot unmarshal {kind} into Go value of type string"))
        }
        "ConsumerAction" if matches!(value, Value::String(_)) => {
            Error(format!("unknown consumer action: {text:?}"))
        }
        "ConsumerAction" => Error(format!("unknown consumer action: {text}")),
        // The JSON as it stands.
        "PriorityPolicy" if matches!(value, Value::String(_)) => {
            Error(format!("unknown priority policy: {text:?}"))
        }
        "PriorityPolicy" => Error(format!("unknown priority policy: {text}")),
        _ if matches!(value, Value::String(_)) => {
            Error(format!("can not unmarshal {:?}", format!("\"{text}\"")))
        }
        _ => Error(format!("can not unmarshal {text:?}")),
    }
}

struct Items<'p> {
    items: std::iter::Enumerate<std::vec::IntoIter<Value>>,
    path: &'p Path<'p>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some((index, value)) = self.items.next() else { return Ok(None) };
        let path = self.path.child(Step::Index(index));
        seed.deserialize(Node { value, path }).map(Some)
    }
}

struct Fields<'p> {
    fields: std::vec::IntoIter<(String, Value)>,
    /// The struct's fields; `None` for a map with free keys.
    known: Option<&'static [&'static str]>,
    current: Option<(String, Value)>,
    path: &'p Path<'p>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        while let Some((key, value)) = self.fields.next() {
            let key = match self.known {
                None => key,
                Some(known) => match known.iter().find(|name| name.eq_ignore_ascii_case(&key)) {
                    None if !self.path.strict => continue,
                    None => return Err(Error(format!("json: unknown field {key:?}"))),
                    // The last of repeated fields counts.
                    Some(name) if value == Value::Null && ENUM_FIELDS.contains(name) => {
                        return Err(unknown_variant(name, &value));
                    }
                    Some(name) if self.repeated_later(name) || value == Value::Null => continue,
                    Some(name) => (*name).to_owned(),
                },
            };
            let (key, _) = self.current.insert((key, value));
            let key: StrDeserializer<'_, Error> = key.as_str().into_deserializer();
            return seed.deserialize(key).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some((key, value)) = self.current.take() else {
            return Err(Error("json: a value was asked for before its key".to_owned()));
        };
        let step = if self.known.is_some() { Step::Field(&key) } else { Step::Key(&key) };
        seed.deserialize(Node { value, path: self.path.child(step) })
    }
}

impl Fields<'_> {
    fn repeated_later(&self, name: &str) -> bool {
        self.fields
            .as_slice()
            .iter()
            .any(|(key, value)| key.eq_ignore_ascii_case(name) && *value != Value::Null)
    }
}
