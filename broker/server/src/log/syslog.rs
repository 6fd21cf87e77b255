//! Lines to a syslog, in the form Go's `log/syslog` writes: the machine's own, or one by UDP or TCP.

use std::{
    io::{self, Write as _},
    net::{TcpStream, ToSocketAddrs as _, UdpSocket},
    os::unix::net::{UnixDatagram, UnixStream},
    time::Duration,
};

use time::OffsetDateTime;

/// A syslog that does not answer must not stop the server for longer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the machine's syslog listens.
const LOCAL_PATHS: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];

const FACILITY_DAEMON: u8 = 3 << 3;

/// Which syslog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SyslogTarget {
    Local,
    /// `udp://host:port`, `tcp://host:port` or `unix:///path`.
    Remote(String),
}

/// A connection to it.
pub(super) struct Syslog {
    target: SyslogTarget,
    tag: String,
    host: String,
    pid: u32,
    connection: Option<Connection>,
}

enum Connection {
    Datagram(UnixDatagram),
    Stream(UnixStream),
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Syslog {
    /// Connects; the error is nats-server's.
    pub(super) fn open(target: SyslogTarget, tag: &str) -> Result<Self, String> {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let mut syslog =
            Self { target, tag: tag.to_owned(), host, pid: std::process::id(), connection: None };
        syslog.check_scheme()?;
        syslog.connect().map_err(|error| {
            let reason = match syslog.target {
                SyslogTarget::Local => "Unix syslog delivery error".to_owned(),
                SyslogTarget::Remote(_) => crate::io_reason(&error),
            };
            format!("error connecting to syslog: {reason:?}")
        })?;
        Ok(syslog)
    }

    pub(super) fn target(&self) -> &SyslogTarget {
        &self.target
    }

    fn check_scheme(&self) -> Result<(), String> {
        let SyslogTarget::Remote(address) = &self.target else { return Ok(()) };
        let scheme = address.split_once(':').map_or("", |(scheme, _)| scheme);
        match scheme {
            "udp" | "tcp" | "unix" => Ok(()),
            other => Err(format!("error invalid network type: {other:?}")),
        }
    }

    fn connect(&mut self) -> io::Result<()> {
        self.connection = None;
        let connection = match &self.target {
            SyslogTarget::Local => local()?,
            SyslogTarget::Remote(address) => remote(address)?,
        };
        self.connection = Some(connection);
        Ok(())
    }

    /// Writes a line; tries once more over a new connection, and gives up then.
    pub(super) fn write(&mut self, level: &str, text: &str, now: OffsetDateTime) {
        let line = self.line(level, text, now);
        let written = match &mut self.connection {
            Some(connection) => connection.send(line.as_bytes()),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        if written.is_ok() || self.connect().is_err() {
            return;
        }
        if let Some(connection) = &mut self.connection {
            let _ = connection.send(line.as_bytes());
        }
    }

    fn line(&self, level: &str, text: &str, now: OffsetDateTime) -> String {
        let facility = match self.target {
            SyslogTarget::Local => FACILITY_DAEMON,
            SyslogTarget::Remote(_) => 0,
        };
        let (priority, tag, pid) = (facility | severity(level), &self.tag, self.pid);
        let is_local = match &self.target {
            SyslogTarget::Local => true,
            SyslogTarget::Remote(address) => address.starts_with("unix:"),
        };
        if is_local {
            return format!("<{priority}>{} {tag}[{pid}]: {text}\n", short_stamp(now));
        }
        format!("<{priority}>{} {} {tag}[{pid}]: {text}\n", long_stamp(now), self.host)
    }
}

fn severity(level: &str) -> u8 {
    match level {
        "FTL" => 2,
        "ERR" => 3,
        "WRN" => 4,
        "DBG" => 7,
        // Notices, and traces too.
        _ => 5,
    }
}

/// `Jan  2 15:04:05`
fn short_stamp(now: OffsetDateTime) -> String {
    let month = &now.month().to_string()[..3];
    let (hour, minute, second) = now.to_hms();
    format!("{month} {:>2} {hour:02}:{minute:02}:{second:02}", now.day())
}

/// RFC 3339 to the second.
fn long_stamp(now: OffsetDateTime) -> String {
    let (hour, minute, second) = now.to_hms();
    let (year, month, day) = (now.year(), u8::from(now.month()), now.day());
    let offset = now.offset();
    let zone = if offset.is_utc() {
        "Z".to_owned()
    } else {
        let sign = if offset.is_negative() { '-' } else { '+' };
        let (hours, minutes, _) = offset.as_hms();
        format!("{sign}{:02}:{:02}", hours.unsigned_abs(), minutes.unsigned_abs())
    };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{zone}")
}

fn local() -> io::Result<Connection> {
    for path in LOCAL_PATHS {
        let socket = UnixDatagram::unbound()?;
        if socket.connect(path).is_ok() {
            socket.set_write_timeout(Some(WRITE_TIMEOUT))?;
            return Ok(Connection::Datagram(socket));
        }
        if let Ok(stream) = UnixStream::connect(path) {
            stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
            return Ok(Connection::Stream(stream));
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

fn remote(address: &str) -> io::Result<Connection> {
    let (scheme, rest) = address.split_once("://").ok_or(io::ErrorKind::InvalidInput)?;
    if scheme == "unix" {
        let stream = UnixStream::connect(rest)?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        return Ok(Connection::Stream(stream));
    }
    let place = rest.split('/').next().unwrap_or_default();
    let target = place.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
    if scheme == "tcp" {
        let stream = TcpStream::connect_timeout(&target, CONNECT_TIMEOUT)?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        return Ok(Connection::Tcp(stream));
    }
    let any = if target.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(target)?;
    socket.set_write_timeout(Some(WRITE_TIMEOUT))?;
    Ok(Connection::Udp(socket))
}

impl Connection {
    fn send(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Self::Datagram(socket) => socket.send(line).map(|_| ()),
            Self::Udp(socket) => socket.send(line).map(|_| ()),
            Self::Stream(stream) => stream.write_all(line),
            Self::Tcp(stream) => stream.write_all(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_arrives_in_the_form_of_go() {
        let server = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        server.set_read_timeout(Some(Duration::from_secs(5))).expect("a deadline");
        let address = format!("udp://{}", server.local_addr().expect("an address"));
        let mut syslog = Syslog::open(SyslogTarget::Remote(address), "weir").expect("connected");
        let now = OffsetDateTime::from_unix_timestamp(1_700_000_000).expect("a time");
        syslog.write("WRN", "hello", now);
        let mut buffer = [0; 200];
        let length = server.recv(&mut buffer).expect("a line");
        let line = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let (pid, host) = (std::process::id(), syslog.host.clone());
        assert_eq!(line, format!("<4>2023-11-14T22:13:20Z {host} weir[{pid}]: hello\n"));
    }

    #[test]
    fn only_known_networks_are_dialled() {
        let target = SyslogTarget::Remote("http://127.0.0.1:1".to_owned());
        let refused = Syslog::open(target, "weir").err();
        assert_eq!(refused.as_deref(), Some("error invalid network type: \"http\""));
    }

    #[test]
    fn the_stamp_of_the_machines_own_syslog_is_short() {
        let now = OffsetDateTime::from_unix_timestamp(1_699_200_000).expect("a time");
        assert_eq!(short_stamp(now), "Nov  5 16:00:00");
    }
}
