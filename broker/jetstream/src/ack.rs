//! The JSON of a publish acknowledgement, with nats-server's fields in its order. Not the machine's outcome
//! itself, nor where it is sent.

use bytes::{BufMut, BytesMut};

use crate::command::{FlowReply, PublishOutcome};

/// Writes the acknowledgements of one stream: what is the same in each is encoded once.
#[derive(Debug)]
pub struct PubAckWriter {
    /// From the stream's name up to the sequence.
    before_sequence: Vec<u8>,
    /// The domain, if there is one.
    after_sequence: Vec<u8>,
}

impl PubAckWriter {
    pub fn new(stream: &str, domain: Option<&str>) -> Self {
        let mut before_sequence = b"\"stream\":".to_vec();
        before_sequence.extend(serde_json::to_vec(stream).unwrap_or_default());
        before_sequence.extend_from_slice(b",\"seq\":");
        let mut after_sequence = Vec::new();
        if let Some(domain) = domain {
            after_sequence.extend_from_slice(b",\"domain\":");
            after_sequence.extend(serde_json::to_vec(domain).unwrap_or_default());
        }
        Self { before_sequence, after_sequence }
    }

    /// Appends one acknowledgement; a refused publish has the error and sequence 0.
    pub fn write(&self, out: &mut BytesMut, outcome: &PublishOutcome) {
        out.put_u8(b'{');
        if let PublishOutcome::Rejected(error) = outcome {
            out.put_slice(b"\"error\":");
            // Serialising three plain fields cannot fail.
            out.put_slice(&serde_json::to_vec(error).unwrap_or_default());
            out.put_u8(b',');
        }
        let (seq, duplicate) = match outcome {
            PublishOutcome::Stored { seq }
            | PublishOutcome::Counted { seq, .. }
            | PublishOutcome::Committed { seq, .. } => (*seq, false),
            PublishOutcome::Duplicate { seq } => (*seq, true),
            PublishOutcome::Rejected(_) | PublishOutcome::Flow(_) => (0, false),
        };
        let mut digits = [0_u8; 20];
        out.put_slice(&self.before_sequence);
        out.put_slice(decimal(seq, &mut digits));
        out.put_slice(&self.after_sequence);
        if duplicate {
            out.put_slice(b",\"duplicate\":true");
        }
        match outcome {
            PublishOutcome::Counted { value, .. } => {
                out.put_slice(b",\"val\":");
                out.put_slice(&serde_json::to_vec(value).unwrap_or_default());
            }
            PublishOutcome::Committed { batch, count, .. } => {
                out.put_slice(b",\"batch\":");
                out.put_slice(&serde_json::to_vec(&String::from_utf8_lossy(batch)).unwrap_or_default());
                out.put_slice(b",\"count\":");
                out.put_slice(decimal(*count, &mut digits));
            }
            _ => {}
        }
        out.put_u8(b'}');
    }
}

/// Appends one acknowledgement, where there is one only.
pub fn write_pub_ack(out: &mut BytesMut, stream: &str, domain: Option<&str>, outcome: &PublishOutcome) {
    PubAckWriter::new(stream, domain).write(out, outcome);
}

/// Appends one answer to the client of a fast batch.
pub fn write_flow_reply(out: &mut BytesMut, stream: &str, domain: Option<&str>, reply: &FlowReply) {
    let text = match reply {
        FlowReply::Ack { seq, every } => format!(r#"{{"type":"ack","seq":{seq},"msgs":{every}}}"#),
        FlowReply::Gap { expected, found } => {
            format!(r#"{{"type":"gap","last_seq":{expected},"seq":{found}}}"#)
        }
        FlowReply::Error { seq, error } => {
            let error = serde_json::to_string(error).unwrap_or_default();
            format!(r#"{{"type":"err","seq":{seq},"error":{error}}}"#)
        }
        FlowReply::Duplicate { seq, batch, count } => {
            write_pub_ack(out, stream, domain, &PublishOutcome::Duplicate { seq: *seq });
            out.truncate(out.len() - 1);
            let batch = serde_json::to_string(&String::from_utf8_lossy(batch)).unwrap_or_default();
            format!(r#","batch":{batch},"count":{count}}}"#)
        }
        FlowReply::Published(outcome) => return write_pub_ack(out, stream, domain, outcome),
    };
    out.put_slice(text.as_bytes());
}

/// Decimal digits of `value` at the end of `digits`.
fn decimal(mut value: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return &digits[start..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(outcome: &PublishOutcome, domain: Option<&str>) -> String {
        let mut out = BytesMut::new();
        write_pub_ack(&mut out, "ORDERS", domain, outcome);
        String::from_utf8(out.to_vec()).expect("text")
    }

    #[test]
    fn a_stored_message_is_acknowledged_with_stream_and_sequence() {
        assert_eq!(written(&PublishOutcome::Stored { seq: 1020 }, None), r#"{"stream":"ORDERS","seq":1020}"#);
    }

    #[test]
    fn what_is_encoded_once_is_what_is_encoded_each_time() {
        for domain in [None, Some("hub")] {
            let writer = PubAckWriter::new("ORDERS", domain);
            for outcome in [PublishOutcome::Stored { seq: 1020 }, PublishOutcome::Duplicate { seq: 7 }] {
                let mut out = BytesMut::new();
                writer.write(&mut out, &outcome);
                assert_eq!(out, written(&outcome, domain));
            }
        }
    }

    #[test]
    fn a_duplicate_carries_the_first_sequence_and_says_so() {
        assert_eq!(
            written(&PublishOutcome::Duplicate { seq: 0 }, Some("hub")),
            r#"{"stream":"ORDERS","seq":0,"domain":"hub","duplicate":true}"#
        );
    }

    #[test]
    fn a_counter_says_its_value_and_a_batch_its_size() {
        assert_eq!(
            written(&PublishOutcome::Counted { seq: 2, value: "-7".to_owned() }, None),
            r#"{"stream":"ORDERS","seq":2,"val":"-7"}"#
        );
        let batch = bytes::Bytes::from_static(b"b\"1");
        assert_eq!(
            written(&PublishOutcome::Committed { seq: 9, batch, count: 3 }, None),
            r#"{"stream":"ORDERS","seq":9,"batch":"b\"1","count":3}"#
        );
    }

    #[test]
    fn a_refusal_carries_its_error_and_sequence_0() {
        let outcome = PublishOutcome::Rejected(weir_jsapi::errors::STREAM_SEALED.error());
        assert_eq!(
            written(&outcome, None),
            r#"{"error":{"code":400,"err_code":10109,"description":"invalid operation on sealed stream"},"stream":"ORDERS","seq":0}"#
        );
    }
}
