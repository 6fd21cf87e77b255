//! The client's side of TLS, for connections to other servers. Not the handshake.

use super::chains::Chains;
use super::refusal::refuse;
use super::revocation::Revocation;
use super::staple::check_staple;
use super::{certificates, suites};
use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use weir_conf::TlsOptions;

/// The TLS of connections that this server opens.
pub struct ClientTls {
    state: ArcSwap<ClientTlsState>,
}

pub(crate) struct ClientTlsState {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) timeout: Duration,
    pub(crate) pinned: BTreeSet<String>,
}

/// Loads the files of `options`. Its certificate is shown to servers that ask for one.
pub fn client_config(options: &TlsOptions) -> Result<ClientTls, String> {
    client_config_with(options, &Revocation::default())
}

/// The same, where servers may have to show their status.
pub fn client_config_with(options: &TlsOptions, revocation: &Revocation) -> Result<ClientTls, String> {
    Ok(ClientTls { state: ArcSwap::from_pointee(load(options, revocation)?) })
}

impl ClientTls {
    pub(crate) fn current(&self) -> Arc<ClientTlsState> {
        self.state.load_full()
    }

    /// The configuration in force, for libraries that do the handshake themselves.
    pub fn rustls_config(&self) -> ClientConfig {
        (*self.current().config).clone()
    }

    /// Loads the files of `options` for the handshakes from now on; on an error all stays as it was.
    pub fn replace(&self, options: &TlsOptions) -> Result<(), String> {
        self.state.store(Arc::new(load(options, &Revocation::default())?));
        Ok(())
    }
}

fn load(options: &TlsOptions, revocation: &Revocation) -> Result<ClientTlsState, String> {
    let provider = suites::provider(options)?;
    let certificates = certificates::load(options, &provider)?;
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(suites::versions(options))
        .map_err(|error| error.to_string())?;
    let mut verifier: Arc<dyn ServerCertVerifier> = if options.insecure {
        Arc::new(AnyServer { provider })
    } else {
        let roots = Arc::new(certificates::authorities(options.ca_file.as_deref())?);
        WebPkiServerVerifier::builder_with_provider(roots, provider)
            .build()
            .map_err(|error| error.to_string())?
    };
    if let Some(kind) = revocation.staple_wanted {
        // Servers that are not verified have no chain that a status could be judged by.
        let chains = (!options.insecure).then(|| Chains::load(options.ca_file.as_deref())).transpose()?;
        verifier = Arc::new(StapledServer { inner: verifier, chains, kind });
    }
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match certificates.into_iter().next() {
        None => builder.with_no_client_auth(),
        Some(own) => builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(own))),
    };
    config.resumption = Resumption::disabled();
    Ok(ClientTlsState {
        config: Arc::new(config),
        timeout: options.timeout,
        pinned: options.pinned_certs.clone(),
    })
}

/// `insecure: true`: any certificate, as long as the peer has its key.
#[derive(Debug)]
struct AnyServer {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Servers have to show that they are not revoked.
#[derive(Debug)]
struct StapledServer {
    inner: Arc<dyn ServerCertVerifier>,
    chains: Option<Chains>,
    kind: &'static str,
}

impl ServerCertVerifier for StapledServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        let chains = self.chains.as_ref().map(|chains| chains.of_server(end_entity, intermediates, now));
        let chain = chains.as_ref().and_then(|chains| chains.first());
        let now = Duration::from_secs(now.as_secs());
        check_staple(self.kind, ocsp_response, chain.map(Vec::as_slice), now).map_err(refuse)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
