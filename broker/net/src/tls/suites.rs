//! Cipher suites and curves by the names of Go, as configurations and `/connz` write them.

use rustls::crypto::ring::{ALL_CIPHER_SUITES, ALL_KX_GROUPS, cipher_suite, default_provider};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{CipherSuite, NamedGroup, SupportedCipherSuite, SupportedProtocolVersion};
use std::sync::Arc;
use weir_conf::{TlsOptions, TlsVersion};

/// What is spoken when nothing else is configured, in the order in which Go's server prefers it.
const PREFERRED: [SupportedCipherSuite; 9] = [
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// Go's name of a suite.
pub(crate) fn suite_name(suite: CipherSuite) -> String {
    let name = format!("{suite:?}");
    name.strip_prefix("TLS13_").map_or_else(|| name.clone(), |rest| format!("TLS_{rest}"))
}

fn is_tls13(suite: &SupportedCipherSuite) -> bool {
    matches!(suite, SupportedCipherSuite::Tls13(_))
}

/// The suites and curves of `options`. As in Go, a list of suites concerns TLS 1.2 only.
pub(crate) fn provider(options: &TlsOptions) -> Result<Arc<CryptoProvider>, String> {
    let mut provider = default_provider();
    provider.cipher_suites = PREFERRED.to_vec();
    if !options.cipher_suites.is_empty() {
        let mut wanted = Vec::new();
        for name in &options.cipher_suites {
            let known = ALL_CIPHER_SUITES.iter().find(|suite| suite_name(suite.suite()) == *name);
            // What Go knows and rustls does not is left out as long as something stays: old suites are
            // listed for old clients.
            wanted.extend(known.copied().filter(|suite| !is_tls13(suite)));
        }
        provider.cipher_suites.retain(|suite| is_tls13(suite) || wanted.contains(suite));
        if wanted.is_empty() && !options.cipher_suites.iter().any(|name| is_tls13_name(name)) {
            return Err(format!("no supported cipher suite among {}", options.cipher_suites.join(", ")));
        }
    }
    if !options.curve_preferences.is_empty() {
        provider.kx_groups = curves(&options.curve_preferences)?;
    }
    Ok(Arc::new(provider))
}

fn is_tls13_name(name: &str) -> bool {
    PREFERRED.iter().any(|suite| is_tls13(suite) && suite_name(suite.suite()) == name)
}

fn curves(names: &[String]) -> Result<Vec<&'static dyn SupportedKxGroup>, String> {
    let mut groups = Vec::new();
    for name in names {
        let group = match name.as_str() {
            "X25519" => NamedGroup::X25519,
            "CurveP256" => NamedGroup::secp256r1,
            "CurveP384" => NamedGroup::secp384r1,
            // Go has these, ring does not; the others of the list do.
            "CurveP521" | "X25519MLKEM768" | "SecP256r1MLKEM768" | "SecP384r1MLKEM1024" => continue,
            _ => return Err(format!("unrecognized curve preference {name}")),
        };
        groups.extend(ALL_KX_GROUPS.iter().copied().find(|known| known.name() == group));
    }
    if groups.is_empty() {
        return Err(format!("no supported curve among {}", names.join(", ")));
    }
    Ok(groups)
}

/// The versions of `options`.
pub(crate) fn versions(options: &TlsOptions) -> &'static [&'static SupportedProtocolVersion] {
    const NEW_ONLY: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
    match options.min_version {
        Some(TlsVersion::Tls13) => NEW_ONLY,
        _ => rustls::ALL_VERSIONS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_have_the_names_of_go() {
        assert_eq!(suite_name(CipherSuite::TLS13_AES_128_GCM_SHA256), "TLS_AES_128_GCM_SHA256");
        assert_eq!(
            suite_name(CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
            "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"
        );
    }

    #[test]
    fn a_list_of_suites_concerns_tls_1_2_only() {
        let options = TlsOptions {
            cipher_suites: vec![
                "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384".into(),
                "TLS_RSA_WITH_AES_128_CBC_SHA".into(),
            ],
            ..TlsOptions::default()
        };
        let provider = provider(&options).expect("one is supported");
        let names: Vec<_> = provider.cipher_suites.iter().map(|suite| suite_name(suite.suite())).collect();
        assert_eq!(names.len(), 4);
        assert_eq!(names[3], "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384");
    }

    #[test]
    fn what_leaves_nothing_is_refused_by_name() {
        let suites = TlsOptions {
            cipher_suites: vec!["TLS_RSA_WITH_AES_128_CBC_SHA".into()],
            ..TlsOptions::default()
        };
        let refused = provider(&suites).expect_err("none is supported");
        assert!(refused.contains("TLS_RSA_WITH_AES_128_CBC_SHA"), "{refused}");
        let curves = TlsOptions { curve_preferences: vec!["CurveP521".into()], ..TlsOptions::default() };
        let refused = provider(&curves).expect_err("not supported");
        assert_eq!(refused, "no supported curve among CurveP521");
        let unknown = TlsOptions { curve_preferences: vec!["CurveP999".into()], ..TlsOptions::default() };
        assert_eq!(provider(&unknown).expect_err("unknown"), "unrecognized curve preference CurveP999");
    }
}
