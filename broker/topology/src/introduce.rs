//! Carries out what the introduction (`handshake`) decides: sends, closes, starts compression, takes the place.

use crate::certificate::is_known;
use crate::compression;
use crate::dial::Outcome;
use crate::handshake::{Handshake, Refusal, Step};
use crate::options::RouteOptions;
use crate::session::{Role, Session};
use crate::topology::InfoTerms;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tracing::{debug, error};
use weir_conf::CompressionMode;
use weir_hub::CloseReason;
use weir_net::{S2Codec, S2Level};
use weir_proto::{Info, RouteConnect, encode};

impl Session {
    pub(crate) fn greet(&mut self) {
        if let Role::Solicited { target, .. } = &self.role {
            let url = target.url.clone();
            self.send_connect(url.user.unwrap_or_default(), url.password.unwrap_or_default());
        }
        if self.handshake.sends_info_at_once(&self.topology.options()) {
            self.send_info(0);
        }
        self.link.outbox.flush();
    }

    fn send_connect(&self, user: String, pass: String) {
        let cluster = self.topology.cluster();
        let hub = &self.topology.hub;
        let connect = RouteConnect {
            echo: true,
            user,
            pass,
            tls_required: self.topology.options().tls.is_some(),
            headers: hub.info().headers,
            name: hub.options().server_id.clone(),
            cluster: cluster.text.clone(),
            cluster_dynamic: cluster.is_dynamic,
            lnoc: true,
            ln: true,
            ..RouteConnect::default()
        };
        debug!("{} - Route connect msg sent", self.link.label());
        self.send(|out| {
            out.extend_from_slice(b"CONNECT ");
            // Serialising plain data into memory cannot fail.
            let _ = serde_json::to_writer(&mut *out, &connect);
            out.extend_from_slice(encode::CRLF);
        });
    }

    fn send_info(&self, index: usize) {
        // Who accepts hears the account from the other side, so it has none to tell.
        let account = if self.link.solicited { self.handshake.account.as_str() } else { "" };
        let line = self
            .topology
            .info(&InfoTerms {
                local_ip: self.link.local_ip,
                account,
                index,
                compression: self.handshake.told_compression(&self.topology.options()),
                gossip_mode: self.handshake.gossip_mode,
                is_first: true,
            })
            .to_line();
        self.send(|out| out.extend_from_slice(&line));
    }

    pub(crate) fn on_connect(&mut self, json: &[u8]) -> Result<(), CloseReason> {
        let connect = RouteConnect::from_json(json).map_err(|problem| {
            error!("{} - {problem}", self.link.label());
            CloseReason::ProtocolViolation
        })?;
        let is_authorized = self.is_authorized(&connect);
        let handshake = &mut self.handshake;
        let verdict = self.topology.with_own(|own| handshake.on_connect(own, &connect, is_authorized));
        match verdict {
            Ok(adopted) => {
                self.link.takes_headers.store(connect.headers, Ordering::Relaxed);
                self.credentials = Some(Box::new(connect.clone()));
                if let Some(name) = adopted {
                    self.topology.adopt(name, &connect.name);
                }
                Ok(())
            }
            Err(refusal) => Err(self.refuse(refusal)),
        }
    }

    pub(crate) fn is_authorized(&self, connect: &RouteConnect) -> bool {
        let options = self.topology.options();
        if let Some(by_certificate) = self.is_authorized_by_certificate(&options) {
            return by_certificate;
        }
        let Some(user) = &options.user else { return true };
        let password = options.password.as_deref().unwrap_or_default();
        *user == connect.user && weir_hub::verify(password, &connect.pass)
    }

    /// Where the certificate decides: its names have to be among the seeds' or to be the user.
    fn is_authorized_by_certificate(&self, options: &RouteOptions) -> Option<bool> {
        let tls = options.tls.as_ref()?.options();
        let (checks_urls, maps) = (tls.verify_cert_and_check_known_urls, tls.verify_and_map);
        if !checks_urls && !maps {
            return None;
        }
        let hosts: Vec<&str> = options.seeds.iter().map(|seed| seed.host.as_str()).collect();
        let user = options.user.as_deref().filter(|_| maps);
        let known = if checks_urls { &hosts[..] } else { &[] };
        let own = self.certificates.first();
        Some(own.is_some_and(|certificate| is_known(certificate, known, user)))
    }

    /// Judges who an INFO is from, and takes on the cluster's name if it says so.
    pub(crate) fn judge(&mut self, info: &Info) -> Result<(), CloseReason> {
        match self.topology.with_own(|own| Handshake::judge(own, info)) {
            Ok(None) => Ok(()),
            Ok(Some(name)) => {
                self.topology.adopt(name, &info.server_id);
                Ok(())
            }
            Err(refusal) => {
                if info.server_id == self.topology.hub.options().server_id {
                    self.tell(Ok(Outcome::Itself));
                }
                Err(self.refuse(refusal))
            }
        }
    }

    pub(crate) fn on_first_info(&mut self, json: &[u8]) -> Result<(), CloseReason> {
        let info = self.parse_info(json)?;
        self.judge(&info)?;
        let rtt = self.round_trip();
        let handshake = &mut self.handshake;
        match self.topology.with_own(|own| handshake.on_info(own, &info, rtt)) {
            Ok(Step::Compress(mode)) => {
                if self.link.solicited {
                    self.send_info(0);
                }
                self.link.outbox.flush();
                self.switch_to = Some(mode);
                Ok(())
            }
            Ok(Step::Register { answer }) => self.join(&info, answer),
            Err(refusal) => Err(self.refuse(refusal)),
        }
    }

    fn join(&mut self, info: &Info, answer: bool) -> Result<(), CloseReason> {
        self.remote_name.clone_from(&info.server_name);
        self.link.takes_headers.store(info.headers, Ordering::Relaxed);
        let account = self.handshake.account.clone();
        {
            let mut terms = self.link.terms.lock();
            terms.account.clone_from(&account);
            terms.compression = self.handshake.compression;
            terms.import.clone_from(&info.import);
            terms.export.clone_from(&info.export);
        }
        let registered = match self.topology.register(&self.link, info, &account) {
            Ok(registered) => registered,
            Err(refusal) => {
                if refusal.reason == CloseReason::DuplicateRoute {
                    debug!("{} - Detected duplicate remote route {:?}", self.link.label(), info.server_id);
                    self.tell(Ok(Outcome::Duplicate(info.server_id.clone())));
                }
                return Err(self.refuse(refusal));
            }
        };
        self.remote = Some(Arc::clone(&registered.remote));
        self.ingress.set_name(&registered.remote.name);
        let _ = self.link.remote_name.set(registered.remote.name.clone());
        if answer {
            self.send_info(registered.index);
        }
        if !account.is_empty() {
            self.parser.dedicated = true;
            self.dedicated = Some(self.topology.hub.ensure_account(&account));
        }
        if !self.link.solicited {
            // It came through CONNECT; a server that we dialled is confirmed by its first PONG.
            self.topology.confirm(&registered.remote);
        }
        if registered.is_first {
            self.gossip(info);
        }
        self.topology.send_interest(&registered.remote, &self.link);
        // Its answer proves that we were let in; then the rest of the pool is dialled.
        self.send_ping();
        Ok(())
    }

    /// Ends a connection that was let in, since its credentials do not count any more.
    pub(crate) fn turn_away(&mut self, connect: &RouteConnect) -> CloseReason {
        self.refuse(Refusal::unauthorized(connect))
    }

    fn refuse(&mut self, refusal: Refusal) -> CloseReason {
        if let Some(text) = &refusal.log {
            error!("{} - {text}", self.link.label());
        }
        if let Some(kind) = refusal.kind {
            error!("{} - {kind}", self.link.label());
        }
        if let Some(text) = &refusal.answer {
            self.send(|out| encode::error(out, text));
        }
        self.tell(Err(refusal.answer.or(refusal.log).unwrap_or_else(|| refusal.reason.text().to_owned())));
        refusal.reason
    }

    /// Speaks S2 from here on; what is left in the buffer is S2 already.
    pub(crate) fn start_compression(&mut self, mode: CompressionMode) {
        let (codec, control) = S2Codec::new(level_of(mode));
        let rest = std::mem::take(&mut self.buffer);
        // Who began the connection has written all there was, and waits for our INFO; nobody else writes yet.
        self.stream.set_codec_behind(Box::new(codec), &rest);
        self.level = Some(control);
        if !self.link.solicited {
            self.send_info(0);
            self.link.outbox.flush();
        }
    }

    /// Chooses another level when the configuration leaves it to the round trip.
    pub(crate) fn adapt_compression(&mut self, rtt: Duration) {
        let options = self.topology.options();
        if options.compression.mode == CompressionMode::S2Auto
            && compression::is_wanted(self.handshake.compression)
        {
            let level = compression::level_for(rtt, &options.compression.rtt_thresholds);
            self.set_level(level);
        }
    }

    pub(crate) fn set_level(&mut self, level: CompressionMode) {
        if self.handshake.compression != level {
            self.handshake.compression = level;
            if let Some(control) = &self.level {
                control.set(level_of(level));
            }
            self.link.terms.lock().compression = level;
        }
    }
}

fn level_of(mode: CompressionMode) -> S2Level {
    match mode {
        CompressionMode::S2Fast => S2Level::Fast,
        CompressionMode::S2Better => S2Level::Better,
        CompressionMode::S2Best => S2Level::Best,
        _ => S2Level::Uncompressed,
    }
}
