//! How two servers introduce themselves on a connection: CONNECT, INFO, refusals. Not what follows.

use crate::dial::Outcome;
use crate::link::{Phase, Role, Session};
use crate::register::Refusal;
use std::sync::Arc;
use tracing::{debug, error};
use weir_hub::CloseReason;
use weir_proto::{Info, RouteConnect, encode, err};

impl Session {
    pub(crate) fn greet(&mut self) {
        match &self.role {
            Role::Accepted => {
                let line = self.topology.info(self.link.local_ip).to_line();
                self.send(|out| out.extend_from_slice(&line));
            }
            Role::Solicited { url, .. } => {
                let options = &self.topology.options;
                let own = self.topology.hub.options();
                let connect = RouteConnect {
                    echo: true,
                    user: url.user.clone().or_else(|| options.user.clone()).unwrap_or_default(),
                    pass: url.password.clone().or_else(|| options.password.clone()).unwrap_or_default(),
                    headers: true,
                    name: own.server_id.clone(),
                    cluster: options.cluster.clone(),
                    cluster_dynamic: options.cluster_is_dynamic,
                    ..RouteConnect::default()
                };
                self.send(|out| {
                    out.extend_from_slice(b"CONNECT ");
                    // Serialising plain data into memory cannot fail.
                    let _ = serde_json::to_writer(&mut *out, &connect);
                    out.extend_from_slice(encode::CRLF);
                });
            }
        }
        self.link.outbox.flush();
    }

    pub(crate) fn on_connect(&mut self, json: &[u8]) -> Result<(), CloseReason> {
        let connect = RouteConnect::from_json(json).map_err(|problem| {
            debug!("CONNECT of a route is not valid: {problem}");
            CloseReason::ProtocolViolation
        })?;
        let options = &self.topology.options;
        if let Some(user) = &options.user {
            let password = options.password.as_deref().unwrap_or_default();
            let is_user = weir_hub::verify(user, &connect.user);
            let is_password = weir_hub::verify(password, &connect.pass);
            if !(is_user && is_password) {
                error!(
                    "{} - rid:{} - authentication error - User {:?}",
                    self.link.address,
                    self.link.number(),
                    connect.user
                );
                self.send(|out| encode::error(out, err::AUTHORIZATION));
                return Err(CloseReason::AuthenticationViolation);
            }
        }
        self.phase = Phase::Info;
        Ok(())
    }

    pub(crate) fn on_first_info(&mut self, json: &[u8]) -> Result<(), CloseReason> {
        let info = Info::from_json(json).map_err(|problem| {
            debug!("INFO of a route is not valid: {problem}");
            CloseReason::ProtocolViolation
        })?;
        let registered = match self.topology.register(&self.link, &info) {
            Ok(registered) => registered,
            Err(refusal) => return Err(self.refuse(&info, refusal)),
        };
        self.phase = Phase::Up;
        let remote = registered.remote;
        if self.link.solicited {
            let mut own = self.topology.info(self.link.local_ip);
            own.route_pool_idx = i64::try_from(registered.index).unwrap_or_default();
            let line = own.to_line();
            self.send(|out| out.extend_from_slice(&line));
        } else if !info.route_account.is_empty() {
            self.parser.dedicated = true;
            self.dedicated = Some(self.topology.hub.ensure_account(&info.route_account));
        }
        if !self.link.solicited {
            // It came through CONNECT; a server that we dialled is confirmed by its first PONG.
            self.topology.confirm(&remote);
        }
        let dedicated = if self.link.solicited { "" } else { info.route_account.as_str() };
        self.remote = Some(Arc::clone(&remote));
        self.topology.send_interest(&self.link, registered.index, dedicated, &remote);
        // Its answer proves that we were let in; then the rest of the pool is dialled.
        self.send_ping();
        Ok(())
    }

    fn refuse(&mut self, info: &Info, refusal: Refusal) -> CloseReason {
        match refusal {
            Refusal::Itself => {
                self.tell(Ok(Outcome::Itself));
                CloseReason::DuplicateRoute
            }
            Refusal::Duplicate => {
                debug!("Detected duplicate remote route {:?}", info.server_id);
                self.tell(Ok(Outcome::Duplicate(info.server_id.clone())));
                CloseReason::DuplicateRoute
            }
            Refusal::Error(text, reason) => {
                error!("{} - rid:{} - {text}", self.link.address, self.link.number());
                self.send(|out| encode::error(out, &text));
                self.tell(Err(text));
                reason
            }
        }
    }

    pub(crate) fn on_error(&mut self, text: &[u8]) -> Result<(), CloseReason> {
        let text = String::from_utf8_lossy(text).into_owned();
        error!("{} - rid:{} - Route Error {text}", self.link.address, self.link.number());
        self.tell(Err(text));
        Err(CloseReason::ParseError)
    }

    /// Tells whoever dialled what came of it; only the first telling counts.
    pub(crate) fn tell(&mut self, outcome: Result<Outcome, String>) {
        if let Role::Solicited { outcome: sender, .. } = &mut self.role
            && let Some(sender) = sender.take()
        {
            let _ = sender.send(outcome);
        }
    }
}
