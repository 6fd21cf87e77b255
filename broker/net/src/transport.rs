//! One socket with its layers, shared by the connection's task and whoever writes to it.
//! Not the layers themselves (see `layers`).

use crate::codec::{Codec, Farewell};
use crate::layers::Layers;
use crate::tls::TlsSession;
use bytes::BufMut;
use rustix::net::RecvFlags;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::OnceLock;
use tokio::io::{Interest, Ready};
use tokio::net::TcpStream;

/// The most bytes `try_read_buf` decodes at once.
const READ_BYTES: usize = 64 * 1024;

/// One socket with its layers. Every call is for any task; none blocks.
pub struct Transport {
    socket: TcpStream,
    /// Absent while the bytes go over the socket as they are: that costs one branch a call.
    layers: OnceLock<Box<Layers>>,
}

impl Transport {
    /// The socket as it is.
    pub fn plain(socket: TcpStream) -> Self {
        Self { socket, layers: OnceLock::new() }
    }

    /// Reads what is there, decoded. `WouldBlock` when there is nothing, 0 at the end.
    #[inline]
    pub fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        match self.layers.get() {
            None => read_socket(&self.socket, into),
            Some(layers) => layers.read(&self.socket, into),
        }
    }

    /// Reads what is there, decoded, into the spare room of `into`.
    #[inline]
    pub fn try_read_buf<B: BufMut>(&self, into: &mut B) -> io::Result<usize> {
        match self.layers.get() {
            None => self.socket.try_read_buf(into),
            Some(layers) => {
                let mut decoded = vec![0; into.remaining_mut().min(READ_BYTES)];
                let count = layers.read(&self.socket, &mut decoded)?;
                into.put_slice(decoded.get(..count).unwrap_or_default());
                Ok(count)
            }
        }
    }

    /// Writes; returns how many of the given bytes were taken. `WouldBlock` when the socket is full.
    #[inline]
    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match (self.layers.get(), slices) {
            (None, [only]) => self.socket.try_write(only),
            (None, many) => self.socket.try_write_vectored(many),
            (Some(layers), slices) => layers.write(&self.socket, slices),
        }
    }

    /// Whether bytes that were taken are not written yet, since a layer had to encode them.
    #[inline]
    pub fn wants_write(&self) -> bool {
        self.layers.get().is_some_and(|layers| layers.wants_write())
    }

    /// Writes what a layer has encoded. `WouldBlock` when the socket is full before all is written.
    #[inline]
    pub fn try_flush(&self) -> io::Result<()> {
        self.layers.get().map_or(Ok(()), |layers| layers.flush(&self.socket))
    }

    /// Resolves when `try_read` or a write, as asked for, may get on.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        let Some(layers) = self.layers.get() else { return self.socket.ready(interest).await };
        if interest.is_readable() && layers.has_decoded() {
            return Ok(Ready::READABLE);
        }
        if !layers.wants_write() {
            return self.socket.ready(interest).await;
        }
        let ready = self.socket.ready(interest.add(Interest::WRITABLE)).await?;
        if ready.is_writable() {
            match layers.flush(&self.socket) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
        Ok(ready)
    }

    /// Says farewell in the words of the layers, as far as the socket takes it. Nothing is written afterwards.
    pub fn say_farewell(&self, farewell: Farewell<'_>) {
        if let Some(layers) = self.layers.get() {
            layers.say_farewell(&self.socket, farewell);
        }
    }

    /// Puts a codec on top; bytes of the peer that were read already must have been read to their end.
    pub fn set_codec(&self, codec: Box<dyn Codec>) {
        self.set_codec_behind(codec, &[]);
    }

    /// Puts a codec on top that begins in the middle of a connection: `read` is what was read of the peer's
    /// bytes behind the agreement on the codec.
    pub fn set_codec_behind(&self, codec: Box<dyn Codec>, read: &[u8]) {
        self.layers().set_codec(codec, read);
    }

    pub(crate) fn set_tls(&self, session: Box<TlsSession>, incoming: Vec<u8>, decoded: Vec<u8>) {
        self.layers().set_tls(session, incoming, decoded);
    }

    fn layers(&self) -> &Layers {
        self.layers.get_or_init(Box::default)
    }

    /// Looks at the first bytes that come, without taking them. For the time before there are layers.
    pub async fn peek(&self, into: &mut [u8]) -> io::Result<usize> {
        self.socket.peek(into).await
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
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

/// Reads once. A read that does not fill `into` has emptied the socket: noting that saves the next read,
/// which would find nothing.
fn read_socket(socket: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
    let mut last = None;
    let result = socket.try_io(Interest::READABLE, || {
        let (count, _) = rustix::net::recv(socket, &mut *into, RecvFlags::empty())?;
        if (1..into.len()).contains(&count) {
            last = Some(count);
            // Not told to the caller: this is how the runtime learns that it has to wait for more.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(count)
    });
    last.map_or(result, Ok)
}
