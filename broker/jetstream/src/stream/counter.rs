//! Counters (ADR-49): a subject's last message holds its value, an increment stores the next one. What came from other
//! streams is kept apart by origin, so that it is never counted twice. Not who may publish one.

use std::collections::BTreeMap;

use bytes::Bytes;
use num_bigint::BigInt;
use serde::Deserialize;
use weir_jsapi::{ApiError, errors, headers as names};

use super::StreamMachine;
use crate::command::PublishRecord;
use crate::headers;
use crate::publish_headers::{Name, PublishHeaders};
use crate::store::{Lookup, Store};

/// The values last seen of each origin: by stream, then by subject.
type Sources = BTreeMap<String, BTreeMap<String, String>>;

/// A counter's value and where it came from.
#[derive(Debug, Clone, Default)]
pub(super) struct Counter {
    total: BigInt,
    sources: Sources,
}

/// The body of a counter's message.
#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    val: String,
}

/// The `Nats-Incr` of a message: `None` when it has none.
pub(super) fn increment(headers: &PublishHeaders<'_>) -> Result<Option<BigInt>, ApiError> {
    let Some(text) = headers.get(Name::Increment) else { return Ok(None) };
    number(text).map(Some).ok_or_else(|| errors::MESSAGE_INCR_INVALID.error())
}

/// What a client's increment may not come with.
pub(super) fn check_increment(
    headers: &PublishHeaders<'_>,
    is_allowed: bool,
    payload: &[u8],
) -> Result<(), ApiError> {
    const EXCLUDED: [Name; 6] = [
        Name::Rollup,
        Name::ExpectedStream,
        Name::ExpectedLastMsgId,
        Name::ExpectedLastSubjectSequenceSubject,
        Name::ExpectedLastSequence,
        Name::ExpectedLastSubjectSequence,
    ];
    if !is_allowed {
        return Err(errors::MESSAGE_INCR_DISABLED.error());
    }
    if !payload.is_empty() {
        return Err(errors::MESSAGE_INCR_PAYLOAD.error());
    }
    if EXCLUDED.iter().any(|&name| headers.get(name).is_some()) {
        return Err(errors::MESSAGE_INCR_INVALID.error());
    }
    Ok(())
}

/// Decimal digits after an optional sign.
fn number(text: &[u8]) -> Option<BigInt> {
    let digits = text.strip_prefix(b"+").or_else(|| text.strip_prefix(b"-")).unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let magnitude = BigInt::parse_bytes(digits, 10)?;
    Some(if text.starts_with(b"-") { -magnitude } else { magnitude })
}

fn broken<E>(_: E) -> ApiError {
    errors::MESSAGE_COUNTER_BROKEN.error()
}

fn value_of(payload: &[u8]) -> Result<BigInt, ApiError> {
    let body: Body = serde_json::from_slice(payload).map_err(broken)?;
    Ok(number(body.val.as_bytes()).unwrap_or_default())
}

impl Counter {
    /// Adds an increment and makes the message say the result; gives the new value as text.
    pub(super) fn add(
        &mut self,
        mut increment: BigInt,
        source: Option<&[u8]>,
        record: &mut PublishRecord,
    ) -> Result<String, ApiError> {
        if let Some(source) = source {
            increment = self.increment_from(source, record)?;
            record.headers = headers::set(&record.headers, names::MSG_INCREMENT, &increment.to_string());
        }
        self.total += increment;
        let value = self.total.to_string();
        record.payload = Bytes::from(format!("{{\"val\":\"{value}\"}}"));
        if !self.sources.is_empty() {
            let text = String::from_utf8(weir_jsapi::json::encode(&self.sources)).map_err(broken)?;
            record.headers = headers::set(&record.headers, names::COUNTER_SOURCES, &text);
        }
        Ok(value)
    }

    /// What an origin's new value adds to what it had before.
    fn increment_from(&mut self, source: &[u8], record: &PublishRecord) -> Result<BigInt, ApiError> {
        let value = value_of(&record.payload)?;
        let source = String::from_utf8_lossy(source);
        let mut fields = source.split(' ');
        let stream = fields.next().unwrap_or_default().to_owned();
        let subject = match fields.nth(3) {
            Some(subject) => subject.to_owned(),
            None => String::from_utf8_lossy(&record.subject).into_owned(),
        };
        let subjects = self.sources.entry(stream).or_default();
        let before = subjects.insert(subject, value.to_string());
        let before = before.and_then(|text| number(text.as_bytes())).unwrap_or_default();
        Ok(value - before)
    }
}

impl<S: Store> StreamMachine<S> {
    /// The counter of a subject as its last message has it.
    pub(super) fn counter(&self, subject: &[u8]) -> Result<Counter, ApiError> {
        let last = self.store.subject_state(subject).map(|state| self.store.get(state.last));
        let Some(Ok(Lookup::Found(message))) = last else { return Ok(Counter::default()) };
        let total = value_of(&message.payload)?;
        let sources = match headers::get(&message.headers, names::COUNTER_SOURCES) {
            Some(text) if !text.is_empty() => serde_json::from_slice(text).map_err(broken)?,
            _ => Sources::default(),
        };
        Ok(Counter { total, sources })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_decimal_with_an_optional_sign() {
        assert_eq!(number(b"+12"), Some(BigInt::from(12)));
        assert_eq!(number(b"-0"), Some(BigInt::from(0)));
        for text in ["", "+", "-", "1_0", "0x1", "1.0", " 1", "--1"] {
            assert_eq!(number(text.as_bytes()), None, "{text}");
        }
        let long = "9".repeat(60);
        assert_eq!(number(long.as_bytes()).map(|value| value.to_string()), Some(long));
    }
}
