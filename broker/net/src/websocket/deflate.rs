//! permessage-deflate without context takeover (RFC 7692): each message by itself. Not frames.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use std::cell::{Cell, RefCell};

/// What a sync flush ends with; taken off a message and put back before inflating (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];

thread_local! {
    /// One for all connections of a thread: it is large, and each message begins anew.
    static COMPRESS: RefCell<Compress> = RefCell::new(Compress::new(Compression::fast(), false));
    /// The window of a message that is through, for the next one.
    static SPARE: Cell<Option<Decompress>> = const { Cell::new(None) };
}

/// Appends `plain` as one deflated message.
pub(super) fn deflate(plain: &[u8], out: &mut Vec<u8>) {
    COMPRESS.with_borrow_mut(|compress| {
        compress.reset();
        let mut at = 0;
        loop {
            out.reserve((plain.len() - at) / 2 + 256);
            let before = compress.total_in();
            let rest = plain.get(at..).unwrap_or_default();
            let status = compress.compress_vec(rest, out, FlushCompress::Sync);
            at += usize::try_from(compress.total_in() - before).unwrap_or(0);
            // Room that was not used up says that the flush is complete.
            if status.is_err() || (at >= plain.len() && out.len() < out.capacity()) {
                break;
            }
        }
    });
    if out.ends_with(&TAIL) {
        out.truncate(out.len() - TAIL.len());
    }
}

/// One deflated message on its way in.
pub(super) struct Inflate {
    stream: Decompress,
    /// How many bytes of the tail were handed in.
    tail_at: usize,
    /// The last step used up its room: what was taken may lead to more.
    is_full: bool,
}

/// How an inflation went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inflated {
    /// Bytes of the input that were taken.
    pub(super) consumed: usize,
    /// Whether the input was taken and all that it leads to has come.
    pub(super) drained: bool,
}

impl Inflate {
    pub(super) fn new() -> Self {
        let stream = SPARE.take().unwrap_or_else(|| Decompress::new(false));
        Self { stream, tail_at: 0, is_full: false }
    }

    /// Leaves the window to the thread's next message.
    pub(super) fn recycle(mut self) {
        self.stream.reset(false);
        SPARE.set(Some(self.stream));
    }

    /// Inflates `input` behind what `out` has, by at most `room` bytes. With `ends`, `input` is the last piece.
    pub(super) fn inflate(
        &mut self,
        input: &[u8],
        ends: bool,
        room: usize,
        out: &mut Vec<u8>,
    ) -> Result<Inflated, String> {
        let limit = out.len() + room;
        let mut consumed = 0;
        while consumed < input.len() || self.is_full {
            let rest = input.get(consumed..).unwrap_or_default();
            let step = self.step(rest, limit, out)?;
            consumed += step.consumed;
            if step.ended {
                // A final block ends the message; what follows has no meaning (as Go ignores it).
                return Ok(Inflated { consumed: input.len(), drained: true });
            }
            if self.is_full && out.len() == limit {
                return Ok(Inflated { consumed, drained: false });
            }
        }
        while ends && (self.tail_at < TAIL.len() || self.is_full) {
            let rest = TAIL.get(self.tail_at..).unwrap_or_default();
            let step = self.step(rest, limit, out)?;
            self.tail_at += step.consumed;
            if step.ended {
                break;
            }
            if self.is_full && out.len() == limit {
                return Ok(Inflated { consumed, drained: false });
            }
        }
        Ok(Inflated { consumed, drained: true })
    }

    /// One call of the library. It takes all of `input` unless its room is used up or the stream has ended.
    fn step(&mut self, input: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<Step, String> {
        /// Grows by this, so that a bomb does not reserve the limit.
        const GROWTH_BYTES: usize = 8 * 1024;
        let at = out.len();
        let room = limit.saturating_sub(at).min(GROWTH_BYTES);
        out.resize(at + room, 0);
        let (before_in, before_out) = (self.stream.total_in(), self.stream.total_out());
        let status =
            self.stream.decompress(input, out.get_mut(at..).unwrap_or_default(), FlushDecompress::None);
        let consumed = usize::try_from(self.stream.total_in() - before_in).unwrap_or(0);
        let produced = usize::try_from(self.stream.total_out() - before_out).unwrap_or(0);
        out.truncate(at + produced);
        self.is_full = produced == room;
        match status {
            Ok(Status::StreamEnd) => Ok(Step { consumed, ended: true }),
            Ok(_) if consumed == input.len() || self.is_full => Ok(Step { consumed, ended: false }),
            _ => Err(format!("flate: corrupt input before offset {}", self.stream.total_in())),
        }
    }
}

struct Step {
    consumed: usize,
    ended: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inflate_in_pieces(deflated: &[u8], size: usize, room: usize) -> Vec<u8> {
        let mut inflate = Inflate::new();
        let mut out = Vec::new();
        let mut at = 0;
        loop {
            let piece = &deflated[at..deflated.len().min(at + size)];
            let ends = at + piece.len() == deflated.len();
            let done = inflate.inflate(piece, ends, room, &mut out).expect("valid");
            at += done.consumed;
            if ends && done.drained {
                return out;
            }
        }
    }

    #[test]
    fn messages_are_the_same_in_whatever_pieces_they_come() {
        let plain: Vec<u8> = (0..200_000u32).flat_map(|at| (at / 7).to_le_bytes()).collect();
        for length in [0, 1, 65, 1000, plain.len()] {
            let mut deflated = Vec::new();
            deflate(&plain[..length], &mut deflated);
            for (size, room) in [(1, 100), (1000, 1000), (1 << 20, 64 * 1024)] {
                assert!(inflate_in_pieces(&deflated, size, room) == plain[..length], "{length} {size}");
            }
        }
    }

    #[test]
    fn all_that_a_piece_leads_to_comes_before_the_next_piece() {
        let plain = vec![7; 5000];
        let mut deflated = Vec::new();
        deflate(&plain, &mut deflated);
        let front = &deflated[..deflated.len() - 1];
        let mut at_once = Vec::new();
        Inflate::new().inflate(front, false, 10_000, &mut at_once).expect("valid");
        assert!(at_once.len() > 4000, "{}", at_once.len());
        let (mut inflate, mut in_steps, mut at) = (Inflate::new(), Vec::new(), 0);
        loop {
            let done = inflate.inflate(&front[at..], false, 100, &mut in_steps).expect("valid");
            at += done.consumed;
            if done.drained {
                break;
            }
        }
        assert!(at == front.len() && in_steps == at_once, "{} of {}", in_steps.len(), at_once.len());
    }

    #[test]
    fn a_window_that_served_a_message_serves_the_next() {
        let mut deflated = Vec::new();
        deflate(b"one and the same", &mut deflated);
        for _ in 0..2 {
            let (mut inflate, mut out) = (Inflate::new(), Vec::new());
            assert!(inflate.inflate(&deflated, true, 100, &mut out).expect("valid").drained);
            assert_eq!(out, b"one and the same");
            inflate.recycle();
        }
        // A distance that reaches into the message before is refused.
        let mut out = Vec::new();
        assert!(Inflate::new().inflate(&[0x03, 0x02, 0x00], true, 100, &mut out).is_err());
    }

    #[test]
    fn what_is_not_deflated_is_refused() {
        let mut out = Vec::new();
        assert!(Inflate::new().inflate(&[0xFF; 40], true, 1000, &mut out).is_err());
    }
}
