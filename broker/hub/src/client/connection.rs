//! The I/O of one client connection: reading into a shared scratch buffer, timers, the end.
//! Not what operations mean (see `session`).

use super::handle::ClientHandle;
use super::session::{Greeting, Session, Step};
use crate::account::AccountTraffic;
use crate::buffer::{READ_BYTES, ReadBuffer, give_read_buffer, take_read_buffer};
use crate::close_reason::CloseReason;
use crate::entrance::Entrance;
use crate::hub::Hub;
use crate::options::Limits;
use crate::outbox::Counted;
use crate::slow::Slow;
use crate::trace;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;
use tracing::error;
use weir_net::{Interest, Transport};
use weir_proto::encode;
use weir_proto::err;

/// The most bytes read at once before authentication.
const READ_BYTES_UNAUTHENTICATED: usize = 4 * 1024;
/// Less than this in one read is little: a few requests, not a stream of messages.
const LITTLE_BYTES: usize = 4 * 1024;
/// After a message of at least this size was cut by the end of a read, more is read at once.
const LARGE_MESSAGE_BYTES: usize = 8 * 1024;
/// So many reads in a row before others get their turn.
const READS_A_TURN: usize = 4;
/// How long the last bytes may take.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// When the first PING is sent, to measure the round trip.
const FIRST_PING: Duration = Duration::from_secs(2);

/// Serves one client until it ends.
pub(crate) async fn run(
    hub: Arc<Hub>,
    transport: Arc<Transport>,
    handle: Arc<ClientHandle>,
    entrance: Option<Arc<Entrance>>,
) {
    let _guard = Guard { hub: Arc::clone(&hub), handle: Arc::clone(&handle) };
    let mut connection = Connection::new(hub, transport, Arc::clone(&handle));
    let came_in = match entrance {
        None => {
            connection.session.greet(Greeting::default());
            Ok(())
        }
        // In a box: the state of a handshake would make every connection's task larger.
        Some(entrance) => Box::pin(connection.come_in(&entrance)).await,
    };
    match came_in {
        Ok(()) => connection.serve().await,
        Err(reason) => handle.close(reason),
    }
    drop(connection);
    handle.leave();
    handle.outbox.finish(LAST_WORDS).await;
}

/// Refuses a client: INFO, then the error.
pub(crate) async fn refuse(hub: Arc<Hub>, handle: Arc<ClientHandle>, text: &str) {
    let _guard = Guard { hub: Arc::clone(&hub), handle: Arc::clone(&handle) };
    let line = hub.client_info(&handle, None, None);
    handle.outbox.append(Counted::NOTHING, |out| {
        out.extend_from_slice(&line);
        encode::error(out, text);
    });
    if trace::is_on() {
        trace::out(&handle.label(), &format!("-ERR {text}"));
    }
    handle.close(CloseReason::MaxConnectionsExceeded);
    handle.outbox.finish(LAST_WORDS).await;
}

/// Takes a connection out of the books, even after a panic.
struct Guard {
    hub: Arc<Hub>,
    handle: Arc<ClientHandle>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.handle.close(if std::thread::panicking() {
            CloseReason::InternalError
        } else {
            CloseReason::ClientClosed
        });
        self.handle.leave();
        self.handle.outbox.abandon(CloseReason::ClientClosed);
        self.hub.forget_connection(&self.handle);
    }
}

pub(super) struct Connection {
    hub: Arc<Hub>,
    pub(super) transport: Arc<Transport>,
    pub(super) handle: Arc<ClientHandle>,
    pub(super) session: Session,
    /// An operation of which more has to come.
    partial: Vec<u8>,
    /// How long that operation is; 0 when it is not known yet.
    needs: usize,
    /// The next read takes a large buffer.
    reads_large: bool,
    auth_deadline: Option<Instant>,
    next_ping: Instant,
    /// Whether it takes too slowly what is written.
    slow: Slow,
}

enum ReadOutcome {
    /// Whether it was so little that what came of it may share a write with others.
    Data {
        is_little: bool,
    },
    Empty,
}

impl Connection {
    fn new(hub: Arc<Hub>, transport: Arc<Transport>, handle: Arc<ClientHandle>) -> Self {
        let session = Session::new(Arc::clone(&hub), Arc::clone(&handle));
        let mut connection = Self {
            auth_deadline: None,
            slow: Slow::default(),
            next_ping: Instant::now(),
            hub,
            transport,
            handle,
            session,
            partial: Vec::new(),
            needs: 0,
            reads_large: false,
        };
        connection.start_timers();
        connection
    }

    /// Counts from now on what has to come in time.
    pub(super) fn start_timers(&mut self) {
        let now = Instant::now();
        let auth_timeout = self.hub.websocket_of(&self.handle).and_then(|entrance| entrance.auth_timeout);
        let auth_timeout = auth_timeout.unwrap_or_else(|| self.hub.limits().auth_timeout);
        let first_ping = self.ping_interval().min(FIRST_PING);
        self.auth_deadline = (!self.session.is_authenticated()).then(|| now + auth_timeout);
        self.next_ping = now + first_ping + jitter(first_ping, self.handle.id);
    }

    fn ping_interval(&self) -> Duration {
        let own = self.hub.websocket_of(&self.handle).and_then(|entrance| entrance.ping_interval);
        own.unwrap_or_else(|| self.hub.limits().ping_interval)
    }

    async fn serve(&mut self) {
        let timer = tokio::time::sleep_until(self.next_deadline(None));
        tokio::pin!(timer);
        loop {
            let blocked = self.handle.outbox.blocked_since();
            let interest = if blocked.is_some() {
                Interest::READABLE.add(Interest::WRITABLE)
            } else {
                Interest::READABLE
            };
            let deadline = self.next_deadline(blocked);
            if deadline < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(deadline);
            }
            let ready = tokio::select! {
                biased;
                () = self.handle.outbox.woken() => None,
                ready = self.transport.ready(interest) => Some(ready),
                () = &mut timer => {
                    self.on_timer();
                    None
                }
            };
            match ready {
                None => self.handle.outbox.flush(),
                Some(Err(_)) => self.handle.close(CloseReason::ReadError),
                Some(Ok(ready)) => {
                    if ready.is_writable() {
                        self.handle.outbox.unblock();
                    }
                    if ready.is_readable() || ready.is_read_closed() {
                        self.read_a_turn().await;
                    }
                }
            }
            if self.slow.is_slow() {
                self.slow.judge_recovery(&self.handle.outbox, || self.handle.label());
            }
            if self.handle.outbox.closed().is_some() {
                return;
            }
        }
    }

    async fn read_a_turn(&mut self) {
        for _ in 0..READS_A_TURN {
            let is_little = match self.read_once() {
                Ok(ReadOutcome::Data { is_little }) => is_little,
                Ok(ReadOutcome::Empty) => break,
                Err(reason) => {
                    self.session.flush();
                    self.handle.close(reason);
                    return;
                }
            };
            if let Some(decision) = self.session.take_pending_authentication() {
                let verdict = decision.await;
                if let Err(reason) = self.session.on_verdict(verdict) {
                    self.session.flush();
                    self.handle.close(reason);
                    return;
                }
                // What came behind CONNECT has been waiting for this.
                if let Err(reason) = self.parse_partial() {
                    self.session.flush();
                    self.handle.close(reason);
                    return;
                }
            }
            if self.session.is_authenticated() {
                self.auth_deadline = None;
            }
            let held = if is_little { self.session.flush_soon() } else { self.session.flush() };
            let passes_over = self.handle.passes_over_crowded.load(Ordering::Relaxed);
            self.session.pass_over_crowded(passes_over);
            if let Some(held) = held.filter(|_| !passes_over) {
                if held.is_crowded() {
                    self.handle.stalls.fetch_add(1, Ordering::Relaxed);
                    self.hub.counters().count_stall();
                }
                held.wait().await;
            }
            if self.handle.outbox.closed().is_some() {
                return;
            }
        }
    }

    fn read_once(&mut self) -> Result<ReadOutcome, CloseReason> {
        if self.partial.capacity() > READ_BYTES {
            return self.read_large();
        }
        let mut buffer = take_read_buffer(self.reads_large);
        let result = self.read_with(&mut buffer);
        give_read_buffer(buffer);
        result
    }

    fn read_with(&mut self, buffer: &mut ReadBuffer) -> Result<ReadOutcome, CloseReason> {
        let kept = self.partial.len();
        let count = {
            let Some(scratch) = Arc::get_mut(buffer) else { return Ok(ReadOutcome::Empty) };
            let limit = if self.session.is_authenticated() {
                scratch.len()
            } else {
                scratch.len().min(READ_BYTES_UNAUTHENTICATED.max(kept + 512))
            };
            // What is left of the last read goes in front, so that operations lie in one piece.
            scratch[..kept].copy_from_slice(&self.partial);
            let Some(count) = self.try_read(&mut scratch[kept..limit])? else {
                return Ok(ReadOutcome::Empty);
            };
            count
        };
        self.partial.clear();
        self.session.note_activity();
        let whole = kept + count;
        let (consumed, step) = self.session.consume(buffer, whole)?;
        self.keep(&buffer[consumed..whole], &step);
        self.reads_large = self.needs >= LARGE_MESSAGE_BYTES || (self.reads_large && count > READ_BYTES / 2);
        Ok(ReadOutcome::Data { is_little: count < LITTLE_BYTES })
    }

    /// Keeps an incomplete operation. One that is longer than a read gets a buffer of its length.
    fn keep(&mut self, rest: &[u8], step: &Step) {
        self.needs = if let Step::Needs(total) = step { *total } else { 0 };
        if rest.is_empty() {
            self.partial = Vec::new();
            return;
        }
        let room = match self.needs {
            // An argument line whose end has not come.
            0 if rest.len() > READ_BYTES / 2 => 2 * READ_BYTES,
            needs if needs > READ_BYTES => needs,
            _ => rest.len(),
        };
        self.partial.reserve_exact(room);
        self.partial.extend_from_slice(rest);
    }

    /// Reads on into the buffer of one large message.
    fn read_large(&mut self) -> Result<ReadOutcome, CloseReason> {
        if self.partial.capacity() == self.partial.len() {
            self.partial.reserve(READ_BYTES);
        }
        let count = loop {
            // Fills what is reserved: as much as the message needs, so that the next operation goes the fast way again.
            match self.transport.try_read_buf(&mut self.partial) {
                Ok(0) => return Err(CloseReason::ClientClosed),
                Ok(count) => break count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(ReadOutcome::Empty),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.on_read_error(&error)),
            }
        };
        debug_assert!(count > 0);
        self.session.note_activity();
        if self.partial.len() >= self.needs {
            self.parse_partial()?;
        }
        Ok(ReadOutcome::Data { is_little: false })
    }

    fn parse_partial(&mut self) -> Result<(), CloseReason> {
        let mut buffer = Arc::new(std::mem::take(&mut self.partial));
        let whole = buffer.len();
        let (consumed, step) = self.session.consume(&buffer, whole)?;
        if consumed == 0
            && let Some(partial) = Arc::get_mut(&mut buffer)
        {
            // Nothing is complete: goes on with the same buffer.
            self.partial = std::mem::take(partial);
            self.needs = if let Step::Needs(total) = step { total } else { 0 };
            self.partial.reserve_exact(self.needs.saturating_sub(whole));
        } else {
            self.keep(&buffer[consumed..], &step);
        }
        Ok(())
    }

    fn try_read(&self, into: &mut [u8]) -> Result<Option<usize>, CloseReason> {
        loop {
            match self.transport.try_read(into) {
                Ok(0) => return Err(CloseReason::ClientClosed),
                Ok(count) => return Ok(Some(count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.on_read_error(&error)),
            }
        }
    }

    fn on_read_error(&self, error: &std::io::Error) -> CloseReason {
        // Frames that are none, as nats-server says; what the network does is nobody's news.
        if error.kind() == ErrorKind::InvalidData {
            error!("{} - read error: {error}", self.handle.label());
        }
        CloseReason::ReadError
    }

    fn next_deadline(&self, blocked: Option<std::time::Instant>) -> Instant {
        let mut deadline = self.auth_deadline.map_or(self.next_ping, |auth| auth.min(self.next_ping));
        if let Some(expires) = self.session.expires {
            deadline = deadline.min(Instant::now() + expires.since(crate::hub::now()));
        }
        if let Some(since) = blocked.and_then(|_| self.handle.outbox.writing_since()) {
            deadline = deadline.min(Instant::from_std(since) + self.hub.limits().write_deadline);
        }
        deadline
    }

    /// Whether the client is to be cut because it does not take what is written, or not fast enough.
    fn is_writing_too_long(&mut self, limits: &Limits) -> bool {
        let (outbox, label) = (&self.handle.outbox, || self.handle.label());
        let late = self.slow.judge(outbox, label, limits.write_deadline, limits.closes_slow_writers);
        // One that is cut is counted at its end.
        if late.is_some_and(|late| !late.is_cut) {
            self.hub.counters().count_slow_consumer();
            if let Some(account) = &self.handle.state.read().account {
                account.count_past(AccountTraffic { slow_consumers: 1, ..AccountTraffic::default() });
            }
        }
        late.is_some_and(|late| late.is_cut)
    }

    fn on_timer(&mut self) {
        let now = Instant::now();
        let limits = self.hub.limits();
        if self.is_writing_too_long(&limits) {
            self.handle.close(CloseReason::SlowConsumerWriteDeadline);
            return;
        }
        if self.auth_deadline.is_some_and(|deadline| now >= deadline) {
            self.session.error(err::AUTHENTICATION_TIMEOUT);
            self.session.flush();
            self.handle.close(CloseReason::AuthenticationTimeout);
            return;
        }
        if self.session.expires.is_some_and(|expires| crate::hub::now() >= expires) {
            self.session.error(err::AUTHENTICATION_EXPIRED);
            self.session.flush();
            self.handle.close(CloseReason::AuthenticationExpired);
            return;
        }
        if now >= self.next_ping {
            let interval = self.ping_interval();
            self.next_ping = now + interval;
            if self.session.on_ping_timer(interval, limits.ping_max).is_err() {
                self.session.error(err::STALE_CONNECTION);
                self.session.flush();
                self.handle.close(CloseReason::StaleConnection);
                return;
            }
            self.session.flush();
        }
    }
}

/// Up to a fifth of `base`, spread by id so that connections do not all ping at once.
fn jitter(base: Duration, id: u64) -> Duration {
    let share = u32::try_from(id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40).unwrap_or(0) % 1000;
    base / 5 * share / 1000
}
