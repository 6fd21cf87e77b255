//! nkeys: ed25519 keys in base32 with a letter for their kind. Not curve keys' encryption (see `xkey`).

use data_encoding::BASE32_NOPAD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use std::fmt;

/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// Bytes of a public key's kind, the key and its checksum.
const ENCODED_BYTES: usize = 1 + KEY_BYTES + 2;
/// What comes before the kind in a seed.
const SEED_PREFIX: u8 = 18 << 3;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `O…`: signs accounts.
    Operator,
    /// `A…`: signs users.
    Account,
    /// `U…`: signs nonces.
    User,
    /// `N…`: a server.
    Server,
    /// `C…`: a cluster.
    Cluster,
    /// `X…`: a curve key, for encryption.
    Curve,
}

impl Kind {
    fn prefix(self) -> u8 {
        match self {
            Self::Account => 0,
            Self::Cluster => 2 << 3,
            Self::Server => 13 << 3,
            Self::Operator => 14 << 3,
            Self::User => 20 << 3,
            Self::Curve => 23 << 3,
        }
    }

    fn of_prefix(prefix: u8) -> Option<Self> {
        [Self::Account, Self::Cluster, Self::Server, Self::Operator, Self::User, Self::Curve]
            .into_iter()
            .find(|kind| kind.prefix() == prefix)
    }
}

/// A public key as its text says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey {
    /// What it is for.
    pub kind: Kind,
    /// The key itself.
    pub bytes: [u8; KEY_BYTES],
}

impl PublicKey {
    /// Reads the text of a public key; `None` when letters, checksum, kind or length are wrong.
    pub fn parse(text: &str) -> Option<Self> {
        let raw = decode(text)?;
        let raw: [u8; ENCODED_BYTES] = raw.try_into().ok()?;
        let mut bytes = [0; KEY_BYTES];
        bytes.copy_from_slice(&raw[1..=KEY_BYTES]);
        Some(Self { kind: Kind::of_prefix(raw[0])?, bytes })
    }

    /// Whether `signature` is this key's of `message`; never for a curve key.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.kind != Kind::Curve
            && UnparsedPublicKey::new(&ED25519, self.bytes).verify(message, signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&encode(&[self.kind.prefix()], &self.bytes))
    }
}

/// Whether the text is a public key of that kind.
pub fn is_public(kind: Kind, text: &str) -> bool {
    PublicKey::parse(text).is_some_and(|key| key.kind == kind)
}

/// Whether the text is a public key of any kind.
pub fn is_any_public(text: &str) -> bool {
    PublicKey::parse(text).is_some()
}

/// A key that can sign.
pub struct KeyPair {
    pair: Ed25519KeyPair,
    kind: Kind,
}

impl KeyPair {
    /// The key of these 32 random bytes; `None` for a curve key, which cannot sign.
    pub fn from_random(kind: Kind, random: &[u8; KEY_BYTES]) -> Option<Self> {
        if kind == Kind::Curve {
            return None;
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(random).ok()?;
        Some(Self { pair, kind })
    }

    /// The key of a seed's text (`SU…`, `SA…`, `SO…`, `SN…`).
    pub fn from_seed(text: &str) -> Option<Self> {
        let (kind, bytes) = parse_seed(text)?;
        Self::from_random(kind, &bytes)
    }

    /// The text of the public key.
    pub fn public(&self) -> String {
        encode(&[self.kind.prefix()], self.pair.public_key().as_ref())
    }

    /// The 64 bytes of the signature.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "KeyPair({})", self.public())
    }
}

/// The kind and the secret bytes of a seed's text.
pub fn parse_seed(text: &str) -> Option<(Kind, [u8; KEY_BYTES])> {
    let raw = decode(text)?;
    let (&[first, second], rest) = raw.split_first_chunk::<2>()?;
    if first & 0b1111_1000 != SEED_PREFIX {
        return None;
    }
    // The kind's five bits begin in the last three of the first byte.
    let kind = Kind::of_prefix((first & 0b111) << 5 | (second & 0b1111_1000) >> 3)?;
    Some((kind, rest.get(..rest.len().checked_sub(2)?)?.try_into().ok()?))
}

/// The text of a seed.
pub fn encode_seed(kind: Kind, random: &[u8; KEY_BYTES]) -> String {
    let prefix = kind.prefix();
    encode(&[SEED_PREFIX | prefix >> 5, (prefix & 0b1_1111) << 3], random)
}

pub(crate) fn encode(prefix: &[u8], key: &[u8]) -> String {
    let mut raw = prefix.to_vec();
    raw.extend_from_slice(key);
    raw.extend_from_slice(&crc16(&raw).to_le_bytes());
    BASE32_NOPAD.encode(&raw)
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let raw = BASE32_NOPAD.decode(text.as_bytes()).ok()?;
    let (content, checksum) = raw.split_last_chunk::<2>()?;
    (crc16(content) == u16::from_le_bytes(*checksum)).then_some(raw)
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_letter_of_their_kind() {
        for (kind, letter) in [
            (Kind::Operator, "O"),
            (Kind::Account, "A"),
            (Kind::User, "U"),
            (Kind::Server, "N"),
            (Kind::Cluster, "C"),
        ] {
            let pair = KeyPair::from_random(kind, &[7; 32]).expect("a signing kind");
            let text = pair.public();
            assert!(text.starts_with(letter) && text.len() == 56, "{text}");
            assert!(is_public(kind, &text));
            let seed = encode_seed(kind, &[7; 32]);
            assert!(seed.starts_with(&format!("S{letter}")), "{seed}");
            assert_eq!(KeyPair::from_seed(&seed).expect("a seed").public(), text);
        }
    }

    #[test]
    fn a_known_seed_has_its_known_public_key() {
        // The example pair of the nkeys documentation.
        let pair =
            KeyPair::from_seed("SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY").expect("a seed");
        assert_eq!(pair.public(), "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4");
    }

    #[test]
    fn only_the_key_that_signed_verifies() {
        let pair = KeyPair::from_random(Kind::User, &[1; 32]).expect("a user");
        let other = KeyPair::from_random(Kind::User, &[2; 32]).expect("a user");
        let signature = pair.sign(b"nonce");
        let public = |pair: &KeyPair| PublicKey::parse(&pair.public()).expect("public");
        assert!(public(&pair).verify(b"nonce", &signature));
        assert!(!public(&pair).verify(b"other", &signature));
        assert!(!public(&other).verify(b"nonce", &signature));
        assert!(!public(&pair).verify(b"nonce", &signature[1..]));
    }

    #[test]
    fn damaged_keys_are_refused() {
        let text = KeyPair::from_random(Kind::User, &[1; 32]).expect("a user").public();
        for damaged in
            [&text[1..], &text[..55], "", "U", "UAAA", &text.to_lowercase(), &text.replace('A', "B")]
        {
            assert!(PublicKey::parse(damaged).is_none(), "{damaged}");
        }
        assert!(KeyPair::from_seed("SU").is_none() && KeyPair::from_seed(&text).is_none());
    }
}
