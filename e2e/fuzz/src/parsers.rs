//! The wire: what clients and other servers send, in one piece and cut anywhere; the JSON in CONNECT and INFO.

use weir_proto::{
    ClientParser, ConnectOptions, Info, ParseError, Parsed, RouteConnect, RouteOp, RouteParser,
};

/// Small, so that inputs of the fuzzer's size reach the limits.
const MAX_PAYLOAD: usize = 64;
const MAX_CONTROL_LINE: usize = 48;
const MAX_ROUTE_LINE: usize = 96;

/// The first byte is the seed of the cuts, the rest the stream.
pub(crate) fn client(data: &[u8]) {
    let parser = ClientParser { max_control_line: MAX_CONTROL_LINE, max_payload: MAX_PAYLOAD };
    let Some((seed, stream)) = data.split_first() else { return };
    let whole = whole(stream, |buffer| parser.parse(buffer));
    in_pieces(*seed, stream, &whole, |buffer, expected| {
        Ok(match parser.parse(buffer)? {
            Parsed::Op(op, consumed) => {
                assert_eq!(Some(&op), expected);
                Some(consumed)
            }
            Parsed::Incomplete { total } => {
                assert!(total == 0 || total > buffer.len(), "{total} bytes are there already");
                None
            }
        })
    });
}

/// As `client`; the seed's top bit says whether the link is dedicated to one account.
pub(crate) fn route(data: &[u8]) {
    let Some((seed, stream)) = data.split_first() else { return };
    let parser =
        RouteParser { max_line: MAX_ROUTE_LINE, max_payload: MAX_PAYLOAD, dedicated: seed & 0x80 != 0 };
    let whole = whole(stream, |buffer| parser.parse(buffer));
    in_pieces(*seed, stream, &whole, |buffer, expected| {
        Ok(match parser.parse(buffer)? {
            Parsed::Op(op, consumed) => {
                assert_eq!(Some(&op), expected);
                if let RouteOp::Message(message) = &op {
                    assert!(message.queue_names().all(|name| !name.is_empty()));
                }
                Some(consumed)
            }
            Parsed::Incomplete { .. } => None,
        })
    });
}

/// What a parser made of a stream: its operations, and the error that ended it.
struct Whole<T> {
    operations: Vec<T>,
    error: Option<ParseError>,
}

fn whole<'a, T>(stream: &'a [u8], parse: impl Fn(&'a [u8]) -> Result<Parsed<T>, ParseError>) -> Whole<T> {
    let mut whole = Whole { operations: Vec::new(), error: None };
    let mut at = 0;
    loop {
        match parse(&stream[at..]) {
            Ok(Parsed::Op(operation, consumed)) => {
                assert!(consumed > 0 && at + consumed <= stream.len(), "{consumed} at {at}");
                at += consumed;
                whole.operations.push(operation);
            }
            Ok(Parsed::Incomplete { .. }) => return whole,
            Err(error) => {
                whole.error = Some(error);
                return whole;
            }
        }
    }
}

/// The same stream bit by bit: `parse` gets the operation that has to come next, and says how long it was.
fn in_pieces<T>(
    seed: u8,
    stream: &[u8],
    whole: &Whole<T>,
    parse: impl Fn(&[u8], Option<&T>) -> Result<Option<usize>, ParseError>,
) {
    let mut buffer: Vec<u8> = Vec::with_capacity(stream.len());
    let (mut at, mut count) = (0, 0);
    for piece in (Pieces { rest: stream, random: u64::from(seed) | 0x100 }) {
        buffer.extend_from_slice(piece);
        loop {
            match parse(&buffer[at..], whole.operations.get(count)) {
                Ok(Some(consumed)) => {
                    at += consumed;
                    count += 1;
                }
                Ok(None) => break,
                Err(error) => {
                    assert!(whole.error.is_some(), "{error:?} only in pieces");
                    assert_eq!(count, whole.operations.len());
                    return;
                }
            }
        }
    }
    assert_eq!(count, whole.operations.len());
    assert!(whole.error.is_none(), "{:?} only as a whole", whole.error);
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
