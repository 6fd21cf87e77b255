//! The header of the PROXY protocol, versions 1 and 2, that a load balancer puts in front of a connection.
//! Not who may send one.

use crate::transport::Transport;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// How long the header may take, as in nats-server: twice its 5 s, since it looks twice.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How soon to look again for the rest of the first bytes.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
const V1_PREFIX: &[u8; 6] = b"PROXY ";
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1 with its end.
const V1_MAX_LINE_BYTES: usize = 107;
const V2_FIXED_BYTES: usize = 16;

/// What was in front of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fronted {
    /// No header; nothing was taken from the connection.
    Absent,
    /// A header that names no client (a health check).
    Local,
    /// The client's address.
    Client(SocketAddr),
}

/// Why a header is none, in nats-server's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ProxyError(String);

fn invalid(what: &str) -> ProxyError {
    ProxyError(format!("invalid PROXY protocol header: {what}"))
}

impl Transport {
    /// Takes the header off, and nothing behind it.
    pub async fn read_proxy_header(&self) -> Result<Fronted, ProxyError> {
        match tokio::time::timeout(TIMEOUT, self.read_proxy_header_untimed()).await {
            Ok(read) => read,
            Err(_) => Err(ProxyError("failed to read protocol version: i/o timeout".to_owned())),
        }
    }

    async fn read_proxy_header_untimed(&self) -> Result<Fronted, ProxyError> {
        let mut first = [0; 6];
        loop {
            let count = self.peek(&mut first).await.map_err(|error| failed("protocol version", &error))?;
            let seen = first.get(..count).unwrap_or_default();
            if count == 0 {
                return Err(ProxyError("failed to read protocol version: EOF".to_owned()));
            }
            if !V1_PREFIX.starts_with(seen) && !V2_SIGNATURE.starts_with(seen) {
                return Ok(Fronted::Absent);
            }
            if count == first.len() {
                break;
            }
            // Peeking again at once would find the same bytes.
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        if &first == V1_PREFIX { self.read_version_1().await } else { self.read_version_2().await }
    }

    async fn read_version_1(&self) -> Result<Fronted, ProxyError> {
        let mut line: Vec<u8> = Vec::with_capacity(V1_MAX_LINE_BYTES);
        while line.len() < V1_MAX_LINE_BYTES {
            let mut seen = [0; V1_MAX_LINE_BYTES];
            let room = V1_MAX_LINE_BYTES - line.len();
            let count = self
                .peek(seen.get_mut(..room).unwrap_or_default())
                .await
                .map_err(|error| failed("v1 line", &error))?;
            if count == 0 {
                return Err(ProxyError("failed to read v1 line: EOF".to_owned()));
            }
            let before = line.len();
            line.extend_from_slice(seen.get(..count).unwrap_or_default());
            let end = line.windows(2).position(|pair| pair == b"\r\n");
            let taken = end.map_or(count, |end| end + 2 - before);
            self.take(taken).await.map_err(|error| failed("v1 line", &error))?;
            if let Some(end) = end {
                line.truncate(end);
                return parse_version_1(&line);
            }
        }
        Err(invalid("v1 line too long"))
    }

    async fn read_version_2(&self) -> Result<Fronted, ProxyError> {
        let fixed = self.take(V2_FIXED_BYTES).await.map_err(|error| failed("v2 header", &error))?;
        let Some((command, family, length)) = parse_version_2(&fixed)? else {
            let length =
                fixed.get(14..16).map_or(0, |bytes| usize::from(bytes[0]) << 8 | usize::from(bytes[1]));
            self.take(length).await.map_err(|error| failed("address data", &error))?;
            return Ok(Fronted::Local);
        };
        debug_assert_eq!(command, 1);
        let needed = if family == 0x10 { 12 } else { 36 };
        if length < needed {
            return Err(too_short(family, length));
        }
        let data = self.take(length).await.map_err(|error| failed("address data", &error))?;
        client_of(family, &data).map(Fronted::Client).ok_or_else(|| invalid("address"))
    }

    /// Takes exactly `count` bytes, at most 64 KiB; the first hundred are returned.
    async fn take(&self, count: usize) -> io::Result<Vec<u8>> {
        let mut kept = Vec::new();
        let mut left = count;
        let mut buffer = [0; 256];
        while left > 0 {
            self.ready(tokio::io::Interest::READABLE).await?;
            let room = left.min(buffer.len());
            match self.try_read(buffer.get_mut(..room).unwrap_or_default()) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    let wanted = read.min(100usize.saturating_sub(kept.len()));
                    kept.extend_from_slice(buffer.get(..wanted).unwrap_or_default());
                    left -= read;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(kept)
    }
}

fn failed(what: &str, error: &io::Error) -> ProxyError {
    let reason = match error.kind() {
        io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        _ => error.to_string(),
    };
    ProxyError(format!("failed to read {what}: {reason}"))
}

/// Parses what is in front of a connection: what it is and how long; `None` when more bytes have to come.
pub fn parse_proxy_header(bytes: &[u8]) -> Result<Option<(Fronted, usize)>, ProxyError> {
    let begins_like = |signature: &[u8]| signature.starts_with(bytes) || bytes.starts_with(signature);
    if begins_like(V1_PREFIX) && bytes.len() >= V1_PREFIX.len() {
        let line = bytes.get(..bytes.len().min(V1_MAX_LINE_BYTES)).unwrap_or_default();
        return match line.windows(2).position(|pair| pair == b"\r\n") {
            Some(end) => {
                let line = line.get(..end).unwrap_or_default();
                parse_version_1(line).map(|fronted| Some((fronted, end + 2)))
            }
            None if line.len() == V1_MAX_LINE_BYTES => Err(invalid("v1 line too long")),
            None => Ok(None),
        };
    }
    let first = bytes.get(..bytes.len().min(V1_PREFIX.len())).unwrap_or_default();
    if !V2_SIGNATURE.starts_with(first) && !V1_PREFIX.starts_with(first) {
        return Ok(Some((Fronted::Absent, 0)));
    }
    let Some(fixed) = bytes.get(..V2_FIXED_BYTES) else { return Ok(None) };
    let named = parse_version_2(fixed)?;
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let Some(data) = bytes.get(V2_FIXED_BYTES..V2_FIXED_BYTES + length) else { return Ok(None) };
    let fronted = match named {
        None => Fronted::Local,
        Some((_, family, _)) => {
            Fronted::Client(client_of(family, data).ok_or_else(|| too_short(family, length))?)
        }
    };
    Ok(Some((fronted, V2_FIXED_BYTES + length)))
}

fn too_short(family: u8, length: usize) -> ProxyError {
    let name = if family == 0x10 { "IPv4" } else { "IPv6" };
    ProxyError(format!("{name} address data too short: {length} bytes"))
}

/// Reads a line of version 1 without its end.
fn parse_version_1(line: &[u8]) -> Result<Fronted, ProxyError> {
    let text = std::str::from_utf8(line).map_err(|_| invalid("invalid v1 format"))?;
    let parts: Vec<&str> = text.split_whitespace().skip(1).collect();
    let (protocol, source, target, source_port, target_port) = match parts.as_slice() {
        ["UNKNOWN", ..] => return Ok(Fronted::Local),
        [protocol, source, target, source_port, target_port] => {
            (*protocol, *source, *target, *source_port, *target_port)
        }
        _ => return Err(invalid("invalid v1 format")),
    };
    let (Ok(ip), Ok(_)) = (source.parse::<IpAddr>(), target.parse::<IpAddr>()) else {
        return Err(invalid("invalid address"));
    };
    let port = |name: &str, text: &str| text.parse::<u16>().map_err(|_| port_error(name, text));
    let port_number = port("source", source_port)?;
    port("dest", target_port)?;
    let is_v6 = [source, target].map(|text| text.contains(':'));
    match (protocol, is_v6) {
        ("TCP4", [false, false]) | ("TCP6", [true, true]) => {
            Ok(Fronted::Client(SocketAddr::new(ip.to_canonical(), port_number)))
        }
        ("TCP4", _) => Err(invalid("TCP4 with IPv6 address")),
        ("TCP6", _) => Err(invalid("TCP6 with IPv4 address")),
        _ => Err(invalid(&format!("invalid protocol {protocol}"))),
    }
}

/// A port that is none, in the words of Go.
fn port_error(name: &str, text: &str) -> ProxyError {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let reason = if is_number { "value out of range" } else { "invalid syntax" };
    ProxyError(format!("invalid {name} port: strconv.ParseUint: parsing {text:?}: {reason}"))
}

/// Reads the fixed part of version 2: command, family and length; `None` when it names no client.
fn parse_version_2(fixed: &[u8]) -> Result<Option<(u8, u8, usize)>, ProxyError> {
    let &[ref signature @ .., command, family, high, low] = fixed else {
        return Err(invalid("invalid signature"));
    };
    if signature != V2_SIGNATURE {
        return Err(invalid("invalid signature"));
    }
    let version = command & 0xF0;
    if version != 0x20 {
        return Err(invalid(&format!("invalid version 0x{version:02x}")));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    let command = command & 0x0F;
    match command {
        0 => return Ok(None),
        1 => {}
        other => return Err(ProxyError(format!("unknown PROXY protocol command: 0x{other:02x}"))),
    }
    let unsupported = |what: &str| ProxyError(format!("unsupported PROXY protocol feature: {what}"));
    if family & 0x0F != 1 {
        return Err(unsupported("only STREAM protocol supported"));
    }
    match family & 0xF0 {
        0 => Ok(None),
        family @ (0x10 | 0x20) => Ok(Some((command, family, length))),
        other => Err(unsupported(&format!("unsupported address family 0x{other:02x}"))),
    }
}

fn client_of(family: u8, data: &[u8]) -> Option<SocketAddr> {
    if family == 0x10 {
        let ip: [u8; 4] = data.get(..4)?.try_into().ok()?;
        let port: [u8; 2] = data.get(8..10)?.try_into().ok()?;
        return Some(SocketAddr::new(Ipv4Addr::from(ip).into(), u16::from_be_bytes(port)));
    }
    let ip: [u8; 16] = data.get(..16)?.try_into().ok()?;
    let port: [u8; 2] = data.get(32..34)?.try_into().ok()?;
    Some(SocketAddr::new(IpAddr::from(Ipv6Addr::from(ip)).to_canonical(), u16::from_be_bytes(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version_1(line: &str) -> Result<Fronted, String> {
        parse_version_1(line.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_line_of_version_1_names_the_client() {
        let client = |text: &str| Ok(Fronted::Client(text.parse().expect("an address")));
        assert_eq!(version_1("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443"), client("192.0.2.1:56324"));
        assert_eq!(version_1("PROXY TCP6 2001:db8::1 2001:db8::2 1 2"), client("[2001:db8::1]:1"));
        assert_eq!(version_1("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 2"), client("192.0.2.1:1"));
        assert_eq!(version_1("PROXY UNKNOWN"), Ok(Fronted::Local));
    }

    #[test]
    fn a_bad_line_of_version_1_is_refused_in_the_words_of_nats_server() {
        let cases = [
            ("PROXY ", "invalid PROXY protocol header: invalid v1 format"),
            ("PROXY TCP4 1.2.3.4 5.6.7.8 1", "invalid PROXY protocol header: invalid v1 format"),
            ("PROXY TCP4 1.2.3 5.6.7.8 1 2", "invalid PROXY protocol header: invalid address"),
            ("PROXY TCP4 ::1 5.6.7.8 1 2", "invalid PROXY protocol header: TCP4 with IPv6 address"),
            ("PROXY TCP6 1.1.1.1 ::1 1 2", "invalid PROXY protocol header: TCP6 with IPv4 address"),
            ("PROXY UDP4 1.1.1.1 1.1.1.1 1 2", "invalid PROXY protocol header: invalid protocol UDP4"),
            (
                "PROXY TCP4 1.1.1.1 1.1.1.1 65536 2",
                "invalid source port: strconv.ParseUint: parsing \"65536\": value out of range",
            ),
            (
                "PROXY TCP4 1.1.1.1 1.1.1.1 1 x",
                "invalid dest port: strconv.ParseUint: parsing \"x\": invalid syntax",
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(version_1(line), Err(expected.to_owned()), "{line}");
        }
    }

    #[test]
    fn a_header_may_come_in_pieces_and_has_an_end() {
        let whole = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nCONNECT {}\r\n";
        let end = 42;
        for count in 0..end {
            assert_eq!(parse_proxy_header(&whole[..count]), Ok(None), "{count}");
        }
        let client = Fronted::Client("192.0.2.1:56324".parse().expect("an address"));
        assert_eq!(parse_proxy_header(whole), Ok(Some((client, end))));
        assert_eq!(parse_proxy_header(b"CONNECT {}\r\n"), Ok(Some((Fronted::Absent, 0))));
        let mut second = V2_SIGNATURE.to_vec();
        second.extend([0x21, 0x11, 0, 13, 1, 2, 3, 4, 5, 6, 7, 8, 0, 9, 0, 8, 99, b'P']);
        for count in 0..second.len() - 1 {
            assert_eq!(parse_proxy_header(&second[..count]), Ok(None), "{count}");
        }
        let client = Fronted::Client("1.2.3.4:9".parse().expect("an address"));
        assert_eq!(parse_proxy_header(&second), Ok(Some((client, second.len() - 1))));
    }

    #[test]
    fn a_header_of_version_2_says_what_follows() {
        let header = |command: u8, family: u8, length: u16| {
            let mut header = V2_SIGNATURE.to_vec();
            header.extend([command, family]);
            header.extend(length.to_be_bytes());
            parse_version_2(&header).map_err(|error| error.to_string())
        };
        assert_eq!(header(0x21, 0x11, 12), Ok(Some((1, 0x10, 12))));
        assert_eq!(header(0x20, 0x00, 0), Ok(None));
        assert_eq!(header(0x11, 0x11, 12), Err("invalid PROXY protocol header: invalid version 0x10".into()));
        assert_eq!(header(0x22, 0x11, 12), Err("unknown PROXY protocol command: 0x02".into()));
        assert_eq!(
            header(0x21, 0x12, 12),
            Err("unsupported PROXY protocol feature: only STREAM protocol supported".into())
        );
        assert_eq!(
            header(0x21, 0x31, 12),
            Err("unsupported PROXY protocol feature: unsupported address family 0x30".into())
        );
        let data = [192, 0, 2, 1, 1, 2, 3, 4, 0x10, 0, 0, 1];
        assert_eq!(client_of(0x10, &data), Some("192.0.2.1:4096".parse().expect("an address")));
        assert_eq!(client_of(0x20, &data), None);
    }
}
