//! Asks about servers that connect to us: their certificates come without a status, since the TLS library neither asks
//! clients for one nor shows one as a client. Not the look at the status that servers show whom we connect to.

use std::sync::Arc;

use tokio::runtime::Handle;
use weir_net::{
    ocsp::{Certificate, Status},
    tls::{PeerCheck, X509},
};

use super::{ROUTER, statuses::Statuses};

/// Routes must not be revoked.
#[derive(Debug)]
pub(super) struct RouteCheck {
    pub(super) statuses: Arc<Statuses>,
    pub(super) runtime: Handle,
}

impl PeerCheck for RouteCheck {
    fn check(&self, chains: &[Vec<X509<'static>>]) -> Result<(), String> {
        let Some(chain) = chains.first() else {
            return Err(format!("{ROUTER} peer missing TLS verified chains"));
        };
        let [leaf, issuer, ..] = chain.as_slice() else {
            return Err(format!("failed to get issuer certificate for {ROUTER} peer"));
        };
        let (leaf, issuer) = (Certificate::parse(leaf)?, Certificate::parse(issuer)?);
        let asking = self.statuses.get(&leaf, &issuer);
        let known = tokio::task::block_in_place(|| self.runtime.block_on(asking));
        match known.map(|known| known.response.status) {
            Ok(Status::Good) => Ok(()),
            Ok(bad) => Err(format!("bad status for OCSP Staple from {ROUTER} peer: {bad}")),
            Err(problem) => Err(format!("{ROUTER} peer missing OCSP Staple: {problem}")),
        }
    }
}
