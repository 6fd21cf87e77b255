//! The `tls` block: the same everywhere, but for what makes sense only between servers.

use std::{path::PathBuf, time::Duration};

use super::ocsp;
use crate::{
    error::ConfError,
    options::{CertPair, HandshakeFirst, TlsOptions, TlsVersion},
    read::{Reader, read_file},
    sources::Sources,
    value::{Node, Value},
};

/// Between INFO and the handshake when nothing else is said.
const HANDSHAKE_FIRST_FALLBACK: Duration = Duration::from_millis(50);

/// Suites that Go calls secure, and whether we speak them.
const CIPHER_SUITES: &[(&str, bool)] = &[
    ("TLS_AES_128_GCM_SHA256", true),
    ("TLS_AES_256_GCM_SHA384", true),
    ("TLS_CHACHA20_POLY1305_SHA256", true),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", false),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", false),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", false),
    ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", false),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", true),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", true),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", true),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", true),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", true),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", true),
];

const INSECURE_CIPHER_SUITES: &[&str] = &[
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

/// Key exchanges that nats-server knows, and whether we speak them.
const CURVES: &[(&str, bool)] = &[
    ("X25519MLKEM768", false),
    ("SecP384r1MLKEM1024", false),
    ("SecP256r1MLKEM768", false),
    ("X25519", true),
    ("CurveP256", true),
    ("CurveP384", true),
    ("CurveP521", false),
];

/// Where a `tls` block stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// At a door for clients, or at a connection that we open to a service.
    Clients,
    /// Between servers of a cluster: certificates are verified on both sides.
    Servers,
}

/// Reads a `tls` block and looks whether its files are there.
pub(super) fn tls(reader: &mut Reader<'_>, node: &Node, place: Place) -> Option<TlsOptions> {
    let mut tls = TlsOptions::default();
    let mut insecure = Vec::new();
    for (key, node) in reader.entries(node)? {
        let name = key.to_lowercase();
        let read = match name.as_str() {
            "cert_file" => file(reader, node, &name).map(|path| tls.cert_file = path),
            "key_file" => file(reader, node, &name).map(|path| tls.key_file = path),
            "ca_file" => file(reader, node, &name).map(|path| tls.ca_file = path),
            "certs" | "certificates" => certificates(reader, node).map(|pairs| tls.certificates = pairs),
            "cipher_suites" => cipher_suites(reader, &mut tls, &mut insecure, node),
            "curve_preferences" => curves(reader, &mut tls, node),
            "pinned_certs" => pinned_certs(reader, &mut tls, node),
            "min_version" => min_version(reader, node).map(|version| tls.min_version = Some(version)),
            "timeout" => {
                let timeout = reader.seconds(node, "error parsing tls config, 'timeout'");
                timeout.map(|timeout| tls.timeout = timeout)
            }
            "connection_rate_limit" => connection_rate_limit(reader, &mut tls, node),
            "handshake_first" | "first" | "immediate" => {
                handshake_first(reader, key, node).map(|first| tls.handshake_first = first)
            }
            "ocsp_peer" => ocsp::peer(reader, node).map(|peer| tls.ocsp_peer = Some(peer)),
            _ if switch(reader, &mut tls, &name, node, place)? => Some(()),
            _ if certificate_store(reader, &name, node)? => Some(()),
            _ => refuse(reader, node, format!("error parsing tls config, unknown field {key:?}")),
        };
        read?;
    }
    if !tls.certificates.is_empty() && tls.cert_file.is_some() {
        refuse(
            reader,
            node,
            "error parsing tls config, cannot combine 'cert_file' option with 'certs' option".to_owned(),
        )?;
    }
    if !tls.allow_insecure_cipher_suites && !insecure.is_empty() {
        let message = format!(
            "insecure cipher suites configured without 'allow_insecure_cipher_suites' option set: {}",
            insecure.join(", ")
        );
        refuse(reader, node, message)?;
    }
    if tls.timeout.is_zero() {
        tls.timeout = TlsOptions::default().timeout;
    }
    if let Err(message) = check_files(reader.sources, &tls) {
        refuse(reader, node, message)?;
    }
    Some(tls)
}

/// Complains, and gives what stops the block from being read on.
fn refuse<T>(reader: &mut Reader<'_>, node: &Node, message: String) -> Option<T> {
    reader.error(node, message);
    None
}

fn file(reader: &mut Reader<'_>, node: &Node, key: &str) -> Option<Option<PathBuf>> {
    match node.as_str() {
        Some(text) => Some((!text.is_empty()).then(|| PathBuf::from(text))),
        None => refuse(reader, node, format!("error parsing tls config, expected '{key}' to be filename")),
    }
}

/// The booleans. `None` after a complaint, false for a key that is none of them.
fn switch(
    reader: &mut Reader<'_>,
    tls: &mut TlsOptions,
    key: &str,
    node: &Node,
    place: Place,
) -> Option<bool> {
    const SWITCHES: [&str; 5] = [
        "insecure",
        "verify",
        "verify_and_map",
        "verify_cert_and_check_known_urls",
        "allow_insecure_cipher_suites",
    ];
    if !SWITCHES.contains(&key) {
        return Some(false);
    }
    let Value::Boolean(on) = node.value else {
        return refuse(reader, node, format!("error parsing tls config, expected '{key}' to be a boolean"));
    };
    match key {
        "insecure" => tls.insecure = on,
        "verify" => tls.verify = on,
        "verify_and_map" => {
            tls.verify |= on;
            tls.verify_and_map = on;
        }
        "allow_insecure_cipher_suites" => tls.allow_insecure_cipher_suites = on,
        _ => {
            if on && place == Place::Clients {
                let message = "verify_cert_and_check_known_urls not supported in this context";
                return refuse(reader, node, message.to_owned());
            }
            tls.verify |= on;
            tls.verify_cert_and_check_known_urls = on;
        }
    }
    Some(true)
}

fn certificates(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<CertPair>> {
    let unsupported =
        |node: &Node| format!("error parsing certificates config: unsupported type {}", node.value.go_type());
    let Value::Array(items) = &node.value else {
        // The reference names the type of the block, not of this value.
        let message = "error parsing certificates config: unsupported type map[string]interface {}";
        return refuse(reader, node, message.to_owned());
    };
    let mut pairs = Vec::with_capacity(items.len());
    for item in items {
        let Some(map) = item.as_map() else {
            return refuse(reader, item, unsupported(item));
        };
        let (mut cert_file, mut key_file) = (PathBuf::new(), PathBuf::new());
        let mut last = item;
        for (key, node) in map {
            last = node;
            let Some(path) = node.as_str() else {
                return refuse(reader, node, unsupported(node));
            };
            match key.as_str() {
                "cert_file" => cert_file = PathBuf::from(path),
                "key_file" => key_file = PathBuf::from(path),
                _ => {
                    let message = format!("error parsing tls certs config, unknown field {key:?}");
                    return refuse(reader, node, message);
                }
            }
        }
        if cert_file.as_os_str().is_empty() || key_file.as_os_str().is_empty() {
            let message =
                "error parsing certificates config: both 'cert_file' and 'cert_key' options are required";
            return refuse(reader, last, message.to_owned());
        }
        pairs.push(CertPair { cert_file, key_file });
    }
    Some(pairs)
}

fn cipher_suites(
    reader: &mut Reader<'_>,
    tls: &mut TlsOptions,
    insecure: &mut Vec<String>,
    node: &Node,
) -> Option<()> {
    let items = reader.array(node)?;
    if items.is_empty() {
        return refuse(reader, node, "error parsing tls config, 'cipher_suites' cannot be empty".to_owned());
    }
    for item in items {
        let name = reader.string(item)?;
        let secure = CIPHER_SUITES.iter().find(|(known, _)| *known == name);
        match secure {
            Some((_, true)) => {}
            Some((_, false)) => reader.unserved(format!("tls.cipher_suites {name}"), item),
            None if INSECURE_CIPHER_SUITES.contains(&name.as_str()) => {
                reader.unserved(format!("tls.cipher_suites {name}"), item);
                insecure.push(name.clone());
            }
            None => return refuse(reader, item, format!("unrecognized cipher {name}")),
        }
        tls.cipher_suites.push(name);
    }
    let served = |name: &String| CIPHER_SUITES.contains(&(name.as_str(), true));
    if insecure.is_empty() && !tls.cipher_suites.iter().any(served) {
        return refuse(reader, node, "none of these cipher suites is served".to_owned());
    }
    Some(())
}

fn curves(reader: &mut Reader<'_>, tls: &mut TlsOptions, node: &Node) -> Option<()> {
    let items = reader.array(node)?;
    if items.is_empty() {
        let message = "error parsing tls config, 'curve_preferences' cannot be empty";
        return refuse(reader, node, message.to_owned());
    }
    for item in items {
        let name = reader.string(item)?;
        match CURVES.iter().find(|(known, _)| *known == name) {
            Some((_, true)) => {}
            Some((_, false)) => reader.unserved(format!("tls.curve_preferences {name}"), item),
            None => return refuse(reader, item, format!("unrecognized curve preference {name}")),
        }
        tls.curve_preferences.push(name);
    }
    Some(())
}

fn pinned_certs(reader: &mut Reader<'_>, tls: &mut TlsOptions, node: &Node) -> Option<()> {
    let Value::Array(items) = &node.value else {
        let message = "error parsing tls config, expected 'pinned_certs' to be a list of hex-encoded sha256 of DER encoded SubjectPublicKeyInfo";
        return refuse(reader, node, message.to_owned());
    };
    for item in items {
        let entry = reader.string(item)?.to_lowercase();
        if entry.len() != 64 || !entry.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let message = format!(
                "error parsing tls config, 'pinned_certs' key {entry} does not look like hex-encoded sha256 of DER encoded SubjectPublicKeyInfo"
            );
            return refuse(reader, item, message);
        }
        tls.pinned_certs.insert(entry);
    }
    Some(())
}

fn min_version(reader: &mut Reader<'_>, node: &Node) -> Option<TlsVersion> {
    let problem = match node.as_str() {
        Some("1.2") => return Some(TlsVersion::Tls12),
        Some("1.3") => return Some(TlsVersion::Tls13),
        Some(old @ ("1.0" | "1.1")) => format!("unsupported TLS version: TLS {old}"),
        Some(other) => format!("unknown version: {other}"),
        None => format!("'min_version' wrong type: {}", node.shown()),
    };
    refuse(reader, node, format!("error parsing tls config: {problem}"))
}

fn connection_rate_limit(reader: &mut Reader<'_>, tls: &mut TlsOptions, node: &Node) -> Option<()> {
    let Value::Integer(limit) = node.value else {
        let message = "error parsing tls config, 'connection_rate_limit' wrong type";
        return refuse(reader, node, message.to_owned());
    };
    tls.connection_rate_limit = u64::try_from(limit).unwrap_or(0);
    Some(())
}

fn handshake_first(reader: &mut Reader<'_>, key: &str, node: &Node) -> Option<HandshakeFirst> {
    let message = match &node.value {
        Value::Boolean(true) => return Some(HandshakeFirst::Always),
        Value::Boolean(false) => return Some(HandshakeFirst::Never),
        Value::String(text) => match text.to_lowercase().as_str() {
            "true" | "on" => return Some(HandshakeFirst::Always),
            "false" | "off" => return Some(HandshakeFirst::Never),
            "auto" | "auto_fallback" => return Some(HandshakeFirst::Auto(HANDSHAKE_FIRST_FALLBACK)),
            _ => match crate::parse_duration(text) {
                // Without a time to wait there is nothing to fall back to.
                Ok(Duration::ZERO) => return Some(HandshakeFirst::Always),
                Ok(delay) => return Some(HandshakeFirst::Auto(delay)),
                Err(_) => format!("field {key:?}'s value {text:?} is invalid"),
            },
        },
        other => format!("field {key:?} should be a boolean or a string, got {}", other.go_type()),
    };
    refuse(reader, node, message)
}

/// Options of Windows' certificate store: no other system has it. `None` after a complaint, false
/// for another key.
fn certificate_store(reader: &mut Reader<'_>, key: &str, node: &Node) -> Option<bool> {
    let text = node.as_str().filter(|text| !text.is_empty());
    let valid = match key {
        "cert_store" | "cert_match_by" | "cert_match" => text.is_some(),
        "cert_match_skip_invalid" => matches!(node.value, Value::Boolean(_)),
        "ca_certs_match" => true,
        _ => return Some(false),
    };
    let message = match (key, valid, text.map(str::to_lowercase).as_deref()) {
        ("cert_match_skip_invalid", false, _) => {
            "expected 'cert_match_skip_invalid' to be a boolean".to_owned()
        }
        (_, false, _) => format!("expected '{key}' to be a valid non-empty string"),
        ("cert_store", _, Some("windowscurrentuser" | "windowslocalmachine")) => {
            "cert_store not compatible with current operating system".to_owned()
        }
        ("cert_store", ..) => "cert store type not implemented".to_owned(),
        ("cert_match_by", ..) => "cert match by type not implemented".to_owned(),
        // Without a store these mean nothing, here as in the reference.
        _ => {
            reader.unserved(format!("tls.{key}"), node);
            return Some(true);
        }
    };
    refuse(reader, node, message)
}

/// The files have to be there and to hold what they should; whether keys fit is checked when they
/// are loaded.
pub(crate) fn check_files(sources: &dyn Sources, tls: &TlsOptions) -> Result<(), String> {
    let pair = |cert: &PathBuf, key: &PathBuf| {
        let certificate = read_file(sources, cert)?;
        let key = read_file(sources, key)?;
        holds_pem(&certificate, "CERTIFICATE", "certificate")?;
        holds_pem(&key, "PRIVATE KEY", "key")
    };
    match (&tls.cert_file, &tls.key_file) {
        (Some(_), None) => return Err("missing 'key_file' in TLS configuration".to_owned()),
        (None, Some(_)) => return Err("missing 'cert_file' in TLS configuration".to_owned()),
        (Some(cert), Some(key)) => {
            pair(cert, key).map_err(|reason| format!("error parsing X509 certificate/key pair: {reason}"))?
        }
        (None, None) => {
            let count = tls.certificates.len();
            for (position, certificate) in tls.certificates.iter().enumerate() {
                pair(&certificate.cert_file, &certificate.key_file).map_err(|reason| {
                    let number = position + 1;
                    format!("error parsing X509 certificate/key pair {number}/{count}: {reason}")
                })?;
            }
        }
    }
    if let Some(path) = &tls.ca_file {
        holds_pem(&read_file(sources, path)?, "CERTIFICATE", "certificate")
            .map_err(|_| "failed to parse root ca certificate".to_owned())?;
    }
    Ok(())
}

fn holds_pem(text: &str, wanted: &str, kind: &str) -> Result<(), String> {
    let blocks: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim_end().strip_prefix("-----BEGIN ")?.strip_suffix("-----"))
        .collect();
    if blocks.iter().any(|block| block.ends_with(wanted)) {
        return Ok(());
    }
    if blocks.is_empty() {
        return Err(format!("tls: failed to find any PEM data in {kind} input"));
    }
    if kind == "certificate" && blocks.len() == 1 && blocks[0].ends_with("PRIVATE KEY") {
        return Err(
            "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched"
                .to_owned(),
        );
    }
    if kind == "key" && blocks == ["CERTIFICATE"] {
        return Err("tls: found a certificate rather than a key in the PEM for the private key".to_owned());
    }
    let skipped = blocks.join(" ");
    let block = if kind == "key" {
        "PEM block with type ending in \"PRIVATE KEY\""
    } else {
        "\"CERTIFICATE\" PEM block"
    };
    Err(format!(
        "tls: failed to find {block} in {kind} input after skipping PEM blocks of the following types: [{skipped}]"
    ))
}

/// A complaint of the reference about the configuration as a whole has no position.
pub(super) fn bare(reader: &mut Reader<'_>, message: String) {
    reader.errors.push(ConfError::bare(&"".into(), 0, 0, message));
}
