//! Unique ids in the shape of NATS's NUIDs: 22 characters of base 62. The shape is what clients expect of
//! server ids, inboxes and consumer names; the randomness comes from the caller.

use crate::rng::SeededRng;

/// Characters of an id.
pub const ID_LENGTH: usize = 22;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A random id of 22 base 62 characters (131 bits when the generator is seeded well).
#[must_use]
pub fn random_id(rng: &mut SeededRng) -> String {
    random_text(rng, ID_LENGTH)
}

/// Random base 62 text of the given length; short ones name consumers (8 characters in nats-server).
#[must_use]
pub fn random_text(rng: &mut SeededRng, length: usize) -> String {
    (0..length).map(|_| char::from(DIGITS[usize::try_from(rng.below(62)).unwrap_or(0)])).collect()
}

/// Ids in a row: a random prefix of 12 characters, then a counter with a random start and step, as NUIDs
/// are made. Ids of one generator never repeat before the counter has gone round (62^10).
#[derive(Clone, Debug)]
pub struct IdGenerator {
    prefix: String,
    counter: u64,
    step: u64,
}

const COUNTER_DIGITS: u32 = 10;
const COUNTER_SPAN: u64 = 62_u64.pow(COUNTER_DIGITS);

impl IdGenerator {
    #[must_use]
    pub fn new(rng: &mut SeededRng) -> Self {
        let prefix = random_text(rng, ID_LENGTH - COUNTER_DIGITS as usize);
        Self { prefix, counter: rng.below(COUNTER_SPAN), step: 33 + rng.below(300) }
    }

    /// The next id.
    pub fn next_id(&mut self) -> String {
        self.counter = (self.counter + self.step) % COUNTER_SPAN;
        let mut digits = [b'0'; COUNTER_DIGITS as usize];
        let mut rest = self.counter;
        for digit in digits.iter_mut().rev() {
            *digit = DIGITS[usize::try_from(rest % 62).unwrap_or(0)];
            rest /= 62;
        }
        let mut id = String::with_capacity(ID_LENGTH);
        id.push_str(&self.prefix);
        id.extend(digits.iter().copied().map(char::from));
        id
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_have_22_base_62_characters_and_differ() {
        let mut rng = SeededRng::new(1);
        let mut generator = IdGenerator::new(&mut rng);
        let mut seen = HashSet::new();
        for _ in 0..10_000 {
            for id in [generator.next_id(), random_id(&mut rng)] {
                assert!(id.len() == ID_LENGTH && id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
                assert!(seen.insert(id));
            }
        }
    }
}
