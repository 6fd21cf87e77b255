//! A refusal of a verified peer with a text of its own, through rustls, which has no place for one.

use rustls::pki_types::ServerName;
use rustls::{CertificateError, Error};
use std::net::Ipv4Addr;

/// No certificate is for this name.
fn nobody() -> ServerName<'static> {
    Ipv4Addr::UNSPECIFIED.into()
}

/// The peer gets the alert that Go sends (`bad_certificate`), the log this text.
pub(crate) fn refuse(text: String) -> Error {
    let carrier = CertificateError::NotValidForNameContext { expected: nobody(), presented: vec![text] };
    Error::InvalidCertificate(carrier)
}

/// The text of such a refusal.
pub(crate) fn text(error: &Error) -> Option<&str> {
    match error {
        Error::InvalidCertificate(CertificateError::NotValidForNameContext { expected, presented })
            if *expected == nobody() =>
        {
            presented.first().map(String::as_str)
        }
        _ => None,
    }
}
