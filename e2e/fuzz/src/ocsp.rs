//! Answers of OCSP responders and the certificates they are about. Not the asking.

use std::sync::LazyLock;

use weir_net::ocsp::{Certificate, Response, Status, request};

macro_rules! file {
    ($name:literal) => {
        include_bytes!(concat!("../../../broker/net/tests/ocsp/", $name))
    };
}

const ANSWERS: [&[u8]; 4] =
    [file!("good.der"), file!("revoked.der"), file!("by-delegate.der"), file!("by-stranger.der")];

static LEAF: LazyLock<Certificate> =
    LazyLock::new(|| Certificate::parse(file!("leaf.der")).expect("a certificate"));
static AUTHORITY: LazyLock<Certificate> =
    LazyLock::new(|| Certificate::parse(file!("authority.der")).expect("a certificate"));
/// What was signed for the certificate: whoever has no key can make no other answer.
static SIGNED: LazyLock<Vec<Said>> =
    LazyLock::new(|| ANSWERS.into_iter().map(|answer| said(answer).expect("valid")).collect());

/// Status, since when and up to when, and whether the signer may say so.
type Said = (Status, u64, Option<u64>, bool);

fn said(answer: &[u8]) -> Option<Said> {
    let read =
        Response::parse(answer, &LEAF, &AUTHORITY).map_err(|error| assert!(!error.to_string().is_empty()));
    let read = read.ok()?;
    Some((read.status, read.this_update, read.next_update, read.is_authorized(&AUTHORITY)))
}

/// The first byte says whether an answer follows, or a certificate.
pub(crate) fn ocsp(data: &[u8]) {
    let Some((kind, der)) = data.split_first() else { return };
    if kind % 2 == 0 {
        if let Some(said) = said(der) {
            assert!(SIGNED.contains(&said), "nobody signed {said:?}");
        }
        return;
    }
    let Ok(certificate) = Certificate::parse(der) else { return };
    assert_eq!(certificate.der(), der);
    if let Ok(request) = request(&certificate, &AUTHORITY) {
        assert!(!request.is_empty());
    }
    // As the certificate in question, and as its issuer: both come from a peer.
    for answer in ANSWERS {
        let _ = Response::parse(answer, &certificate, &AUTHORITY);
        let _ = Response::parse(answer, &LEAF, &certificate);
    }
    let _ = certificate.is_signed_by(&AUTHORITY);
}
