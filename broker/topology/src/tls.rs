//! TLS of routes: each server shows its certificate and verifies the other's, whoever dialled. Not the handshake.

use std::fmt;
use weir_conf::TlsOptions;
use weir_net::tls::{ClientTls, Revocation, ServerTls, client_config_with, server_config_with};

/// The certificates and rules of TLS on routes, loaded.
pub struct RouteTls {
    options: TlsOptions,
    pub(crate) server: ServerTls,
    pub(crate) client: ClientTls,
}

impl RouteTls {
    /// Loads the files that `options` names. Certificates of servers that dial are always verified.
    pub fn load(options: &TlsOptions, revocation: &Revocation) -> Result<Self, String> {
        let strict = TlsOptions { verify: true, ..options.clone() };
        Ok(Self {
            server: server_config_with(&strict, revocation)?,
            client: client_config_with(options, revocation)?,
            options: options.clone(),
        })
    }

    /// What it was loaded from.
    pub fn options(&self) -> &TlsOptions {
        &self.options
    }
}

impl fmt::Debug for RouteTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RouteTls").finish_non_exhaustive()
    }
}

impl PartialEq for RouteTls {
    /// Files may have changed behind equal options.
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}
