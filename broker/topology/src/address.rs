//! URLs of routes: `nats://[user:password@]host:port`. Not name resolution.

use std::fmt;

/// Where a route leads.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RouteUrl {
    /// `nats`, `nats-route` or `tcp`: how it was written, without a meaning.
    pub scheme: String,
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The user to show there.
    pub user: Option<String>,
    /// The password to show there.
    pub password: Option<String>,
}

/// Why a text is no URL of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteUrlError {
    /// What is wrong.
    pub reason: &'static str,
}

impl fmt::Display for RouteUrlError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "not a route URL (nats://[user:password@]host:port): {}", self.reason)
    }
}

impl std::error::Error for RouteUrlError {}

impl fmt::Display for RouteUrl {
    /// Without credentials.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://{}", self.scheme, self.authority())
    }
}

impl fmt::Debug for RouteUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl RouteUrl {
    /// Reads a URL; the scheme may be `nats`, `nats-route`, `tcp` or absent, a path is ignored.
    pub fn parse(text: &str) -> Result<Self, RouteUrlError> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme @ ("nats" | "nats-route" | "tcp"), rest)) => (scheme, rest),
            Some(_) => return Err(RouteUrlError { reason: "the scheme is not nats or nats-route" }),
            None => ("nats-route", text),
        };
        let rest = rest.split(['/', '?']).next().unwrap_or_default();
        let (credentials, authority) = match rest.rsplit_once('@') {
            Some((credentials, authority)) => (Some(credentials), authority),
            None => (None, rest),
        };
        let (host, port) = split_host_port(authority)?;
        let (user, password) = match credentials {
            None => (None, None),
            Some(credentials) => {
                let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
                (Some(decode(user)), Some(decode(password)))
            }
        };
        Ok(Self { scheme: scheme.to_owned(), host: host.to_owned(), port, user, password })
    }

    /// `host:port`, with brackets around IPv6 addresses.
    pub fn authority(&self) -> String {
        join(&self.host, self.port)
    }
}

/// `host:port`, with brackets around IPv6 addresses.
pub(crate) fn join(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn split_host_port(authority: &str) -> Result<(&str, u16), RouteUrlError> {
    let (host, port) = authority.rsplit_once(':').ok_or(RouteUrlError { reason: "the port is missing" })?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() {
        return Err(RouteUrlError { reason: "the host is missing" });
    }
    let port = port.parse().map_err(|_| RouteUrlError { reason: "the port is no number from 0 to 65535" })?;
    Ok((host, port))
}

/// Undoes percent encoding; what is not valid stays as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = (*byte == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        if let Some(value) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            decoded.push(value);
            at += 3;
        } else {
            decoded.push(*byte);
            at += 1;
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_with_and_without_credentials() {
        let url = RouteUrl::parse("nats://u%40x:p%3aw@demo-0.demo:6222").expect("valid");
        assert_eq!((url.host.as_str(), url.port), ("demo-0.demo", 6222));
        assert_eq!((url.user.as_deref(), url.password.as_deref()), (Some("u@x"), Some("p:w")));
        assert_eq!(url.to_string(), "nats://demo-0.demo:6222", "as it was written, without the credentials");
        assert_eq!(RouteUrl::parse("h:1").expect("valid").to_string(), "nats-route://h:1");
        assert_eq!(RouteUrl::parse("nats-route://[::1]:6222/").expect("valid").authority(), "[::1]:6222");
        assert_eq!(RouteUrl::parse("127.0.0.1:1").expect("valid").host, "127.0.0.1");
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for text in ["", "nats://", "nats://host", "nats://:1", "http://a:1", "nats://a:x", "nats://a:70000"]
        {
            assert!(RouteUrl::parse(text).is_err(), "{text}");
        }
    }
}
