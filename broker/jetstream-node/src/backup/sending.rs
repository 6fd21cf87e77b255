//! The chunks of a backup on their way to a client: so many at a time as its window takes, each acknowledged by an empty
//! message, with a status at the end. A client that is gone or does not acknowledge ends it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use weir_hub::{Account, InternalSubscription};
use weir_jsapi::request::StreamSnapshotRequest;

use super::source::Source;
use crate::context::Context;

const CHUNK_BYTES: i64 = 128 << 10;
const CHUNK_BYTES_MIN: i64 = 1 << 10;
const CHUNK_BYTES_MAX: i64 = 1 << 20;
const WINDOW_BYTES: i64 = 8 << 20;
const WINDOW_BYTES_MAX: i64 = 32 << 20;
/// How long the client may take to listen.
const INTEREST_PATIENCE: Duration = Duration::from_secs(2);
/// How long it may take to acknowledge anything.
const ACK_PATIENCE: Duration = Duration::from_secs(5);
const COMPLETE: &str = "NATS/1.0 204\r\n\r\n";

/// Sizes as nats-server takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pace {
    chunk_bytes: usize,
    in_flight_max: usize,
}

impl Pace {
    fn of(request: &StreamSnapshotRequest) -> Self {
        let or = |asked: i64, default: i64| if asked == 0 { default } else { asked };
        let chunk = or(request.chunk_size, CHUNK_BYTES).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
        let window =
            or(request.window_size, WINDOW_BYTES).clamp(CHUNK_BYTES_MIN, WINDOW_BYTES_MAX).max(chunk);
        let whole = |value: i64| usize::try_from(value).unwrap_or(1);
        Self { chunk_bytes: whole(chunk), in_flight_max: whole(window / chunk) }
    }
}

/// Why a backup was not sent whole.
struct Failure {
    reason: String,
    headers: String,
}

impl Failure {
    fn no_interest() -> Self {
        Self { reason: "no interest".to_owned(), headers: "NATS/1.0 408 No Interest\r\n\r\n".to_owned() }
    }

    fn no_acks() -> Self {
        let headers = "NATS/1.0 408 No Flow Response\r\n\r\n".to_owned();
        Self { reason: "no flow response".to_owned(), headers }
    }

    fn broken(reason: String) -> Self {
        Self { headers: format!("NATS/1.0 500 {reason}\r\n\r\n"), reason }
    }
}

struct Sender<'a> {
    account: &'a Arc<Account>,
    deliver_subject: &'a [u8],
    pace: Pace,
    interest: watch::Receiver<bool>,
    acks: String,
    slots: Arc<Semaphore>,
    _acked: InternalSubscription,
    /// Chunks that want an acknowledgement.
    count: usize,
}

/// Sends a backup to its end.
///
/// # Errors
/// Why it ended early; the client was told.
pub(crate) async fn send(
    context: &Context,
    account: &Arc<Account>,
    stream: &str,
    request: &StreamSnapshotRequest,
    source: Source,
) -> Result<(), String> {
    let pace = Pace::of(request);
    let slots = Arc::new(Semaphore::new(pace.in_flight_max));
    let acks = format!("$JS.SNAPSHOT.ACK.{stream}.{}", super::new_id(context));
    let freed = Arc::clone(&slots);
    let acked = account.subscribe_internal(
        &format!("{acks}.>"),
        None,
        Arc::new(move |_| {
            if freed.available_permits() < pace.in_flight_max {
                freed.add_permits(1);
            }
        }),
    );
    let mut sender = Sender {
        account,
        deliver_subject: request.deliver_subject.as_bytes(),
        pace,
        // Clients ask before they listen on this subject alone, with a wildcard that takes it already.
        interest: account.watch_listeners(&request.deliver_subject, None),
        acks,
        slots,
        _acked: acked,
        count: 0,
    };
    let result = sender.send_all(source).await;
    let headers = match &result {
        Err(failure) => &failure.headers,
        // As nats-server: what fits into one chunk ends with an empty message.
        Ok(()) if sender.count == 0 => "",
        Ok(()) => COMPLETE,
    };
    account.publish(sender.deliver_subject, None, headers.as_bytes(), b"");
    result.map_err(|failure| failure.reason)
}

impl Sender<'_> {
    async fn send_all(&mut self, mut source: Source) -> Result<(), Failure> {
        if !*self.interest.borrow_and_update() {
            let _ = tokio::time::timeout(INTEREST_PATIENCE, self.interest.changed()).await;
            self.interest.mark_unchanged();
        }
        loop {
            self.wait_for_slot().await?;
            let count = self.pace.chunk_bytes;
            let read = tokio::task::spawn_blocking(move || {
                let chunk = source.take(count);
                (source, chunk)
            });
            let (back, chunk) = read.await.map_err(|error| Failure::broken(error.to_string()))?;
            let chunk = chunk.map_err(Failure::broken)?;
            source = back;
            if chunk.len() < count {
                if !chunk.is_empty() {
                    self.account.publish(self.deliver_subject, None, b"", &chunk);
                }
                return Ok(());
            }
            self.count += 1;
            let reply = format!("{}.{}.{}", self.acks, chunk.len(), self.count);
            self.account.publish(self.deliver_subject, Some(reply.as_bytes()), b"", &chunk);
        }
    }

    async fn wait_for_slot(&mut self) -> Result<(), Failure> {
        tokio::select! {
            biased;
            _ = self.interest.changed() => Err(Failure::no_interest()),
            permit = self.slots.acquire() => {
                if let Ok(permit) = permit {
                    permit.forget();
                }
                Ok(())
            }
            () = tokio::time::sleep(ACK_PATIENCE) => Err(Failure::no_acks()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_kept_within_their_bounds() {
        let pace = |chunk_size, window_size| {
            let pace = Pace::of(&StreamSnapshotRequest {
                chunk_size,
                window_size,
                ..StreamSnapshotRequest::default()
            });
            (pace.chunk_bytes, pace.in_flight_max)
        };
        assert_eq!(pace(0, 0), (131_072, 64));
        assert_eq!(pace(1, 1), (1024, 1));
        assert_eq!(pace(-5, -5), (1024, 1));
        assert_eq!(pace(1 << 40, 1 << 40), (1 << 20, 32));
        assert_eq!(pace(100_000, 1024), (100_000, 1));
        assert_eq!(pace(1024, 1 << 40), (1024, 32_768));
    }
}
