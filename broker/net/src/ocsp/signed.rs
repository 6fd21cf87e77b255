//! The common shape of certificates and OCSP responses: content, algorithm, signature. Not the content.

use rustls::crypto::ring::default_provider;
use rustls::pki_types::AlgorithmIdentifier;
use x509_cert::der::asn1::{AnyRef, BitStringRef};
use x509_cert::der::{Decode, Reader, Result, SliceReader, Tag, Tagged};

/// A signed structure, taken apart but not verified.
pub(super) struct Signed<'a> {
    /// What is signed, with its header.
    pub(super) content: &'a [u8],
    /// The algorithm's identifier, without its header.
    algorithm: &'a [u8],
    signature: &'a [u8],
    /// What comes behind the signature.
    pub(super) rest: &'a [u8],
}

impl<'a> Signed<'a> {
    pub(super) fn parse(der: &'a [u8]) -> Result<Self> {
        let mut reader = SliceReader::new(sequence(AnyRef::from_der(der)?)?)?;
        let content = reader.tlv_bytes()?;
        let algorithm = sequence(AnyRef::decode(&mut reader)?)?;
        let signature = BitStringRef::decode(&mut reader)?.raw_bytes();
        let rest = reader.read_slice(reader.remaining_len())?;
        Ok(Self { content, algorithm, signature, rest })
    }

    /// Whether it was signed with the key (DER of the `SubjectPublicKeyInfo`); the error is in the words of Go.
    pub(super) fn verify(&self, key: &[u8]) -> std::result::Result<(), &'static str> {
        let (key_algorithm, key) =
            public_key(key).map_err(|_| "x509: cannot verify signature: algorithm unimplemented")?;
        let mut refused = "x509: cannot verify signature: algorithm unimplemented";
        for candidate in default_provider().signature_verification_algorithms.all {
            if is(candidate.signature_alg_id(), self.algorithm)
                && is(candidate.public_key_alg_id(), key_algorithm)
            {
                if candidate.verify_signature(key, self.content, self.signature).is_ok() {
                    return Ok(());
                }
                refused = if is(candidate.public_key_alg_id(), RSA) {
                    "crypto/rsa: verification error"
                } else {
                    "x509: ECDSA verification failure"
                };
            }
        }
        Err(refused)
    }
}

/// The identifier of RSA keys, without its header.
const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

fn is(known: AlgorithmIdentifier, identifier: &[u8]) -> bool {
    known.as_ref() == identifier
}

/// Algorithm (without its header) and key of a `SubjectPublicKeyInfo`.
pub(super) fn public_key(der: &[u8]) -> Result<(&[u8], &[u8])> {
    let mut reader = SliceReader::new(sequence(AnyRef::from_der(der)?)?)?;
    let algorithm = sequence(AnyRef::decode(&mut reader)?)?;
    Ok((algorithm, BitStringRef::decode(&mut reader)?.raw_bytes()))
}

/// What is in a sequence.
pub(super) fn sequence(any: AnyRef<'_>) -> Result<&[u8]> {
    any.tag().assert_eq(Tag::Sequence)?;
    Ok(any.value())
}
