//! Serves core NATS on the port given as the first argument: for measuring the hub alone.

use std::sync::Arc;
use weir_hub::{Hub, HubOptions, Limits, OpenDoor, new_server_id};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let port: u16 = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(4222);
    let server_id = new_server_id([1; 32]);
    let options = HubOptions {
        server_name: "core".into(),
        host: "127.0.0.1".into(),
        server_id,
        port,
        ..HubOptions::default()
    };
    let hub = Hub::new(options, Limits::default(), Arc::new(OpenDoor));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    hub.serve(listener).await;
    Ok(())
}
