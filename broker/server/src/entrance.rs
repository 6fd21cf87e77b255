//! How clients come in, from the options: TLS of the ports, headers of proxies, WebSocket. Not the handshakes.

use std::sync::Arc;

use weir_conf::{Options, TlsOptions, WebSocketOptions};
use weir_hub::{Entrance, WebSocketEntrance};
use weir_net::{
    tls::{Revocation, ServerTls, server_config_with},
    websocket::{AllowedOrigin, CookieNames, OriginRules, UpgradeRules},
};

use crate::ocsp::Revocations;

/// What every listener of clients goes by.
pub(crate) struct Entrances {
    pub(crate) clients: Entrance,
    pub(crate) websocket: Option<WebSocketEntrance>,
}

/// Loads certificates and keys; the error is what keeps the server from starting.
pub(crate) fn load(options: &Options, revocations: &Revocations) -> Result<Entrances, String> {
    from(options, revocations, None, None)
}

/// Loads them again for the handshakes from now on; on an error all stays as it was.
pub(crate) fn reload(
    options: &Options,
    revocations: &Revocations,
    clients: &Entrance,
    websocket: Option<&WebSocketEntrance>,
) -> Result<Entrances, String> {
    // Everything is loaded before anything is replaced.
    load(options, revocations)?;
    let websocket = websocket.and_then(|entrance| entrance.tls.as_ref());
    from(options, revocations, clients.tls.as_ref(), websocket)
}

fn from(
    options: &Options,
    revocations: &Revocations,
    clients_tls: Option<&Arc<ServerTls>>,
    websocket_tls: Option<&Arc<ServerTls>>,
) -> Result<Entrances, String> {
    let tls_of = |new: &TlsOptions, revocation: &Revocation, current: Option<&Arc<ServerTls>>| match current {
        None => server_config_with(new, revocation).map(Arc::new),
        Some(tls) => tls.replace_with(new, revocation).map(|()| Arc::clone(tls)),
    };
    let of_clients = |tls| tls_of(tls, &revocations.clients, clients_tls);
    let of_websocket = |tls| tls_of(tls, &revocations.websocket, websocket_tls);
    let clients = Entrance {
        tls: options.tls.as_ref().map(of_clients).transpose()?,
        allow_non_tls: options.allow_non_tls,
        proxy_protocol: options.proxy_protocol,
    };
    let Some(websocket) = options.websocket.as_ref().filter(|websocket| websocket.port != 0) else {
        return Ok(Entrances { clients, websocket: None });
    };
    let tls = websocket.tls.as_ref().map(of_websocket).transpose()?;
    let websocket = WebSocketEntrance {
        rules: rules(options, websocket, tls.is_some())?,
        tls,
        handshake_timeout: websocket.handshake_timeout,
        auth_timeout: websocket.auth_timeout,
        ping_interval: websocket.ping_interval,
        host: websocket.host.clone(),
        port: u16::try_from(websocket.port).unwrap_or(0),
    };
    Ok(Entrances { clients, websocket: Some(websocket) })
}

fn rules(options: &Options, websocket: &WebSocketOptions, over_tls: bool) -> Result<UpgradeRules, String> {
    let allowed: Result<_, _> =
        websocket.allowed_origins.iter().map(|origin| AllowedOrigin::parse(origin)).collect();
    Ok(UpgradeRules {
        origins: OriginRules { same_origin: websocket.same_origin, allowed: allowed? },
        compression: websocket.compression,
        headers: websocket.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect(),
        cookies: CookieNames {
            jwt: websocket.jwt_cookie.clone(),
            user: websocket.user_cookie.clone(),
            password: websocket.pass_cookie.clone(),
            token: websocket.token_cookie.clone(),
        },
        over_tls,
        mqtt: false,
        max_payload: usize::try_from(options.max_payload).unwrap_or(usize::MAX),
    })
}
