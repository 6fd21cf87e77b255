//! Curve keys: what is sealed for one of them only it can open (X25519, XSalsa20-Poly1305, nkeys' `xkv1`).

use crate::nkey::{self, Kind, PublicKey};
use crypto_box::aead::Aead;
use crypto_box::{Nonce, PublicKey as CurvePublic, SalsaBox, SecretKey};

/// What sealed bytes begin with.
const VERSION: &[u8] = b"xkv1";
/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 24;

/// A curve key that can open.
pub struct CurveKey {
    secret: SecretKey,
}

impl CurveKey {
    /// The key of these random bytes.
    pub fn from_random(random: [u8; 32]) -> Self {
        Self { secret: SecretKey::from(random) }
    }

    /// The key of a seed's text (`SX…`).
    pub fn from_seed(text: &str) -> Option<Self> {
        let (kind, bytes) = nkey::parse_seed(text)?;
        (kind == Kind::Curve).then(|| Self::from_random(bytes))
    }

    /// The text of the public key (`X…`).
    pub fn public(&self) -> String {
        PublicKey { kind: Kind::Curve, bytes: *self.secret.public_key().as_bytes() }.to_string()
    }

    /// Encrypts for the curve key `recipient`; `None` when that is no curve key.
    pub fn seal(&self, plain: &[u8], recipient: &str, nonce: [u8; NONCE_BYTES]) -> Option<Vec<u8>> {
        let sealed = self.shared(recipient)?.encrypt(&Nonce::from(nonce), plain).ok()?;
        Some([VERSION, &nonce, &sealed].concat())
    }

    /// Decrypts what the curve key `sender` sealed for this one.
    ///
    /// # Errors
    /// The texts of nkeys.
    pub fn open(&self, sealed: &[u8], sender: &str) -> Result<Vec<u8>, &'static str> {
        if sealed.len() <= VERSION.len() + NONCE_BYTES {
            return Err("nkeys: encrypted input is not valid");
        }
        let rest = sealed.strip_prefix(VERSION).ok_or("nkeys: encrypted input wrong version")?;
        let Some((nonce, content)) = rest.split_first_chunk::<NONCE_BYTES>() else {
            return Err("nkeys: encrypted input is not valid");
        };
        let shared = self.shared(sender).ok_or("nkeys: not a valid sender public curve key")?;
        shared.decrypt(&Nonce::from(*nonce), content).map_err(|_| "nkeys: could not decrypt input")
    }

    fn shared(&self, other: &str) -> Option<SalsaBox> {
        let other = PublicKey::parse(other).filter(|key| key.kind == Kind::Curve)?;
        Some(SalsaBox::new(&CurvePublic::from(other.bytes), &self.secret))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_recipient_opens() {
        let (from, to, other) =
            (CurveKey::from_random([1; 32]), CurveKey::from_random([2; 32]), CurveKey::from_random([3; 32]));
        let sealed = from.seal(b"secret", &to.public(), [9; 24]).expect("a curve key");
        assert!(sealed.starts_with(b"xkv1"));
        assert_eq!(to.open(&sealed, &from.public()), Ok(b"secret".to_vec()));
        assert!(other.open(&sealed, &from.public()).is_err());
        assert!(to.open(&sealed, &other.public()).is_err());
        assert!(to.open(&sealed[..20], &from.public()).is_err());
        assert!(from.seal(b"secret", "UAAA", [0; 24]).is_none());
    }
}
