//! A listener that speaks TLS, for monitoring. Not what is served behind it.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::error;
use weir_net::tls::ServerTls;

/// So many handshakes may be under way; more wait in the kernel.
const MAX_HANDSHAKES: usize = 64;
/// Connections that are through and not taken yet.
const QUEUE: usize = 16;
/// How long to wait after accept failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections that are through their TLS handshake.
pub(crate) struct HttpsListener {
    address: SocketAddr,
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
}

impl HttpsListener {
    /// Shakes hands with whoever connects, several at a time, so that a slow one holds up nobody.
    pub(crate) fn new(listener: TcpListener, tls: Arc<ServerTls>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (sender, ready) = mpsc::channel(QUEUE);
        tokio::spawn(accept(listener, tls, sender));
        Ok(Self { address, ready })
    }
}

async fn accept(
    listener: TcpListener,
    tls: Arc<ServerTls>,
    sender: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    let slots = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = sender.closed() => return,
        };
        let Ok((stream, address)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let state = tls.current();
        let sender = sender.clone();
        tokio::spawn(async move {
            let handshake = TlsAcceptor::from(state.config()).accept(stream);
            match tokio::time::timeout(state.timeout, handshake).await {
                // Nobody takes it when the server stops.
                Ok(Ok(stream)) => drop(sender.send((stream, address)).await),
                Ok(Err(problem)) => error!("monitoring: http: TLS handshake error from {address}: {problem}"),
                Err(_) => error!("monitoring: http: TLS handshake error from {address}: i/o timeout"),
            }
            drop(slot);
        });
    }
}

impl weir_monitor::Listener for HttpsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            // The listener's task has ended: nothing comes any more.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}
