//! What waits to be written to one connection: bounded, appended to by anyone, written by whoever flushes.
//!
//! Bytes are small and copied, or large and shared. A flush writes to the socket at once when it can;
//! when the socket is full, the connection's own task goes on. It is not: what the bytes mean.

use crate::buffer::{BUFFER_BYTES, give_buffer, take_buffer};
use crate::close_reason::CloseReason;
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use weir_net::{Farewell, Interest, Transport};

/// The most slices handed to one vectored write.
const MAX_SLICES: usize = 64;
/// The most bytes written before other tasks get their turn.
const MAX_WRITE_BYTES: usize = 1024 * 1024;
/// A staged buffer of at least this size becomes a chunk itself; a smaller one is copied behind what waits.
const ADOPT_BYTES: usize = 4 * 1024;

enum Chunk {
    Buffer(Vec<u8>),
    Shared(Bytes),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Buffer(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

#[derive(Default)]
struct State {
    transport: Option<Arc<Transport>>,
    chunks: VecDeque<Chunk>,
    /// How much of the first chunk is written.
    written: usize,
    /// Bytes appended and not written, those in a running write included.
    pending: usize,
    messages: u64,
    bytes: u64,
    /// Somebody is going to flush.
    dirty: bool,
    /// Somebody writes right now.
    writing: bool,
    /// The socket is full since then; the connection's task waits for it.
    blocked_since: Option<Instant>,
    closed: Option<CloseReason>,
}

/// What waits to be written to one connection.
pub struct Outbox {
    id: u64,
    state: Mutex<State>,
    max_pending: AtomicUsize,
    wake: Notify,
    drained: Notify,
}

/// What an append counts as in the connection's statistics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Messages.
    pub messages: u64,
    /// Their headers and payloads in bytes, without the protocol around them.
    pub bytes: u64,
}

impl Counted {
    /// Protocol, no message.
    pub const NOTHING: Self = Self { messages: 0, bytes: 0 };

    /// One message of that many bytes.
    pub fn message(bytes: usize) -> Self {
        Self { messages: 1, bytes: bytes as u64 }
    }
}

/// What an append led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// The connection is closed or was just cut.
    Closed,
    /// Appended; somebody else is going to flush.
    Ok {
        /// Whether more than three quarters of what is allowed wait.
        crowded: bool,
    },
    /// Appended; the caller has to flush.
    MustFlush {
        /// Whether more than three quarters of what is allowed wait.
        crowded: bool,
    },
}

impl Outbox {
    /// An outbox of `transport` that holds at most `max_pending` bytes.
    pub fn new(id: u64, transport: Arc<Transport>, max_pending: usize) -> Arc<Self> {
        Arc::new(Self {
            id,
            state: Mutex::new(State { transport: Some(transport), ..State::default() }),
            max_pending: AtomicUsize::new(max_pending),
            wake: Notify::new(),
            drained: Notify::new(),
        })
    }

    /// The connection's id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Changes how many bytes may wait.
    pub fn set_max_pending(&self, bytes: usize) {
        self.max_pending.store(bytes, Ordering::Relaxed);
    }

    /// Appends what `encode` writes, counted as said.
    pub fn append(&self, counted: Counted, encode: impl FnOnce(&mut Vec<u8>)) -> Appended {
        let mut state = self.state.lock();
        if state.closed.is_some() {
            return Appended::Closed;
        }
        let added = state.write_into_tail(encode);
        self.account_for(state, counted, added)
    }

    /// Appends `head`, then the shared `body`, then `tail`.
    pub fn append_shared(
        &self,
        counted: Counted,
        head: impl FnOnce(&mut Vec<u8>),
        body: &Bytes,
        tail: &[u8],
    ) -> Appended {
        let mut state = self.state.lock();
        if state.closed.is_some() {
            return Appended::Closed;
        }
        let mut added = state.write_into_tail(head);
        state.chunks.push_back(Chunk::Shared(body.clone()));
        added += body.len() + state.write_into_tail(|out| out.extend_from_slice(tail));
        self.account_for(state, counted, added)
    }

    /// Appends a whole buffer, taking it over when it is large; `buffer` is empty afterwards.
    pub fn append_buffer(&self, counted: Counted, buffer: &mut Vec<u8>) -> Appended {
        let mut state = self.state.lock();
        if state.closed.is_some() {
            buffer.clear();
            return Appended::Closed;
        }
        let added = buffer.len();
        if added >= ADOPT_BYTES {
            state.chunks.push_back(Chunk::Buffer(std::mem::replace(buffer, take_buffer())));
        } else {
            state.write_into_tail(|out| out.extend_from_slice(buffer));
            buffer.clear();
        }
        self.account_for(state, counted, added)
    }

    fn account_for(&self, mut state: MutexGuard<'_, State>, counted: Counted, added: usize) -> Appended {
        state.messages += counted.messages;
        state.bytes += counted.bytes;
        state.pending += added;
        let max = self.max_pending.load(Ordering::Relaxed);
        if state.pending > max {
            drop(state);
            self.close(CloseReason::SlowConsumerPendingBytes);
            return Appended::Closed;
        }
        let crowded = state.pending > max / 4 * 3;
        if std::mem::replace(&mut state.dirty, true) {
            Appended::Ok { crowded }
        } else {
            Appended::MustFlush { crowded }
        }
    }

    /// Writes what waits, as far as the socket takes it. The rest is left to the connection's task.
    pub fn flush(&self) {
        let mut state = self.state.lock();
        state.dirty = false;
        let mut budget = MAX_WRITE_BYTES;
        while !state.writing && state.blocked_since.is_none() && state.has_to_write() {
            let Some(transport) = state.transport.clone() else { return };
            if budget == 0 {
                self.wake.notify_one();
                return;
            }
            state.writing = true;
            let mut chunks = std::mem::take(&mut state.chunks);
            let mut offset = std::mem::take(&mut state.written);
            drop(state);
            let (result, count) = write(&transport, &mut chunks, &mut offset, budget);
            budget = budget.saturating_sub(count);
            state = self.state.lock();
            state.writing = false;
            state.pending = state.pending.saturating_sub(count);
            if state.closed.is_some_and(|reason| !reason.flushes()) {
                state.chunks.clear();
                return;
            }
            if !chunks.is_empty() {
                chunks.append(&mut state.chunks);
                state.chunks = chunks;
                state.written = offset;
            } else if state.chunks.is_empty() {
                // Keeps the deque's own allocation.
                state.chunks = chunks;
            }
            match result {
                Ok(()) => {}
                Err(ErrorKind::WouldBlock) => {
                    state.blocked_since = Some(Instant::now());
                    self.wake.notify_one();
                }
                Err(_) => {
                    drop(state);
                    self.close(CloseReason::WriteError);
                    return;
                }
            }
            if count > 0 {
                self.drained.notify_waiters();
            }
        }
    }

    /// Leaves the writing to the connection's task, for callers that have touched many outboxes.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Takes nothing any more; the connection's task ends. The first reason stays.
    pub fn close(&self, reason: CloseReason) {
        let mut state = self.state.lock();
        if state.closed.is_none() {
            state.closed = Some(reason);
            if !reason.flushes() {
                state.chunks.clear();
            }
            drop(state);
            self.wake.notify_one();
            self.drained.notify_waiters();
        }
    }

    /// Why it was closed.
    pub fn closed(&self) -> Option<CloseReason> {
        self.state.lock().closed
    }

    /// Bytes that wait.
    pub fn pending(&self) -> usize {
        self.state.lock().pending
    }

    /// Messages and their bytes (headers and payloads) appended so far.
    pub fn sent(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.messages, state.bytes)
    }

    /// For the connection's task: resolves when there is something to do.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// For the connection's task: since when the socket is full.
    pub fn blocked_since(&self) -> Option<Instant> {
        self.state.lock().blocked_since
    }

    /// For the connection's task: the socket takes bytes again.
    pub fn unblock(&self) {
        self.state.lock().blocked_since = None;
        self.flush();
    }

    /// Waits until something was written, the outbox was closed, or `limit` has passed.
    pub async fn wait_for_room(&self, limit: Duration) {
        let _ = tokio::time::timeout(limit, self.drained.notified()).await;
    }

    /// Lets go of the socket at once, so that its descriptor does not outlive the connection's task.
    pub(crate) fn abandon(&self, reason: CloseReason) {
        let mut state = self.state.lock();
        state.closed.get_or_insert(reason);
        state.transport = None;
        state.chunks = VecDeque::new();
        state.pending = 0;
    }

    fn say_farewell(&self) {
        let (transport, reason) = {
            let state = self.state.lock();
            (state.transport.clone(), state.closed.unwrap_or(CloseReason::ClientClosed))
        };
        if let Some(transport) = transport {
            transport.say_farewell(Farewell { status: reason.websocket_status(), text: reason.text() });
        }
    }

    /// For the connection's task at its end: writes what is worth writing within `limit`, then lets go of the socket.
    pub async fn finish(&self, limit: Duration) {
        let transport = self.state.lock().transport.clone();
        if let (Some(transport), true) = (transport, self.closed().is_none_or(CloseReason::flushes)) {
            let deadline = tokio::time::Instant::now() + limit;
            self.unblock();
            while self.state.lock().has_to_write() {
                match tokio::time::timeout_at(deadline, transport.ready(Interest::WRITABLE)).await {
                    Ok(Ok(_)) => self.unblock(),
                    _ => break,
                }
            }
        }
        self.say_farewell();
        self.abandon(CloseReason::ClientClosed);
    }
}

impl State {
    fn has_to_write(&self) -> bool {
        !self.chunks.is_empty() || self.transport.as_ref().is_some_and(|transport| transport.wants_write())
    }

    fn write_into_tail(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> usize {
        let has_room = matches!(self.chunks.back(), Some(Chunk::Buffer(bytes)) if bytes.len() < BUFFER_BYTES);
        if !has_room {
            self.chunks.push_back(Chunk::Buffer(take_buffer()));
        }
        let Some(Chunk::Buffer(tail)) = self.chunks.back_mut() else { return 0 };
        let before = tail.len();
        encode(tail);
        tail.len() - before
    }
}

/// Writes chunks until `budget` bytes are written or the socket is full; removes what is written.
fn write(
    transport: &Transport,
    chunks: &mut VecDeque<Chunk>,
    offset: &mut usize,
    budget: usize,
) -> (Result<(), ErrorKind>, usize) {
    let mut total = 0;
    while total < budget && !chunks.is_empty() {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let mut count = 0;
        let mut wanted = 0;
        for (slice, chunk) in slices.iter_mut().zip(chunks.iter()) {
            let bytes = if count == 0 { &chunk.bytes()[*offset..] } else { chunk.bytes() };
            *slice = IoSlice::new(bytes);
            wanted += bytes.len();
            count += 1;
        }
        match transport.try_write_vectored(&slices[..count]) {
            Ok(0) if wanted > 0 => return (Err(ErrorKind::WriteZero), total),
            Ok(written) => {
                total += written;
                remove_written(chunks, offset, written);
                // A short write means that the socket is full: ask again, to be told when it is not.
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (Err(error.kind()), total),
        }
    }
    (transport.try_flush().map_err(|error| error.kind()), total)
}

fn remove_written(chunks: &mut VecDeque<Chunk>, offset: &mut usize, mut written: usize) {
    while let Some(first) = chunks.front() {
        let left = first.bytes().len() - *offset;
        if written < left {
            *offset += written;
            return;
        }
        written -= left;
        *offset = 0;
        if let Some(Chunk::Buffer(buffer)) = chunks.pop_front() {
            give_buffer(buffer);
        }
    }
}
