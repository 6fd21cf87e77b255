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
        if incoming.compressed_bytes + piece.len() as u64 > max {
            return self.stop(End::Failed(MAX_PAYLOAD_TEXT.to_owned()));
        }
        let room = self.limit.saturating_sub(self.decoded.len());
        // One byte more than allowed tells that there is more.
        let room = room.min(incoming.max_payload + 1 - incoming.inflated_bytes);
        let stream = incoming.inflate.get_or_insert_with(|| Box::new(Inflate::new()));
        let before = self.decoded.len();
        let done = match stream.inflate(piece, ends, room, self.decoded) {
            Ok(done) => done,
            Err(text) => return self.stop(End::Failed(text)),
        };
        incoming.inflated_bytes += self.decoded.len() - before;
        incoming.compressed_bytes += done.consumed as u64;
        if incoming.inflated_bytes > incoming.max_payload {
            self.decoded.pop();
            return self.stop(End::Failed(MAX_PAYLOAD_TEXT.to_owned()));
        }
        if ends && done.drained {
            incoming.inflate = None;
            incoming.compressed_bytes = 0;
            incoming.inflated_bytes = 0;
        }
        let complete = if ends { done.drained } else { done.consumed == piece.len() };
        Ok(Taken { bytes: done.consumed, complete })
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
