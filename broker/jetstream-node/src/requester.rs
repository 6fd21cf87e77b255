//! Requests from inside this server to whoever answers a subject, on this server or another: one wildcard
//! inbox an account, so that a request costs no change of interest. Not an API client: bodies are opaque.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;
use weir_hub::{Account, InternalSubscription};

/// Requests of one account that may wait for their reply at the same time.
const PENDING_MAX: usize = 16_384;

/// Why a request has no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("no responders")]
    NoResponders,
    #[error("no reply within {0:?}")]
    Timeout(Duration),
    #[error("more than {PENDING_MAX} requests wait for a reply")]
    TooMany,
}

/// What came back.
pub(crate) struct Reply {
    pub(crate) headers: Bytes,
    pub(crate) payload: Bytes,
}

type Pending = Arc<Mutex<FxHashMap<u64, oneshot::Sender<Reply>>>>;

/// Sends requests in one account.
pub(crate) struct Requester {
    account: Arc<Account>,
    prefix: String,
    next: AtomicU64,
    pending: Pending,
    _inbox: InternalSubscription,
}

impl Requester {
    /// `id` must be unique among the servers of the cluster.
    pub(crate) fn new(account: Arc<Account>, id: &str) -> Arc<Self> {
        let prefix = format!("_INBOX.{id}.");
        let pending = Pending::default();
        let replies = Arc::clone(&pending);
        let prefix_len = prefix.len();
        let inbox = account.subscribe_internal(
            &format!("{prefix}*"),
            None,
            Arc::new(move |message| {
                let number =
                    message.subject.get(prefix_len..).and_then(|token| std::str::from_utf8(token).ok());
                let Some(number) = number.and_then(|token| token.parse().ok()) else { return };
                let waiting = replies.lock().remove(&number);
                if let Some(waiting) = waiting {
                    let headers = Bytes::copy_from_slice(message.headers);
                    let _ = waiting.send(Reply { headers, payload: Bytes::copy_from_slice(message.payload) });
                }
            }),
        );
        Arc::new(Self { account, prefix, next: AtomicU64::new(1), pending, _inbox: inbox })
    }

    pub(crate) async fn request(
        &self,
        subject: &str,
        headers: &[u8],
        payload: &[u8],
        timeout: Duration,
    ) -> Result<Bytes, RequestError> {
        self.request_full(subject, headers, payload, timeout).await.map(|reply| reply.payload)
    }

    /// As `request`, with the reply's headers.
    pub(crate) async fn request_full(
        &self,
        subject: &str,
        headers: &[u8],
        payload: &[u8],
        timeout: Duration,
    ) -> Result<Reply, RequestError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        {
            let mut pending = self.pending.lock();
            if pending.len() >= PENDING_MAX {
                return Err(RequestError::TooMany);
            }
            pending.insert(number, sender);
        }
        let reply = format!("{}{number}", self.prefix);
        if self.account.publish(subject.as_bytes(), Some(reply.as_bytes()), headers, payload) == 0 {
            self.pending.lock().remove(&number);
            return Err(RequestError::NoResponders);
        }
        match tokio::time::timeout(timeout, receiver).await {
            Ok(Ok(reply)) => Ok(reply),
            _ => {
                self.pending.lock().remove(&number);
                Err(RequestError::Timeout(timeout))
            }
        }
    }
}
