//! What a connection that exists takes over from changed options: credentials and compression.
//! Not what all connections share (`reload`).

use crate::compression;
use crate::session::Session;
use std::sync::atomic::Ordering;
use weir_conf::CompressionMode;
use weir_hub::CloseReason;

impl Session {
    /// Looks at the options again if they have changed. Who was let in and would not be now is turned away, as in
    /// nats-server; a connection that this server made is left to the other one's judgement.
    pub(crate) fn renew(&mut self) -> Result<(), CloseReason> {
        if !self.link.is_outdated.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        if let Some(connect) = self.credentials.take() {
            if !self.is_authorized(&connect) {
                return Err(self.turn_away(&connect));
            }
            self.credentials = Some(connect);
        }
        self.renew_compression()
    }

    /// Another level is taken on; what has to be negotiated needs another connection.
    fn renew_compression(&mut self) -> Result<(), CloseReason> {
        let (known, new) = (self.handshake.compression, self.topology.options().compression.mode);
        if known == CompressionMode::NotSupported || known == new {
            return Ok(());
        }
        let negotiates = |mode| matches!(mode, CompressionMode::Off | CompressionMode::Accept);
        if known == CompressionMode::Off || negotiates(new) {
            return Err(CloseReason::ClientClosed);
        }
        if new == CompressionMode::S2Auto {
            self.adapt_compression(self.round_trip());
        } else if compression::is_wanted(new) {
            self.set_level(new);
        }
        Ok(())
    }
}
