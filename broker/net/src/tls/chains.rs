//! The chains from a peer's certificate to the authorities we trust. Not what they are good for.

use super::certificates::authority_certificates;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::cell::RefCell;
use std::fmt;
use std::path::Path;
use webpki::{EndEntityCert, Error, KeyUsage, VerifiedPath, anchor_from_trusted_cert};

/// Further chains of a certificate are not looked at.
const MAX_CHAINS: usize = 4;

/// The authorities of one `tls` block.
pub struct Chains {
    roots: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
}

impl fmt::Debug for Chains {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Chains").field("roots", &self.roots.len()).finish_non_exhaustive()
    }
}

impl Chains {
    /// The authorities of a `ca_file`; without one those of the system.
    pub fn load(ca_file: Option<&Path>) -> Result<Self, String> {
        let (mut roots, mut anchors) = (Vec::new(), Vec::new());
        for root in authority_certificates(ca_file)? {
            if let Ok(anchor) = anchor_from_trusted_cert(&root).map(|anchor| anchor.to_owned()) {
                anchors.push(anchor);
                roots.push(root);
            }
        }
        Ok(Self { roots, anchors })
    }

    /// Every chain from a client's certificate, first in it, to an authority, last in it.
    pub fn of_client(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Vec<Vec<CertificateDer<'static>>> {
        self.find(certificate, intermediates, now, KeyUsage::client_auth())
    }

    /// The same for a server's.
    pub fn of_server(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Vec<Vec<CertificateDer<'static>>> {
        self.find(certificate, intermediates, now, KeyUsage::server_auth())
    }

    fn find(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Vec<Vec<CertificateDer<'static>>> {
        let Ok(end) = EndEntityCert::try_from(certificate) else { return Vec::new() };
        let found = RefCell::new(Vec::new());
        let take = |path: &VerifiedPath<'_>| {
            let mut chain = vec![certificate.clone().into_owned()];
            chain.extend(path.intermediate_certificates().map(|one| one.der().into_owned()));
            if let Some(root) = self.root_of(path.anchor())
                && chain.last() != Some(root)
            {
                chain.push(root.clone());
            }
            let mut found = found.borrow_mut();
            // A client may send the authority's certificate as well: that makes no second chain.
            if !found.contains(&chain) {
                found.push(chain);
            }
            // An error makes it look for the next one.
            if found.len() < MAX_CHAINS { Err(Error::UnknownIssuer) } else { Ok(()) }
        };
        let algorithms = default_provider().signature_verification_algorithms.all;
        // The chains are what counts: they were verified before.
        let _ = end.verify_for_usage(algorithms, &self.anchors, intermediates, now, usage, None, Some(&take));
        found.into_inner()
    }

    fn root_of(&self, anchor: &TrustAnchor<'_>) -> Option<&CertificateDer<'static>> {
        let same = |known: &TrustAnchor<'_>| {
            known.subject == anchor.subject && known.subject_public_key_info == anchor.subject_public_key_info
        };
        let at = self.anchors.iter().position(same)?;
        self.roots.get(at)
    }
}
