//! Connects to a `host:port`, looking the name up at every attempt (pods change their address), with a
//! resolver of our own: a static binary has no dependable getaddrinfo.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use tonic::transport::{Channel, Endpoint};

use crate::net::peers::ConnectError;

/// Time for looking a name up, and for each connection attempt.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A silent connection is probed, and given up when the probe is not answered.
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// HTTP/2 flow control windows: what may be under way to a peer on one stream and in all.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// Largest HTTP/2 frame taken: the usual 16 KiB would cut an append into very many.
pub(crate) const FRAME_BYTES: u32 = 1024 * 1024;

/// Makes connections.
pub(crate) struct Dialer {
    /// `None` where the system has no resolver configuration: then only addresses can be used.
    resolver: Option<TokioResolver>,
}

impl Dialer {
    pub(crate) fn new() -> Self {
        let resolver = TokioResolver::builder_tokio().and_then(|mut builder| {
            let options = builder.options_mut();
            options.cache_size = 0;
            options.timeout = LOOKUP_TIMEOUT / 2;
            options.attempts = 1;
            builder.build()
        });
        if let Err(error) = &resolver {
            tracing::warn!(%error, "no DNS resolver: peers must be given by address");
        }
        Self { resolver: resolver.ok() }
    }

    pub(crate) async fn connect(&self, endpoint: &str) -> Result<Channel, ConnectError> {
        let addresses = self.lookup(endpoint).await?;
        let mut failure = ConnectError(format!("{endpoint} has no address"));
        for address in addresses {
            match connect_to(address).await {
                Ok(channel) => return Ok(channel),
                Err(error) => {
                    let text = format!("connecting to {endpoint} at {address}: {error}");
                    failure = ConnectError(text);
                }
            }
        }
        Err(failure)
    }

    async fn lookup(&self, endpoint: &str) -> Result<Vec<SocketAddr>, ConnectError> {
        if let Ok(address) = endpoint.parse::<SocketAddr>() {
            return Ok(vec![address]);
        }
        let malformed = || ConnectError(format!("{endpoint:?} is not host:port"));
        let (host, port) = endpoint.rsplit_once(':').ok_or_else(malformed)?;
        let port = port.parse::<u16>().map_err(|_| malformed())?;
        if host == "localhost" {
            return Ok(vec![(IpAddr::V4(Ipv4Addr::LOCALHOST), port).into()]);
        }
        let Some(resolver) = &self.resolver else {
            let text = format!("{host} cannot be looked up: no DNS resolver is configured");
            return Err(ConnectError(text));
        };
        let found = tokio::time::timeout(LOOKUP_TIMEOUT, resolver.lookup_ip(host))
            .await
            .map_err(|_| ConnectError(format!("looking up {host}: timeout")))?
            .map_err(|e| ConnectError(format!("looking up {host}: {e}")))?;
        Ok(found.iter().map(|ip| SocketAddr::new(ip, port)).collect())
    }
}

fn explain(error: &tonic::transport::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

async fn connect_to(address: SocketAddr) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|e| explain(&e))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES);
    endpoint.connect().await.map_err(|e| explain(&e))
}
