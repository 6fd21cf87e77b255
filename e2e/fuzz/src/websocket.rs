//! WebSocket: frames cut anywhere, what is written read back, the request for the upgrade. PROXY headers.

use std::io::{ErrorKind, IoSlice};
use weir_net::Codec;
use weir_net::websocket::{
    AllowedOrigin, CookieNames, FrameOptions, OriginRules, ParsedRequest, UpgradeRules, WebSocketCodec,
    judge, parse_request,
};

/// Small, so that inputs of the fuzzer's size reach the limits: a compressed message may have eight times as much.
const MAX_PAYLOAD: usize = 64;
/// At most so much is made of one step.
const STEP_BYTES: usize = 24;

/// The first byte holds the options, the second the size of the pieces; the rest is the stream.
pub(crate) fn frames(data: &[u8]) {
    let [options, piece, stream @ ..] = data else { return };
    let options = options_of(*options);
    let whole = decode(options, std::iter::once(stream));
    let pieces = decode(options, stream.chunks(usize::from(*piece % 23) + 1));
    assert_eq!(whole, pieces);
    if data[0] & 16 != 0 {
        written_reads_back(options, stream);
    }
}

fn options_of(bits: u8) -> FrameOptions {
    FrameOptions {
        masks: bits & 1 != 0,
        compresses: bits & 2 != 0,
        is_browser: bits & 4 != 0,
        keeps_compressed_whole: bits & 8 != 0,
        max_payload: MAX_PAYLOAD,
    }
}

/// What a stream was heard as.
#[derive(Debug, PartialEq, Eq)]
struct Heard {
    /// The messages' bytes.
    decoded: Vec<u8>,
    /// What was answered to control frames.
    replies: Vec<u8>,
    /// How it ended; `None` when more may come.
    end: Option<ErrorKind>,
}

fn decode<'a>(options: FrameOptions, pieces: impl Iterator<Item = &'a [u8]>) -> Heard {
    let mut codec = WebSocketCodec::new(options);
    let mut heard = Heard { decoded: Vec::new(), replies: Vec::new(), end: None };
    let mut step = Vec::new();
    for mut input in pieces {
        loop {
            step.clear();
            let taken = codec.decode_some(input, STEP_BYTES, &mut step, &mut heard.replies);
            assert!(step.len() <= STEP_BYTES, "{} at once", step.len());
            heard.decoded.extend_from_slice(&step);
            let taken = match taken {
                Ok(taken) => taken,
                Err(error) => {
                    heard.end = Some(error.kind());
                    return heard;
                }
            };
            assert!(taken.bytes <= input.len());
            assert!(taken.complete || taken.bytes > 0 || !step.is_empty(), "no progress");
            input = &input[taken.bytes..];
            if taken.complete {
                assert!(input.is_empty());
                break;
            }
        }
    }
    heard
}

fn written_reads_back(options: FrameOptions, plain: &[u8]) {
    let mut codec = WebSocketCodec::new(options);
    let mut encoded = Vec::new();
    let mut rest = plain;
    while !rest.is_empty() {
        let taken = codec.encode(&[IoSlice::new(rest)], 4096, &mut encoded).expect("encodes");
        assert!(taken > 0);
        rest = &rest[taken..];
    }
    // The server's own frames are not masked.
    let max_payload = plain.len().max(MAX_PAYLOAD);
    let read = decode(FrameOptions { masks: false, max_payload, ..options }, std::iter::once(&encoded[..]));
    assert_eq!(read, Heard { decoded: plain.to_vec(), replies: Vec::new(), end: None });
}

/// A request as it comes in.
pub(crate) fn upgrade(data: &[u8]) {
    let request = match parse_request(data) {
        ParsedRequest::Complete(request, length) => {
            assert!(length <= data.len());
            request
        }
        ParsedRequest::Incomplete | ParsedRequest::Malformed(_) => return,
    };
    if let Some(origin) = request.header("origin") {
        let _ = AllowedOrigin::parse(origin);
    }
    let name = |name: &str| Some(name.to_owned());
    for strict in [false, true] {
        let rules = UpgradeRules {
            origins: OriginRules {
                same_origin: strict,
                allowed: if strict {
                    AllowedOrigin::parse("https://example.org").into_iter().collect()
                } else {
                    Vec::new()
                },
            },
            compression: true,
            headers: String::new(),
            cookies: CookieNames { jwt: name("j"), user: name("u"), password: name("p"), token: name("t") },
            over_tls: strict,
            mqtt: !strict,
            max_payload: MAX_PAYLOAD,
        };
        if let Err(refusal) = judge(&request, &rules) {
            let _ = refusal.response("Thu, 01 Jan 1970 00:00:00 GMT");
        }
    }
}
