//! Whether a server's certificate is one of the cluster's, by its names. Not the verification of its chain.

use weir_auth::certificate::{Candidate, candidates};

/// Whether one of the certificate's names is a seed's host (a DNS name, perhaps with `*` as its first label) or
/// the cluster's user.
pub(crate) fn is_known(certificate: &[u8], hosts: &[&str], user: Option<&str>) -> bool {
    candidates(certificate).unwrap_or_default().iter().any(|candidate| match candidate {
        Candidate::DnsName(name) => {
            hosts.iter().any(|host| matches_host(name, host)) || Some(name.as_str()) == user
        }
        Candidate::Email(name) | Candidate::Uri(name) | Candidate::Text(name) => Some(name.as_str()) == user,
        Candidate::WithDomainComponents(name) => Some(name.as_str()) == user,
        Candidate::Subject(_) => false,
    })
}

/// RFC 6125: the wildcard stands for exactly the first label.
fn matches_host(name: &str, host: &str) -> bool {
    let (name, host) = (name.to_ascii_lowercase(), host.to_ascii_lowercase());
    match name.strip_prefix("*.") {
        Some(rest) => host.split_once('.').is_some_and(|(_, domain)| domain == rest),
        None => name == host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_one_label() {
        for (name, host, fits) in [
            ("a.example", "A.example", true),
            ("*.example", "a.example", true),
            ("*.example", "a.b.example", false),
            ("*.example", "example", false),
            ("b.example", "a.example", false),
        ] {
            assert_eq!(matches_host(name, host), fits, "{name} and {host}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_unknown() {
        assert!(!is_known(b"no", &["a"], Some("u")));
    }
}
