//! One TLS connection without I/O: ciphertext in, plain bytes out, and back. Not its configuration.

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedConnectionCommon,
    UnbufferedStatus,
};
use rustls::{CommonState, Error};

/// The largest record on the wire in bytes, with its header and what encryption adds (RFC 5246 section 6.2.3).
pub(crate) const MAX_RECORD_BYTES: usize = 16 * 1024 + 2048 + 5;
/// What a record adds to its plain bytes, at most.
const RECORD_OVERHEAD_BYTES: usize = 64;
/// The most plain bytes of a record.
const FRAGMENT_BYTES: usize = 16 * 1024;

/// One TLS connection of either role.
pub(crate) enum TlsSession {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// What came out of received bytes.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Received {
    /// So many bytes at the front are done with.
    pub(crate) consumed: usize,
    /// The peer has ended its side.
    pub(crate) closed: bool,
}

trait Engine {
    type Data;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Engine for UnbufferedConnectionCommon<ServerConnectionData> {
    type Data = ServerConnectionData;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
}

impl Engine for UnbufferedConnectionCommon<ClientConnectionData> {
    type Data = ClientConnectionData;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
}

impl TlsSession {
    /// Takes every complete record of `incoming`: plain bytes go to `sink`, what TLS itself has to say is
    /// appended to `outgoing`. An incomplete record stays: `incoming` has to be handed in again with more
    /// behind it, without what was consumed. After an error the session must not be used any more.
    pub(crate) fn receive(
        &mut self,
        incoming: &mut [u8],
        outgoing: &mut Vec<u8>,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<Received, Error> {
        match self {
            Self::Server(connection) => receive(&mut **connection, incoming, outgoing, sink),
            Self::Client(connection) => receive(&mut **connection, incoming, outgoing, sink),
        }
    }

    /// Encrypts `plain` to the end of `outgoing`. `incoming` is what `receive` has left.
    pub(crate) fn send(
        &mut self,
        plain: &[u8],
        incoming: &mut [u8],
        outgoing: &mut Vec<u8>,
    ) -> Result<(), Error> {
        match self {
            Self::Server(connection) => send(&mut **connection, Sent::Data(plain), incoming, outgoing),
            Self::Client(connection) => send(&mut **connection, Sent::Data(plain), incoming, outgoing),
        }
    }

    /// Appends the notice that nothing follows.
    pub(crate) fn close(&mut self, incoming: &mut [u8], outgoing: &mut Vec<u8>) -> Result<(), Error> {
        match self {
            Self::Server(connection) => send(&mut **connection, Sent::CloseNotify, incoming, outgoing),
            Self::Client(connection) => send(&mut **connection, Sent::CloseNotify, incoming, outgoing),
        }
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.common().is_handshaking()
    }

    pub(crate) fn common(&self) -> &CommonState {
        match self {
            Self::Server(connection) => connection,
            Self::Client(connection) => connection,
        }
    }
}

fn receive<E: Engine + ?Sized>(
    engine: &mut E,
    incoming: &mut [u8],
    outgoing: &mut Vec<u8>,
    sink: &mut dyn FnMut(&[u8]),
) -> Result<Received, Error> {
    let mut received = Received::default();
    loop {
        let rest = incoming.get_mut(received.consumed..).unwrap_or_default();
        let UnbufferedStatus { mut discard, state } = engine.process(rest);
        let mut done = false;
        let mut failed = None;
        match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    sink(record.payload);
                }
            }
            // Never offered (`max_early_data_size` is 0).
            Ok(ConnectionState::ReadEarlyData(_)) => {
                failed = Some(Error::General("early data was not asked for".to_owned()));
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                append_encoded(outgoing, |buffer| data.encode(buffer))?;
            }
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                received.closed = true;
                done = true;
            }
            Ok(_) => done = true,
            Err(error) => failed = Some(error),
        }
        received.consumed += discard;
        if let Some(error) = failed {
            drain_alert(engine, incoming.get_mut(received.consumed..).unwrap_or_default(), outgoing);
            return Err(error);
        }
        if done {
            return Ok(received);
        }
    }
}

/// After a failure the only thing left to say is the alert, which comes first if there is one. Asked for once:
/// the session must not be used any more afterwards.
fn drain_alert<E: Engine + ?Sized>(engine: &mut E, rest: &mut [u8], outgoing: &mut Vec<u8>) {
    if let Ok(ConnectionState::EncodeTlsData(mut data)) = engine.process(rest).state {
        // An alert that cannot be encoded is not sent.
        let _ = append_encoded(outgoing, |buffer| data.encode(buffer));
    }
}

fn append_encoded(
    outgoing: &mut Vec<u8>,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<(), Error> {
    let start = outgoing.len();
    let mut room = 1024;
    loop {
        outgoing.resize(start + room, 0);
        match encode(outgoing.get_mut(start..).unwrap_or_default()) {
            Ok(written) => {
                outgoing.truncate(start + written);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size }))
                if required_size > room =>
            {
                room = required_size;
            }
            Err(error) => {
                outgoing.truncate(start);
                return Err(Error::General(error.to_string()));
            }
        }
    }
}

enum Sent<'a> {
    Data(&'a [u8]),
    CloseNotify,
}

fn send<E: Engine + ?Sized>(
    engine: &mut E,
    sent: Sent<'_>,
    incoming: &mut [u8],
    outgoing: &mut Vec<u8>,
) -> Result<(), Error> {
    loop {
        let UnbufferedStatus { discard, state } = engine.process(incoming);
        debug_assert_eq!(discard, 0, "receive takes every complete record");
        match state? {
            ConnectionState::EncodeTlsData(mut data) => {
                append_encoded(outgoing, |buffer| data.encode(buffer))?
            }
            ConnectionState::TransmitTlsData(data) => data.done(),
            ConnectionState::WriteTraffic(mut traffic) => {
                return match sent {
                    Sent::Data(plain) => {
                        append_encrypted(outgoing, plain, |buffer| traffic.encrypt(plain, buffer))
                    }
                    Sent::CloseNotify => {
                        append_encrypted(outgoing, &[], |buffer| traffic.queue_close_notify(buffer))
                    }
                };
            }
            // The peer has ended its side: nothing more is said to it.
            ConnectionState::PeerClosed => {}
            _ => return Err(Error::HandshakeNotComplete),
        }
    }
}

fn append_encrypted(
    outgoing: &mut Vec<u8>,
    plain: &[u8],
    mut encrypt: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), Error> {
    let start = outgoing.len();
    let records = plain.len() / FRAGMENT_BYTES + 1;
    let mut room = plain.len() + records * RECORD_OVERHEAD_BYTES;
    loop {
        outgoing.resize(start + room, 0);
        match encrypt(outgoing.get_mut(start..).unwrap_or_default()) {
            Ok(written) => {
                outgoing.truncate(start + written);
                return Ok(());
            }
            Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size }))
                if required_size > room =>
            {
                room = required_size;
            }
            Err(error) => {
                outgoing.truncate(start);
                return Err(Error::General(error.to_string()));
            }
        }
    }
}
