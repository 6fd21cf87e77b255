//! One socket with its layers, shared by the connection's task and whoever writes to it.
//! Not the layers themselves.

use bytes::BufMut;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use tokio::io::{Interest, Ready};
use tokio::net::TcpStream;

/// One socket with its layers. Every call is for any task; none blocks.
#[derive(Debug)]
pub struct Transport {
    socket: TcpStream,
}

impl Transport {
    /// The socket as it is.
    pub fn plain(socket: TcpStream) -> Self {
        Self { socket }
    }

    /// Reads what is there, decoded. `WouldBlock` when there is nothing, 0 at the end.
    #[inline]
    pub fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        self.socket.try_read(into)
    }

    /// Reads what is there, decoded, into the spare room of `into`.
    #[inline]
    pub fn try_read_buf<B: BufMut>(&self, into: &mut B) -> io::Result<usize> {
        self.socket.try_read_buf(into)
    }

    /// Writes; returns how many of the given bytes were taken. `WouldBlock` when the socket is full.
    #[inline]
    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match slices {
            [only] => self.socket.try_write(only),
            many => self.socket.try_write_vectored(many),
        }
    }

    /// Whether bytes that were taken are not written yet, since a layer had to encode them.
    #[inline]
    pub fn wants_write(&self) -> bool {
        false
    }

    /// Writes what a layer has encoded. `WouldBlock` when the socket is full before all is written.
    #[inline]
    pub fn try_flush(&self) -> io::Result<()> {
        Ok(())
    }

    /// Resolves when `try_read` or a write, as asked for, may get on.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        self.socket.ready(interest).await
    }

    /// The address of this end.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The address of the other end of the socket.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.peer_addr()
    }
}
