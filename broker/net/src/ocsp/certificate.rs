//! What OCSP asks of a certificate: numbers, names, responders. Not whether it is trusted.

use super::signed::{Signed, public_key};
use sha2::{Digest, Sha256};
use x509_cert::der::Decode;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{OID_PKIX_ACCESS_DESCRIPTOR_OCSP, Oid};
use x509_parser::prelude::{FromDer, X509Certificate};

/// The extension that names features of TLS the certificate's owner promises (RFC 7633).
const TLS_FEATURES: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 1, 24];
/// The feature of stapling.
const STATUS_REQUEST: u64 = 5;
/// Responders beyond this many are not asked.
const MAX_RESPONDERS: usize = 8;

/// A certificate, read as far as OCSP needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    /// The number, big-endian, as it is encoded.
    pub(super) serial: Vec<u8>,
    pub(super) subject: Vec<u8>,
    pub(super) key: Vec<u8>,
    /// Where to ask for its status, as the certificate says.
    pub responders: Vec<String>,
    /// It promises that its status comes along with it.
    pub must_staple: bool,
    /// It may sign certificates.
    pub is_authority: bool,
    /// It may sign answers in its issuer's name.
    pub signs_responses: bool,
    /// When it ends, in seconds since 1970.
    pub not_after: i64,
}

impl Certificate {
    /// Reads a certificate; the error says what is wrong with it.
    pub fn parse(der: &[u8]) -> Result<Self, String> {
        let (_, parsed) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        let usage = parsed.extended_key_usage().ok().flatten();
        let constraints = parsed.basic_constraints().ok().flatten();
        Ok(Self {
            der: der.to_vec(),
            serial: parsed.raw_serial().to_vec(),
            subject: parsed.subject().as_raw().to_vec(),
            key: parsed.public_key().raw.to_vec(),
            responders: responders(&parsed),
            must_staple: must_staple(&parsed),
            is_authority: constraints.is_some_and(|constraints| constraints.value.ca),
            signs_responses: usage.is_some_and(|usage| usage.value.ocsp_signing),
            not_after: parsed.validity().not_after.timestamp(),
        })
    }

    /// The certificate itself.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The SHA-256 of the certificate.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.der).into()
    }

    /// The key's bits, without algorithm.
    pub(super) fn key_bits(&self) -> &[u8] {
        public_key(&self.key).map(|(_, bits)| bits).unwrap_or_default()
    }

    /// Whether `issuer` has signed it.
    pub fn is_signed_by(&self, issuer: &Self) -> bool {
        Signed::parse(&self.der).is_ok_and(|signed| signed.verify(&issuer.key).is_ok())
    }
}

fn responders(certificate: &X509Certificate<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for extension in certificate.extensions() {
        let ParsedExtension::AuthorityInfoAccess(access) = extension.parsed_extension() else { continue };
        for description in &access.accessdescs {
            if let GeneralName::URI(uri) = &description.access_location
                && description.access_method == OID_PKIX_ACCESS_DESCRIPTOR_OCSP
            {
                found.push((*uri).to_owned());
            }
        }
    }
    found.truncate(MAX_RESPONDERS);
    found
}

fn must_staple(certificate: &X509Certificate<'_>) -> bool {
    let Ok(wanted) = Oid::from(&TLS_FEATURES) else { return false };
    let features = certificate.extensions().iter().find(|extension| extension.oid == wanted);
    features
        .and_then(|extension| <Vec<u64> as Decode>::from_der(extension.value).ok())
        .is_some_and(|features| features.contains(&STATUS_REQUEST))
}
