//! Compressed answers and traces for those who ask with `Accept-Encoding`. Not the encoding of the wire.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use weir_proto::HeaderBlock;

/// The header's name.
pub(crate) const ACCEPT_ENCODING: &str = "Accept-Encoding";

/// The headers that an answer to a request with these headers is sent with, and its body as the requester wants it.
pub fn encoded(request_headers: &[u8], body: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    encoded_as(HeaderBlock(request_headers).get_str(ACCEPT_ENCODING).unwrap_or_default(), body)
}

/// The same by what is accepted; nothing said leaves the body as it is, without headers.
pub(crate) fn encoded_as(accepted: &str, body: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    if accepted.is_empty() {
        return (Vec::new(), body);
    }
    let accepted = accepted.to_lowercase();
    if accepted.contains("snappy") || accepted.contains("s2") {
        if let Some(packed) = snappy(&body) {
            return (header("snappy"), packed);
        }
    } else if accepted.contains("gzip")
        && let Some(packed) = gzip(&body)
    {
        return (header("gzip"), packed);
    }
    (header("identity"), body)
}

fn header(encoding: &str) -> Vec<u8> {
    format!("NATS/1.0\r\nContent-Encoding: {encoding}\r\n\r\n").into_bytes()
}

fn gzip(body: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}

/// The framed format, which readers of S2 read too.
fn snappy(body: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = snap::write::FrameEncoder::new(Vec::new());
    encoder.write_all(body).ok()?;
    encoder.into_inner().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn what_is_accepted_decides() {
        let asked = |accepted: &str| {
            let headers = format!("NATS/1.0\r\nAccept-Encoding: {accepted}\r\n\r\n");
            encoded(headers.as_bytes(), b"{}".to_vec())
        };
        let (headers, body) = asked("gzip, deflate");
        assert!(headers.ends_with(b"Content-Encoding: gzip\r\n\r\n"));
        let mut text = String::new();
        flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut text).expect("gzip");
        assert_eq!(text, "{}");
        let (headers, body) = asked("S2");
        assert!(headers.ends_with(b"Content-Encoding: snappy\r\n\r\n"));
        let mut text = String::new();
        snap::read::FrameDecoder::new(&body[..]).read_to_string(&mut text).expect("snappy");
        assert_eq!(text, "{}");
        assert_eq!(asked("br"), (header("identity"), b"{}".to_vec()));
        assert_eq!(encoded(b"", b"{}".to_vec()), (Vec::new(), b"{}".to_vec()));
    }
}
