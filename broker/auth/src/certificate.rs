//! Names in a client's certificate that may be a user's. Not the chain's verification.

use crate::distinguished_name::{Attribute, DistinguishedName, Part};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Name};

/// A name to look for among the users, in the order of looking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Candidate {
    /// An e-mail address of the certificate.
    Email(String),
    /// A DNS name of the certificate.
    DnsName(String),
    /// A URI of the certificate.
    Uri(String),
    /// The subject, to be matched as a distinguished name.
    Subject(DistinguishedName),
    /// The subject's text with its domain components behind.
    WithDomainComponents(String),
    /// The subject's text.
    Text(String),
}

/// The object identifier of domain components.
const DOMAIN_COMPONENT: &str = "0.9.2342.19200300.100.1.25";

/// The names of the attributes that a subject may have to be matched as a distinguished name.
const ATTRIBUTES: [(&str, &str); 10] = [
    ("2.5.4.6", "C"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.3", "CN"),
    ("2.5.4.5", "SERIALNUMBER"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.17", "POSTALCODE"),
    (DOMAIN_COMPONENT, "DC"),
];

/// The order in which Go writes a subject, the last first.
const WRITTEN_ORDER: [&str; 9] = ["SERIALNUMBER", "CN", "POSTALCODE", "STREET", "ST", "L", "OU", "O", "C"];

/// The names in the certificate (DER); `None` when it cannot be read or has none.
pub fn candidates(der: &[u8]) -> Option<Vec<Candidate>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let (mut emails, mut names, mut uris) = (Vec::new(), Vec::new(), Vec::new());
    if let Ok(Some(extension)) = certificate.subject_alternative_name() {
        for name in &extension.value.general_names {
            match name {
                GeneralName::RFC822Name(text) => emails.push(Candidate::Email((*text).to_owned())),
                GeneralName::DNSName(text) => names.push(Candidate::DnsName((*text).to_owned())),
                GeneralName::URI(text) => uris.push(Candidate::Uri((*text).to_owned())),
                _ => {}
            }
        }
    }
    let subject = attributes(certificate.subject());
    let has_subject = subject.iter().any(|part| !part.is_empty());
    if emails.is_empty() && names.is_empty() && uris.is_empty() && !has_subject {
        return None;
    }
    let mut found = emails;
    found.append(&mut names);
    found.append(&mut uris);
    if let Some(name) = distinguished_name(&subject) {
        found.push(Candidate::Subject(name));
    }
    let text = written(&subject);
    let components: Vec<String> = subject
        .iter()
        .flatten()
        .filter(|(oid, _)| oid == DOMAIN_COMPONENT)
        .map(|(_, value)| format!("DC={value}"))
        .collect();
    if !components.is_empty() {
        found.push(Candidate::WithDomainComponents(format!("{text},{}", components.join(","))));
    }
    found.push(Candidate::Text(text));
    Some(found)
}

/// The subject's text as logs show it.
pub fn subject_text(der: &[u8]) -> String {
    X509Certificate::from_der(der)
        .map(|(_, certificate)| written(&attributes(certificate.subject())))
        .unwrap_or_default()
}

/// The subject's text with the attributes that have no common name behind, as `/connz` shows it.
pub fn full_subject_text(der: &[u8]) -> String {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return String::new() };
    let subject = attributes(certificate.subject());
    let others = subject.iter().flatten().rev().filter(|(oid, _)| !is_common(oid));
    let common = Some(written(&subject)).filter(|text| !text.is_empty());
    let parts = common.into_iter().chain(others.map(|(oid, value)| format!("{oid}={}", escaped(value))));
    parts.collect::<Vec<_>>().join(",")
}

/// Whether Go has a name for such an attribute.
fn is_common(oid: &str) -> bool {
    attribute_name(oid).is_some() && oid != DOMAIN_COMPONENT
}

/// The issuer's text as logs show it.
pub fn issuer_text(der: &[u8]) -> String {
    X509Certificate::from_der(der)
        .map(|(_, certificate)| written(&attributes(certificate.issuer())))
        .unwrap_or_default()
}

type RawPart = Vec<(String, String)>;

/// Object identifiers and values, part by part.
fn attributes(name: &X509Name<'_>) -> Vec<RawPart> {
    name.iter_rdn()
        .map(|part| {
            part.iter()
                .filter_map(|attribute| {
                    let value = attribute.as_str().ok()?.to_owned();
                    Some((attribute.attr_type().to_id_string(), value))
                })
                .collect()
        })
        .collect()
}

fn attribute_name(oid: &str) -> Option<&'static str> {
    ATTRIBUTES.iter().find(|(known, _)| *known == oid).map(|(_, name)| *name)
}

fn distinguished_name(subject: &[RawPart]) -> Option<DistinguishedName> {
    let mut parts = Vec::new();
    for part in subject.iter().rev().filter(|part| !part.is_empty()) {
        let mut attributes = Vec::new();
        for (oid, value) in part.iter().rev() {
            attributes.push(Attribute { kind: attribute_name(oid)?.to_owned(), value: value.clone() });
        }
        parts.push(Part(attributes));
    }
    Some(DistinguishedName(parts))
}

/// The subject as Go's `pkix.RDNSequence` writes it: by type, equal types joined by `+`.
fn written(subject: &[RawPart]) -> String {
    let mut parts = Vec::new();
    for kind in WRITTEN_ORDER {
        let values = subject.iter().flatten().filter(|(oid, _)| attribute_name(oid) == Some(kind));
        let mut written: Vec<String> =
            values.map(|(_, value)| format!("{kind}={}", escaped(value))).collect();
        // A common name and a serial number are single: the last one counts.
        if matches!(kind, "CN" | "SERIALNUMBER") {
            written = written.pop().into_iter().collect();
        }
        if !written.is_empty() {
            parts.push(written.join("+"));
        }
    }
    parts.join(",")
}

fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, letter) in value.chars().enumerate() {
        let is_special = match letter {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => true,
            '#' => at == 0,
            ' ' => at == 0 || at == last,
            _ => false,
        };
        if is_special {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName as Name, DnType, KeyPair, SanType};

    fn certificate(names: &[(DnType, &str)], alternatives: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = Name::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.subject_alt_names = alternatives;
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    #[test]
    fn alternative_names_come_before_the_subject() {
        let text = |text: &str| text.try_into().expect("ascii");
        let der = certificate(
            &[(DnType::OrganizationName, "Weir"), (DnType::CommonName, "a, b")],
            vec![
                SanType::DnsName(text("host.example")),
                SanType::Rfc822Name(text("me@example")),
                SanType::URI(text("urn:me")),
            ],
        );
        let found = candidates(&der).expect("names");
        assert_eq!(
            found[..3],
            [
                Candidate::Email("me@example".into()),
                Candidate::DnsName("host.example".into()),
                Candidate::Uri("urn:me".into())
            ]
        );
        let expected = DistinguishedName::parse("CN=a\\, b,O=Weir").expect("a name");
        assert!(matches!(&found[3], Candidate::Subject(name) if name.matches(&expected)), "{found:?}");
        assert_eq!(found[4..], [Candidate::Text("CN=a\\, b,O=Weir".into())]);
    }

    #[test]
    fn without_names_there_is_nobody() {
        assert_eq!(candidates(&certificate(&[], Vec::new())), None);
        assert_eq!(candidates(b"no certificate"), None);
    }
}
