//! Links between nodes that can be cut: nothing passes, in silence, until they are healed. Or one breaks, once, in the
//! middle of what is sent over it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::cluster::Endpoints;

/// All links of a cluster, one for each direction of asking.
#[derive(Clone)]
pub(crate) struct Links {
    links: Arc<Mutex<HashMap<(u64, u64), Link>>>,
    endpoints: Endpoints,
}

struct Link {
    address: SocketAddr,
    open: watch::Sender<bool>,
    /// Bytes that pass until the connection breaks; below zero it has.
    until_break: Arc<AtomicI64>,
}

impl Links {
    pub(crate) fn new(endpoints: Endpoints) -> Self {
        Self { links: Arc::default(), endpoints }
    }

    /// Where `from` reaches `to`.
    pub(crate) fn address(&self, from: u64, to: u64) -> String {
        let mut links = self.links.lock();
        let link = links.entry((from, to)).or_insert_with(|| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            listener.set_nonblocking(true).expect("a listener");
            let address = listener.local_addr().expect("its address");
            let (open, state) = watch::channel(true);
            let listener = TcpListener::from_std(listener).expect("a listener");
            let until_break = Arc::new(AtomicI64::new(i64::MAX));
            tokio::spawn(accept(listener, to, Arc::clone(&self.endpoints), state, Arc::clone(&until_break)));
            Link { address, open, until_break }
        });
        link.address.to_string()
    }

    /// Cuts or heals both directions between two nodes.
    pub(crate) fn set(&self, a: u64, b: u64, open: bool) {
        for (from, to) in [(a, b), (b, a)] {
            self.address(from, to);
            self.links.lock()[&(from, to)].open.send_replace(open);
        }
    }

    /// The connection from one node to another ends after so many bytes more; later ones are whole.
    pub(crate) fn break_after(&self, from: u64, to: u64, bytes: i64) {
        self.address(from, to);
        self.links.lock()[&(from, to)].until_break.store(bytes, Ordering::Relaxed);
    }

    /// Bytes that passed since a `break_after` that does not come.
    pub(crate) fn passed(&self, from: u64, to: u64) -> i64 {
        i64::MAX - self.links.lock()[&(from, to)].until_break.load(Ordering::Relaxed)
    }

    pub(crate) fn has_broken(&self, from: u64, to: u64) -> bool {
        self.links.lock()[&(from, to)].until_break.load(Ordering::Relaxed) <= 0
    }
}

async fn accept(
    listener: TcpListener,
    to: u64,
    endpoints: Endpoints,
    open: watch::Receiver<bool>,
    until_break: Arc<AtomicI64>,
) {
    while let Ok((near, _)) = listener.accept().await {
        let endpoint = endpoints.lock().get(&to).cloned().unwrap_or_default();
        let (open, until_break) = (open.clone(), Arc::clone(&until_break));
        let unbroken = Arc::new(AtomicI64::new(i64::MAX));
        tokio::spawn(async move {
            wait_open(&mut open.clone()).await;
            let Ok(far) = TcpStream::connect(endpoint).await else {
                return;
            };
            let (near_read, near_write) = near.into_split();
            let (far_read, far_write) = far.into_split();
            tokio::select! {
                () = pass(near_read, far_write, open.clone(), until_break) => {}
                () = pass(far_read, near_write, open, unbroken) => {}
            }
        });
    }
}

async fn wait_open(open: &mut watch::Receiver<bool>) {
    // A dropped sender ends the test anyway.
    let _ = open.wait_for(|open| *open).await;
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut open: watch::Receiver<bool>,
    until_break: Arc<AtomicI64>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        wait_open(&mut open).await;
        let passed = i64::try_from(length).unwrap_or(i64::MAX);
        if (1..=passed).contains(&until_break.fetch_sub(passed, Ordering::Relaxed)) {
            return;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
