//! One connection of a route: its I/O and timers. Not its introduction (`introduce`), what its operations mean
//! (`operations`), or reaching out (`dial`).

use crate::dial::{Outcome, Target};
use crate::handshake::{Handshake, Phase};
use crate::remote::{Link, Remote, Terms};
use crate::topology::{Topology, now};
use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{debug, error, info};
use weir_conf::CompressionMode;
use weir_hub::{Account, Appended, CloseReason, Counted, Outbox, PeerIngress, Slow};
use weir_net::{Farewell, Interest, S2Control, Transport};
use weir_proto::limits::ROUTE_LINE_FACTOR;
use weir_proto::{Parsed, RouteConnect, RouteParser, encode, err};

/// The most bytes read at once.
const READ_BYTES: usize = 64 * 1024;
/// The same before the other side is let in.
const FIRST_READ_BYTES: usize = 4 * 1024;
/// So many reads in a row before others get their turn.
const READS_A_TURN: usize = 4;
/// Routes are pinged at least this often, as in nats-server.
const MAX_PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long the last bytes may take.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Larger messages than this are refused from other servers, whatever clients may send here.
const MAX_ROUTE_PAYLOAD_BYTES: usize = 64 * 1024 * 1024;

/// Who began a connection.
pub(crate) enum Role {
    /// The other server.
    Accepted,
    /// This server.
    Solicited {
        target: Target,
        /// Told once what came of it.
        outcome: Option<oneshot::Sender<Result<Outcome, String>>>,
    },
}

/// Serves one connection until it ends.
pub(crate) async fn run(topology: Arc<Topology>, stream: TcpStream, address: SocketAddr, role: Role) {
    let _ = stream.set_nodelay(true);
    let stream = Arc::new(Transport::plain(stream));
    let link = new_link(&topology, &stream, address, &role);

    topology.sessions.fetch_add(1, Ordering::AcqRel);
    let mut guard = Guard { topology: Arc::clone(&topology), link: Arc::clone(&link), remote: None };
    let mut session = Session::new(topology, Arc::clone(&link), Arc::clone(&stream), role);
    let reason = match session.secure().await {
        Ok(()) => session.serve(&mut guard.remote).await,
        Err(reason) => reason,
    };
    session.tell_end(reason);
    let remote_name = session.remote_name.clone();
    drop(session);
    link.outbox.close(reason);
    link.outbox.finish(LAST_WORDS).await;
    stream.say_farewell(Farewell { status: 1000, text: "" });
    let reason = link.outbox.closed().unwrap_or(reason);
    if remote_name.is_empty() {
        info!("{} - Router connection closed: {}", link.label(), reason.text());
    } else {
        info!("{} - Router connection closed: {} - Remote: {remote_name}", link.label(), reason.text());
    }
}

fn new_link(
    topology: &Arc<Topology>,
    stream: &Arc<Transport>,
    address: SocketAddr,
    role: &Role,
) -> Arc<Link> {
    let id = topology.next_link_id();
    let target = match role {
        Role::Accepted => None,
        Role::Solicited { target, .. } => Some(target),
    };
    Arc::new(Link {
        id,
        outbox: Outbox::new(id, Arc::clone(stream), topology.hub.limits().max_pending),
        address,
        local_ip: stream.local_addr().ok().map(|address| address.ip()),
        solicited: target.is_some(),
        configured: AtomicBool::new(target.is_some_and(|target| target.configured)),
        url: target.map(|target| target.url.clone()),
        started: now(),
        last_activity: AtomicU64::new(now().as_nanos()),
        in_messages: AtomicU64::new(0),
        in_bytes: AtomicU64::new(0),
        rtt_nanos: AtomicU64::new(0),
        interest: Mutex::new(FxHashMap::default()),
        peers: Mutex::new(FxHashMap::default()),
        rules: Arc::clone(&topology.rules),
        takes_headers: AtomicBool::new(true),
        remote_name: OnceLock::new(),
        terms: Mutex::new(Terms {
            account: target.map_or(String::new(), |target| target.account.clone()),
            compression: CompressionMode::NotSupported,
            import: None,
            export: None,
        }),
        index: AtomicUsize::new(0),
        is_outdated: AtomicBool::new(false),
    })
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
        self.topology.sessions.fetch_sub(1, Ordering::AcqRel);
    }
}

pub(crate) struct Session {
    pub(crate) topology: Arc<Topology>,
    pub(crate) link: Arc<Link>,
    pub(crate) stream: Arc<Transport>,
    pub(crate) role: Role,
    pub(crate) handshake: Handshake,
    pub(crate) parser: RouteParser,
    pub(crate) ingress: PeerIngress,
    pub(crate) buffer: BytesMut,
    pub(crate) remote: Option<Arc<Remote>>,
    pub(crate) remote_name: String,
    /// The account of a dedicated connection.
    pub(crate) dedicated: Option<Arc<Account>>,
    pub(crate) accounts: FxHashMap<Box<[u8]>, Arc<Account>>,
    /// The account of the last message: the next is likely to be of the same.
    pub(crate) recent: Option<(Box<[u8]>, Arc<Account>)>,
    /// Messages and their bytes since they were last added to the link's counters.
    pub(crate) received: (u64, u64),
    /// What is left in the buffer is compressed from here on.
    pub(crate) switch_to: Option<CompressionMode>,
    /// Changes how hard what is sent is compressed.
    pub(crate) level: Option<S2Control>,
    /// What the other side was let in by.
    pub(crate) credentials: Option<Box<RouteConnect>>,
    /// Whether it takes too slowly what is written.
    pub(crate) slow: Slow,
    /// What the other side showed in its TLS handshake, its own first, as DER.
    pub(crate) certificates: Vec<Vec<u8>>,
    began: Instant,
    next_ping: Instant,
    pings_out: u32,
    ping_sent: Option<Instant>,
}

impl Session {
    fn new(topology: Arc<Topology>, link: Arc<Link>, stream: Arc<Transport>, role: Role) -> Self {
        let now = Instant::now();
        let max_line = topology.hub.limits().max_control_line.saturating_mul(ROUTE_LINE_FACTOR);
        let handshake = match &role {
            Role::Accepted => Handshake::new(false, "", 0),
            Role::Solicited { target, .. } => Handshake::new(true, &target.account, target.gossip_mode),
        };
        Self {
            handshake,
            parser: RouteParser { max_payload: MAX_ROUTE_PAYLOAD_BYTES, max_line, dedicated: false },
            ingress: PeerIngress::new(link.id),
            buffer: BytesMut::new(),
            remote: None,
            remote_name: String::new(),
            dedicated: None,
            accounts: FxHashMap::default(),
            recent: None,
            received: (0, 0),
            switch_to: None,
            level: None,
            credentials: None,
            slow: Slow::default(),
            certificates: Vec::new(),
            began: now,
            next_ping: now,
            pings_out: 0,
            ping_sent: None,
            topology,
            link,
            stream,
            role,
        }
    }

    /// The TLS handshake, if there is one: it comes before anything else.
    async fn secure(&mut self) -> Result<(), CloseReason> {
        let options = self.topology.options();
        let Some(tls) = &options.tls else { return Ok(()) };
        let result = match &self.role {
            Role::Accepted => self.stream.accept_tls(&tls.server.current()).await,
            Role::Solicited { target, .. } => {
                let name = self.topology.tls_name(&target.url);
                self.stream.connect_tls(&tls.client, &name).await
            }
        };
        match result {
            Ok(facts) => {
                debug!("{} - TLS handshake complete", self.link.label());
                debug!(
                    "{} - TLS version {}, cipher suite {}",
                    self.link.label(),
                    facts.version,
                    facts.cipher_suite
                );
                self.certificates = facts.peer_certificates;
                Ok(())
            }
            Err(problem) => {
                error!("{} - TLS route handshake error: {problem}", self.link.label());
                self.tell(Err(format!("TLS route handshake error: {problem}")));
                Err(CloseReason::TlsHandshakeError)
            }
        }
    }

    async fn serve(&mut self, registered: &mut Option<Arc<Remote>>) -> CloseReason {
        info!("{} - Route connection created", self.link.label());
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
                None => {
                    if let Err(reason) = self.renew() {
                        return reason;
                    }
                    self.link.outbox.flush();
                }
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
            if self.slow.is_slow() {
                self.slow.judge_recovery(&self.link.outbox, || self.link.label());
            }
            if let Some(reason) = self.link.outbox.closed() {
                return reason;
            }
        }
    }

    async fn read_a_turn(&mut self) -> Result<(), CloseReason> {
        for _ in 0..READS_A_TURN {
            let room = if self.handshake.phase == Phase::Up { READ_BYTES } else { FIRST_READ_BYTES };
            if self.buffer.capacity() - self.buffer.len() < room / 4 {
                self.buffer.reserve(room);
            }
            match self.stream.try_read_buf(&mut self.buffer) {
                Ok(0) => return Err(CloseReason::ClientClosed),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => break,
                Err(_) => return Err(CloseReason::ReadError),
            }
            self.link.last_activity.store(now().as_nanos(), Ordering::Relaxed);
            let result = self.consume();
            self.count_received();
            // A PONG promises that what came before it is on its way.
            let held = self.ingress.flush();
            self.link.outbox.flush();
            result?;
            if let Some(mode) = self.switch_to.take() {
                self.start_compression(mode);
            }
            if let Some(held) = held {
                held.wait().await;
            }
        }
        Ok(())
    }

    pub(crate) fn consume(&mut self) -> Result<(), CloseReason> {
        let buffer = std::mem::take(&mut self.buffer);
        let mut at = 0;
        let result = loop {
            if self.switch_to.is_some() {
                break Ok(());
            }
            match self.parser.parse(&buffer[at..]) {
                Ok(Parsed::Op(op, consumed)) => {
                    if weir_hub::trace::is_on() {
                        self.trace_in(&buffer[at..at + consumed], &op);
                    }
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
                Err(problem) => break Err(self.on_parse_error(&problem, &buffer[at..])),
            }
        };
        self.buffer = buffer;
        self.buffer.advance(at);
        result
    }

    pub(crate) fn count_received(&mut self) {
        let (messages, bytes) = std::mem::take(&mut self.received);
        if messages > 0 {
            self.link.in_messages.fetch_add(messages, Ordering::Relaxed);
            self.link.in_bytes.fetch_add(bytes, Ordering::Relaxed);
            if let Some((_, account)) = &self.recent {
                account.count_routed_in(messages, bytes);
            }
        }
    }

    pub(crate) fn on_pong(&mut self) {
        self.pings_out = 0;
        if let Some(sent) = self.ping_sent.take() {
            let rtt = u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.link.rtt_nanos.store(rtt.max(1), Ordering::Relaxed);
            self.adapt_compression(Duration::from_nanos(rtt));
        }
        if let Some(remote) = self.remote.clone() {
            // It answers, so it let us in.
            self.topology.confirm(&remote);
            self.tell(Ok(Outcome::Connected(remote.id.clone())));
        }
    }

    /// How long the connection exists: a guess at the round trip before the first PONG.
    pub(crate) fn round_trip(&self) -> Duration {
        match self.link.rtt_nanos.load(Ordering::Relaxed) {
            0 => self.began.elapsed(),
            nanos => Duration::from_nanos(nanos),
        }
    }

    pub(crate) fn send_ping(&mut self) {
        self.pings_out += 1;
        self.ping_sent = Some(Instant::now());
        self.trace_out("PING");
        self.send(|out| out.extend_from_slice(encode::PING));
        self.next_ping = Instant::now() + self.ping_interval();
    }

    fn ping_interval(&self) -> Duration {
        self.topology.options().ping_interval.min(MAX_PING_INTERVAL)
    }

    /// Until when the introduction may take: as long as nats-server waits.
    fn introduction_ends(&self) -> Instant {
        let options = self.topology.options();
        if self.handshake.phase == Phase::Connect && options.user.is_some() {
            self.began + options.auth_timeout
        } else {
            self.began + self.ping_interval() * (options.ping_max + 1)
        }
    }

    fn next_deadline(&self) -> Instant {
        let next = if self.handshake.phase == Phase::Up { self.next_ping } else { self.introduction_ends() };
        self.writing_ends().map_or(next, |ends| next.min(Instant::from_std(ends)))
    }

    fn on_timer(&mut self) -> Result<(), CloseReason> {
        let now = Instant::now();
        self.judge_writing()?;
        if self.handshake.phase != Phase::Up {
            if now < self.introduction_ends() {
                return Ok(());
            }
            if self.handshake.phase == Phase::Connect && self.topology.options().user.is_some() {
                debug!("{} - {}", self.link.label(), err::AUTHENTICATION_TIMEOUT);
                self.send(|out| encode::error(out, err::AUTHENTICATION_TIMEOUT));
                return Err(CloseReason::AuthenticationTimeout);
            }
            return Err(self.on_stale());
        }
        if now >= self.next_ping {
            if self.pings_out + 1 > self.topology.options().ping_max {
                return Err(self.on_stale());
            }
            self.send_ping();
        }
        Ok(())
    }

    fn on_stale(&self) -> CloseReason {
        self.topology.count_stale();
        debug!("{} - Stale Client Connection - Closing", self.link.label());
        self.send(|out| encode::error(out, err::STALE_CONNECTION));
        CloseReason::StaleConnection
    }

    pub(crate) fn send(&self, write: impl FnOnce(&mut Vec<u8>)) {
        if matches!(self.link.outbox.append(Counted::NOTHING, write), Appended::MustFlush { .. }) {
            self.link.outbox.wake();
        }
    }

    /// Tells whoever dialled what came of it; only the first telling counts.
    pub(crate) fn tell(&mut self, outcome: Result<Outcome, String>) {
        if let Role::Solicited { outcome: sender, .. } = &mut self.role
            && let Some(sender) = sender.take()
        {
            let _ = sender.send(outcome);
        }
    }

    fn tell_end(&mut self, reason: CloseReason) {
        // A server that has a connection for our place closes ours without a word.
        let outcome = match &self.remote {
            Some(remote) if reason == CloseReason::ClientClosed => Ok(Outcome::Duplicate(remote.id.clone())),
            _ => Err(reason.text().to_owned()),
        };
        self.tell(outcome);
    }
}
