//! The request for one certificate's status. Not how it is sent.

use super::certificate::Certificate;
use sha1::{Digest, Sha1};
use x509_cert::der::asn1::{AnyRef, ObjectIdentifier, OctetString};
use x509_cert::der::{Encode, Result};
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_ocsp::{CertId, OcspRequest, Request, TbsRequest};

/// SHA-1, the hash that every responder knows; it only names the issuer.
pub(super) const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");

/// The request (DER) for the status of `certificate`; the error says what cannot be encoded.
pub fn request(certificate: &Certificate, issuer: &Certificate) -> std::result::Result<Vec<u8>, String> {
    encode(certificate, issuer).map_err(|error| error.to_string())
}

fn encode(certificate: &Certificate, issuer: &Certificate) -> Result<Vec<u8>> {
    let hash = AlgorithmIdentifierOwned { oid: SHA1, parameters: Some(AnyRef::NULL.into()) };
    let id = CertId {
        hash_algorithm: hash,
        issuer_name_hash: OctetString::new(Sha1::digest(&issuer.subject).as_slice())?,
        issuer_key_hash: OctetString::new(Sha1::digest(issuer.key_bits()).as_slice())?,
        serial_number: SerialNumber::new(&certificate.serial)?,
    };
    let request = Request { req_cert: id, single_request_extensions: None };
    let content = TbsRequest { request_list: vec![request], ..TbsRequest::default() };
    OcspRequest { tbs_request: content, optional_signature: None }.to_der()
}
