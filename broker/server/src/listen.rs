//! Listening addresses: hosts as the configuration writes them, ports that may be "any".

use std::net::{IpAddr, SocketAddr, TcpListener};

use crate::io_reason;

/// Binds `host:port`; -1 takes a free port, and an unspecified host takes IPv6 as well where there is
/// any. The error is Go's: `listen tcp 127.0.0.1:4222: bind: address already in use`.
pub(crate) fn bind(host: &str, port: i32) -> Result<TcpListener, String> {
    let number = if port < 0 { Ok(0) } else { u16::try_from(port) };
    let port = number.map_err(|_| format!("listen tcp: address {port}: invalid port"))?;
    let mut refused = None;
    for address in addresses(host, port)? {
        match TcpListener::bind(address) {
            Ok(listener) => {
                listener.set_nonblocking(true).map_err(|error| error.to_string())?;
                return Ok(listener);
            }
            // Without IPv6 the next address is the IPv4 one; a busy port is busy in both.
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                refused = Some(error);
                break;
            }
            Err(error) => refused = Some(error),
        }
    }
    let reason = refused.map_or_else(|| "no address".to_owned(), |error| io_reason(&error));
    Err(format!("listen tcp {}: bind: {reason}", join(host, port)))
}

fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let any_v6 = SocketAddr::from(([0u16; 8], port));
    let any_v4 = SocketAddr::from(([0, 0, 0, 0], port));
    match host {
        "" | "0.0.0.0" | "::" => return Ok(vec![any_v6, any_v4]),
        // A static binary looks up names with difficulty, and this one needs no lookup.
        "localhost" => return Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]),
        _ => {}
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    std::net::ToSocketAddrs::to_socket_addrs(&(host, port))
        .map(Iterator::collect)
        .map_err(|error| format!("listen tcp: lookup {host}: {error}"))
}

/// `host:port`, with brackets around an IPv6 address.
pub(crate) fn join(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The port a listener got.
pub(crate) fn port_of(listener: &TcpListener) -> u16 {
    listener.local_addr().map_or(0, |address| address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_is_said_in_the_words_of_go() {
        let first = bind("127.0.0.1", -1).expect("a free port");
        let port = port_of(&first);
        let refused = bind("127.0.0.1", i32::from(port)).expect_err("busy");
        assert_eq!(refused, format!("listen tcp 127.0.0.1:{port}: bind: address already in use"));
        let refused = bind("0.0.0.0", i32::from(port)).expect_err("busy");
        assert_eq!(refused, format!("listen tcp 0.0.0.0:{port}: bind: address already in use"));
    }
}
