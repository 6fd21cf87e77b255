//! The URLs of the configuration: `nats://user:password@host:port`, as routes are written.

use std::fmt;

/// A server's address with its optional credentials.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Url {
    /// `nats`, `nats-route`, `tls`; lower case.
    pub scheme: String,
    pub user: Option<String>,
    pub password: Option<String>,
    /// Without brackets when it is an IPv6 address.
    pub host: String,
    /// `None` when the URL names no port.
    pub port: Option<u16>,
}

impl Url {
    /// Parses `scheme://[user[:password]@]host[:port][/]`. `None` when it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_once("://")?;
        let scheme_ok = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if !scheme_ok {
            return None;
        }
        let (credentials, address) = match authority.rsplit_once('@') {
            Some((credentials, address)) => (Some(credentials), address),
            None => (None, authority),
        };
        let (user, password) = match credentials.map(|c| c.split_once(':').unwrap_or((c, ""))) {
            Some((user, password)) => {
                let has_password = credentials.is_some_and(|c| c.contains(':'));
                (Some(decode(user)?), has_password.then(|| decode(password)).flatten())
            }
            None => (None, None),
        };
        let (host, port) = split_host_port(address)?;
        Some(Self { scheme: scheme.to_ascii_lowercase(), user, password, host, port })
    }

    /// `host:port`, with brackets around an IPv6 address.
    pub fn authority(&self, default_port: u16) -> String {
        join_host_port(&self.host, self.port.unwrap_or(default_port))
    }
}

impl fmt::Display for Url {
    /// Without the credentials: URLs are logged and shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme)?;
        match self.port {
            Some(port) => f.write_str(&join_host_port(&self.host, port)),
            None => f.write_str(&self.host),
        }
    }
}

/// `host:port`, with brackets around an IPv6 address.
pub(crate) fn join_host_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn split_host_port(address: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            let port = match after.strip_prefix(':') {
                Some(port) => Some(port),
                None if after.is_empty() => None,
                None => return None,
            };
            (host, port)
        }
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    let port = match port {
        None | Some("") => None,
        Some(digits) => Some(digits.parse().ok()?),
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

/// Decodes `%XX`.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}
