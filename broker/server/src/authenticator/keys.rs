//! The keys a server draws at its start: its id, and the curve key for encrypted answers. Not their use.

use weir_auth::{
    nkey::{KeyPair, Kind},
    xkey::CurveKey,
};

/// A server's own keys.
pub(crate) struct ServerKeys {
    pair: KeyPair,
    curve: CurveKey,
}

impl ServerKeys {
    /// New keys. The error says why there are none.
    pub(crate) fn draw() -> Result<Self, String> {
        let random = || {
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes).map_err(|error| format!("no randomness: {error}")).map(|()| bytes)
        };
        let pair = KeyPair::from_random(Kind::Server, &random()?).ok_or("no server key")?;
        Ok(Self { pair, curve: CurveKey::from_random(random()?) })
    }

    /// The server's id: its public key.
    pub(crate) fn server_id(&self) -> String {
        self.pair.public()
    }

    /// What INFO shows as `xkey`.
    pub(crate) fn xkey(&self) -> String {
        self.curve.public()
    }

    pub(super) fn pair(&self) -> &KeyPair {
        &self.pair
    }

    pub(super) fn curve(&self) -> &CurveKey {
        &self.curve
    }
}
