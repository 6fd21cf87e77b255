//! The wire: what clients and other servers send, in one piece and cut anywhere; the JSON in CONNECT and INFO.

use weir_proto::{ClientParser, ConnectOptions, Info, ParseError, Parsed, RouteConnect, RouteParser};

/// Small, so that inputs of the fuzzer's size reach the limits.
const MAX_PAYLOAD: usize = 64;
const MAX_CONTROL_LINE: usize = 48;

/// What a parser made of a stream: its operations, and the error that ended it.
type Outcome = (Vec<String>, Option<ParseError>);

/// The first byte is the seed of the cuts, the rest the stream.
pub(crate) fn client(data: &[u8]) {
    let parser = ClientParser { max_control_line: MAX_CONTROL_LINE, max_payload: MAX_PAYLOAD };
    compare(data, |buffer| {
        Ok(match parser.parse(buffer)? {
            Parsed::Op(op, consumed) => Some((format!("{op:?}"), consumed)),
            Parsed::Incomplete { total } => {
                assert!(total == 0 || total > buffer.len(), "{total} bytes are there already");
                None
            }
        })
    });
}

/// As `client`; the seed's top bit says whether the link is dedicated to one account.
pub(crate) fn route(data: &[u8]) {
    let dedicated = data.first().is_some_and(|first| first & 0x80 != 0);
    let parser = RouteParser { max_payload: MAX_PAYLOAD, dedicated };
    compare(data, |buffer| {
        Ok(match parser.parse(buffer)? {
            Parsed::Op(op, consumed) => {
                if let weir_proto::RouteOp::Message(message) = &op {
                    assert!(message.queue_names().all(|name| !name.is_empty()));
                }
                Some((format!("{op:?}"), consumed))
            }
            Parsed::Incomplete { .. } => None,
        })
    });
}

fn compare(data: &[u8], parse: impl Fn(&[u8]) -> Result<Option<(String, usize)>, ParseError>) {
    let Some((seed, stream)) = data.split_first() else { return };
    let whole = consume(std::iter::once(stream), &parse);
    let pieces = consume(Pieces { rest: stream, random: u64::from(*seed) | 0x100 }, &parse);
    assert_eq!(whole.0, pieces.0, "operations");
    assert_eq!(whole.1.is_some(), pieces.1.is_some(), "errors {:?} and {:?}", whole.1, pieces.1);
}

fn consume<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    parse: impl Fn(&[u8]) -> Result<Option<(String, usize)>, ParseError>,
) -> Outcome {
    let mut buffer: Vec<u8> = Vec::new();
    let mut operations = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match parse(&buffer) {
                Ok(Some((operation, consumed))) => {
                    assert!(consumed > 0 && consumed <= buffer.len(), "{consumed} of {}", buffer.len());
                    operations.push(operation);
                    buffer.drain(..consumed);
                }
                Ok(None) => break,
                Err(error) => return (operations, Some(error)),
            }
        }
    }
    (operations, None)
}

/// A stream in pieces of 1 to 16 bytes.
struct Pieces<'a> {
    rest: &'a [u8],
    random: u64,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let size = (1 + (self.random & 0xF) as usize).min(self.rest.len());
        let (piece, rest) = self.rest.split_at(size);
        self.rest = rest;
        Some(piece)
    }
}

/// The JSON of CONNECT and INFO.
pub(crate) fn connect(data: &[u8]) {
    let _ = ConnectOptions::from_json(data);
    let _ = RouteConnect::from_json(data);
    if let Ok(info) = Info::from_json(data) {
        let line = info.to_line();
        let json =
            line.strip_prefix(b"INFO ").and_then(|line| line.strip_suffix(b" \r\n")).expect("an INFO line");
        Info::from_json(json).expect("what was written reads back");
    }
}
