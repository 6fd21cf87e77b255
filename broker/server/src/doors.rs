//! The listeners of this room: monitoring, and the clients' port.

use std::sync::Arc;

use tokio::{net::TcpListener, sync::watch};
use tracing::{info, warn};
use weir_conf::{HandshakeFirst, Options};
use weir_hub::{Hub, WebSocketEntrance};
use weir_monitor::Monitor;

use crate::{files::Ports, listen, monitoring::ServerSource};

/// Serves the monitoring endpoints until `stopping` says so.
pub(crate) fn start_monitoring(
    options: &Options,
    source: &Arc<ServerSource>,
    stopping: &watch::Sender<bool>,
    ports: &mut Ports,
) -> Result<(), String> {
    let Some(port) = options.http_port else { return Ok(()) };
    let host = match options.http_host.as_str() {
        "" => &options.host,
        host => host,
    };
    let listener = listen::bind(host, port)
        .map_err(|reason| format!("Can't start monitoring: can't listen to the monitor port: {reason}"))?;
    let port = listen::port_of(&listener);
    info!("Starting http monitor on {}", listen::join(host, port));
    ports.monitoring = vec![format!("http://{}", listen::join(reachable(host), port))];
    source.update_settings(|settings| {
        host.clone_into(&mut settings.http_host);
        settings.http_port = port;
    });
    let listener = TcpListener::from_std(listener).map_err(|error| error.to_string())?;
    let monitor = Monitor::new(Arc::<ServerSource>::clone(source));
    let base_path = options.http_base_path.clone();
    let mut stopped = stopping.subscribe();
    tokio::spawn(async move {
        let stop = async move {
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        weir_monitor::serve(listener, monitor, &base_path, stop).await;
    });
    Ok(())
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
        let port = listen::port_of(&listener);
        Ok(Self { listener, port })
    }

    pub(crate) fn serve(self, options: &Options, hub: &Arc<Hub>, ports: &mut Ports) -> Result<(), String> {
        let address = listen::join(&options.host, self.port);
        info!("Listening for client connections on {address}");
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
