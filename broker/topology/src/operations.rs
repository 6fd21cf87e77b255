//! What the operations of another server mean here. Not their parsing, not the introduction.

use crate::handshake::Phase;
use crate::interest::Entry;
use crate::remote::split_shown;
use crate::session::Session;
use std::sync::Arc;
use tracing::error;
use weir_hub::{Account, CloseReason, OutboundMessage};
use weir_proto::{Info, ParseError, RouteMessage, RouteOp, encode, err};
use weir_subject::is_valid_subject;

/// Names of accounts are not longer than this.
const MAX_ACCOUNT_NAME_BYTES: usize = 255;
/// So much of what cannot be parsed is logged, as in nats-server.
const SNIPPET_BYTES: usize = 32;

impl Session {
    pub(crate) fn handle_op(&mut self, op: RouteOp<'_>) -> Result<(), CloseReason> {
        match (op, self.handshake.phase) {
            (RouteOp::Message(message), Phase::Up) => {
                self.on_message(&message);
                Ok(())
            }
            (RouteOp::Subscribe { leaf, account, subject, queue }, Phase::Up) => {
                let (queue, weight) = queue.map_or((None, 1), |(name, weight)| (Some(name), weight));
                self.on_interest(account, &Entry { leaf, subject, queue, weight: weight.max(1) });
                Ok(())
            }
            (RouteOp::Unsubscribe { leaf, account, subject, queue }, Phase::Up) => {
                self.on_interest(account, &Entry { leaf, subject, queue, weight: 0 });
                Ok(())
            }
            (RouteOp::Connect(json), Phase::Connect) => self.on_connect(json),
            (_, Phase::Connect) => {
                error!("{} - authentication error", self.link.label());
                self.send(|out| encode::error(out, err::AUTHORIZATION));
                Err(CloseReason::AuthenticationViolation)
            }
            (RouteOp::Info(json), Phase::Info) => self.on_first_info(json),
            (RouteOp::Info(json), Phase::Up) => self.on_later_info(json),
            (RouteOp::Ping, _) => {
                self.trace_out("PONG");
                self.send(|out| out.extend_from_slice(encode::PONG));
                Ok(())
            }
            (RouteOp::Pong, _) => {
                self.on_pong();
                Ok(())
            }
            (RouteOp::Err(text), _) => Err(self.on_error(text)),
            (RouteOp::Ok | RouteOp::Account | RouteOp::Connect(_), _) => Ok(()),
            // Interest or messages before INFO: not a server that speaks this protocol.
            (_, Phase::Info) => Err(CloseReason::ProtocolViolation),
        }
    }

    fn account(&mut self, name: &[u8]) -> Option<Arc<Account>> {
        if let Some(account) = &self.dedicated {
            return Some(Arc::clone(account));
        }
        if let Some(account) = self.accounts.get(name) {
            return Some(Arc::clone(account));
        }
        let text = std::str::from_utf8(name).ok().filter(|name| name.len() <= MAX_ACCOUNT_NAME_BYTES)?;
        let account = self.topology.hub.ensure_account(text);
        self.accounts.insert(name.into(), Arc::clone(&account));
        Some(account)
    }

    fn on_interest(&mut self, account: &[u8], entry: &Entry<'_>) {
        let Some(account) = self.account(account) else { return };
        if is_valid_subject(entry.subject) {
            let is_own = self.dedicated.is_some();
            self.topology.note_interest(&self.link, &account, is_own, entry);
        }
    }

    fn on_message(&mut self, message: &RouteMessage<'_>) {
        let is_recent = self.recent.as_ref().is_some_and(|(name, _)| **name == *message.account);
        if !is_recent {
            self.count_received();
            let Some(account) = self.account(message.account) else { return };
            self.recent = Some((message.account.into(), account));
        }
        self.received.0 += 1;
        self.received.1 += (message.headers.len() + message.payload.len()) as u64;
        let Some((_, account)) = &self.recent else { return };
        let shown = message.reply.and_then(split_shown);
        let routed = match shown {
            Some((reply, subject)) => OutboundMessage {
                subject,
                deliver_to: Some(message.subject),
                reply: Some(reply),
                headers: message.headers,
                payload: message.payload,
            },
            None => OutboundMessage {
                subject: message.subject,
                deliver_to: None,
                reply: message.reply,
                headers: message.headers,
                payload: message.payload,
            },
        };
        self.ingress.deliver(account, &routed, message.queues);
    }

    fn on_later_info(&mut self, json: &[u8]) -> Result<(), CloseReason> {
        let info = self.parse_info(json)?;
        if info.route_acc_add_reqid.is_empty() && info.server_id == self.link_remote_id() {
            self.judge(&info)?;
        }
        if let Some(remote) = self.remote.clone() {
            self.topology.on_later_info(&remote, &self.link, &info);
        }
        Ok(())
    }

    fn link_remote_id(&self) -> &str {
        self.remote.as_ref().map_or("", |remote| remote.id.as_str())
    }

    pub(crate) fn parse_info(&self, json: &[u8]) -> Result<Info, CloseReason> {
        Info::from_json(json).map_err(|problem| {
            error!("{} - {problem}", self.link.label());
            CloseReason::ProtocolViolation
        })
    }

    fn on_error(&mut self, text: &[u8]) -> CloseReason {
        let text = String::from_utf8_lossy(text).into_owned();
        error!("{} - Route Error {text}", self.link.label());
        self.tell(Err(text));
        CloseReason::ParseError
    }

    pub(crate) fn on_parse_error(&mut self, problem: &ParseError, rest: &[u8]) -> CloseReason {
        let label = self.link.label();
        match problem {
            _ if self.handshake.phase == Phase::Connect
                && !rest.starts_with(b"C")
                && !rest.starts_with(b"c") =>
            {
                error!("{label} - authentication error");
                self.send(|out| encode::error(out, err::AUTHORIZATION));
                CloseReason::AuthenticationViolation
            }
            ParseError::ControlLineTooLong => {
                error!("{label} - {}", err::MAX_CONTROL_LINE);
                self.send(|out| encode::error(out, err::MAX_CONTROL_LINE));
                CloseReason::MaxControlLineExceeded
            }
            ParseError::BadArguments(what) => {
                error!("{label} - Parse Error: {what}");
                CloseReason::ProtocolViolation
            }
            _ => {
                let snippet = String::from_utf8_lossy(rest.get(..SNIPPET_BYTES).unwrap_or(rest));
                error!("{label} - Router parser ERROR, proto='{snippet:?}...'");
                self.send(|out| encode::error(out, err::UNKNOWN_OPERATION));
                CloseReason::ProtocolViolation
            }
        }
    }

    /// Tells other servers of one that joined.
    pub(crate) fn gossip(&self, info: &Info) {
        if let Some(remote) = &self.remote {
            self.topology.gossip_about(remote, &self.link, info, self.handshake.gossip_mode);
        }
    }
}
