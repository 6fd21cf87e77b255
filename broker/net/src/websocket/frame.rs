//! Frames of a WebSocket, taken apart and put together. Sans-io; not compression.

use crate::codec::Taken;

/// The largest payload of a control frame (RFC 6455 section 5.5).
pub(super) const MAX_CONTROL_BYTES: usize = 125;
/// The longest header: two bytes, a length of eight, a mask of four.
const MAX_HEADER_BYTES: usize = 14;
const FINAL: u8 = 0x80;
const COMPRESSED: u8 = 0x40;
const RESERVED: u8 = 0x30;
const MASKED: u8 = 0x80;

pub(super) const CONTINUATION: u8 = 0;
pub(super) const TEXT: u8 = 1;
pub(super) const BINARY: u8 = 2;
pub(super) const CLOSE: u8 = 8;
pub(super) const PING: u8 = 9;
pub(super) const PONG: u8 = 10;

/// A frame that breaks the protocol; the text is what nats-server closes with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FrameError(pub(super) String);

fn broken<T>(what: impl Into<String>) -> Result<T, FrameError> {
    Err(FrameError(what.into()))
}

/// Who takes what is in the frames.
pub trait Frames {
    /// Takes a piece of a message, unmasked. `ends` says that the message ends behind the piece.
    fn data(&mut self, piece: &[u8], compressed: bool, ends: bool) -> Result<Taken, FrameError>;
    /// Takes a whole control frame.
    fn control(&mut self, opcode: u8, payload: &[u8]) -> Result<(), FrameError>;
}

/// Takes frames apart that come in pieces of any size; holds at most a header and a control payload.
#[derive(Debug)]
pub struct FrameDecoder {
    /// Whether frames have to be masked; without it none is taken for masked, as in nats-server.
    masks: bool,
    /// Whether permessage-deflate was agreed on.
    compresses: bool,
    header: [u8; MAX_HEADER_BYTES],
    header_len: usize,
    in_payload: bool,
    opcode: u8,
    is_final: bool,
    left: u64,
    mask: [u8; 4],
    mask_at: usize,
    /// Whether `frames` did not take all of the last piece.
    has_more: bool,
    /// Within a message of several frames.
    in_message: bool,
    message_compressed: bool,
    control: Vec<u8>,
}

impl FrameDecoder {
    /// A decoder for the beginning of a stream.
    pub fn new(masks: bool, compresses: bool) -> Self {
        Self {
            masks,
            compresses,
            header: [0; MAX_HEADER_BYTES],
            header_len: 0,
            in_payload: false,
            opcode: 0,
            is_final: false,
            left: 0,
            mask: [0; 4],
            mask_at: 0,
            has_more: false,
            in_message: false,
            message_compressed: false,
            control: Vec::new(),
        }
    }

    /// Takes `input` apart: how much of it was taken, and whether `frames` took all of that.
    pub fn decode(&mut self, input: &[u8], frames: &mut dyn Frames) -> Result<Taken, FrameError> {
        let all = Taken { bytes: input.len(), complete: true };
        let mut at = 0;
        loop {
            if !self.in_payload {
                let Some(taken) = self.take_header(input.get(at..).unwrap_or_default())? else {
                    return Ok(all);
                };
                at += taken;
                self.begin_payload()?;
            }
            let rest = input.get(at..).unwrap_or_default();
            let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.len());
            if here == 0 && self.left > 0 && !self.has_more {
                return Ok(all);
            }
            let taken = self.take_payload(rest.get(..here).unwrap_or_default(), frames)?;
            at += taken.bytes;
            if !taken.complete {
                return Ok(Taken { bytes: at, complete: false });
            }
        }
    }

    /// Gathers a header; `None` when it is not whole yet.
    fn take_header(&mut self, input: &[u8]) -> Result<Option<usize>, FrameError> {
        for (at, byte) in input.iter().enumerate() {
            if let Some(slot) = self.header.get_mut(self.header_len) {
                *slot = *byte;
            }
            self.header_len += 1;
            if self.header_len == 2 {
                self.check_first_two()?;
            }
            if self.header_len >= 2 && self.header_len == self.needed() {
                return Ok(Some(at + 1));
            }
        }
        Ok(None)
    }

    fn needed(&self) -> usize {
        let length = match self.header[1] & 0x7F {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + if self.masks { 4 } else { 0 }
    }

    fn check_first_two(&self) -> Result<(), FrameError> {
        let [first, second, ..] = self.header;
        let (compressed, is_final) = (first & COMPRESSED != 0, first & FINAL != 0);
        if first & RESERVED != 0 {
            return broken("RSV2 and RSV3 must be clear");
        }
        if compressed && !self.compresses {
            return broken("compressed frame received without negotiated permessage-deflate");
        }
        if self.masks && second & MASKED == 0 {
            return broken("mask bit missing");
        }
        match first & 0x0F {
            CLOSE | PING | PONG => {
                if usize::from(second & 0x7F) > MAX_CONTROL_BYTES {
                    return broken("control frame length bigger than maximum allowed of 125 bytes");
                }
                if !is_final {
                    return broken("control frame does not have final bit set");
                }
                if compressed {
                    return broken("control frame must not be compressed");
                }
            }
            TEXT | BINARY if self.in_message => {
                return broken("new message started before final frame for previous message was received");
            }
            TEXT | BINARY => {}
            CONTINUATION if !self.in_message || compressed => return broken("invalid continuation frame"),
            CONTINUATION => {}
            unknown => return broken(format!("unknown opcode {unknown}")),
        }
        Ok(())
    }

    fn begin_payload(&mut self) -> Result<(), FrameError> {
        let [first, second, a, b, c, d, e, f, g, h, ..] = self.header;
        let (left, mask_from) = match second & 0x7F {
            126 => (u64::from(u16::from_be_bytes([a, b])), 4),
            127 => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 10),
            short => (u64::from(short), 2),
        };
        if left >> 63 != 0 {
            return broken("invalid 64-bit payload length");
        }
        self.opcode = first & 0x0F;
        self.is_final = first & FINAL != 0;
        if self.opcode == TEXT || self.opcode == BINARY {
            self.message_compressed = first & COMPRESSED != 0;
        }
        if self.opcode < CLOSE {
            self.in_message = !self.is_final;
        }
        self.left = left;
        if self.masks
            && let Some(mask) = self.header.get(mask_from..mask_from + 4)
        {
            self.mask.copy_from_slice(mask);
        }
        self.mask_at = 0;
        self.header_len = 0;
        self.in_payload = true;
        Ok(())
    }

    /// Takes the bytes of a payload that are here.
    fn take_payload(&mut self, piece: &[u8], frames: &mut dyn Frames) -> Result<Taken, FrameError> {
        if self.opcode >= CLOSE {
            let before = self.control.len();
            self.control.extend_from_slice(piece);
            self.unmask_control(before);
            self.left -= piece.len() as u64;
            if self.left == 0 {
                self.in_payload = false;
                let payload = std::mem::take(&mut self.control);
                frames.control(self.opcode, &payload)?;
            }
            return Ok(Taken { bytes: piece.len(), complete: true });
        }
        self.take_data(piece, frames)
    }

    fn unmask_control(&mut self, from: usize) {
        if self.masks
            && let Some(fresh) = self.control.get_mut(from..)
        {
            self.mask_at = apply_mask(fresh, self.mask, self.mask_at);
        }
    }

    fn take_data(&mut self, piece: &[u8], frames: &mut dyn Frames) -> Result<Taken, FrameError> {
        /// Unmasked in pieces of this size on the stack, so that what was received stays as it was.
        const STEP_BYTES: usize = 4 * 1024;
        let mut unmasked = [0; STEP_BYTES];
        let mut taken = 0;
        loop {
            let rest = piece.get(taken..).unwrap_or_default();
            let step = rest.get(..rest.len().min(STEP_BYTES)).unwrap_or_default();
            let ends = self.is_final && self.left == step.len() as u64;
            let plain = if self.masks {
                let plain = unmasked.get_mut(..step.len()).unwrap_or_default();
                plain.copy_from_slice(step);
                apply_mask(plain, self.mask, self.mask_at);
                &*plain
            } else {
                step
            };
            let done = frames.data(plain, self.message_compressed, ends)?;
            let count = done.bytes.min(step.len());
            self.mask_at = (self.mask_at + count) & 3;
            self.left -= count as u64;
            taken += count;
            self.has_more = !done.complete;
            if self.has_more {
                return Ok(Taken { bytes: taken, complete: false });
            }
            self.in_payload = self.left > 0;
            if taken == piece.len() {
                return Ok(Taken { bytes: taken, complete: true });
            }
        }
    }
}

/// Masks or unmasks from position `at` of the mask on; returns the position behind.
pub(super) fn apply_mask(bytes: &mut [u8], mask: [u8; 4], at: usize) -> usize {
    let mut turned = [0; 8];
    for (slot, position) in turned.iter_mut().zip(at..) {
        *slot = mask[position & 3];
    }
    let wide = u64::from_ne_bytes(turned);
    let (chunks, rest) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(turned) {
        *byte ^= key;
    }
    (at + bytes.len()) & 3
}

/// Appends the header of a frame that is not masked.
pub(super) fn write_header(out: &mut Vec<u8>, opcode: u8, is_final: bool, compressed: bool, length: usize) {
    let flags = if is_final { FINAL } else { 0 } | if compressed { COMPRESSED } else { 0 };
    out.push(opcode | flags);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short <= 125 => out.push(short),
        (_, Ok(medium)) => {
            out.push(126);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// Appends a close frame; a text that is too long is shortened.
pub(super) fn write_close(out: &mut Vec<u8>, status: u16, text: &str) {
    let mut body = status.to_be_bytes().to_vec();
    if text.len() > MAX_CONTROL_BYTES - 2 {
        body.extend_from_slice(text.as_bytes().get(..MAX_CONTROL_BYTES - 5).unwrap_or_default());
        body.extend_from_slice(b"...");
    } else {
        body.extend_from_slice(text.as_bytes());
    }
    write_header(out, CLOSE, true, false, body.len());
    out.extend_from_slice(&body);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Seen {
        data: Vec<u8>,
        messages: usize,
        controls: Vec<(u8, Vec<u8>)>,
        room: Option<usize>,
    }

    impl Frames for Seen {
        fn data(&mut self, piece: &[u8], _compressed: bool, ends: bool) -> Result<Taken, FrameError> {
            let room = self.room.map_or(piece.len(), |room| room.min(piece.len()));
            self.data.extend_from_slice(&piece[..room]);
            self.messages += usize::from(ends && room == piece.len());
            self.room = self.room.map(|left| left - room);
            Ok(Taken { bytes: room, complete: room == piece.len() })
        }

        fn control(&mut self, opcode: u8, payload: &[u8]) -> Result<(), FrameError> {
            self.controls.push((opcode, payload.to_vec()));
            Ok(())
        }
    }

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [7, 99, 200, 1];
        let mut header = Vec::new();
        write_header(&mut header, 0, false, false, payload.len());
        header[0] = first;
        header[1] |= MASKED;
        header.extend(mask);
        let mut payload = payload.to_vec();
        apply_mask(&mut payload, mask, 0);
        header.extend(payload);
        header
    }

    #[test]
    fn frames_are_the_same_in_whatever_pieces_they_come() {
        let payloads: [Vec<u8>; 4] =
            [b"PING\r\n".to_vec(), vec![], vec![9; 300], (0..70_000).map(|at| at as u8).collect()];
        let mut stream = masked(0x82, &payloads[0]);
        stream.extend(masked(0x89, b"are you there"));
        stream.extend(masked(0x81, &payloads[1]));
        stream.extend(masked(0x02, &payloads[2]));
        stream.extend(masked(0x8A, b""));
        stream.extend(masked(0x80, &payloads[3]));
        for size in [1, 2, 3, 7, 1000, stream.len()] {
            let mut decoder = FrameDecoder::new(true, false);
            let mut seen = Seen::default();
            for piece in stream.chunks(size) {
                assert_eq!(
                    decoder.decode(piece, &mut seen),
                    Ok(Taken { bytes: piece.len(), complete: true })
                );
            }
            assert!(seen.data == payloads.concat(), "pieces of {size}");
            assert_eq!(seen.messages, 3, "pieces of {size}");
            assert_eq!(seen.controls, [(PING, b"are you there".to_vec()), (PONG, vec![])]);
        }
    }

    #[test]
    fn a_decoder_stops_where_there_is_no_room_and_goes_on_there() {
        let payload: Vec<u8> = (0..20_000).map(|at| at as u8).collect();
        let stream = masked(0x82, &payload);
        let mut decoder = FrameDecoder::new(true, false);
        let mut seen = Seen::default();
        let mut at = 0;
        while seen.messages == 0 {
            seen.room = Some(777);
            at += decoder.decode(&stream[at..], &mut seen).expect("valid").bytes;
        }
        assert_eq!(at, stream.len());
        assert!(seen.data == payload);
    }

    /// Makes two bytes of each, one of them when it is asked again.
    #[derive(Default)]
    struct Doubling(Vec<u8>, Option<u8>);

    impl Frames for Doubling {
        fn data(&mut self, piece: &[u8], _compressed: bool, _ends: bool) -> Result<Taken, FrameError> {
            if let Some(owed) = self.1.take() {
                self.0.push(owed);
                return Ok(Taken { bytes: 0, complete: piece.is_empty() });
            }
            let Some(first) = piece.first() else { return Ok(Taken { bytes: 0, complete: true }) };
            self.0.push(*first);
            self.1 = Some(*first);
            Ok(Taken { bytes: 1, complete: false })
        }

        fn control(&mut self, _opcode: u8, _payload: &[u8]) -> Result<(), FrameError> {
            Ok(())
        }
    }

    #[test]
    fn what_a_piece_still_leads_to_is_asked_for_in_the_middle_of_a_frame() {
        let stream = masked(0x82, b"abcd");
        let mut decoder = FrameDecoder::new(true, false);
        let mut seen = Doubling::default();
        let mut rest = &stream[..stream.len() - 2];
        while let Taken { bytes, complete: false } = decoder.decode(rest, &mut seen).expect("valid") {
            rest = &rest[bytes..];
        }
        assert_eq!(seen.0, b"aabb");
    }

    #[test]
    fn what_breaks_the_protocol_is_refused_in_the_words_of_nats_server() {
        let cases: [(&[u8], &str); 11] = [
            (&[0x92, 0x80], "RSV2 and RSV3 must be clear"),
            (&[0xC2, 0x80], "compressed frame received without negotiated permessage-deflate"),
            (&[0x82, 0x01], "mask bit missing"),
            (&[0x89, 0xFE], "control frame length bigger than maximum allowed of 125 bytes"),
            (&[0x09, 0x80], "control frame does not have final bit set"),
            (&[0x80, 0x80], "invalid continuation frame"),
            (&[0x83, 0x80], "unknown opcode 3"),
            (&[0x8F, 0x80], "unknown opcode 15"),
            (&[0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4], "invalid 64-bit payload length"),
            (
                &[0x02, 0x80, 0, 0, 0, 0, 0x82, 0x80],
                "new message started before final frame for previous message was received",
            ),
            (&[0x88, 0xFE], "control frame length bigger than maximum allowed of 125 bytes"),
        ];
        for (bytes, expected) in cases {
            let refused = FrameDecoder::new(true, false).decode(bytes, &mut Seen::default());
            assert_eq!(refused, Err(FrameError(expected.to_owned())), "{bytes:x?}");
        }
        let refused = FrameDecoder::new(true, true).decode(&[0xC9, 0x80], &mut Seen::default());
        assert_eq!(refused, Err(FrameError("control frame must not be compressed".to_owned())));
    }

    #[test]
    fn masks_turn_with_the_position() {
        let mut one = [0u8; 37];
        let mut other = [0u8; 37];
        apply_mask(&mut one, [1, 2, 3, 4], 0);
        let (front, back) = other.split_at_mut(14);
        let at = apply_mask(front, [1, 2, 3, 4], 0);
        apply_mask(back, [1, 2, 3, 4], at);
        assert_eq!(one, other);
    }
}
