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
        let mut reader = ProxyReader::default();
        let mut seen = [0; 128];
        loop {
            let awaited = reader.awaits();
            let failed = |reason: String| ProxyError(format!("failed to read {awaited}: {reason}"));
            let count = self.peek(&mut seen).await.map_err(|error| failed(error.to_string()))?;
            if count == 0 {
                return Err(failed("EOF".to_owned()));
            }
            let step = reader.look(seen.get(..count).unwrap_or_default())?;
            self.take(step.taken).await.map_err(|error| failed(error.to_string()))?;
            if let Some(fronted) = step.fronted {
                return Ok(fronted);
            }
            if step.taken == 0 {
                // Peeking again at once would find the same bytes.
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    }

    /// Takes exactly `count` bytes that were seen.
    async fn take(&self, count: usize) -> io::Result<()> {
        let mut left = count;
        let mut buffer = [0; 128];
        while left > 0 {
            self.ready(tokio::io::Interest::READABLE).await?;
            let room = left.min(buffer.len());
            match self.try_read(buffer.get_mut(..room).unwrap_or_default()) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => left -= read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Reads a header that comes in pieces of any size, and nothing behind it. Sans-io; holds at most a line.
#[derive(Debug, Default)]
pub struct ProxyReader {
    state: ReaderState,
    /// What was taken and still matters.
    kept: Vec<u8>,
}

#[derive(Debug, Default)]
enum ReaderState {
    #[default]
    Version,
    Line,
    Fixed,
    /// So many bytes are left, and this is their family; none for a header that names no client.
    Addresses(Option<u8>, usize),
}

/// What a look at the next bytes of a connection has led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyStep {
    /// So many of them belong to the header and have to be taken off; 0: look again when there are more.
    pub taken: usize,
    /// What the header says, once all of it was taken.
    pub fronted: Option<Fronted>,
}

impl ProxyStep {
    const WAIT: Self = Self { taken: 0, fronted: None };
}

impl ProxyReader {
    /// Looks at the bytes behind those that were taken.
    pub fn look(&mut self, seen: &[u8]) -> Result<ProxyStep, ProxyError> {
        match self.state {
            ReaderState::Version => self.look_for_version(seen),
            ReaderState::Line => self.look_for_line_end(seen),
            ReaderState::Fixed => self.look_for_fixed(seen),
            ReaderState::Addresses(family, left) => self.look_for_addresses(seen, family, left),
        }
    }

    /// What comes next, as nats-server calls it.
    fn awaits(&self) -> &'static str {
        match self.state {
            ReaderState::Version => "protocol version",
            ReaderState::Line => "v1 line",
            ReaderState::Fixed => "v2 header",
            ReaderState::Addresses(..) => "address data",
        }
    }

    fn look_for_version(&mut self, seen: &[u8]) -> Result<ProxyStep, ProxyError> {
        let first = seen.get(..seen.len().min(V1_PREFIX.len())).unwrap_or_default();
        let is_whole = first.len() == V1_PREFIX.len();
        if V1_PREFIX.starts_with(first) && is_whole {
            self.state = ReaderState::Line;
            return self.look(seen);
        }
        if V2_SIGNATURE.starts_with(first) && is_whole {
            self.state = ReaderState::Fixed;
            return self.look(seen);
        }
        if V1_PREFIX.starts_with(first) || V2_SIGNATURE.starts_with(first) {
            return Ok(ProxyStep::WAIT);
        }
        Ok(ProxyStep { taken: 0, fronted: Some(Fronted::Absent) })
    }

    fn look_for_line_end(&mut self, seen: &[u8]) -> Result<ProxyStep, ProxyError> {
        let before = self.kept.len();
        let room = V1_MAX_LINE_BYTES - before;
        self.kept.extend_from_slice(seen.get(..room.min(seen.len())).unwrap_or_default());
        let Some(end) = self.kept.windows(2).position(|pair| pair == b"\r\n") else {
            if self.kept.len() == V1_MAX_LINE_BYTES {
                return Err(invalid("v1 line too long"));
            }
            return Ok(ProxyStep { taken: self.kept.len() - before, fronted: None });
        };
        let fronted = parse_version_1(self.kept.get(..end).unwrap_or_default())?;
        Ok(ProxyStep { taken: end + 2 - before, fronted: Some(fronted) })
    }

    /// Takes bytes until `wanted` are kept; how many.
    fn keep(&mut self, seen: &[u8], wanted: usize) -> usize {
        let taken = wanted.saturating_sub(self.kept.len()).min(seen.len());
        self.kept.extend_from_slice(seen.get(..taken).unwrap_or_default());
        taken
    }

    fn look_for_fixed(&mut self, seen: &[u8]) -> Result<ProxyStep, ProxyError> {
        let taken = self.keep(seen, V2_FIXED_BYTES);
        if self.kept.len() < V2_FIXED_BYTES {
            return Ok(ProxyStep { taken, fronted: None });
        }
        let fixed = std::mem::take(&mut self.kept);
        let length = fixed.get(14..16).map_or(0, |bytes| usize::from(bytes[0]) << 8 | usize::from(bytes[1]));
        let family = parse_version_2(&fixed)?;
        if let Some(family) = family
            && length < address_bytes(family)
        {
            let name = if family == 0x10 { "IPv4" } else { "IPv6" };
            return Err(ProxyError(format!("{name} address data too short: {length} bytes")));
        }
        if length == 0 {
            return Ok(ProxyStep { taken, fronted: Some(Fronted::Local) });
        }
        self.state = ReaderState::Addresses(family, length);
        Ok(ProxyStep { taken, fronted: None })
    }

    fn look_for_addresses(
        &mut self,
        seen: &[u8],
        family: Option<u8>,
        left: usize,
    ) -> Result<ProxyStep, ProxyError> {
        let taken = left.min(seen.len());
        self.keep(seen.get(..taken).unwrap_or_default(), family.map_or(0, address_bytes));
        self.state = ReaderState::Addresses(family, left - taken);
        if taken < left {
            return Ok(ProxyStep { taken, fronted: None });
        }
        let fronted = match family {
            None => Fronted::Local,
            Some(family) => {
                client_of(family, &self.kept).map(Fronted::Client).ok_or_else(|| invalid("address"))?
            }
        };
        Ok(ProxyStep { taken, fronted: Some(fronted) })
    }
}

/// How many bytes the addresses and ports of a family take.
fn address_bytes(family: u8) -> usize {
    if family == 0x10 { 12 } else { 36 }
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

/// Reads the fixed part of version 2: the family of the addresses; `None` when it names no client.
fn parse_version_2(fixed: &[u8]) -> Result<Option<u8>, ProxyError> {
    let &[ref signature @ .., command, family, _, _] = fixed else {
        return Err(invalid("invalid signature"));
    };
    if signature != V2_SIGNATURE {
        return Err(invalid("invalid signature"));
    }
    let version = command & 0xF0;
    if version != 0x20 {
        return Err(invalid(&format!("invalid version 0x{version:02x}")));
    }
    match command & 0x0F {
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
        family @ (0x10 | 0x20) => Ok(Some(family)),
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

    /// The header in front of `stream`, of which one more piece is there at each look; and how long it was.
    fn read(stream: &[u8], piece: usize) -> Result<Option<(Fronted, usize)>, ProxyError> {
        let mut reader = ProxyReader::default();
        let (mut taken, mut there) = (0, 0);
        while there < stream.len() {
            there = (there + piece).min(stream.len());
            while taken < there {
                let step = reader.look(&stream[taken..there])?;
                taken += step.taken;
                if let Some(fronted) = step.fronted {
                    return Ok(Some((fronted, taken)));
                }
                if step.taken == 0 {
                    break;
                }
            }
        }
        Ok(None)
    }

    #[test]
    fn a_header_may_come_in_pieces_and_has_an_end() {
        let client = |text: &str| Fronted::Client(text.parse().expect("an address"));
        let first = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nCONNECT {}\r\n";
        let mut second = V2_SIGNATURE.to_vec();
        second.extend([0x21, 0x11, 0, 13, 1, 2, 3, 4, 5, 6, 7, 8, 0, 9, 0, 8, 99, b'P']);
        let mut local = V2_SIGNATURE.to_vec();
        local.extend([0x20, 0, 0, 0]);
        for piece in [1, 2, 5, 11, 100] {
            assert_eq!(read(first, piece), Ok(Some((client("192.0.2.1:56324"), 42))), "{piece}");
            assert_eq!(read(&second, piece), Ok(Some((client("1.2.3.4:9"), second.len() - 1))), "{piece}");
            assert_eq!(read(&local, piece), Ok(Some((Fronted::Local, local.len()))), "{piece}");
            assert_eq!(read(b"CONNECT {}\r\n", piece), Ok(Some((Fronted::Absent, 0))), "{piece}");
            assert_eq!(read(b"PROXIES", piece), Ok(Some((Fronted::Absent, 0))), "{piece}");
            assert_eq!(
                read(&[b"PROXY ".as_slice(), &[b'x'; 101]].concat(), piece),
                Err(invalid("v1 line too long"))
            );
        }
        for count in 0..42 {
            assert_eq!(read(&first[..count], 1), Ok(None), "{count}");
        }
        second[15] = 11;
        let refused = read(&second, 1).map_err(|error| error.to_string());
        assert_eq!(refused, Err("IPv4 address data too short: 11 bytes".to_owned()));
    }

    #[test]
    fn a_header_of_version_2_says_what_follows() {
        let header = |command: u8, family: u8, length: u16| {
            let mut header = V2_SIGNATURE.to_vec();
            header.extend([command, family]);
            header.extend(length.to_be_bytes());
            parse_version_2(&header).map_err(|error| error.to_string())
        };
        assert_eq!(header(0x21, 0x11, 12), Ok(Some(0x10)));
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
