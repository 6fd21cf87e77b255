//! Transports over TLS on real sockets, both ends ours.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use std::io::{ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use weir_conf::{CertPair, TlsOptions};
use weir_net::tls::{HandshakeError, client_config, server_config};
use weir_net::{Farewell, Interest, Transport};

/// An authority and certificates it gives out, in files.
struct Authority {
    folder: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("valid");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("signed");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("written");
        Self { folder, issuer }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn issue(&self, name: &str, hosts: &[&str]) -> CertPair {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("valid names");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let pair = CertPair {
            cert_file: self.path(&format!("{name}.pem")),
            key_file: self.path(&format!("{name}.key")),
        };
        std::fs::write(&pair.cert_file, certificate.pem()).expect("written");
        std::fs::write(&pair.key_file, key.serialize_pem()).expect("written");
        pair
    }

    fn options(&self, pair: &CertPair) -> TlsOptions {
        TlsOptions {
            cert_file: Some(pair.cert_file.clone()),
            key_file: Some(pair.key_file.clone()),
            ca_file: Some(self.path("ca.pem")),
            ..TlsOptions::default()
        }
    }

    fn trusting(&self) -> TlsOptions {
        TlsOptions { ca_file: Some(self.path("ca.pem")), ..TlsOptions::default() }
    }
}

async fn sockets() -> (Transport, Transport) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    (Transport::plain(accepted.expect("accepted").0), Transport::plain(client.expect("connected")))
}

async fn write(transport: &Transport, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let (front, back) = bytes.split_at(bytes.len() / 3);
        match transport.try_write_vectored(&[IoSlice::new(front), IoSlice::new(back)]) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                transport.ready(Interest::WRITABLE).await.expect("ready");
            }
            Err(error) => panic!("{error}"),
        }
    }
    while transport.wants_write() {
        transport.ready(Interest::WRITABLE).await.expect("ready");
        let _ = transport.try_flush();
    }
}

async fn read(transport: &Transport, count: usize, at_once: usize) -> Vec<u8> {
    let mut received = Vec::new();
    let mut buffer = vec![0; at_once];
    while received.len() < count {
        match transport.try_read(&mut buffer) {
            Ok(0) => break,
            Ok(more) => received.extend_from_slice(&buffer[..more]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                transport.ready(Interest::READABLE).await.expect("ready");
            }
            Err(error) => panic!("{error}"),
        }
    }
    received
}

fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|at| u8::try_from(at * 31 % 251).expect("small")).collect()
}

#[tokio::test]
async fn bytes_arrive_whole_in_both_directions_whatever_the_pieces() {
    let authority = Authority::new();
    let pair = authority.issue("server", &["localhost"]);
    let server_tls = server_config(&authority.options(&pair)).expect("valid");
    let client_tls = client_config(&authority.trusting()).expect("valid");
    let (server, client) = sockets().await;
    let state = server_tls.current();
    let (accepted, connected) =
        tokio::join!(server.accept_tls(&state), client.connect_tls(&client_tls, "localhost"));
    let facts = accepted.expect("a handshake");
    assert_eq!((facts.version.as_str(), facts.cipher_suite.as_str()), ("1.3", "TLS_AES_128_GCM_SHA256"));
    assert_eq!(connected.expect("a handshake").peer_certificates.len(), 1);
    let sent = pattern(3_000_000);
    for at_once in [7_001, 65_536] {
        let ((), received) = tokio::join!(write(&client, &sent), read(&server, sent.len(), at_once));
        assert!(received == sent);
        let ((), received) = tokio::join!(write(&server, &sent), read(&client, sent.len(), at_once));
        assert!(received == sent);
    }
}

#[tokio::test]
async fn a_farewell_ends_the_stream_in_order() {
    let authority = Authority::new();
    let pair = authority.issue("server", &["localhost"]);
    let server_tls = server_config(&authority.options(&pair)).expect("valid");
    let client_tls = client_config(&authority.trusting()).expect("valid");
    let (server, client) = sockets().await;
    let state = server_tls.current();
    let (accepted, connected) =
        tokio::join!(server.accept_tls(&state), client.connect_tls(&client_tls, "localhost"));
    accepted.and(connected).expect("a handshake");
    write(&server, b"last words").await;
    server.say_farewell(Farewell { status: 1000, text: "Client Closed" });
    assert_eq!(read(&client, 100, 4096).await, b"last words");
    assert_eq!(client.try_read(&mut [0; 10]).expect("the end"), 0);
}

#[tokio::test]
async fn certificates_follow_the_name_that_is_asked_for() {
    let authority = Authority::new();
    let options = TlsOptions {
        certificates: vec![authority.issue("one", &["one.test"]), authority.issue("two", &["two.test"])],
        ..TlsOptions::default()
    };
    let server_tls = server_config(&options).expect("valid");
    let client_tls = client_config(&authority.trusting()).expect("valid");
    for (name, works) in [("one.test", true), ("two.test", true), ("three.test", false)] {
        let (server, client) = sockets().await;
        let state = server_tls.current();
        let (_, connected) = tokio::join!(server.accept_tls(&state), client.connect_tls(&client_tls, name));
        assert_eq!(connected.is_ok(), works, "{name}");
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused_where_one_is_verified() {
    let authority = Authority::new();
    let pair = authority.issue("server", &["localhost"]);
    let options = TlsOptions { verify: true, ..authority.options(&pair) };
    let server_tls = server_config(&options).expect("valid");
    let state = server_tls.current();
    let (server, client) = sockets().await;
    let anonymous = client_config(&authority.trusting()).expect("valid");
    let (accepted, _) = tokio::join!(server.accept_tls(&state), client.connect_tls(&anonymous, "localhost"));
    assert_eq!(
        accepted.expect_err("refused"),
        HandshakeError::Other("tls: client didn't provide a certificate".to_owned())
    );
    let (server, client) = sockets().await;
    let known = client_config(&authority.options(&authority.issue("client", &["me"]))).expect("valid");
    let (accepted, _) = tokio::join!(server.accept_tls(&state), client.connect_tls(&known, "localhost"));
    assert_eq!(accepted.expect("let in").peer_certificates.len(), 1);
    let (server, client) = sockets().await;
    let stranger = Authority::new();
    let unknown = TlsOptions {
        ca_file: Some(authority.path("ca.pem")),
        ..stranger.options(&stranger.issue("client", &["me"]))
    };
    let unknown = client_config(&unknown).expect("valid");
    let (accepted, _) = tokio::join!(server.accept_tls(&state), client.connect_tls(&unknown, "localhost"));
    let refused = accepted.expect_err("refused").to_string();
    assert!(refused.contains("certificate signed by unknown authority"), "{refused}");
}

#[tokio::test]
async fn only_pinned_keys_get_in() {
    let authority = Authority::new();
    let pair = authority.issue("server", &["localhost"]);
    let mut options = TlsOptions { verify: true, ..authority.options(&pair) };
    options.pinned_certs.insert("0".repeat(64));
    let server_tls = server_config(&options).expect("valid");
    let known = client_config(&authority.options(&authority.issue("client", &["me"]))).expect("valid");
    let (server, client) = sockets().await;
    let state = server_tls.current();
    let (accepted, _) = tokio::join!(server.accept_tls(&state), client.connect_tls(&known, "localhost"));
    assert_eq!(accepted.expect_err("refused"), HandshakeError::NotPinned);
}

#[tokio::test]
async fn new_handshakes_use_what_was_reloaded_and_a_bad_reload_changes_nothing() {
    let (old, new) = (Authority::new(), Authority::new());
    let server_tls = server_config(&old.options(&old.issue("server", &["localhost"]))).expect("valid");
    let trusts_new = client_config(&new.trusting()).expect("valid");
    let connects = async || {
        let (server, client) = sockets().await;
        let state = server_tls.current();
        let (_, done) = tokio::join!(server.accept_tls(&state), client.connect_tls(&trusts_new, "localhost"));
        done.is_ok()
    };
    assert!(!connects().await);
    let missing = TlsOptions {
        cert_file: Some("/missing".into()),
        key_file: Some("/missing".into()),
        ..TlsOptions::default()
    };
    let refused = server_tls.replace(&missing).expect_err("no such file");
    assert_eq!(refused, "error parsing X509 certificate/key pair: open /missing: no such file or directory");
    assert!(!connects().await);
    server_tls.replace(&new.options(&new.issue("server", &["localhost"]))).expect("valid");
    assert!(connects().await);
}

#[tokio::test]
async fn what_is_no_handshake_and_what_never_comes_is_told_apart() {
    let authority = Authority::new();
    let pair = authority.issue("server", &["localhost"]);
    let options = TlsOptions { timeout: Duration::from_millis(100), ..authority.options(&pair) };
    let server_tls = Arc::new(server_config(&options).expect("valid"));
    for (bytes, expected) in [
        (&b"CONNECT {}\r\nPING\r\n"[..], HandshakeError::NotTls),
        (b"\x16\x03\x01\x02\x00\x01", HandshakeError::Timeout),
        (b"", HandshakeError::Timeout),
    ] {
        let (server, client) = sockets().await;
        write(&client, bytes).await;
        let state = server_tls.current();
        assert_eq!(server.accept_tls(&state).await.expect_err("refused"), expected);
    }
    let (server, client) = sockets().await;
    drop(client);
    let state = server_tls.current();
    assert_eq!(server.accept_tls(&state).await.expect_err("refused"), HandshakeError::Closed);
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let authority = Authority::new();
    let (one, two) = (authority.issue("one", &["a"]), authority.issue("two", &["b"]));
    let crossed = CertPair { cert_file: one.cert_file, key_file: two.key_file };
    let refused = server_config(&authority.options(&crossed)).err().expect("refused");
    assert_eq!(
        refused,
        "error parsing X509 certificate/key pair: tls: private key does not match public key"
    );
    assert!(Path::new(&authority.path("ca.pem")).exists());
}
