//! What a client's operations mean: CONNECT, publishing, subscribing, keeping alive. Not reading or writing.

use super::handle::ClientHandle;
use crate::account::Account;
use crate::auth::{ConnectionLimits, Principal, Verdict};
use crate::buffer::ReadBuffer;
use crate::close_reason::CloseReason;
use crate::exchange::{Mapped, report_latency};
use crate::hub::Hub;
use crate::ingress::{Audience, Held, Ingress, Message};
use crate::message::Origin;
use crate::message_trace::may_be_traced;
use crate::outbox::Counted;
use crate::permissions::{Permissions, SubscribeVerdict};
use crate::reserved::{is_reserved_reply, is_reserved_subject};
use crate::subscription::{Subscription, Target};
use crate::trace;
use rustc_hash::FxHashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tracing::debug;
use weir_proto::{ClientOp, ClientParser, ConnectOptions, Info, ParseError, Parsed, Publish, encode, err};
use weir_stdx::time::UnixNanos;
use weir_subject::{is_valid_literal, is_valid_subject, tokens};

/// The queue group of the servers' own services, which no client may join.
const SYSTEM_GROUP: &[u8] = b"_sys_";

/// How far `consume` came.
pub(super) enum Step {
    /// Everything complete was taken.
    Done,
    /// The next operation is that many bytes long.
    Needs(usize),
}

/// What the first INFO says otherwise than later ones.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Greeting {
    /// Whether TLS is required, where that is known better than configured.
    pub(crate) tls_required: Option<bool>,
    /// The address of a proxy is not the client's.
    pub(crate) hides_address: bool,
}

/// The session of one client.
pub(super) struct Session {
    pub(super) hub: Arc<Hub>,
    pub(super) handle: Arc<ClientHandle>,
    pub(super) ingress: Ingress,
    pub(super) parser: ClientParser,
    pub(super) account: Option<Arc<Account>>,
    pub(super) permissions: Option<Arc<Permissions>>,
    /// What is known of where it may publish.
    pub(super) verdicts: FxHashMap<Box<[u8]>, bool>,
    /// The user's own limits.
    pub(super) user_limits: ConnectionLimits,
    /// How many subscriptions it may have, by whatever limits it.
    pub(super) max_subscriptions: Option<usize>,
    pub(super) echo: bool,
    pub(super) verbose: bool,
    pub(super) pedantic: bool,
    pub(super) headers: bool,
    pub(super) no_responders: bool,
    pub(super) protocol: i64,
    pub(super) connected: bool,
    pub(super) info_sent: bool,
    /// What the client has to sign, when there is something to sign.
    pub(super) nonce: Option<Box<str>>,
    pub(super) pending_authentication: Option<Pin<Box<dyn Future<Output = Verdict> + Send>>>,
    /// When the client's credentials end.
    pub(super) expires: Option<UnixNanos>,
    pub(super) pending_options: Option<Box<ConnectOptions>>,
    pub(super) pings_out: u32,
    pub(super) ping_sent: Option<Instant>,
    pub(super) first_ping_sent: bool,
    /// What this read has brought, added to the shared counters once a read.
    pub(super) in_messages: u64,
    pub(super) in_bytes: u64,
}

impl Session {
    pub(super) fn new(hub: Arc<Hub>, handle: Arc<ClientHandle>) -> Self {
        let limits = hub.limits();
        let mut session = Self {
            ingress: Ingress::new(handle.outbox.id(), handle.id.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
            parser: ClientParser {
                max_control_line: limits.max_control_line,
                max_payload: limits.max_payload,
            },
            account: None,
            permissions: None,
            verdicts: FxHashMap::default(),
            user_limits: ConnectionLimits::default(),
            max_subscriptions: None,
            // What holds until CONNECT says otherwise.
            echo: true,
            verbose: true,
            pedantic: true,
            headers: false,
            no_responders: false,
            protocol: 0,
            connected: false,
            info_sent: false,
            nonce: None,
            pending_authentication: None,
            expires: None,
            pending_options: None,
            pings_out: 0,
            ping_sent: None,
            first_ping_sent: false,
            in_messages: 0,
            in_bytes: 0,
            hub,
            handle,
        };
        session.ingress.set_client(&session.handle);
        session.pass_over_crowded(!limits.holds_publishers);
        let authenticator = session.hub.authenticator();
        if !authenticator.is_required(session.handle.kind()) {
            // Who finds the account full is told so after CONNECT.
            let _ = session.join(Principal::anonymous(crate::GLOBAL_ACCOUNT));
        }
        session
    }

    /// Whether subscribers that are nearly full miss what this client publishes from now on.
    pub(super) fn pass_over_crowded(&mut self, yes: bool) {
        self.ingress.pass_over_crowded(yes);
    }

    pub(super) fn is_authenticated(&self) -> bool {
        self.account.is_some()
    }

    /// Sends the first INFO.
    pub(super) fn greet(&mut self, greeting: Greeting) {
        if self.hub.authenticator().nonce_required() {
            self.nonce = crate::hub::new_nonce();
        }
        let line = self.hub.first_info(&self.handle, self.nonce.as_deref(), greeting);
        self.send(|out| out.extend_from_slice(&line));
        self.flush();
    }

    pub(super) fn note_activity(&self) {
        self.handle.last_activity.store(crate::hub::now().as_nanos(), Ordering::Relaxed);
    }

    /// Takes every complete operation of the first `length` bytes of `source`; returns how many bytes that were.
    pub(super) fn consume(
        &mut self,
        source: &ReadBuffer,
        length: usize,
    ) -> Result<(usize, Step), CloseReason> {
        let result = self.consume_all(source, source.get(..length).unwrap_or_default());
        if self.in_messages > 0 {
            self.handle.in_messages.fetch_add(self.in_messages, Ordering::Relaxed);
            self.handle.in_bytes.fetch_add(self.in_bytes, Ordering::Relaxed);
            self.hub.counters().count_in(self.in_messages, self.in_bytes);
            self.in_messages = 0;
            self.in_bytes = 0;
        }
        result
    }

    fn consume_all(&mut self, source: &ReadBuffer, buffer: &[u8]) -> Result<(usize, Step), CloseReason> {
        let mut at = 0;
        let tracing = trace::is_on();
        if self.handle.permissions_changed.swap(false, Ordering::Relaxed) {
            self.apply_permissions();
        }
        while self.pending_authentication.is_none() {
            if !self.is_authenticated() && matches!(buffer.get(at), Some(first) if first | 0x20 != b'c') {
                self.on_silent_start()?;
                continue;
            }
            match self.parser.parse(&buffer[at..]) {
                Ok(Parsed::Op(op, consumed)) => {
                    if tracing {
                        trace::operation_in(&self.handle.label(), &buffer[at..at + consumed], &op);
                    }
                    at += consumed;
                    self.handle_op(op, source)?;
                }
                Ok(Parsed::Incomplete { total }) => return Ok((at, Step::Needs(total))),
                Err(error) => {
                    if let ParseError::PayloadTooLarge { size } = &error {
                        self.trace_refused_size(&buffer[at..], usize::try_from(*size).unwrap_or(usize::MAX));
                    }
                    return Err(self.on_parse_error(&error, &buffer[at..]));
                }
            }
        }
        Ok((at, Step::Done))
    }

    fn handle_op(&mut self, op: ClientOp<'_>, source: &ReadBuffer) -> Result<(), CloseReason> {
        match op {
            ClientOp::Publish(publish) => self.on_publish(&publish, source),
            ClientOp::Subscribe { subject, queue, sid } => {
                self.on_subscribe(subject, queue, sid);
                Ok(())
            }
            ClientOp::Unsubscribe { sid, max } => {
                self.on_unsubscribe(sid, max);
                Ok(())
            }
            ClientOp::Ping => {
                self.on_ping();
                Ok(())
            }
            ClientOp::Pong => {
                self.on_pong();
                Ok(())
            }
            ClientOp::Connect(json) => self.on_connect(json),
            ClientOp::Ok => Ok(()),
            // Clients have no INFO to give: it is only read, and closes without a word where it is none.
            ClientOp::Info(json) => {
                Info::from_json(json).map(drop).map_err(|_| CloseReason::ProtocolViolation)
            }
            ClientOp::Err(text) => {
                self.complain(&format!("Client Error {}", String::from_utf8_lossy(text).trim()));
                Err(CloseReason::ParseError)
            }
        }
    }

    fn on_publish(&mut self, publish: &Publish<'_>, source: &ReadBuffer) -> Result<(), CloseReason> {
        if publish.with_headers && !self.headers {
            // The client is told nothing.
            self.complain("message headers not supported");
            return Err(CloseReason::ProtocolViolation);
        }
        self.in_messages += 1;
        self.in_bytes += (publish.headers.len() + publish.payload.len()) as u64;
        if self.account.as_ref().is_some_and(|account| may_be_traced(publish.headers, account)) {
            self.publish_traced(publish);
        } else {
            self.publish_to_account(publish, Some(source));
        }
        Ok(())
    }

    /// Takes a message to where it goes, if it may go there.
    #[inline]
    pub(super) fn publish_to_account(&mut self, publish: &Publish<'_>, source: Option<&ReadBuffer>) {
        // Permissions are for where a message goes, not for what the client called it, as in nats-server.
        let mapped = self.mapped(publish.subject);
        let publish = &Publish { subject: mapped.as_deref().unwrap_or(publish.subject), ..*publish };
        if self.permissions.is_some() && !self.may_publish(publish.subject) {
            self.refuse_publish(publish.subject);
            return;
        }
        if self.is_reserved(publish.subject) {
            self.refuse_publish(publish.subject);
            return;
        }
        if let Some(reply) = publish.reply
            && is_reserved_reply(reply)
        {
            self.refuse_reply(reply);
            return;
        }
        if self.pedantic && !is_valid_literal(publish.subject) {
            self.error(err::INVALID_PUBLISH_SUBJECT);
        }
        self.acknowledge();
        let Some(account) = &self.account else { return };
        if let Some(asked) = self.handle.remote_requests.answered(publish.subject) {
            let system = self.hub.system_account();
            report_latency(&system, account, &self.handle, publish.subject, asked);
        }
        let message = Message {
            subject: publish.subject,
            shown: None,
            reply: publish.reply,
            headers: publish.headers,
            payload: publish.payload,
            source,
        };
        let origin = Origin::Client { id: self.handle.id };
        let deliveries = self.ingress.route(account, &message, origin, self.echo, Audience::Everyone);
        if deliveries == 0
            && self.no_responders
            && let Some(reply) = publish.reply
        {
            self.send_no_responders(publish.subject, reply);
        }
    }

    pub(super) fn is_reserved(&self, subject: &[u8]) -> bool {
        is_reserved_subject(subject, || self.is_in_system_account())
    }

    /// Where the account's mappings lead, if they are for this subject.
    #[inline]
    fn mapped(&mut self, subject: &[u8]) -> Option<Vec<u8>> {
        let exchange = self.account.as_ref()?.exchange();
        if !exchange.has_mappings() {
            return None;
        }
        let Mapped::To(to) = exchange.map(subject, || self.ingress.random_number()) else { return None };
        if trace::is_on() {
            trace::mapping(&self.handle.label(), subject, &to);
        }
        if let Some(trace) = self.ingress.trace() {
            trace.mapped(&to);
        }
        Some(to)
    }

    /// Tells the requester, on its own subscription for the reply, that nobody listens.
    fn send_no_responders(&mut self, subject: &[u8], reply: &[u8]) {
        let Some(account) = &self.account else { return };
        let matched = account.interest().find(reply);
        // A literal subscription goes first, and members of queue groups are not asked.
        let own = matched
            .plain
            .iter()
            .filter(|subscription| subscription.is_client(self.handle.id))
            .min_by_key(|subscription| subscription.subject() != reply);
        let Some(subscription) = own else { return };
        let mut headers = b"NATS/1.0 503\r\nNats-Subject: ".to_vec();
        headers.extend_from_slice(subject);
        headers.extend_from_slice(b"\r\n\r\n");
        let sid = subscription.sid.clone();
        self.send(|out| {
            encode::message_line(out, reply, &sid, None, headers.len(), headers.len());
            out.extend_from_slice(&headers);
            out.extend_from_slice(encode::CRLF);
        });
    }

    fn on_subscribe(&mut self, subject: &[u8], queue: Option<&[u8]>, sid: &[u8]) {
        let Some(account) = self.account.clone() else { return };
        let mut denied = None;
        if queue == Some(SYSTEM_GROUP) {
            self.refuse_subscription(subject, queue, sid);
            return;
        }
        if let Some(permissions) = &self.permissions {
            match permissions.judge_subscription(subject, queue) {
                SubscribeVerdict::Refused => {
                    self.refuse_subscription(subject, queue, sid);
                    return;
                }
                SubscribeVerdict::Allowed => {}
                SubscribeVerdict::AllowedExcept(rules) => denied = Some(rules.into()),
            }
        }
        let limits = self.hub.limits();
        if limits.max_sub_tokens > 0 && tokens(subject).count() > limits.max_sub_tokens {
            self.refuse_tokens(subject, sid);
            return;
        }
        let mut subscriptions = self.handle.subscriptions.lock();
        if self.max_subscriptions.is_some_and(|max| subscriptions.len() >= max) {
            drop(subscriptions);
            self.refuse_more_subscriptions();
            return;
        }
        // A second SUB with an id in use changes nothing, whatever its subject is.
        let is_new = !subscriptions.contains_key(sid);
        if is_new && !is_valid_subject(subject) {
            drop(subscriptions);
            self.error(err::INVALID_SUBJECT);
            return;
        }
        if is_new {
            let target = Target::Client(Arc::clone(&self.handle));
            let mut subscription = Subscription::new(subject, queue, sid, target);
            subscription.denied = denied;
            let subscription = Arc::new(subscription);
            subscriptions.insert(sid.into(), Arc::clone(&subscription));
            drop(subscriptions);
            account.subscribe(subscription);
        } else {
            drop(subscriptions);
        }
        self.acknowledge();
    }

    fn on_unsubscribe(&mut self, sid: &[u8], max: Option<u64>) {
        let subscription = self.handle.subscriptions.lock().get(sid).cloned();
        if let Some(subscription) = subscription {
            match max {
                Some(max) if subscription.delivered() < max => subscription.max.store(max, Ordering::Relaxed),
                _ => self.handle.drop_subscription(&subscription),
            }
        }
        self.acknowledge();
    }

    fn on_ping(&mut self) {
        // A PONG promises that what came before it is on its way.
        self.ingress.settle();
        if trace::is_on() {
            trace::out(&self.handle.label(), "PONG");
        }
        self.send(|out| out.extend_from_slice(encode::PONG));
        if self.connected && self.protocol >= 1 && !self.info_sent {
            self.info_sent = true;
            let account = self.account.as_ref().map(|account| account.name().to_owned());
            let line = self.hub.client_info(&self.handle, account.as_deref(), None);
            self.send(|out| out.extend_from_slice(&line));
        }
    }

    fn on_pong(&mut self) {
        self.pings_out = 0;
        if let Some(sent) = self.ping_sent.take() {
            let rtt = u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.handle.rtt_nanos.store(rtt, Ordering::Relaxed);
        }
    }

    /// Sends a PING unless the client was heard of recently; fails when too many were not answered.
    pub(super) fn on_ping_timer(&mut self, interval: Duration, max_out: u32) -> Result<(), ()> {
        let last = UnixNanos(self.handle.last_activity.load(Ordering::Relaxed));
        let is_quiet = crate::hub::now().since(last) >= interval;
        let is_first = !std::mem::replace(&mut self.first_ping_sent, true);
        if !is_quiet && !is_first {
            return Ok(());
        }
        if !self.is_authenticated() {
            return Ok(());
        }
        if is_quiet && self.pings_out >= max_out {
            debug!("{} - Stale Client Connection - Closing", self.handle.label());
            return Err(());
        }
        self.pings_out += 1;
        self.ping_sent = Some(Instant::now());
        self.send(|out| out.extend_from_slice(encode::PING));
        Ok(())
    }

    fn is_in_system_account(&self) -> bool {
        self.account.as_ref().is_some_and(|account| account.name() == self.hub.options().system_account)
    }

    pub(super) fn acknowledge(&mut self) {
        if self.verbose {
            if trace::is_on() {
                trace::out(&self.handle.label(), "OK");
            }
            self.send(|out| out.extend_from_slice(encode::OK));
        }
    }

    pub(super) fn error(&mut self, text: &str) {
        if trace::is_on() {
            trace::out(&self.handle.label(), &format!("-ERR {text}"));
        }
        self.send(|out| encode::error(out, text));
    }

    fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let appended = self.handle.outbox.append(Counted::NOTHING, write);
        self.ingress.touch(&self.handle.outbox, appended);
    }

    /// Writes to everyone touched; returns a receiver worth waiting for.
    pub(super) fn flush(&mut self) -> Option<Held> {
        self.ingress.flush(false)
    }

    /// Like `flush`, but small writes may wait until other connections had their turn.
    pub(super) fn flush_soon(&mut self) -> Option<Held> {
        self.ingress.flush(true)
    }
}
