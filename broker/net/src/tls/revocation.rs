//! What a port shows and asks about certificates being revoked. Not the showing and asking.

use super::chains::Chains;
use super::refusal::refuse;
use super::staple::Staple;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use std::fmt;
use std::sync::Arc;

/// What a port shows and asks beyond its certificates.
#[derive(Debug, Clone, Default)]
pub struct Revocation {
    /// The status of each of the port's certificates, by their places; none where it is not shown.
    pub staples: Vec<Option<Arc<Staple>>>,
    /// Who is asked about the certificates of those who connect.
    pub peers: Option<Arc<dyn PeerCheck>>,
    /// What servers that we connect to are called in refusals when they have to show their own status.
    pub staple_wanted: Option<&'static str>,
}

/// Asked about a peer whose certificates were verified. It may wait for others to answer: it is never asked on a
/// thread that serves connections.
pub trait PeerCheck: fmt::Debug + Send + Sync {
    /// Whether the peer may come in, by its chains, its own certificate first in each; the error is told in the log.
    fn check(&self, chains: &[Vec<CertificateDer<'static>>]) -> Result<(), String>;
}

/// Verifies clients, then asks about them.
#[derive(Debug)]
pub(crate) struct CheckedClients {
    pub(crate) inner: Arc<dyn ClientCertVerifier>,
    pub(crate) chains: Chains,
    pub(crate) check: Arc<dyn PeerCheck>,
}

impl ClientCertVerifier for CheckedClients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        let chains = self.chains.of_client(end_entity, intermediates, now);
        self.check.check(&chains).map_err(refuse)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
