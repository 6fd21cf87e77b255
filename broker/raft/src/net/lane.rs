//! A lane: the one stream by which this node asks one peer for one purpose, for all groups. Reconnects
//! by itself; what was under way when the stream broke fails at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prost::Message;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;

use crate::net::auth::stamp;
use crate::net::peers::{ConnectError, Peers};
use crate::options::MAX_MESSAGE_BYTES;
use crate::pb::raft as pb;
use crate::pb::raft::raft_client::RaftClient;
use crate::types::{GroupId, PeerId};

/// Frames that may wait for a stream; beyond it requests are refused.
const QUEUE_FRAMES: usize = 8192;
/// Entries under way on one lane, over all groups.
const ROOM_KIB: usize = 64 * 1024;
/// Most frames, and about how many bytes, of one message.
const MAX_BATCH_FRAMES: usize = 512;
const MAX_BATCH_BYTES: usize = 1024 * 1024;
/// Messages handed to HTTP/2 ahead of time; small, so that frames gather while it is busy.
const MESSAGES_AHEAD: usize = 2;
/// Pause after a failed connection, doubled up to the second.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// What a lane is for. Votes and heartbeats never wait behind entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LaneKind {
    Votes,
    Appends,
}

/// Why a request got no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum LaneError {
    #[error("{0}")]
    Unreachable(String),
    #[error("too many requests wait for the peer")]
    Busy,
    #[error("no answer in time")]
    Timeout,
    #[error("refused: {message}")]
    Refused { code: pb::failure::Code, message: String },
    #[error("malformed answer: {0}")]
    Malformed(String),
}

type Body = pb::frame::Body;
type Answer = Result<Body, LaneError>;

pub(crate) struct Lane {
    shared: Arc<Shared>,
    room: Arc<Semaphore>,
    task: Mutex<Option<AbortHandle>>,
}

struct Shared {
    frames: mpsc::Sender<pb::Frame>,
    pending: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    next_id: AtomicU64,
    /// Rung when the peer was heard from: a pause before reconnecting ends.
    heard: Notify,
}

/// An answer to wait for.
pub(crate) struct Waiting {
    id: u64,
    answer: oneshot::Receiver<Answer>,
    shared: Arc<Shared>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.shared.pending.lock().remove(&self.id);
    }
}

impl Waiting {
    pub(crate) async fn until(&mut self, deadline: Instant) -> Answer {
        match tokio::time::timeout_at(deadline, &mut self.answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(LaneError::Unreachable("the lane was closed".to_owned())),
            Err(_) => Err(LaneError::Timeout),
        }
    }
}

impl Lane {
    pub(crate) fn start(peers: Arc<Peers>, peer: PeerId, kind: LaneKind) -> Arc<Self> {
        let (frames, queue) = mpsc::channel(QUEUE_FRAMES);
        let shared = Arc::new(Shared {
            frames,
            pending: Mutex::default(),
            next_id: AtomicU64::new(1),
            heard: Notify::new(),
        });
        let worker = Worker { peers, peer, kind, shared: Arc::clone(&shared) };
        let task = tokio::spawn(worker.run(queue));
        Arc::new(Self {
            shared,
            room: Arc::new(Semaphore::new(ROOM_KIB)),
            task: Mutex::new(Some(task.abort_handle())),
        })
    }

    pub(crate) fn close(&self) {
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
        self.shared.fail_all(&LaneError::Unreachable("the node is stopping".to_owned()));
    }

    pub(crate) fn heard(&self) {
        self.shared.heard.notify_one();
    }

    /// Waits until so many more bytes may be under way on the lane. More than there is room for at all
    /// takes all of it.
    pub(crate) async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, LaneError> {
        let kib = (bytes / 1024).clamp(1, ROOM_KIB);
        let kib = u32::try_from(kib).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(kib);
        room.await.map_err(|_| LaneError::Unreachable("the lane was closed".to_owned()))
    }

    /// A number for a new session.
    pub(crate) fn new_session(&self) -> u64 {
        self.shared.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends a request; its answer is to be waited for.
    pub(crate) fn ask(&self, group: GroupId, session: u64, body: Body) -> Result<Waiting, LaneError> {
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.shared.pending.lock().insert(id, sender);
        let waiting = Waiting { id, answer, shared: Arc::clone(&self.shared) };
        let frame = pb::Frame { id, group: group.0, session, body: Some(body) };
        self.shared.frames.try_send(frame).map_err(|_| LaneError::Busy)?;
        Ok(waiting)
    }

    /// Tells the peer that a session has ended; best effort.
    pub(crate) fn end_session(&self, group: GroupId, session: u64) {
        let frame =
            pb::Frame { id: 0, group: group.0, session, body: Some(Body::SessionEnd(pb::SessionEnd {})) };
        // A full or broken lane ends the session on its own.
        let _ = self.shared.frames.try_send(frame);
    }
}

impl Shared {
    fn fail_all(&self, error: &LaneError) {
        let pending = std::mem::take(&mut *self.pending.lock());
        for (_, sender) in pending {
            // The asker may have given up.
            let _ = sender.send(Err(error.clone()));
        }
    }

    fn answer(&self, frame: pb::Frame) {
        let Some(sender) = self.pending.lock().remove(&frame.id) else {
            return;
        };
        let answer = match frame.body {
            Some(Body::Failure(failure)) => {
                Err(LaneError::Refused { code: failure.code(), message: failure.message })
            }
            Some(body) => Ok(body),
            None => Err(LaneError::Malformed("empty".to_owned())),
        };
        // The asker may have given up.
        let _ = sender.send(answer);
    }

    /// Nobody waits for this request any more.
    fn is_stale(&self, frame: &pb::Frame) -> bool {
        frame.id != 0 && !self.pending.lock().contains_key(&frame.id)
    }
}

struct Worker {
    peers: Arc<Peers>,
    peer: PeerId,
    kind: LaneKind,
    shared: Arc<Shared>,
}

impl Worker {
    async fn run(self, mut queue: mpsc::Receiver<pb::Frame>) {
        let mut pause = BACKOFF_MIN;
        while let Some(first) = queue.recv().await {
            if self.shared.is_stale(&first) {
                continue;
            }
            let error = match self.open().await {
                Ok((out, inbound)) => {
                    tracing::debug!(peer = self.peer.0, kind = ?self.kind, "lane open");
                    pause = BACKOFF_MIN;
                    let reason = self.pump(first, &mut queue, out, inbound).await;
                    tracing::debug!(peer = self.peer.0, kind = ?self.kind, reason, "lane closed");
                    self.shared.fail_all(&LaneError::Unreachable(reason));
                    continue;
                }
                Err(error) => LaneError::Unreachable(error.0),
            };
            tracing::debug!(peer = self.peer.0, kind = ?self.kind, %error, "lane not opened");
            self.shared.fail_all(&error);
            self.refuse_for(pause, &error, &mut queue).await;
            pause = (pause * 2).min(BACKOFF_MAX);
        }
    }

    /// Refuses whatever is asked until the pause is over or the peer was heard from.
    async fn refuse_for(&self, pause: Duration, error: &LaneError, queue: &mut mpsc::Receiver<pb::Frame>) {
        let until = Instant::now() + pause;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                () = self.shared.heard.notified() => return,
                frame = queue.recv() => match frame {
                    None => return,
                    Some(frame) => {
                        if let Some(sender) = self.shared.pending.lock().remove(&frame.id) {
                            // The asker may have given up.
                            let _ = sender.send(Err(error.clone()));
                        }
                    }
                },
            }
        }
    }

    async fn open(&self) -> Result<(mpsc::Sender<pb::Frames>, tonic::Streaming<pb::Frames>), ConnectError> {
        let channel = self.peers.connect(self.peer).await?;
        let mut client = RaftClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let (out, outbound) = mpsc::channel(MESSAGES_AHEAD);
        let mut request = Request::new(ReceiverStream::new(outbound));
        let token = self.peers.token.as_ref();
        stamp(request.metadata_mut(), self.peers.this, self.peer, token);
        let response = client
            .lane(request)
            .await
            .map_err(|status| ConnectError(format!("opening a lane: {}", status.message())))?;
        Ok((out, response.into_inner()))
    }

    /// Moves frames both ways until the stream breaks; says why it did.
    async fn pump(
        &self,
        first: pb::Frame,
        queue: &mut mpsc::Receiver<pb::Frame>,
        out: mpsc::Sender<pb::Frames>,
        mut inbound: tonic::Streaming<pb::Frames>,
    ) -> String {
        let writer = async {
            let mut next = Some(first);
            loop {
                let frame = match next.take() {
                    Some(frame) => frame,
                    None => match queue.recv().await {
                        Some(frame) => frame,
                        None => return "the lane was closed".to_owned(),
                    },
                };
                let frames = gather(frame, queue, |frame| !self.shared.is_stale(frame));
                if out.send(pb::Frames { frames }).await.is_err() {
                    return "the stream has ended".to_owned();
                }
            }
        };
        let reader = async {
            loop {
                match inbound.message().await {
                    Ok(Some(message)) => {
                        for frame in message.frames {
                            self.shared.answer(frame);
                        }
                    }
                    Ok(None) => return "the peer ended the stream".to_owned(),
                    Err(status) => return format!("the stream broke: {}", status.message()),
                }
            }
        };
        tokio::select! {
            reason = writer => reason,
            reason = reader => reason,
        }
    }
}

/// The frame and whatever else waits, up to one message's bounds.
pub(crate) fn gather(
    first: pb::Frame,
    queue: &mut mpsc::Receiver<pb::Frame>,
    keep: impl Fn(&pb::Frame) -> bool,
) -> Vec<pb::Frame> {
    let mut bytes = first.encoded_len();
    let mut frames = vec![first];
    while frames.len() < MAX_BATCH_FRAMES && bytes < MAX_BATCH_BYTES {
        let Ok(frame) = queue.try_recv() else { break };
        if keep(&frame) {
            bytes = bytes.saturating_add(frame.encoded_len());
            frames.push(frame);
        }
    }
    frames
}
