//! The layers of a transport: TLS, above it a codec, and the few bytes that are between two calls.
//! Not TLS or a codec itself.

use crate::codec::{Codec, Farewell, gather};
use crate::tls::{MAX_RECORD_BYTES, TlsSession};
use parking_lot::Mutex;
use std::cell::Cell;
use std::io::{self, ErrorKind, IoSlice};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::TcpStream;

/// The most bytes read from the socket at once.
const READ_BYTES: usize = 64 * 1024;
/// The most plain bytes encoded at once: four full TLS records.
const ENCODE_BYTES: usize = 64 * 1024;
/// A codec that makes much of little stops when it has got so far.
const DECODED_BYTES: usize = 64 * 1024;
/// A slice from this size on is encrypted from where it is; smaller ones are put together first.
const WORTH_OWN_RECORD_BYTES: usize = 8 * 1024;

/// Buffers of a thread, so that a connection holds none while nothing is left in them.
#[derive(Default)]
struct Scratch {
    incoming: Vec<u8>,
    plain: Vec<u8>,
    encoded: Vec<u8>,
    wire: Vec<u8>,
}

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

fn with_scratch<R>(work: impl FnOnce(&mut Scratch) -> R) -> R {
    let mut scratch = SCRATCH.take().unwrap_or_default();
    scratch.plain.clear();
    scratch.encoded.clear();
    scratch.wire.clear();
    let result = work(&mut scratch);
    SCRATCH.set(Some(scratch));
    result
}

/// What lies on a socket.
#[derive(Default)]
pub(crate) struct Layers {
    state: Mutex<State>,
    has_decoded: AtomicBool,
    wants_write: AtomicBool,
}

#[derive(Default)]
struct State {
    tls: Option<Box<TlsSession>>,
    codec: Option<Box<dyn Codec>>,
    /// Received and not decrypted: at most one incomplete record.
    incoming: Vec<u8>,
    /// Decoded and not read: what one read from the socket leads to, at most.
    decoded: Vec<u8>,
    decoded_at: usize,
    /// Decrypted and not taken by the codec, which had decoded enough for once.
    undecoded: Vec<u8>,
    /// Whether the codec has to be asked again before anything is read.
    has_undecoded: bool,
    /// Encoded and not written: what one write leads to, at most.
    outgoing: Vec<u8>,
    outgoing_at: usize,
    /// What reads answer once everything decoded was read.
    end: Option<End>,
    /// TLS has failed: nothing can be written any more.
    is_broken: bool,
    said_farewell: bool,
}

enum End {
    Orderly,
    Failed(ErrorKind, String),
}

impl End {
    fn answer(&self) -> io::Result<usize> {
        match self {
            Self::Orderly => Ok(0),
            Self::Failed(kind, text) => Err(io::Error::new(*kind, text.clone())),
        }
    }
}

impl Layers {
    /// Encrypts from here on. `incoming` is an incomplete record, `decoded` what came behind the handshake.
    pub(crate) fn set_tls(&self, session: Box<TlsSession>, incoming: Vec<u8>, decoded: Vec<u8>) {
        let mut state = self.state.lock();
        state.tls = Some(session);
        state.incoming = incoming;
        state.decoded = decoded;
        self.publish(&state);
    }

    /// `read` is what was read already and has to go through the codec first.
    pub(crate) fn set_codec(&self, codec: Box<dyn Codec>, read: &[u8]) {
        let mut state = self.state.lock();
        state.codec = Some(codec);
        // What was decoded without it came behind the agreement on it.
        let at = state.decoded_at;
        let unread = [read, state.decoded.get(at..).unwrap_or_default()].concat();
        state.decoded = Vec::new();
        state.decoded_at = 0;
        if !unread.is_empty() {
            let mut replies = Vec::new();
            state.decode_above(&unread, &mut Direct::none(), &mut replies);
            state.answer(&replies);
        }
        self.publish(&state);
    }

    pub(crate) fn has_decoded(&self) -> bool {
        self.has_decoded.load(Ordering::Acquire)
    }

    pub(crate) fn wants_write(&self) -> bool {
        self.wants_write.load(Ordering::Acquire)
    }

    fn publish(&self, state: &State) {
        let readable = state.decoded_at < state.decoded.len() || state.has_undecoded || state.end.is_some();
        self.has_decoded.store(readable, Ordering::Release);
        self.wants_write.store(!state.outgoing.is_empty(), Ordering::Release);
    }

    pub(crate) fn read(&self, socket: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state.lock();
        let result = loop {
            if let Some(count) = state.take_decoded(into) {
                break Ok(count);
            }
            if state.has_undecoded {
                state.decode_rest();
                continue;
            }
            if let Some(end) = &state.end {
                break end.answer();
            }
            let outcome = with_scratch(|scratch| state.read_more(socket, into, &mut scratch.incoming));
            match outcome {
                Ok(0) => {}
                other => break other,
            }
        };
        if !state.outgoing.is_empty() {
            // What the peer's bytes had to be answered with; the rest goes when the socket is writable.
            let _ = state.flush(socket);
        }
        self.publish(&state);
        result
    }

    pub(crate) fn write(&self, socket: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.state.lock();
        let result = match state.flush(socket) {
            Err(error) => Err(error),
            Ok(()) if state.said_farewell => Ok(slices.iter().map(|slice| slice.len()).sum()),
            Ok(()) => with_scratch(|scratch| state.write(socket, slices, scratch)),
        };
        self.publish(&state);
        result
    }

    pub(crate) fn flush(&self, socket: &TcpStream) -> io::Result<()> {
        let mut state = self.state.lock();
        let result = state.flush(socket);
        self.publish(&state);
        result
    }

    pub(crate) fn say_farewell(&self, socket: &TcpStream, farewell: Farewell<'_>) {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.said_farewell, true) {
            return;
        }
        let mut last = Vec::new();
        if let Some(codec) = &mut state.codec {
            codec.farewell(farewell, &mut last);
        }
        state.answer(&last);
        let State { tls, incoming, outgoing, .. } = &mut *state;
        if let Some(tls) = tls {
            // Without it the peer would take the end for an attack.
            state.is_broken = tls.close(incoming, outgoing).is_err();
        }
        let _ = state.flush(socket);
        self.publish(&state);
    }
}

/// Where decoded bytes go while there is room: the reader's own buffer.
struct Direct<'a> {
    into: &'a mut [u8],
    filled: usize,
}

impl Direct<'_> {
    fn none() -> Self {
        Self { into: &mut [], filled: 0 }
    }

    /// Takes as much as fits; returns the rest.
    fn take<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let room = self.into.get_mut(self.filled..).unwrap_or_default();
        let count = room.len().min(bytes.len());
        let (now, later) = bytes.split_at(count);
        if let Some(room) = room.get_mut(..count) {
            room.copy_from_slice(now);
        }
        self.filled += count;
        later
    }
}

impl State {
    fn take_decoded(&mut self, into: &mut [u8]) -> Option<usize> {
        let waiting = self.decoded.get(self.decoded_at..).filter(|waiting| !waiting.is_empty())?;
        let count = waiting.len().min(into.len());
        let (from, to) = (waiting.get(..count)?, into.get_mut(..count)?);
        to.copy_from_slice(from);
        self.decoded_at += count;
        if self.decoded_at == self.decoded.len() {
            self.decoded = Vec::new();
            self.decoded_at = 0;
        }
        Some(count)
    }

    /// Reads from the socket once and decodes; 0 says that what came was not enough for a byte.
    fn read_more(&mut self, socket: &TcpStream, into: &mut [u8], scratch: &mut Vec<u8>) -> io::Result<usize> {
        if scratch.is_empty() {
            scratch.resize(READ_BYTES + MAX_RECORD_BYTES, 0);
        }
        let kept = self.incoming.len().min(MAX_RECORD_BYTES);
        // A small reader gets a small read: before authentication little may pile up here.
        let limit = kept + into.len().min(READ_BYTES);
        scratch[..kept].copy_from_slice(&self.incoming[..kept]);
        let count = match socket.try_read(&mut scratch[kept..limit]) {
            Ok(0) => {
                self.end = Some(End::Orderly);
                return Ok(0);
            }
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(0),
            Err(error) => return Err(error),
        };
        let mut direct = Direct { into, filled: 0 };
        self.incoming.clear();
        self.decode(&mut scratch[..kept + count], &mut direct);
        Ok(direct.filled)
    }

    /// Takes what was received through TLS, if there is any, and the codec.
    fn decode(&mut self, received: &mut [u8], direct: &mut Direct<'_>) {
        let mut replies = Vec::new();
        let Some(mut tls) = self.tls.take() else {
            self.decode_above(received, direct, &mut replies);
            self.answer(&replies);
            return;
        };
        let mut outgoing = Vec::new();
        let result = {
            let mut sink = |plain: &[u8]| self.decode_above(plain, direct, &mut replies);
            tls.receive(received, &mut outgoing, &mut sink)
        };
        self.outgoing.extend_from_slice(&outgoing);
        match result {
            Ok(done) => {
                self.tls = Some(tls);
                let rest = received.get(done.consumed..).unwrap_or_default();
                self.incoming = rest.to_vec();
                if done.closed || rest.len() >= MAX_RECORD_BYTES {
                    self.end.get_or_insert(End::Orderly);
                }
            }
            Err(error) => {
                self.is_broken = true;
                self.end.get_or_insert(End::Failed(ErrorKind::Other, error.to_string()));
            }
        }
        self.answer(&replies);
    }

    /// Asks the codec for more of what it has left.
    fn decode_rest(&mut self) {
        let rest = std::mem::take(&mut self.undecoded);
        self.has_undecoded = false;
        let mut replies = Vec::new();
        self.decode_above(&rest, &mut Direct::none(), &mut replies);
        self.answer(&replies);
    }

    fn decode_above(&mut self, plain: &[u8], direct: &mut Direct<'_>, replies: &mut Vec<u8>) {
        if self.end.is_some() {
            return;
        }
        let Some(codec) = &mut self.codec else {
            let rest = if self.decoded.is_empty() { direct.take(plain) } else { plain };
            self.decoded.extend_from_slice(rest);
            return;
        };
        if self.has_undecoded {
            // In order; as little as one read brings in comes together here.
            self.undecoded.extend_from_slice(plain);
            return;
        }
        let before = self.decoded.len();
        let result = codec.decode_some(plain, DECODED_BYTES, &mut self.decoded, replies);
        if before == 0 {
            let taken = self.decoded.len() - direct.take(&self.decoded).len();
            if taken == self.decoded.len() {
                self.decoded.clear()
            } else {
                self.decoded_at = taken
            };
        }
        match result {
            Ok(taken) if taken.complete => {}
            Ok(taken) => {
                self.undecoded = plain.get(taken.bytes..).unwrap_or_default().to_vec();
                self.has_undecoded = true;
            }
            Err(error) => {
                self.end = Some(match error.kind() {
                    ErrorKind::UnexpectedEof => End::Orderly,
                    kind => End::Failed(kind, error.to_string()),
                });
            }
        }
    }

    /// Queues what a codec answers with, encrypted where there is TLS.
    fn answer(&mut self, replies: &[u8]) {
        if replies.is_empty() || self.is_broken {
            return;
        }
        let Self { tls, incoming, outgoing, .. } = self;
        match tls {
            None => outgoing.extend_from_slice(replies),
            Some(tls) => self.is_broken = tls.send(replies, incoming, outgoing).is_err(),
        }
    }

    fn write(
        &mut self,
        socket: &TcpStream,
        slices: &[IoSlice<'_>],
        scratch: &mut Scratch,
    ) -> io::Result<usize> {
        if self.is_broken {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let Self { tls, codec, incoming, is_broken, .. } = self;
        let mut send = |tls: &mut TlsSession, plain: &[u8], wire: &mut Vec<u8>| {
            tls.send(plain, incoming, wire).map_err(|error| {
                *is_broken = true;
                io::Error::other(error)
            })
        };
        let Scratch { plain, encoded, wire, .. } = scratch;
        let taken = match (codec, tls) {
            (Some(codec), None) => codec.encode(slices, ENCODE_BYTES, wire)?,
            (Some(codec), Some(tls)) => {
                let taken = codec.encode(slices, ENCODE_BYTES, encoded)?;
                send(tls, encoded, wire)?;
                taken
            }
            (None, Some(tls)) => match slices {
                [first, ..] if first.len() >= WORTH_OWN_RECORD_BYTES => {
                    let part = first.get(..first.len().min(ENCODE_BYTES)).unwrap_or_default();
                    send(tls, part, wire)?;
                    part.len()
                }
                _ => {
                    let taken = gather(slices, ENCODE_BYTES, plain);
                    send(tls, plain, wire)?;
                    taken
                }
            },
            (None, None) => gather(slices, ENCODE_BYTES, wire),
        };
        let mut at = 0;
        while let Some(rest) = wire.get(at..).filter(|rest| !rest.is_empty()) {
            match socket.try_write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => at += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.outgoing.extend_from_slice(rest);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }

    fn flush(&mut self, socket: &TcpStream) -> io::Result<()> {
        while let Some(rest) = self.outgoing.get(self.outgoing_at..).filter(|rest| !rest.is_empty()) {
            match socket.try_write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.outgoing_at += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.outgoing = Vec::new();
        self.outgoing_at = 0;
        Ok(())
    }
}
