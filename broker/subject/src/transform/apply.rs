//! From a subject to the transformed one. Not the language of transforms.

use super::Transform;
use super::parse::{Function, Part};
use crate::pattern::matches;
use crate::tokens::{is_valid_literal, tokens};
use smallvec::SmallVec;

impl Transform {
    /// The subject that `subject`, which must match the source, becomes. `random` gives any number.
    pub fn apply(&self, subject: &[u8], mut random: impl FnMut() -> u32) -> Vec<u8> {
        let source: SmallVec<[&[u8]; 16]> = tokens(subject).collect();
        let mut out = Vec::with_capacity(subject.len() + self.destination.len());
        for (at, part) in self.parts.iter().enumerate() {
            if at > 0 {
                out.push(b'.');
            }
            match part {
                Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Part::Tail => self.append_tail(&source, &mut out),
                Part::Token { index, function } => {
                    function.append(source.get(*index).copied().unwrap_or_default(), &mut out);
                }
                Part::Partition { buckets, indexes } => {
                    let hash = if indexes.is_empty() {
                        fnv1a(FNV_OFFSET, subject)
                    } else {
                        let token = |index: &usize| source.get(*index).copied().unwrap_or_default();
                        indexes.iter().fold(FNV_OFFSET, |hash, index| fnv1a(hash, token(index)))
                    };
                    append_number(hash.checked_rem(*buckets).unwrap_or(0), &mut out);
                }
                Part::Random { bound } => {
                    append_number((random() >> 1).checked_rem(*bound).unwrap_or(0), &mut out);
                }
            }
        }
        out
    }

    /// The subject that `subject` becomes, if it is a literal subject that the source matches.
    pub fn transform(&self, subject: &[u8], random: impl FnMut() -> u32) -> Option<Vec<u8>> {
        (is_valid_literal(subject) && matches(self.source.as_bytes(), subject))
            .then(|| self.apply(subject, random))
    }

    fn append_tail(&self, source: &[&[u8]], out: &mut Vec<u8>) {
        let from = self.tail_from.unwrap_or(source.len());
        for (at, token) in source.iter().skip(from).enumerate() {
            if at > 0 {
                out.push(b'.');
            }
            out.extend_from_slice(token);
        }
    }
}

impl Function {
    fn append(&self, token: &[u8], out: &mut Vec<u8>) {
        let fits = |size: usize| size > 0 && size < token.len();
        match self {
            Self::SplitFromLeft(at) if fits(*at) => append_pieces(&[&token[..*at], &token[*at..]], out),
            Self::SplitFromRight(at) if fits(*at) => {
                let at = token.len() - at;
                append_pieces(&[&token[..at], &token[at..]], out);
            }
            Self::SliceFromLeft(size) if fits(*size) => {
                append_pieces(&token.chunks(*size).collect::<SmallVec<[&[u8]; 8]>>(), out);
            }
            Self::SliceFromRight(size) if fits(*size) => {
                let (first, rest) = token.split_at(token.len() % size);
                let mut pieces: SmallVec<[&[u8]; 8]> = SmallVec::new();
                pieces.extend((!first.is_empty()).then_some(first));
                pieces.extend(rest.chunks(*size));
                append_pieces(&pieces, out);
            }
            Self::Left(size) if fits(*size) => out.extend_from_slice(&token[..*size]),
            Self::Right(size) if fits(*size) => out.extend_from_slice(&token[token.len() - size..]),
            Self::Split(delimiter) => append_split(token, delimiter.as_bytes(), out),
            _ => out.extend_from_slice(token),
        }
    }
}

fn append_pieces(pieces: &[&[u8]], out: &mut Vec<u8>) {
    for (at, piece) in pieces.iter().enumerate() {
        if at > 0 {
            out.push(b'.');
        }
        out.extend_from_slice(piece);
    }
}

/// The non-empty pieces between delimiters, with the separators that nats-server puts between them.
fn append_split(token: &[u8], delimiter: &[u8], out: &mut Vec<u8>) {
    let pieces = split(token, delimiter);
    for (at, piece) in pieces.iter().enumerate() {
        out.extend_from_slice(piece);
        if pieces.get(at + 1).is_some_and(|next| !next.is_empty()) && !(at == 0 && piece.is_empty()) {
            out.push(b'.');
        }
    }
}

fn split<'a>(token: &'a [u8], delimiter: &[u8]) -> SmallVec<[&'a [u8]; 8]> {
    let mut pieces = SmallVec::new();
    if delimiter.is_empty() {
        // Every character on its own; what is no UTF-8 is taken byte by byte.
        match std::str::from_utf8(token) {
            Ok(text) => pieces.extend(text.char_indices().map(|(at, c)| &token[at..at + c.len_utf8()])),
            Err(_) => pieces.extend(token.chunks(1)),
        }
        return pieces;
    }
    let mut rest = token;
    while let Some(at) = memchr::memmem::find(rest, delimiter) {
        pieces.push(&rest[..at]);
        rest = &rest[at + delimiter.len()..];
    }
    pieces.push(rest);
    pieces
}

const FNV_OFFSET: u32 = 0x811c_9dc5;

/// FNV-1a over 32 bits.
fn fnv1a(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

fn append_number(number: u32, out: &mut Vec<u8>) {
    let mut digits = [0; 10];
    let mut at = digits.len();
    let mut left = number;
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(left % 10).unwrap_or(0);
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
