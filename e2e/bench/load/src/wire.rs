//! One connection to the server: TCP, TLS or WebSocket, up to the answered handshake.
//! Not what is sent over it.

use crate::Outcome;
use crate::plan::Transport;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

const CONNECT: &[u8] = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"load\",\"version\":\"0\",\"headers\":true,\"no_responders\":true,\"tls_required\":TLS}\r\nPING\r\n";
const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: HOST\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
/// A frame's opcode "binary", final.
const BINARY: u8 = 0x82;
const MASKED: u8 = 0x80;
/// The most bytes read of a WebSocket before frames are taken apart.
const RAW_BYTES: usize = 16 * 1024;

/// A connection.
pub(crate) enum Wire {
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    WebSocket(Box<WebSocket>),
}

/// A WebSocket client: frames out masked, frames in without.
pub(crate) struct WebSocket {
    stream: TcpStream,
    /// Payload bytes left of the frame that is being read.
    left: usize,
    /// What has come and is not taken: `raw[start..end]`.
    raw: Vec<u8>,
    start: usize,
    end: usize,
    /// The frame on its way out, kept for its allocation.
    out: Vec<u8>,
    mask: u32,
}

impl Wire {
    /// Connects and goes through the handshake; `address` is HOST:PORT.
    pub(crate) fn connect(address: &str, transport: Transport) -> Outcome<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut wire = match transport {
            Transport::Tcp => Self::Tcp(stream),
            Transport::Tls => Self::Tls(Box::new(start_tls(stream)?)),
            Transport::WebSocket => Self::WebSocket(Box::new(WebSocket::upgrade(stream, address)?)),
        };
        let connect = String::from_utf8_lossy(CONNECT)
            .replace("TLS", if transport == Transport::Tls { "true" } else { "false" });
        wire.write_all(connect.as_bytes())?;
        wire.await_pong()?;
        Ok(wire)
    }

    /// Reads up to a PONG; for a connection on which nothing else is under way.
    pub(crate) fn await_pong(&mut self) -> Outcome<()> {
        let mut seen = Vec::new();
        let mut buffer = [0; 4096];
        while !seen.windows(6).any(|bytes| bytes == b"PONG\r\n") {
            let read = self.read(&mut buffer)?;
            if read == 0 {
                return Err("the server closed the connection".into());
            }
            seen.extend_from_slice(&buffer[..read]);
            if seen.starts_with(b"-ERR") || seen.windows(6).any(|part| part == b"\r\n-ERR") {
                return Err(String::from_utf8_lossy(&seen).into());
            }
        }
        Ok(())
    }

    /// Sends protocol lines and waits until the server has taken them.
    pub(crate) fn confirm(&mut self, lines: &str) -> Outcome<()> {
        self.write_all(format!("{lines}PING\r\n").as_bytes())?;
        self.await_pong()
    }

    /// The socket, for a second handle on a plain connection.
    pub(crate) fn tcp(&self) -> Outcome<TcpStream> {
        match self {
            Self::Tcp(stream) => Ok(stream.try_clone()?),
            Self::Tls(_) | Self::WebSocket(_) => Err("only a plain connection can be shared".into()),
        }
    }
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into),
            Self::Tls(tls) => tls.read(into),
            Self::WebSocket(web) => web.read(into),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
            Self::WebSocket(web) => web.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(_) | Self::WebSocket(_) => Ok(()),
            Self::Tls(tls) => tls.flush(),
        }
    }
}

impl WebSocket {
    fn upgrade(mut stream: TcpStream, address: &str) -> Outcome<Self> {
        stream.write_all(UPGRADE.replace("HOST", address).as_bytes())?;
        let mut answer = Vec::new();
        // Byte by byte: what follows the answer is the first frame.
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            answer.push(byte[0]);
        }
        if !answer.starts_with(b"HTTP/1.1 101") {
            return Err(String::from_utf8_lossy(&answer).into());
        }
        Ok(Self {
            stream,
            left: 0,
            raw: vec![0; RAW_BYTES],
            start: 0,
            end: 0,
            out: Vec::new(),
            mask: 0x9E37_79B9,
        })
    }

    /// The head of the next frame, when all of it has come.
    fn take_head(&mut self) -> io::Result<bool> {
        let raw = &self.raw[self.start..self.end];
        let (Some(first), Some(second)) = (raw.first(), raw.get(1)) else { return Ok(false) };
        if first & 0x0F > 2 || second & MASKED != 0 {
            return Err(io::Error::other(format!("an unexpected frame: {first:02x} {second:02x}")));
        }
        let extended = match second {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some(length) = raw.get(2..2 + extended) else { return Ok(false) };
        self.left = match length {
            [] => usize::from(*second),
            bytes => bytes.iter().fold(0, |value, byte| value << 8 | usize::from(*byte)),
        };
        self.start += 2 + extended;
        Ok(true)
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.left > 0 {
                let wanted = into.len().min(self.left);
                let read = if self.start == self.end {
                    self.stream.read(&mut into[..wanted])?
                } else {
                    let ready = wanted.min(self.end - self.start);
                    into[..ready].copy_from_slice(&self.raw[self.start..self.start + ready]);
                    self.start += ready;
                    ready
                };
                self.left -= read;
                return Ok(read);
            }
            if self.take_head()? {
                continue;
            }
            self.raw.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            let read = self.stream.read(&mut self.raw[self.end..])?;
            if read == 0 {
                return Ok(0);
            }
            self.end += read;
        }
    }

    /// One frame with all of `bytes`.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.clear();
        self.out.push(BINARY);
        match bytes.len() {
            // Both fit: they are compared first.
            length @ 0..126 => self.out.push(MASKED | length as u8),
            length @ 126..=0xFFFF => {
                self.out.push(MASKED | 126);
                self.out.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                self.out.push(MASKED | 127);
                self.out.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        self.mask = self.mask.wrapping_mul(0x0019_660D).wrapping_add(0x3C6E_F35F);
        let mask = self.mask.to_ne_bytes();
        self.out.extend_from_slice(&mask);
        let start = self.out.len();
        self.out.extend_from_slice(bytes);
        let wide =
            u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
        let mut chunks = self.out[start..].chunks_exact_mut(8);
        for chunk in &mut chunks {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            chunk.copy_from_slice(&(u64::from_ne_bytes(word) ^ wide).to_ne_bytes());
        }
        for (at, byte) in chunks.into_remainder().iter_mut().enumerate() {
            *byte ^= mask[at % 4];
        }
        self.stream.write_all(&self.out)?;
        Ok(bytes.len())
    }
}

fn start_tls(mut stream: TcpStream) -> Outcome<StreamOwned<ClientConnection, TcpStream>> {
    let mut info = Vec::new();
    while !info.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        info.push(byte[0]);
    }
    if !info.starts_with(b"INFO ") {
        return Err(String::from_utf8_lossy(&info).into());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(AnyCertificate(Arc::clone(&provider)));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost")?)?;
    Ok(StreamOwned::new(connection, stream))
}

/// Trusts anyone: the benchmark talks to its own server on loopback.
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
