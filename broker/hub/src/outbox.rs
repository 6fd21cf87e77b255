//! What waits to be written to one connection: bounded, appended to by anyone, written by whoever flushes.
//!
//! Bytes are small and copied, or large and shared. A flush writes to the socket at once when it can;
//! when the socket is full, the connection's own task goes on. It is not: what the bytes mean.

use crate::buffer::{BUFFER_BYTES, ReadBuffer, give_buffer, grow_buffer, take_buffer};
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
/// A receiver whose socket is full and for whom more bytes than this wait is behind.
const BEHIND_BYTES: usize = 256 * 1024;
/// A staged buffer of at least this size becomes a chunk itself; a smaller one is copied behind what waits.
const ADOPT_BYTES: usize = 4 * 1024;
/// What the protocol around a message usually has, in bytes.
const USUAL_HEAD_BYTES: usize = 512;

enum Chunk {
    Buffer(Vec<u8>),
    Shared(Bytes),
    Slice(Slice),
}

/// Part of a shared buffer.
struct Slice {
    source: ReadBuffer,
    from: usize,
    to: usize,
    /// Whether it holds a buffer much larger than what waits of it, so that it must not wait for long.
    is_loose: bool,
}

/// A payload that belongs into a staged buffer, at `at`.
pub(crate) struct Cut {
    pub(crate) at: usize,
    pub(crate) source: ReadBuffer,
    pub(crate) from: usize,
    pub(crate) to: usize,
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Buffer(bytes) => bytes,
            Self::Shared(bytes) => bytes,
            Self::Slice(slice) => slice.source.get(slice.from..slice.to).unwrap_or_default(),
        }
    }

    /// Copies what holds more memory than it counts for.
    fn tighten(&mut self) {
        let is_loose = match self {
            Self::Buffer(buffer) => !is_dense(buffer),
            Self::Shared(_) => false,
            Self::Slice(slice) => slice.is_loose,
        };
        if is_loose {
            let tight = Self::Buffer(self.bytes().to_vec());
            std::mem::replace(self, tight).recycle();
        }
    }

    /// Gives back what can be used again.
    fn recycle(self) {
        match self {
            Self::Buffer(buffer) => give_buffer(buffer),
            Self::Slice(slice) => {
                if let Some(buffer) = Arc::into_inner(slice.source) {
                    give_buffer(buffer);
                }
            }
            Self::Shared(_) => {}
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
    /// A publisher has waited for it in vain, and nothing was written since.
    stuck: bool,
    /// Since when, and how many of, the bytes that waited when the socket became full are being written.
    attempt: Option<(Instant, usize)>,
    /// Some of those bytes are written.
    progressed: bool,
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

/// What publishers should know of how much waits for a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pressure {
    /// It takes what comes.
    Low,
    /// Its socket is full and some hundred KiB wait.
    Behind,
    /// More than three quarters of what is allowed wait.
    Crowded,
    /// It is behind, and waiting for it was in vain: nobody does until it moves again or becomes crowded.
    Stuck,
    /// It is crowded, and waiting for it was in vain: worth it only for who has nobody else to go on for.
    CrowdedAndStuck,
}

/// What an append led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// The connection is closed or was just cut.
    Closed,
    /// Appended; somebody else is going to flush.
    Ok(Pressure),
    /// Appended; the caller has to flush.
    MustFlush(Pressure),
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

    /// Whether more than three quarters of what is allowed wait.
    pub(crate) fn is_crowded(&self) -> bool {
        let max = self.max_pending.load(Ordering::Relaxed);
        matches!(self.state.lock().pressure(max), Pressure::Crowded | Pressure::CrowdedAndStuck)
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
        let added = state.write_into_tail(counted.bytes as usize, encode);
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
        let mut added = state.write_into_tail(0, head);
        state.push(Chunk::Shared(body.clone()));
        added += body.len() + state.write_into_tail(tail.len(), |out| out.extend_from_slice(tail));
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
        // Behind others it may wait for long: only a well filled buffer may, or memory would exceed what is pending.
        if added >= ADOPT_BYTES && (state.chunks.is_empty() || is_dense(buffer)) {
            state.push(Chunk::Buffer(std::mem::replace(buffer, take_buffer())));
        } else {
            state.write_into_tail(added, |out| out.extend_from_slice(buffer));
            buffer.clear();
        }
        self.account_for(state, counted, added)
    }

    /// Like `append_buffer`, with payloads of what was read put in at their places without copying them.
    pub(crate) fn append_rope(
        &self,
        counted: Counted,
        buffer: &mut Vec<u8>,
        cuts: &mut Vec<Cut>,
    ) -> Appended {
        let mut state = self.state.lock();
        if state.closed.is_some() {
            buffer.clear();
            cuts.clear();
            return Appended::Closed;
        }
        let shared: usize = cuts.iter().map(|cut| cut.to - cut.from).sum();
        let held = cuts.first().map_or(0, |cut| cut.source.len());
        let is_loose = shared < held / 10 * 9;
        let added = buffer.len() + shared;
        let heads = Arc::new(std::mem::replace(buffer, take_buffer()));
        let mut at = 0;
        for cut in cuts.drain(..) {
            let (to, source) = (cut.at, Arc::clone(&heads));
            state.push_slice(Slice { source, from: at, to, is_loose: false });
            state.push_slice(Slice { source: cut.source, from: cut.from, to: cut.to, is_loose });
            at = cut.at;
        }
        let to = heads.len();
        state.push_slice(Slice { source: heads, from: at, to, is_loose: false });
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
        let pressure = state.pressure(max);
        if std::mem::replace(&mut state.dirty, true) {
            Appended::Ok(pressure)
        } else {
            Appended::MustFlush(pressure)
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
            state.note_written(count);
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
                    state.tighten();
                    let now = Instant::now();
                    state.blocked_since = Some(now);
                    if state.attempt.is_none() {
                        state.attempt = Some((now, state.pending));
                    }
                    self.wake.notify_one();
                }
                Err(_) => {
                    drop(state);
                    self.close(CloseReason::WriteError);
                    return;
                }
            }
            if count > 0 {
                state.stuck = false;
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

    /// For the connection's task: since when what waited at that time is being written.
    pub fn writing_since(&self) -> Option<Instant> {
        self.state.lock().attempt.map(|(since, _)| since)
    }

    /// For the connection's task: begins to count the time anew for what waits now, and writes what the socket takes of it:
    /// a socket says that it has room again only when there is much.
    pub fn begin_anew(&self) {
        {
            let mut state = self.state.lock();
            state.attempt = Some((Instant::now(), state.pending));
            state.progressed = false;
        }
        self.unblock();
    }

    /// For the connection's task: whether anything was written of what `writing_since` is about.
    pub fn has_progressed(&self) -> bool {
        self.state.lock().progressed
    }

    /// How many pieces and bytes wait.
    pub fn backlog(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.chunks.len(), state.pending)
    }

    /// For the connection's task: the socket takes bytes again.
    pub fn unblock(&self) {
        self.state.lock().blocked_since = None;
        self.flush();
    }

    /// Waits until something was written, the outbox was closed, or `limit` has passed.
    pub async fn wait_for_room(&self, limit: Duration) {
        let drained = self.drained.notified();
        tokio::pin!(drained);
        drained.as_mut().enable();
        {
            // What was written before this is not told any more.
            let state = self.state.lock();
            let max = self.max_pending.load(Ordering::Relaxed);
            if state.closed.is_some() || matches!(state.pressure(max), Pressure::Low | Pressure::Stuck) {
                return;
            }
        }
        if tokio::time::timeout(limit, drained).await.is_err() {
            self.state.lock().stuck = true;
        }
    }

    /// Lets go of the socket at once, so that its descriptor does not outlive the connection's task. How much waited is
    /// still to be seen: it is part of what is told of a closed connection.
    pub(crate) fn abandon(&self, reason: CloseReason) {
        let mut state = self.state.lock();
        state.closed.get_or_insert(reason);
        state.transport = None;
        state.chunks = VecDeque::new();
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
    fn pressure(&self, max_pending: usize) -> Pressure {
        let is_crowded = self.pending > max_pending / 4 * 3;
        let is_behind = self.blocked_since.is_some() && self.pending > BEHIND_BYTES;
        match (is_crowded, is_behind) {
            (false, false) => Pressure::Low,
            (true, _) if self.stuck => Pressure::CrowdedAndStuck,
            (true, _) => Pressure::Crowded,
            (false, true) if self.stuck => Pressure::Stuck,
            (false, true) => Pressure::Behind,
        }
    }

    fn note_written(&mut self, count: usize) {
        self.pending = self.pending.saturating_sub(count);
        match &mut self.attempt {
            Some((_, left)) if *left > count => {
                *left -= count;
                self.progressed |= count > 0;
            }
            Some((_, left)) => {
                self.progressed = count > *left;
                self.attempt = None;
            }
            None => self.progressed |= count > 0,
        }
        self.progressed &= self.pending > 0;
    }

    fn push_slice(&mut self, slice: Slice) {
        if slice.from < slice.to {
            let mut chunk = Chunk::Slice(slice);
            if self.blocked_since.is_some() {
                chunk.tighten();
            }
            self.push(chunk);
        }
    }

    /// Behind it nothing is written into the chunk that was the last: it may wait for long as it is.
    fn push(&mut self, chunk: Chunk) {
        if self.blocked_since.is_some()
            && let Some(last) = self.chunks.back_mut()
        {
            last.tighten();
        }
        self.chunks.push_back(chunk);
    }

    /// What waits is going to wait for longer. The last buffer is written into next: it is tightened by what comes behind.
    fn tighten(&mut self) {
        let is_open = matches!(self.chunks.back(), Some(Chunk::Buffer(_)));
        let closed = self.chunks.len() - usize::from(is_open);
        self.chunks.iter_mut().take(closed).for_each(Chunk::tighten);
    }

    fn has_to_write(&self) -> bool {
        !self.chunks.is_empty() || self.transport.as_ref().is_some_and(|transport| transport.wants_write())
    }

    /// Appends what `encode` writes, `expected` bytes and a little around them, to the last buffer or to a new one:
    /// what waits must not take much more memory than its bytes.
    fn write_into_tail(&mut self, expected: usize, encode: impl FnOnce(&mut Vec<u8>)) -> usize {
        let most = BUFFER_BYTES.saturating_sub(expected + USUAL_HEAD_BYTES);
        let has_room = matches!(self.chunks.back(), Some(Chunk::Buffer(bytes)) if bytes.len() <= most);
        if !has_room {
            let mut buffer = take_buffer();
            if self.blocked_since.is_some() && self.pending >= BUFFER_BYTES {
                // Where much waits already, it is going to be filled: growing would leave holes in memory.
                buffer.reserve_exact(BUFFER_BYTES);
            }
            self.push(Chunk::Buffer(buffer));
        }
        let Some(Chunk::Buffer(tail)) = self.chunks.back_mut() else { return 0 };
        grow_buffer(tail);
        let before = tail.len();
        encode(tail);
        tail.len() - before
    }
}

/// Whether a buffer may wait for long as it is.
fn is_dense(buffer: &Vec<u8>) -> bool {
    buffer.len() >= buffer.capacity() / 4 * 3
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
        if let Some(chunk) = chunks.pop_front() {
            chunk.recycle();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpStream};

    /// An outbox whose socket nobody reads from; the client's end keeps it open.
    async fn stalled() -> (Arc<Outbox>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let client = TcpStream::connect(address).await.expect("a connection");
        let (server, _) = listener.accept().await.expect("a connection");
        (Outbox::new(1, Arc::new(Transport::plain(server)), 64 << 20), client)
    }

    /// What an allocator takes for that many bytes: it has eight sizes from one power of two to the next.
    fn allocated(bytes: usize) -> usize {
        let step = (bytes.max(64).next_power_of_two() / 16).max(1);
        bytes.div_ceil(step) * step
    }

    fn held_bytes(outbox: &Outbox) -> usize {
        let state = outbox.state.lock();
        let held = |chunk: &Chunk| match chunk {
            Chunk::Buffer(buffer) => allocated(buffer.capacity()),
            Chunk::Shared(bytes) => allocated(bytes.len()),
            Chunk::Slice(slice) => allocated(slice.source.capacity()),
        };
        state.chunks.iter().map(held).sum()
    }

    fn fill(outbox: &Outbox, size: usize, mut append: impl FnMut()) {
        while outbox.pending() < 16 << 20 {
            append();
        }
        let (held, pending) = (held_bytes(outbox), outbox.pending());
        // A message of more than half a buffer has one of its own.
        let most = if size < 20_000 { pending / 100 * 108 } else { pending / 4 * 5 };
        assert!(held <= most + 2 * BUFFER_BYTES, "{size}: {held} bytes held for {pending}");
    }

    #[tokio::test]
    async fn what_waits_takes_little_more_memory_than_its_bytes() {
        for size in [100, 1_044, 4_500, 20_000, 60_000] {
            let (outbox, _client) = stalled().await;
            fill(&outbox, size, || {
                outbox.append(Counted::message(size), |out| out.extend(vec![b'x'; size]));
            });
            let (outbox, _client) = stalled().await;
            fill(&outbox, size, || {
                let mut staged = Vec::with_capacity(BUFFER_BYTES);
                staged.resize(size, b'x');
                outbox.append_buffer(Counted::message(size), &mut staged);
                outbox.append(Counted::message(size), |out| out.extend(vec![b'x'; size]));
            });
        }
    }
}
