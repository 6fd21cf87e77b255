//! Small writes put off until a worker thread has nothing else to do, so that what many connections have for one
//! receiver leaves in one write. Not what is written (see `outbox`), and not for bulk, which is written at once.
//!
//! The runtime calls `write_deferred` before a worker sleeps. A worker that never sleeps writes after so many
//! turns, and `backstop` bounds the wait whatever else a worker does.

use crate::outbox::Outbox;
use parking_lot::Mutex;
use std::cell::OnceCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// So many turns of connections may pass before what they put off is written.
const MAX_TURNS: u32 = 32;
/// How often the backstop looks, while there is something to look for.
const TICK: Duration = Duration::from_millis(5);
/// What has waited for so many ticks is written by the backstop.
const MAX_TICKS: u32 = 1;

/// What one worker has put off.
#[derive(Default)]
struct List {
    outboxes: Mutex<Vec<Arc<Outbox>>>,
    turns: AtomicU32,
    ticks: AtomicU32,
}

thread_local! {
    static MINE: OnceCell<Arc<List>> = const { OnceCell::new() };
}

static ALL: Mutex<Vec<Arc<List>>> = Mutex::new(Vec::new());
/// Whether anything was put off since the backstop last looked.
static IS_ACTIVE: AtomicBool = AtomicBool::new(false);
static BECAME_ACTIVE: Notify = Notify::const_new();

/// Writes what this thread has put off. For the runtime's `on_thread_park`; threads it never calls this on
/// put nothing off.
pub fn write_deferred() {
    MINE.with(|mine| {
        mine.get_or_init(|| {
            let list = Arc::new(List::default());
            ALL.lock().push(Arc::clone(&list));
            list
        })
        .write();
    });
}

/// Puts off writing to those in `touched`, and empties it. False where nothing may be put off.
pub(crate) fn defer(touched: &mut Vec<Arc<Outbox>>) -> bool {
    MINE.with(|mine| {
        let Some(list) = mine.get() else { return false };
        let mut outboxes = list.outboxes.lock();
        if outboxes.is_empty() {
            list.ticks.store(0, Ordering::Relaxed);
        }
        outboxes.append(touched);
        drop(outboxes);
        if list.turns.fetch_add(1, Ordering::Relaxed) >= MAX_TURNS {
            list.write();
        } else if !IS_ACTIVE.load(Ordering::Relaxed) {
            IS_ACTIVE.store(true, Ordering::Release);
            BECAME_ACTIVE.notify_one();
        }
        true
    })
}

/// Writes what a worker puts off and does not come to within some milliseconds. Runs until it is dropped.
pub(crate) async fn backstop() {
    loop {
        if !IS_ACTIVE.swap(false, Ordering::AcqRel) {
            BECAME_ACTIVE.notified().await;
        }
        tokio::time::sleep(TICK).await;
        for list in lists_of_threads() {
            let is_late = list.ticks.fetch_add(1, Ordering::Relaxed) >= MAX_TICKS;
            if is_late {
                list.write();
            } else if !list.outboxes.lock().is_empty() {
                IS_ACTIVE.store(true, Ordering::Release);
            }
        }
    }
}

/// The lists that somebody may still add to, or that hold something: those of threads that ended are forgotten.
fn lists_of_threads() -> Vec<Arc<List>> {
    let mut all = ALL.lock();
    all.retain(|list| Arc::strong_count(list) > 1 || !list.outboxes.lock().is_empty());
    all.clone()
}

impl List {
    fn write(&self) {
        self.turns.store(0, Ordering::Relaxed);
        let mut outboxes = self.outboxes.lock();
        if outboxes.is_empty() {
            return;
        }
        let mut taken = std::mem::take(&mut *outboxes);
        drop(outboxes);
        for outbox in taken.drain(..) {
            outbox.flush();
        }
        // Keeps the allocation.
        let mut outboxes = self.outboxes.lock();
        if outboxes.is_empty() {
            *outboxes = taken;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::Counted;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};
    use weir_net::Transport;

    async fn pair() -> (Arc<Outbox>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let client =
            TcpStream::connect(listener.local_addr().expect("an address")).await.expect("a connection");
        let (server, _) = listener.accept().await.expect("a connection");
        (Outbox::new(1, Arc::new(Transport::plain(server)), 1024), client)
    }

    async fn read_two(mut client: TcpStream) -> [u8; 2] {
        let mut bytes = [0; 2];
        tokio::time::timeout(Duration::from_secs(5), client.read_exact(&mut bytes))
            .await
            .expect("bytes arrive")
            .expect("the connection stays");
        bytes
    }

    #[tokio::test]
    async fn what_is_put_off_is_written_before_the_thread_sleeps() {
        let (outbox, client) = pair().await;
        outbox.append(Counted::NOTHING, |out| out.extend_from_slice(b"hi"));
        // Only a thread that was asked before may put off.
        write_deferred();
        assert!(defer(&mut vec![Arc::clone(&outbox)]));
        assert_eq!(outbox.pending(), 2);
        write_deferred();
        assert_eq!((outbox.pending(), read_two(client).await), (0, *b"hi"));
    }

    #[tokio::test]
    async fn a_worker_that_never_sleeps_does_not_hold_up_what_was_put_off() {
        let (outbox, client) = pair().await;
        outbox.append(Counted::NOTHING, |out| out.extend_from_slice(b"hi"));
        write_deferred();
        assert!(defer(&mut vec![Arc::clone(&outbox)]));
        let backstop = tokio::spawn(backstop());
        assert_eq!(read_two(client).await, *b"hi");
        backstop.abort();
    }

    #[tokio::test]
    async fn what_a_thread_that_ended_put_off_is_written_and_its_list_forgotten() {
        let (outbox, client) = pair().await;
        outbox.append(Counted::NOTHING, |out| out.extend_from_slice(b"hi"));
        let ended = std::thread::spawn(move || {
            write_deferred();
            let list = MINE.with(|mine| mine.get().map(Arc::downgrade));
            assert!(defer(&mut vec![outbox]));
            list
        });
        let list = ended.join().expect("no panic").expect("a list");
        let backstop = tokio::spawn(backstop());
        assert_eq!(read_two(client).await, *b"hi");
        backstop.abort();
        lists_of_threads();
        assert!(list.upgrade().is_none());
    }

    #[tokio::test]
    async fn threads_that_no_runtime_asks_write_at_once() {
        let (outbox, _client) = pair().await;
        let deferred = std::thread::spawn(move || defer(&mut vec![outbox])).join().expect("no panic");
        assert!(!deferred);
    }
}
