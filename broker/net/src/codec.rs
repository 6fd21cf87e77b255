//! The seam for what lies above TLS or the socket: framing or compression of the whole stream. Not one of them.

use std::io::{self, IoSlice};

/// How much was taken of what was handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Bytes from the front.
    pub bytes: usize,
    /// Whether that was all of it, and nothing of it is still to be handed on. Else the rest, which may be
    /// empty, has to be handed in again.
    pub complete: bool,
}

/// Turns a connection's bytes into those on the wire and back. Sans-io; called under the transport's lock.
pub trait Codec: Send {
    /// Decodes `input`, all of it, behind what `decoded` has. What has to be answered at once goes into `replies`
    /// as it shall be on the wire. After an error nothing is decoded any more; what was decoded before counts.
    /// `UnexpectedEof` stands for an orderly end.
    fn decode(&mut self, input: &[u8], decoded: &mut Vec<u8>, replies: &mut Vec<u8>) -> io::Result<()>;

    /// Like `decode`, but stops when `decoded` has got to about `limit` bytes. For codecs that make much of little.
    fn decode_some(
        &mut self,
        input: &[u8],
        _limit: usize,
        decoded: &mut Vec<u8>,
        replies: &mut Vec<u8>,
    ) -> io::Result<Taken> {
        self.decode(input, decoded, replies)?;
        Ok(Taken { bytes: input.len(), complete: true })
    }

    /// Encodes up to `limit` bytes of `plain` behind what `encoded` has; returns how many it took.
    fn encode(&mut self, plain: &[IoSlice<'_>], limit: usize, encoded: &mut Vec<u8>) -> io::Result<usize>;

    /// What has to be written last, for a connection that ends for this reason.
    fn farewell(&mut self, _end: Farewell<'_>, _encoded: &mut Vec<u8>) {}
}

/// Why a connection ends, for layers that tell the peer.
#[derive(Debug, Clone, Copy)]
pub struct Farewell<'a> {
    /// A WebSocket close status (RFC 6455 section 7.4).
    pub status: u16,
    /// The reason in words.
    pub text: &'a str,
}

/// Appends up to `limit` bytes of `plain` to `out`; returns how many.
pub fn gather(plain: &[IoSlice<'_>], limit: usize, out: &mut Vec<u8>) -> usize {
    let mut taken = 0;
    for slice in plain {
        let part = slice.len().min(limit - taken);
        out.extend_from_slice(slice.get(..part).unwrap_or_default());
        taken += part;
        if taken == limit {
            break;
        }
    }
    taken
}
