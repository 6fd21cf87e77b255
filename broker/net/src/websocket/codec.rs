//! A WebSocket as a transport's codec: messages in and out, control frames answered. Not the upgrade.

use super::deflate::{Inflate, deflate};
use super::frame::{self, BINARY, CLOSE, CONTINUATION, FrameDecoder, FrameError, Frames, PING, PONG};
use crate::codec::Taken;
use crate::codec::{Codec, Farewell, gather};
use std::io::{self, ErrorKind, IoSlice};

/// Frames for browsers are not longer than this, as in nats-server.
const BROWSER_FRAME_BYTES: usize = 4096;
/// Smaller batches are not compressed, as in nats-server.
const COMPRESS_THRESHOLD_BYTES: usize = 64;
/// A message may be this many times as long as `max_payload` before it is inflated, and at most so long.
const MESSAGE_MULTIPLE: u64 = 8;
const MAX_MESSAGE_BYTES: u64 = 64 * 1024 * 1024;
const MAX_PAYLOAD_TEXT: &str = "maximum payload exceeded";

/// What the upgrade has agreed on.
#[derive(Debug, Clone, Copy)]
pub struct FrameOptions {
    /// Whether the client masks its frames.
    pub masks: bool,
    /// Whether permessage-deflate was agreed on.
    pub compresses: bool,
    /// Whether it is a browser, which likes small frames.
    pub is_browser: bool,
    /// Whether compressed messages stay in one frame (Safari).
    pub keeps_compressed_whole: bool,
    /// `max_payload` in bytes.
    pub max_payload: usize,
}

/// The server's side of a WebSocket.
pub struct WebSocketCodec {
    options: FrameOptions,
    decoder: FrameDecoder,
    incoming: Incoming,
}

impl WebSocketCodec {
    /// A codec for the bytes behind the upgrade.
    pub fn new(options: FrameOptions) -> Self {
        Self {
            decoder: FrameDecoder::new(options.masks, options.compresses),
            incoming: Incoming {
                max_payload: options.max_payload,
                inflate: None,
                compressed_bytes: 0,
                inflated_bytes: 0,
                close_sent: false,
            },
            options,
        }
    }

    fn write_plain(&self, plain: &[IoSlice<'_>], limit: usize, encoded: &mut Vec<u8>) -> usize {
        let total = plain.iter().map(|slice| slice.len()).sum::<usize>().min(limit);
        if !self.options.is_browser || total <= BROWSER_FRAME_BYTES {
            encoded.reserve(total + 10);
            frame::write_header(encoded, BINARY, true, false, total);
            return gather(plain, total, encoded);
        }
        let mut gathered = Vec::with_capacity(total);
        gather(plain, total, &mut gathered);
        for piece in gathered.chunks(BROWSER_FRAME_BYTES) {
            frame::write_header(encoded, BINARY, true, false, piece.len());
            encoded.extend_from_slice(piece);
        }
        total
    }

    fn write_compressed(&self, plain: &[IoSlice<'_>], limit: usize, encoded: &mut Vec<u8>) -> usize {
        let mut gathered = Vec::new();
        let taken = gather(plain, limit, &mut gathered);
        let mut deflated = Vec::with_capacity(gathered.len() / 2 + 64);
        deflate(&gathered, &mut deflated);
        let in_pieces = self.options.is_browser && !self.options.keeps_compressed_whole;
        let step = if in_pieces { BROWSER_FRAME_BYTES } else { deflated.len().max(1) };
        let count = deflated.len().div_ceil(step);
        for (at, piece) in deflated.chunks(step).enumerate() {
            let opcode = if at == 0 { BINARY } else { CONTINUATION };
            // Only the first frame of a message is marked.
            frame::write_header(encoded, opcode, at + 1 == count, at == 0, piece.len());
            encoded.extend_from_slice(piece);
        }
        taken
    }
}

impl Codec for WebSocketCodec {
    fn decode(&mut self, input: &[u8], decoded: &mut Vec<u8>, replies: &mut Vec<u8>) -> io::Result<()> {
        self.decode_some(input, usize::MAX, decoded, replies).map(drop)
    }

    fn decode_some(
        &mut self,
        input: &[u8],
        limit: usize,
        decoded: &mut Vec<u8>,
        replies: &mut Vec<u8>,
    ) -> io::Result<Taken> {
        let mut sink = Sink { incoming: &mut self.incoming, limit, decoded, replies, end: None };
        let result = self.decoder.decode(input, &mut sink);
        let end = sink.end.take();
        match (result, end) {
            (_, Some(End::Closed)) => Err(ErrorKind::UnexpectedEof.into()),
            (_, Some(End::Failed(text))) => Err(io::Error::new(ErrorKind::InvalidData, text)),
            (Ok(taken), None) => Ok(taken),
            (Err(error), None) => {
                frame::write_close(replies, 1002, &error.0);
                self.incoming.close_sent = true;
                Err(io::Error::new(ErrorKind::InvalidData, error.0))
            }
        }
    }

    fn encode(&mut self, plain: &[IoSlice<'_>], limit: usize, encoded: &mut Vec<u8>) -> io::Result<usize> {
        let total: usize = plain.iter().map(|slice| slice.len()).sum();
        if total == 0 {
            return Ok(0);
        }
        if self.options.compresses && total > COMPRESS_THRESHOLD_BYTES {
            return Ok(self.write_compressed(plain, limit, encoded));
        }
        Ok(self.write_plain(plain, limit, encoded))
    }

    fn farewell(&mut self, end: Farewell<'_>, encoded: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.incoming.close_sent, true) {
            frame::write_close(encoded, end.status, end.text);
        }
    }
}

/// What lasts between two calls of the messages that come in.
struct Incoming {
    max_payload: usize,
    inflate: Option<Box<Inflate>>,
    compressed_bytes: u64,
    inflated_bytes: usize,
    close_sent: bool,
}

enum End {
    Closed,
    Failed(String),
}

struct Sink<'a> {
    incoming: &'a mut Incoming,
    limit: usize,
    decoded: &'a mut Vec<u8>,
    replies: &'a mut Vec<u8>,
    end: Option<End>,
}

impl Sink<'_> {
    /// Ends decoding; the text stays in `end`.
    fn stop<T>(&mut self, end: End) -> Result<T, FrameError> {
        self.end = Some(end);
        Err(FrameError(String::new()))
    }

    fn inflate(&mut self, piece: &[u8], ends: bool) -> Result<Taken, FrameError> {
        let incoming = &mut *self.incoming;
        let max = (incoming.max_payload as u64 * MESSAGE_MULTIPLE).min(MAX_MESSAGE_BYTES);
        let allowed = usize::try_from(max - incoming.compressed_bytes).unwrap_or(usize::MAX);
        // What is allowed is inflated first, so that the end does not depend on how the message was cut.
        let (piece, is_too_long) = match piece.get(..allowed) {
            Some(front) if front.len() < piece.len() => (front, true),
            _ => (piece, false),
        };
        let ends = ends && !is_too_long;
        let room = self.limit.saturating_sub(self.decoded.len());
        // One byte more than allowed tells that there is more.
        let room = room.min(incoming.max_payload + 1 - incoming.inflated_bytes);
        let stream = incoming.inflate.get_or_insert_with(|| Box::new(Inflate::new()));
        let before = self.decoded.len();
        let done = stream.inflate(piece, ends, room, self.decoded);
        incoming.inflated_bytes += self.decoded.len() - before;
        // Comes first: what is behind the byte too many does not matter, be it broken or not.
        if incoming.inflated_bytes > incoming.max_payload {
            self.decoded.pop();
            return self.stop(End::Failed(MAX_PAYLOAD_TEXT.to_owned()));
        }
        let done = match done {
            Ok(done) => done,
            Err(text) => return self.stop(End::Failed(text)),
        };
        incoming.compressed_bytes += done.consumed as u64;
        if is_too_long && done.drained {
            return self.stop(End::Failed(MAX_PAYLOAD_TEXT.to_owned()));
        }
        if ends && done.drained {
            if let Some(stream) = incoming.inflate.take() {
                stream.recycle();
            }
            incoming.compressed_bytes = 0;
            incoming.inflated_bytes = 0;
        }
        Ok(Taken { bytes: done.consumed, complete: done.drained })
    }

    fn on_close(&mut self, payload: &[u8]) -> Result<(), FrameError> {
        match payload {
            [] => frame::write_header(self.replies, CLOSE, true, false, 0),
            [_] => return Err(FrameError("close frame payload cannot be 1 byte".to_owned())),
            [high, low, body @ ..] => {
                let status = u16::from_be_bytes([*high, *low]);
                if !is_valid_status(status) {
                    return Err(FrameError(format!("invalid close status code {status}")));
                }
                match std::str::from_utf8(body) {
                    Ok(body) => frame::write_close(self.replies, status, body),
                    Err(_) => {
                        frame::write_close(self.replies, 1007, "invalid utf8 body in close frame");
                    }
                }
            }
        }
        self.incoming.close_sent = true;
        self.stop(End::Closed)
    }
}

fn is_valid_status(status: u16) -> bool {
    matches!(status, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

impl Frames for Sink<'_> {
    fn data(&mut self, piece: &[u8], compressed: bool, ends: bool) -> Result<Taken, FrameError> {
        if compressed {
            return self.inflate(piece, ends);
        }
        let room = self.limit.saturating_sub(self.decoded.len()).min(piece.len());
        self.decoded.extend_from_slice(piece.get(..room).unwrap_or_default());
        Ok(Taken { bytes: room, complete: room == piece.len() })
    }

    fn control(&mut self, opcode: u8, payload: &[u8]) -> Result<(), FrameError> {
        match opcode {
            CLOSE => self.on_close(payload),
            PING => {
                frame::write_header(self.replies, PONG, true, false, payload.len());
                self.replies.extend_from_slice(payload);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(compressed: &[u8], max_payload: usize) -> (Vec<u8>, String) {
        let mut codec = WebSocketCodec::new(FrameOptions {
            masks: false,
            compresses: true,
            is_browser: false,
            keeps_compressed_whole: false,
            max_payload,
        });
        let mut stream = Vec::new();
        frame::write_header(&mut stream, BINARY, true, true, compressed.len());
        stream.extend_from_slice(compressed);
        let (mut decoded, mut replies) = (Vec::new(), Vec::new());
        let error = codec.decode(&stream, &mut decoded, &mut replies).map_err(|error| error.to_string());
        (decoded, error.err().unwrap_or_default())
    }

    #[test]
    fn a_message_is_too_large_whatever_comes_behind_the_byte_too_many() {
        let mut stored = vec![0, 65, 0, !65, !0];
        stored.extend([b'x'; 65]);
        for behind in [&[][..], &[0x07], &[0, 1, 0]] {
            let (decoded, error) = decode(&[&stored[..], behind].concat(), 64);
            assert_eq!((decoded.len(), error.as_str()), (64, MAX_PAYLOAD_TEXT), "{behind:x?}");
        }
        let (decoded, error) = decode(&[&stored[..], &[0x07]].concat(), 65);
        assert_eq!((decoded.len(), error.starts_with("flate: corrupt input")), (65, true), "{error}");
    }

    #[test]
    fn a_message_is_too_large_when_eight_times_as_much_came_compressed() {
        let empty = [0, 0, 0, 0xFF, 0xFF].repeat(200);
        assert_eq!(decode(&empty[..800], 100), (vec![], String::new()));
        assert_eq!(decode(&empty[..805], 100), (vec![], MAX_PAYLOAD_TEXT.to_owned()));
    }
}
