//! How clients come in, from the options: TLS of their port, headers of proxies. Not the handshakes.

use std::sync::Arc;

use weir_conf::Options;
use weir_hub::Entrance;
use weir_net::tls::{ServerTls, server_config};

/// Loads certificates and keys; the error is what keeps the server from starting.
pub(crate) fn load(options: &Options) -> Result<Entrance, String> {
    let tls = options.tls.as_ref().map(server_config).transpose()?.map(Arc::new);
    Ok(entrance(options, tls))
}

/// Loads them again for the handshakes from now on; on an error all stays as it was.
pub(crate) fn reload(options: &Options, current: &Entrance) -> Result<Entrance, String> {
    match (&options.tls, &current.tls) {
        (Some(new), Some(tls)) => {
            tls.replace(new)?;
            Ok(entrance(options, Some(Arc::clone(tls))))
        }
        _ => load(options),
    }
}

fn entrance(options: &Options, tls: Option<Arc<ServerTls>>) -> Entrance {
    Entrance { tls, allow_non_tls: options.allow_non_tls, proxy_protocol: options.proxy_protocol }
}
