//! One connection of a route: its I/O, its handshake, and what its operations mean here.
//! Not admission (`register`) or reaching out (`dial`).

use crate::address::RouteUrl;
use crate::dial::Outcome;
use crate::remote::{Link, Remote, split_shown};
use crate::topology::{Topology, now};
use bytes::{Buf, BytesMut};
use rustc_hash::FxHashMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{debug, info, warn};
use weir_hub::{Account, Appended, CloseReason, Counted, OutboundMessage, Outbox, PeerIngress};
use weir_net::{Interest, Transport};
use weir_proto::{Info, Parsed, RouteMessage, RouteOp, RouteParser, encode, err};
use weir_subject::is_valid_subject;

/// The most bytes read at once.
const READ_BYTES: usize = 64 * 1024;
/// So many reads in a row before others get their turn.
const READS_A_TURN: usize = 4;
/// Routes are pinged at least this often, so that a dead one is noticed soon.
const MAX_PING_INTERVAL: Duration = Duration::from_secs(5);
/// When the first PING is sent after the handshake, to measure the round trip.
const MAX_PINGS_OUT: u32 = 2;
/// How long the last bytes may take.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long reading waits for a receiver that is nearly full.
const STALL: Duration = Duration::from_millis(2);
/// Names of accounts are not longer than this.
const MAX_ACCOUNT_NAME_BYTES: usize = 255;
/// Larger messages than this are refused from other servers, whatever clients may send here.
const MAX_ROUTE_PAYLOAD_BYTES: usize = 64 * 1024 * 1024;

/// Who began a connection.
pub(crate) enum Role {
    /// The other server.
    Accepted,
    /// This server.
    Solicited {
        url: RouteUrl,
        configured: bool,
        /// Told once what came of it.
        outcome: Option<oneshot::Sender<Result<Outcome, String>>>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// CONNECT has to come first.
    Connect,
    /// The first INFO has to come.
    Info,
    Up,
}

/// Serves one connection until it ends.
pub(crate) async fn run(topology: Arc<Topology>, stream: TcpStream, address: SocketAddr, role: Role) {
    let _ = stream.set_nodelay(true);
    let stream = Arc::new(Transport::plain(stream));
    let id = topology.next_link_id();
    let (solicited, configured) = match &role {
        Role::Accepted => (false, false),
        Role::Solicited { configured, .. } => (true, *configured),
    };
    let link = Arc::new(Link {
        id,
        outbox: Outbox::new(id, Arc::clone(&stream), topology.hub.limits().max_pending),
        address,
        local_ip: stream.local_addr().ok().map(|address| address.ip()),
        solicited,
        configured,
        started: now(),
        last_activity: AtomicU64::new(now().as_nanos()),
        in_messages: AtomicU64::new(0),
        in_bytes: AtomicU64::new(0),
        rtt_nanos: AtomicU64::new(0),
        interest: parking_lot::Mutex::new(FxHashMap::default()),
        peers: parking_lot::Mutex::new(FxHashMap::default()),
    });
    info!("{address} - rid:{} - Route connection created", link.number());
    let mut guard = Guard { topology: Arc::clone(&topology), link: Arc::clone(&link), remote: None };
    let mut session = Session::new(topology, Arc::clone(&link), stream, role);
    let reason = session.serve(&mut guard.remote).await;
    session.tell(Err(reason.text().to_owned()));
    let remote_name = session.remote.as_ref().map(|remote| remote.name.clone()).unwrap_or_default();
    drop(session);
    link.outbox.close(reason);
    link.outbox.finish(LAST_WORDS).await;
    if reason == CloseReason::DuplicateRoute {
        debug!("{address} - rid:{} - Router connection closed: {}", link.number(), reason.text());
    } else {
        info!(
            "{address} - rid:{} - Router connection closed: {} - Remote: {remote_name}",
            link.number(),
            reason.text()
        );
    }
}

/// Takes a connection out of the table, even after a panic.
struct Guard {
    topology: Arc<Topology>,
    link: Arc<Link>,
    remote: Option<Arc<Remote>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.link.outbox.close(CloseReason::ClientClosed);
        if let Some(remote) = &self.remote {
            self.topology.unregister(remote, &self.link);
        }
    }
}

impl Link {
    pub(crate) fn number(&self) -> u64 {
        self.id & 0xFFFF_FFFF
    }
}

pub(crate) struct Session {
    pub(crate) topology: Arc<Topology>,
    pub(crate) link: Arc<Link>,
    pub(crate) stream: Arc<Transport>,
    pub(crate) role: Role,
    pub(crate) phase: Phase,
    pub(crate) parser: RouteParser,
    pub(crate) ingress: PeerIngress,
    pub(crate) buffer: BytesMut,
    pub(crate) remote: Option<Arc<Remote>>,
    /// The account of a dedicated connection.
    pub(crate) dedicated: Option<Arc<Account>>,
    pub(crate) accounts: FxHashMap<Box<[u8]>, Arc<Account>>,
    pub(crate) handshake_deadline: Instant,
    pub(crate) next_ping: Instant,
    pub(crate) pings_out: u32,
    pub(crate) ping_sent: Option<Instant>,
}

impl Session {
    fn new(topology: Arc<Topology>, link: Arc<Link>, stream: Arc<Transport>, role: Role) -> Self {
        let now = Instant::now();
        let phase = if link.solicited { Phase::Info } else { Phase::Connect };
        Self {
            phase,
            parser: RouteParser { max_payload: MAX_ROUTE_PAYLOAD_BYTES, dedicated: false },
            ingress: PeerIngress::new(link.id),
            buffer: BytesMut::new(),
            remote: None,
            dedicated: None,
            accounts: FxHashMap::default(),
            handshake_deadline: now + topology.options.auth_timeout,
            next_ping: now + MAX_PING_INTERVAL,
            pings_out: 0,
            ping_sent: None,
            topology,
            link,
            stream,
            role,
        }
    }

    async fn serve(&mut self, registered: &mut Option<Arc<Remote>>) -> CloseReason {
        self.greet();
        let mut stopping = self.topology.stopping.subscribe();
        let timer = tokio::time::sleep_until(self.next_deadline());
        tokio::pin!(timer);
        loop {
            let blocked = self.link.outbox.blocked_since().is_some();
            let interest =
                if blocked { Interest::READABLE.add(Interest::WRITABLE) } else { Interest::READABLE };
            timer.as_mut().reset(self.next_deadline());
            let ready = tokio::select! {
                biased;
                () = self.link.outbox.woken() => None,
                ready = self.stream.ready(interest) => Some(ready),
                () = &mut timer => {
                    if let Err(reason) = self.on_timer() {
                        return reason;
                    }
                    None
                }
                _ = stopping.wait_for(|stopping| *stopping) => return CloseReason::ServerShutdown,
            };
            match ready {
                None => self.link.outbox.flush(),
                Some(Err(_)) => return CloseReason::ReadError,
                Some(Ok(ready)) => {
                    if ready.is_writable() {
                        self.link.outbox.unblock();
                    }
                    let result = self.read_a_turn().await;
                    registered.clone_from(&self.remote);
                    if let Err(reason) = result {
                        return reason;
                    }
                }
            }
            if let Some(reason) = self.link.outbox.closed() {
                return reason;
            }
        }
    }

    async fn read_a_turn(&mut self) -> Result<(), CloseReason> {
        for _ in 0..READS_A_TURN {
            if self.buffer.capacity() - self.buffer.len() < READ_BYTES / 4 {
                self.buffer.reserve(READ_BYTES);
            }
            match self.stream.try_read_buf(&mut self.buffer) {
                Ok(0) => return Err(CloseReason::ClientClosed),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => break,
                Err(_) => return Err(CloseReason::ReadError),
            }
            self.link.last_activity.store(now().as_nanos(), Ordering::Relaxed);
            let result = self.consume();
            self.link.outbox.flush();
            let crowded = self.ingress.flush();
            result?;
            if let Some(crowded) = crowded {
                crowded.wait_for_room(STALL).await;
            }
        }
        Ok(())
    }

    fn consume(&mut self) -> Result<(), CloseReason> {
        let buffer = std::mem::take(&mut self.buffer);
        let mut at = 0;
        let result = loop {
            match self.parser.parse(&buffer[at..]) {
                Ok(Parsed::Op(op, consumed)) => {
                    at += consumed;
                    if let Err(reason) = self.handle_op(op) {
                        break Err(reason);
                    }
                }
                Ok(Parsed::Incomplete { total }) => {
                    self.buffer = buffer;
                    self.buffer.advance(at);
                    if total > self.buffer.capacity() {
                        self.buffer.reserve(total - self.buffer.len());
                    }
                    return Ok(());
                }
                Err(problem) => {
                    warn!("{} - rid:{} - {problem}", self.link.address, self.link.number());
                    self.send(|out| encode::error(out, err::UNKNOWN_OPERATION));
                    break Err(CloseReason::ParseError);
                }
            }
        };
        self.buffer = buffer;
        result
    }

    fn handle_op(&mut self, op: RouteOp<'_>) -> Result<(), CloseReason> {
        match (op, self.phase) {
            (RouteOp::Connect(json), Phase::Connect) => self.on_connect(json),
            (_, Phase::Connect) => {
                self.send(|out| encode::error(out, err::AUTHORIZATION));
                Err(CloseReason::AuthenticationViolation)
            }
            (RouteOp::Info(json), Phase::Info) => self.on_first_info(json),
            (RouteOp::Info(json), Phase::Up) => {
                match (Info::from_json(json), &self.remote) {
                    (Ok(info), Some(remote)) => self.topology.on_later_info(remote, &info),
                    (Err(problem), _) => debug!("INFO of a route is not valid: {problem}"),
                    (Ok(_), None) => {}
                }
                Ok(())
            }
            (RouteOp::Ping, _) => {
                self.send(|out| out.extend_from_slice(encode::PONG));
                Ok(())
            }
            (RouteOp::Pong, _) => {
                self.on_pong();
                Ok(())
            }
            (RouteOp::Err(text), _) => self.on_error(text),
            (RouteOp::Ok | RouteOp::Account | RouteOp::Connect(_), _) => Ok(()),
            (RouteOp::Subscribe { account, subject, queue }, Phase::Up) => {
                let (queue, weight) = queue.map_or((None, 1), |(name, weight)| (Some(name), weight));
                self.on_interest(account, subject, queue, weight);
                Ok(())
            }
            (RouteOp::Unsubscribe { account, subject, queue }, Phase::Up) => {
                self.on_interest(account, subject, queue, 0);
                Ok(())
            }
            (RouteOp::Message(message), Phase::Up) => {
                self.on_message(&message);
                Ok(())
            }
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

    fn on_interest(&mut self, account: &[u8], subject: &[u8], queue: Option<&[u8]>, weight: u32) {
        let Some(account) = self.account(account) else { return };
        if is_valid_subject(subject) {
            let is_dedicated = self.dedicated.is_some();
            Topology::apply_interest(&self.link, &account, is_dedicated, subject, queue, weight);
        }
    }

    fn on_message(&mut self, message: &RouteMessage<'_>) {
        self.link.in_messages.fetch_add(1, Ordering::Relaxed);
        let size = message.headers.len() + message.payload.len();
        self.link.in_bytes.fetch_add(size as u64, Ordering::Relaxed);
        let Some(account) = self.account(message.account) else { return };
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
        self.ingress.deliver(&account, &routed, message.queues);
    }

    fn on_pong(&mut self) {
        self.pings_out = 0;
        if let Some(sent) = self.ping_sent.take() {
            let rtt = u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.link.rtt_nanos.store(rtt.max(1), Ordering::Relaxed);
        }
        if let Some(remote) = self.remote.clone() {
            self.topology.confirm(&remote);
            self.tell(Ok(Outcome::Connected(remote.id.clone())));
        }
        if let (Role::Solicited { url, configured, .. }, Some(remote)) = (&self.role, &self.remote)
            && remote.free_index().is_some()
        {
            self.topology.fill_pool(remote, url.clone(), *configured);
        }
    }

    pub(crate) fn send_ping(&mut self) {
        self.pings_out += 1;
        self.ping_sent = Some(Instant::now());
        self.send(|out| out.extend_from_slice(encode::PING));
        self.next_ping = Instant::now() + self.topology.hub.limits().ping_interval.min(MAX_PING_INTERVAL);
    }

    fn next_deadline(&self) -> Instant {
        if self.phase == Phase::Up { self.next_ping } else { self.handshake_deadline.min(self.next_ping) }
    }

    fn on_timer(&mut self) -> Result<(), CloseReason> {
        let now = Instant::now();
        if self.phase != Phase::Up && now >= self.handshake_deadline {
            self.send(|out| encode::error(out, err::AUTHENTICATION_TIMEOUT));
            return Err(CloseReason::AuthenticationTimeout);
        }
        if now >= self.next_ping {
            if self.pings_out > MAX_PINGS_OUT {
                return Err(CloseReason::StaleConnection);
            }
            self.send_ping();
        }
        Ok(())
    }

    pub(crate) fn send(&self, write: impl FnOnce(&mut Vec<u8>)) {
        if matches!(self.link.outbox.append(Counted::NOTHING, write), Appended::MustFlush { .. }) {
            self.link.outbox.wake();
        }
    }
}
