//! Names to addresses, looked up anew each time: pods come back under the same name with another address.

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How long one query may take before it is asked again.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a lookup may take in all.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// All addresses of a name (an address is its own), IPv4 first. Reads /etc/hosts and /etc/resolv.conf.
pub(crate) async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let mut builder =
        TokioResolver::builder_tokio().map_err(|error| format!("cannot read resolv.conf: {error}"))?;
    let options = builder.options_mut();
    options.cache_size = 0;
    options.timeout = QUERY_TIMEOUT;
    options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
    let resolver = builder.build().map_err(|error| error.to_string())?;
    let found = tokio::time::timeout(LOOKUP_TIMEOUT, resolver.lookup_ip(host))
        .await
        .map_err(|_| "the lookup took too long".to_owned())?
        .map_err(|error| error.to_string())?;
    Ok(found.iter().map(|address| SocketAddr::new(address, port)).collect())
}
