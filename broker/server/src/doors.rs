//! The listeners of this room: monitoring, and the clients' port.

use std::{collections::BTreeSet, sync::Arc};

use tokio::{net::TcpListener, sync::watch};
use tracing::{error, info, warn};
use weir_conf::{HandshakeFirst, Options, TlsOptions};
use weir_hub::{Hub, WebSocketEntrance};
use weir_monitor::Monitor;
use weir_net::tls::{Revocation, ServerTls, server_config_with};

use crate::{files::Ports, https::HttpsListener, listen, monitoring::ServerSource, ocsp::Revocations};

/// Serves the monitoring endpoints until `stopping` says so; returns their TLS, if there is any.
pub(crate) fn start_monitoring(
    options: &Options,
    revocations: &Revocations,
    source: &Arc<ServerSource>,
    stopping: &watch::Sender<bool>,
    ports: &mut Ports,
) -> Result<Option<Arc<ServerTls>>, String> {
    let (port, scheme) = match (options.http_port, options.https_port) {
        (None, None) => return Ok(None),
        (Some(port), None) => (port, "http"),
        (None, Some(port)) => (port, "https"),
        (Some(http), Some(https)) => {
            return Err(format!(
                "Can't start monitoring: can't specify both HTTP ({http}) and HTTPs ({https}) ports"
            ));
        }
    };
    let tls = (scheme == "https").then(|| monitoring_tls(options, revocations)).transpose()?;
    let host = match options.http_host.as_str() {
        "" => &options.host,
        host => host,
    };
    let listener = listen::bind(host, port)
        .map_err(|reason| format!("Can't start monitoring: can't listen to the monitor port: {reason}"))?;
    let port = listen::port_of(&listener);
    info!("Starting {scheme} monitor on {}", listen::join(host, port));
    ports.monitoring = vec![format!("{scheme}://{}", listen::join(reachable(host), port))];
    source.update_settings(|settings| {
        host.clone_into(&mut settings.http_host);
        let shown = if scheme == "https" { &mut settings.https_port } else { &mut settings.http_port };
        *shown = port;
    });
    let listener = TcpListener::from_std(listener).map_err(|error| error.to_string())?;
    let monitor = Monitor::new(Arc::<ServerSource>::clone(source));
    let base_path = options.http_base_path.clone();
    let mut stopped = stopping.subscribe();
    let shared = tls.clone();
    tokio::spawn(async move {
        let stop = async move {
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        match tls {
            None => weir_monitor::serve(listener, monitor, &base_path, stop).await,
            Some(tls) => match HttpsListener::new(listener, tls) {
                Ok(listener) => weir_monitor::serve(listener, monitor, &base_path, stop).await,
                Err(problem) => error!("monitoring ended: {problem}"),
            },
        }
    });
    Ok(shared)
}

/// Takes over certificates for the handshakes from now on.
pub(crate) fn reload_monitoring(
    tls: &ServerTls,
    options: &Options,
    revocations: &Revocations,
) -> Result<(), String> {
    let Some(options) = &options.tls else { return Ok(()) };
    let (options, revocation) = for_monitoring(options, revocations);
    tls.replace_with(&options, &revocation)
}

fn monitoring_tls(options: &Options, revocations: &Revocations) -> Result<Arc<ServerTls>, String> {
    let Some(tls) = &options.tls else {
        return Err("Can't start monitoring: TLS cert and key required for HTTPS".to_owned());
    };
    let (tls, revocation) = for_monitoring(tls, revocations);
    server_config_with(&tls, &revocation).map(Arc::new)
}

/// The clients' TLS without asking browsers for certificates; with it, as in nats-server, where OCSP is asked about
/// clients.
fn for_monitoring(tls: &TlsOptions, revocations: &Revocations) -> (TlsOptions, Revocation) {
    if revocations.asks_about_clients() {
        return (tls.clone(), revocations.clients.clone());
    }
    let tls = TlsOptions {
        verify: false,
        verify_and_map: false,
        verify_cert_and_check_known_urls: false,
        pinned_certs: BTreeSet::new(),
        ..tls.clone()
    };
    (tls, revocations.clients.clone())
}

/// The clients' port: bound before the other servers are told of it, served once all else runs.
pub(crate) struct ClientListener {
    listener: std::net::TcpListener,
    pub(crate) port: u16,
}

impl ClientListener {
    pub(crate) fn bind(options: &Options) -> Result<Self, String> {
        let listener = listen::bind(&options.host, options.port).map_err(|reason| {
            let address = format!("{}:{}", options.host, options.port);
            format!("Error listening on port: {address}, {reason:?}")
        })?;
        if let Some(text) = &options.client_advertise {
            weir_conf::advertised(text).map_err(|reason| {
                format!("Error setting server INFO with ClientAdvertise value of {text}, err={reason}")
            })?;
        }
        let port = listen::port_of(&listener);
        Ok(Self { listener, port })
    }

    pub(crate) fn serve(self, options: &Options, hub: &Arc<Hub>, ports: &mut Ports) -> Result<(), String> {
        let address = listen::join(&options.host, self.port);
        info!("Listening for client connections on {address}");
        if options.proxy_protocol {
            info!("PROXY protocol enabled for client connections");
        }
        log_tls(options);
        ports.nats = vec![format!("nats://{}", listen::join(reachable(&options.host), self.port))];
        let listener = TcpListener::from_std(self.listener).map_err(|error| error.to_string())?;
        tokio::spawn(Arc::clone(hub).serve(listener));
        Ok(())
    }
}

fn log_tls(options: &Options) {
    let Some(tls) = &options.tls else { return };
    let is_first = tls.handshake_first == HandshakeFirst::Always;
    if options.allow_non_tls && !is_first {
        info!("TLS available for client connections");
    } else {
        info!("TLS required for client connections");
    }
    if is_first {
        warn!("Clients that are not using \"TLS Handshake First\" option will fail to connect");
    }
}

/// The WebSocket port: bound before the server says that it is ready.
pub(crate) struct WebSocketListener {
    listener: std::net::TcpListener,
    port: u16,
}

impl WebSocketListener {
    /// Binds it where it is configured; the entrance learns the real port.
    pub(crate) fn bind(
        entrance: Option<&mut WebSocketEntrance>,
        options: &Options,
    ) -> Result<Option<Self>, String> {
        let (Some(entrance), Some(websocket)) = (entrance, &options.websocket) else { return Ok(None) };
        let listener = listen::bind(&websocket.host, websocket.port)
            .map_err(|reason| format!("Unable to listen for websocket connections: {reason}"))?;
        let port = listen::port_of(&listener);
        entrance.port = port;
        Ok(Some(Self { listener, port }))
    }

    pub(crate) fn serve(self, hub: &Arc<Hub>, ports: &mut Ports) -> Result<(), String> {
        let Some(entrance) = hub.websocket() else { return Ok(()) };
        let scheme = if entrance.tls.is_some() { "wss" } else { "ws" };
        info!("Listening for websocket clients on {scheme}://{}:{}", entrance.host, self.port);
        if entrance.tls.is_none() {
            warn!("Websocket not configured with TLS. DO NOT USE IN PRODUCTION!");
        }
        ports.websocket = vec![format!("{scheme}://{}", listen::join(reachable(&entrance.host), self.port))];
        let listener = TcpListener::from_std(self.listener).map_err(|error| error.to_string())?;
        tokio::spawn(Arc::clone(hub).serve_websocket(listener));
        Ok(())
    }
}

/// A host that clients on this machine can use.
pub(crate) fn reachable(host: &str) -> &str {
    match host {
        "" | "0.0.0.0" | "::" => "127.0.0.1",
        host => host,
    }
}
