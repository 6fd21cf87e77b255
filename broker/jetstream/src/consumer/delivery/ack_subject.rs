//! The subjects that acknowledge messages, `$JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<time>.
//! <pending>`, with a scope before the stream where that is configured: written one after another into shared chunks of memory, since every delivered message needs one.

use bytes::{BufMut, Bytes, BytesMut};

/// What one allocation serves. A subject that a receiver keeps holds no more than this.
const CHUNK_BYTES: usize = 4 * 1024;
/// Dots and digits of five numbers.
const NUMBERS_BYTES_MAX: usize = 5 * 21;

#[derive(Debug)]
pub(super) struct AckSubjects {
    prefix: Box<[u8]>,
    chunk: BytesMut,
}

impl AckSubjects {
    pub(super) fn new(scope: &str, stream: &str, consumer: &str) -> Self {
        let prefix = format!("{}{scope}{stream}.{consumer}", weir_jsapi::subject::ACK_PREFIX);
        Self { prefix: prefix.into_bytes().into_boxed_slice(), chunk: BytesMut::new() }
    }

    /// A subject that ends in these numbers.
    pub(super) fn write(&mut self, numbers: &[u64; 5]) -> Bytes {
        let most = self.prefix.len() + NUMBERS_BYTES_MAX;
        if self.chunk.capacity() < most {
            self.chunk = BytesMut::with_capacity(CHUNK_BYTES.max(most));
        }
        self.chunk.put_slice(&self.prefix);
        for number in numbers {
            let mut digits = [0_u8; 21];
            let mut start = digits.len();
            let mut rest = *number;
            loop {
                start -= 1;
                digits[start] = b'0' + (rest % 10) as u8;
                rest /= 10;
                if rest == 0 {
                    break;
                }
            }
            start -= 1;
            digits[start] = b'.';
            self.chunk.put_slice(&digits[start..]);
        }
        self.chunk.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_the_prefix_and_five_numbers() {
        let mut subjects = AckSubjects::new("", "S", "c");
        assert_eq!(
            &subjects.write(&[1, 0, 10, 1_700_000_000_000_000_000, 99])[..],
            b"$JS.ACK.S.c.1.0.10.1700000000000000000.99"
        );
        let longest = subjects.write(&[u64::MAX; 5]);
        assert_eq!(longest.len(), b"$JS.ACK.S.c".len() + NUMBERS_BYTES_MAX);
        for number in 0..1_000 {
            let expected = format!("$JS.ACK.S.c.1.{number}.2.3.4");
            assert_eq!(subjects.write(&[1, number, 2, 3, 4]), expected);
        }
    }
}
