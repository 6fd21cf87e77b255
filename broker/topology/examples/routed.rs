//! Serves core NATS with routes: `routed NAME CLIENT_PORT ROUTE_PORT CLUSTER [SEED...]`, on loopback.

use std::sync::Arc;
use tokio::net::TcpListener;
use weir_hub::{Hub, HubOptions, Limits, OpenDoor, new_server_id};
use weir_topology::{RouteOptions, RouteUrl, Topology};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, client_port, route_port, cluster, seeds @ ..] = &args[..] else {
        return Err("usage: routed NAME CLIENT_PORT ROUTE_PORT CLUSTER [SEED...]".into());
    };
    let mut random = [0; 32];
    for (at, byte) in name.bytes().enumerate() {
        random[at % 32] ^= byte;
    }
    let port = client_port.parse()?;
    let options = HubOptions {
        server_id: new_server_id(random),
        server_name: name.clone(),
        host: "127.0.0.1".into(),
        cluster: Some(cluster.clone()),
        port,
        ..HubOptions::default()
    };
    let hub = Hub::new(options, Limits::default(), Arc::new(OpenDoor));
    let clients = TcpListener::bind(("127.0.0.1", port)).await?;
    let routes = TcpListener::bind(("127.0.0.1", route_port.parse::<u16>()?)).await?;
    let seeds = seeds.iter().map(|seed| RouteUrl::parse(seed)).collect::<Result<_, _>>()?;
    let options =
        RouteOptions { cluster: cluster.clone(), host: "127.0.0.1".into(), seeds, ..RouteOptions::default() };
    let topology = Topology::start(Arc::clone(&hub), options, routes);
    let mut changes = topology.changes();
    let watched = Arc::clone(&topology);
    tokio::spawn(async move {
        while changes.changed().await.is_ok() {
            let peers: Vec<_> = watched.peers().into_iter().map(|peer| peer.server_name).collect();
            let links = watched.routes_snapshot().routes.len();
            eprintln!("peers {peers:?}, {links} connections, seeds {:?}", watched.seeds());
        }
    });
    hub.serve(clients).await;
    Ok(())
}
