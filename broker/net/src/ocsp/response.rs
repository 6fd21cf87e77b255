//! A responder's answer: read, and its signature verified. The errors have the words of Go's library.

use super::certificate::Certificate;
use super::lengths;
use super::request::SHA1;
use super::signed::{Signed, sequence};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};
use std::fmt;
use std::time::Duration;
use x509_cert::der::asn1::{AnyRef, ObjectIdentifier};
use x509_cert::der::{Decode, Reader, SliceReader, Tag, TagNumber, Tagged};
use x509_ocsp::{
    CertId, CertStatus, OcspGeneralizedTime, OcspResponse, OcspResponseStatus, ResponseData, SingleResponse,
};

const BASIC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.1");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");

/// What a responder says of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is not known to be revoked.
    Good,
    /// It must not be trusted any more.
    Revoked,
    /// The responder knows nothing of it.
    Unknown,
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Good => "good",
            Self::Revoked => "revoked",
            Self::Unknown => "unknown",
        })
    }
}

/// A verified answer. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// What it says.
    pub status: Status,
    /// From when on it is true.
    pub this_update: u64,
    /// When there will be a newer one, if the responder says so.
    pub next_update: Option<u64>,
    /// Signed in the issuer's name, by this certificate.
    delegate: Option<Certificate>,
}

/// What is wrong with an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// It is none.
    #[error("asn1: structure error: {0}")]
    Malformed(String),
    /// The responder refuses.
    #[error("ocsp: error from server: {0}")]
    Refused(&'static str),
    /// It is of a kind nobody has.
    #[error("bad OCSP response type")]
    UnknownType,
    /// It speaks of nothing.
    #[error("OCSP response contains bad number of responses")]
    Empty,
    /// It speaks of other certificates.
    #[error("no response matching the supplied certificate")]
    NoMatch,
    /// The certificate that came with it has not signed it.
    #[error("bad signature on embedded certificate: {0}")]
    BadSignature(&'static str),
    /// Nobody who may has signed it.
    #[error("bad OCSP signature: {0}")]
    BadIssuer(&'static str),
    /// There is more in it than can be understood.
    #[error("unsupported critical extension")]
    CriticalExtension,
    /// The issuer is named by an unknown hash.
    #[error("unsupported issuer hash algorithm")]
    UnknownHash,
}

impl From<x509_cert::der::Error> for ResponseError {
    fn from(error: x509_cert::der::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// Why an answer is of no use now; the times are seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotCurrent {
    /// A newer one was due at that time.
    Expired(u64),
    /// It names no time for a newer one, and was to be used up to this one.
    TtlExpired(u64),
    /// It begins at that time.
    Future(u64),
}

impl Response {
    /// Reads the answer about `certificate`, and verifies that `issuer` or somebody it has certified has signed it.
    pub fn parse(der: &[u8], certificate: &Certificate, issuer: &Certificate) -> Result<Self, ResponseError> {
        let outer = OcspResponse::from_der(checked(der)?)?;
        refusal(outer.response_status).map_or(Ok(()), |text| Err(ResponseError::Refused(text)))?;
        let bytes = outer.response_bytes.ok_or(ResponseError::UnknownType)?;
        if bytes.response_type != BASIC {
            return Err(ResponseError::UnknownType);
        }
        let signed = Signed::parse(bytes.response.as_bytes())?;
        let data = ResponseData::from_der(checked(signed.content)?)?;
        let answer = select(&data.responses, certificate, issuer)?;
        let delegate = match first_certificate(signed.rest)? {
            None => {
                signed.verify(&issuer.key).map_err(ResponseError::BadIssuer)?;
                None
            }
            Some(der) => {
                let embedded = Certificate::parse(der).map_err(ResponseError::Malformed)?;
                signed.verify(&embedded.key).map_err(ResponseError::BadSignature)?;
                let by_issuer = Signed::parse(der)?.verify(&issuer.key);
                by_issuer.map_err(ResponseError::BadIssuer)?;
                Some(embedded)
            }
        };
        let extensions = answer.single_extensions.iter().flatten();
        if extensions.into_iter().any(|extension| extension.critical) {
            return Err(ResponseError::CriticalExtension);
        }
        Ok(Self {
            status: match answer.cert_status {
                CertStatus::Good(_) => Status::Good,
                CertStatus::Revoked(_) => Status::Revoked,
                CertStatus::Unknown(_) => Status::Unknown,
            },
            this_update: seconds(answer.this_update),
            next_update: answer.next_update.map(seconds),
            delegate,
        })
    }

    /// Whether who has signed it may: the issuer, or somebody certified for that (RFC 6960, 4.2.2.2).
    pub fn is_authorized(&self, issuer: &Certificate) -> bool {
        let may = |delegate: &Certificate| delegate.signs_responses || delegate.der() == issuer.der();
        self.delegate.as_ref().is_none_or(may)
    }

    /// Whether it can be used at `now` (since 1970) by clocks that differ by `skew`; without a time for the next
    /// one for `ttl`.
    pub fn check_current(&self, now: Duration, skew: Duration, ttl: Duration) -> Result<(), NotCurrent> {
        let (end, kind) = match self.next_update {
            Some(next) => (Duration::from_secs(next), NotCurrent::Expired as fn(u64) -> NotCurrent),
            None => {
                let end = Duration::from_secs(self.this_update).saturating_add(ttl);
                (end, NotCurrent::TtlExpired as fn(u64) -> NotCurrent)
            }
        };
        if end.saturating_add(skew) < now {
            return Err(kind(end.as_secs()));
        }
        if Duration::from_secs(self.this_update) > now.saturating_add(skew) {
            return Err(NotCurrent::Future(self.this_update));
        }
        Ok(())
    }
}

/// The same bytes, where nothing in them is longer than they are.
fn checked(der: &[u8]) -> Result<&[u8], ResponseError> {
    let truncated = || ResponseError::Malformed("data truncated".to_owned());
    if lengths::are_true(der) { Ok(der) } else { Err(truncated()) }
}

fn seconds(time: OcspGeneralizedTime) -> u64 {
    time.0.to_unix_duration().as_secs()
}

fn refusal(status: OcspResponseStatus) -> Option<&'static str> {
    match status {
        OcspResponseStatus::Successful => None,
        OcspResponseStatus::MalformedRequest => Some("malformed"),
        OcspResponseStatus::InternalError => Some("internal error"),
        OcspResponseStatus::TryLater => Some("try later"),
        OcspResponseStatus::SigRequired => Some("signature required"),
        OcspResponseStatus::Unauthorized => Some("unauthorized"),
    }
}

/// The first certificate of `[0] EXPLICIT SEQUENCE OF Certificate`; further ones are ignored, as in Go.
fn first_certificate(rest: &[u8]) -> x509_cert::der::Result<Option<&[u8]>> {
    if rest.is_empty() {
        return Ok(None);
    }
    let outer = AnyRef::from_der(rest)?;
    outer.tag().assert_eq(Tag::ContextSpecific { constructed: true, number: TagNumber::N0 })?;
    let mut certificates = SliceReader::new(sequence(AnyRef::from_der(outer.value())?)?)?;
    if certificates.is_finished() { Ok(None) } else { certificates.tlv_bytes().map(Some) }
}

fn select<'a>(
    responses: &'a [SingleResponse],
    certificate: &Certificate,
    issuer: &Certificate,
) -> Result<&'a SingleResponse, ResponseError> {
    if responses.is_empty() {
        return Err(ResponseError::Empty);
    }
    for response in responses {
        if trimmed(response.cert_id.serial_number.as_bytes()) == trimmed(&certificate.serial)
            && names(&response.cert_id, issuer)?
        {
            return Ok(response);
        }
    }
    Err(ResponseError::NoMatch)
}

/// A number without the zeros that encodings put before it.
fn trimmed(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

/// Whether the answer is about certificates of that issuer.
fn names(id: &CertId, issuer: &Certificate) -> Result<bool, ResponseError> {
    fn are<D: Digest>(id: &CertId, issuer: &Certificate) -> bool {
        D::digest(&issuer.subject).as_slice() == id.issuer_name_hash.as_bytes()
            && D::digest(issuer.key_bits()).as_slice() == id.issuer_key_hash.as_bytes()
    }
    match id.hash_algorithm.oid {
        SHA1 => Ok(are::<Sha1>(id, issuer)),
        SHA256 => Ok(are::<Sha256>(id, issuer)),
        SHA384 => Ok(are::<Sha384>(id, issuer)),
        SHA512 => Ok(are::<Sha512>(id, issuer)),
        _ => Err(ResponseError::UnknownHash),
    }
}
