//! JSON as Go's encoding/json reads and writes it, so that answers and error texts match nats-server's.

mod decode;
mod parse;

use std::io;

use serde::de::DeserializeOwned;
use serde::ser::{Serialize, Serializer};

pub use parse::{Value, parse};

/// Reads a body strictly: unknown fields are refused, names match without regard to case, `null` leaves a field unset.
/// The error is Go's text for it.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    decode::decode(parse(body)?, None)
}

/// Reads a body as Go's `json.Unmarshal` does: unknown fields are ignored, otherwise like [`decode`].
pub fn decode_lenient<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    decode::decode_lenient(parse_lenient(body)?, None)
}

/// Parses with the errors of Go's `json.Unmarshal`.
pub fn parse_lenient(body: &[u8]) -> Result<Value, String> {
    parse(body).map_err(|error| match error.split_once(" at offset ") {
        Some((text, _)) => text.to_owned(),
        None => error.replace("unexpected EOF", "unexpected end of JSON input"),
    })
}

/// [`decode_value`] with unknown fields ignored.
pub fn decode_value_lenient<T: DeserializeOwned>(
    value: Value,
    struct_name: &'static str,
) -> Result<T, String> {
    decode::decode_lenient(value, Some(struct_name))
}

/// Reads an already parsed value; `struct_name` replaces the outermost struct's name in errors.
pub fn decode_value<T: DeserializeOwned>(value: Value, struct_name: &'static str) -> Result<T, String> {
    decode::decode(value, Some(struct_name))
}

/// Writes a value as Go does: `<`, `>`, `&`, U+2028 and U+2029 escaped.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, GoFormatter);
    // Writing to memory cannot fail and the types of this crate have string keys only.
    let written = value.serialize(&mut serializer);
    debug_assert!(written.is_ok(), "API types serialize: {written:?}");
    out
}

struct GoFormatter;

impl serde_json::ser::Formatter for GoFormatter {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            writer.write_all(&rest.as_bytes()[..at])?;
            let special = rest[at..].chars().next().unwrap_or('\u{2028}');
            write!(writer, "\\u{:04x}", u32::from(special))?;
            rest = &rest[at + special.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

/// Serializes an empty list as `null`, as a nil slice is in Go.
pub(crate) fn null_if_empty<T: Serialize, S: Serializer>(
    list: &[T],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if list.is_empty() { serializer.serialize_none() } else { list.serialize(serializer) }
}

macro_rules! is_zero {
    ($($name:ident: $type:ty),*) => {
        $(
            pub(crate) fn $name(value: &$type) -> bool {
                *value == <$type>::default()
            }
        )*
    };
}

is_zero!(is_zero_i32: i32, is_zero_i64: i64, is_zero_u32: u32, is_zero_u64: u64, is_false: bool);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{CreateConsumerRequest, StreamConfigRequest, StreamPurgeRequest};

    fn stream_error(body: &str) -> String {
        StreamConfigRequest::decode(body.as_bytes()).expect_err(body)
    }

    fn consumer_error(config: &str) -> String {
        let body = format!("{{\"stream_name\":\"A\",\"config\":{config}}}");
        decode::<CreateConsumerRequest>(body.as_bytes()).expect_err(config)
    }

    // Every text below was answered by nats-server 2.15.1.
    #[test]
    fn errors_are_the_texts_of_the_reference() {
        assert_eq!(stream_error(r#"{"name":"A","x":1}"#), r#"json: unknown field "x""#);
        let cannot = |what: &str| format!("json: cannot unmarshal {what}");
        let field = "Go struct field StreamConfigRequest";
        assert_eq!(
            stream_error(r#"{"name":1}"#),
            cannot(&format!("number into {field}.name of type string"))
        );
        assert_eq!(
            stream_error(r#"{"max_msgs":"1"}"#),
            cannot(&format!("string into {field}.max_msgs of type int64"))
        );
        assert_eq!(
            stream_error(r#"{"max_msgs":1.5}"#),
            cannot(&format!("number 1.5 into {field}.max_msgs of type int64"))
        );
        assert_eq!(
            stream_error(r#"{"num_replicas":"a"}"#),
            cannot(&format!("string into {field}.num_replicas of type int"))
        );
        assert_eq!(
            stream_error(r#"{"subjects":"a"}"#),
            cannot(&format!("string into {field}.subjects of type []string"))
        );
        assert_eq!(
            stream_error(r#"{"subjects":[1]}"#),
            cannot("number into StreamConfigRequest.subjects.0 of type string")
        );
        assert_eq!(
            stream_error(r#"{"sealed":"foo"}"#),
            cannot(&format!("string into {field}.sealed of type bool"))
        );
        assert_eq!(stream_error(r#"{"placement":{"x":1}}"#), r#"json: unknown field "x""#);
        assert_eq!(
            stream_error(r#"{"placement":{"cluster":1}}"#),
            cannot(&format!("number into {field}.placement.cluster of type string"))
        );
        assert_eq!(
            stream_error(r#"{"metadata":{"x":1}}"#),
            cannot(&format!("number into {field}.metadata.x of type string"))
        );
        assert_eq!(
            stream_error(r#"{"max_age":"1s"}"#),
            cannot(&format!("string into {field}.max_age of type time.Duration"))
        );
        assert_eq!(stream_error("[]"), cannot("array into Go value of type server.StreamConfigRequest"));
        assert_eq!(stream_error(r#""x""#), cannot("string into Go value of type server.StreamConfigRequest"));
        assert_eq!(stream_error(r#"{"retention":"foo"}"#), r#"can not unmarshal "\"foo\"""#);
        assert_eq!(stream_error(r#"{"compression":"foo"}"#), "unknown compression algorithm");
        assert_eq!(stream_error("{"), "unexpected EOF");
        assert_eq!(
            stream_error(r#"{"NAME":"A"} x"#),
            "invalid character 'x' looking for beginning of value at offset 14"
        );
        let field = "Go struct field CreateConsumerRequest.config";
        assert_eq!(
            consumer_error(r#"{"name":1}"#),
            cannot(&format!("number into {field}.name of type string"))
        );
        assert_eq!(
            consumer_error(r#"{"backoff":["x"]}"#),
            cannot("string into CreateConsumerRequest.config.backoff.0 of type time.Duration")
        );
        assert_eq!(
            consumer_error(r#"{"opt_start_time":"x"}"#),
            r#"parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006""#
        );
        assert_eq!(
            decode::<CreateConsumerRequest>(br#"{"action":"foo"}"#).expect_err("action"),
            r#"unknown consumer action: "foo""#
        );
    }

    #[test]
    fn names_match_without_case_and_null_is_unset() {
        let request: StreamPurgeRequest = decode(br#"{"SEQ":3,"filter":null}"#).expect("valid");
        assert_eq!(request, StreamPurgeRequest { seq: 3, ..Default::default() });
        assert_eq!(decode::<StreamPurgeRequest>(b"null"), Ok(StreamPurgeRequest::default()));
        let request: StreamPurgeRequest =
            decode_lenient(br#"{"seq":3,"x":{"y":[1]},"keep":null}"#).expect("valid");
        assert_eq!(request.seq, 3);
        let error = decode_lenient::<StreamPurgeRequest>(b"{").expect_err("cut");
        assert_eq!(error, "unexpected end of JSON input");
    }

    #[test]
    fn html_characters_are_escaped() {
        assert_eq!(encode(&"a>\"<&é"), r#""a\u003e\"\u003c\u0026é""#.as_bytes());
    }
}
