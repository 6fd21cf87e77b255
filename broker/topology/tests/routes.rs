//! Servers joined by routes over loopback: how they find each other and what they pass on.

use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use weir_hub::{Hub, HubOptions, InternalHandler, Limits, OpenDoor, new_server_id};
use weir_topology::{RouteOptions, RouteUrl, SeedState, Topology};

const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    hub: Arc<Hub>,
    topology: Arc<Topology>,
}

impl Server {
    async fn start(number: u8, options: RouteOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self::start_on(number, options, listener)
    }

    fn start_on(number: u8, options: RouteOptions, listener: TcpListener) -> Self {
        let hub_options = HubOptions {
            server_id: new_server_id([number; 32]),
            server_name: format!("s{number}"),
            host: "127.0.0.1".into(),
            ..HubOptions::default()
        };
        let hub = Hub::new(hub_options, Limits::default(), Arc::new(OpenDoor));
        let topology = Topology::start(Arc::clone(&hub), options, listener);
        Self { hub, topology }
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.topology.port())
    }

    fn peers(&self) -> Vec<String> {
        self.topology.peers().into_iter().map(|peer| peer.server_name).collect()
    }

    fn links(&self) -> usize {
        self.topology.routes_snapshot().routes.len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.topology.close();
    }
}

fn options(seeds: &[&str]) -> RouteOptions {
    RouteOptions {
        cluster: "C".into(),
        host: "127.0.0.1".into(),
        seeds: seeds.iter().map(|seed| RouteUrl::parse(seed).expect("a valid URL")).collect(),
        reconnect_delay: Duration::from_millis(20),
        max_reconnect_delay: Duration::from_millis(200),
        ..RouteOptions::default()
    }
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn counter() -> (Arc<AtomicUsize>, InternalHandler) {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    (count, Arc::new(move |_| _ = seen.fetch_add(1, Ordering::Relaxed)))
}

#[tokio::test]
async fn messages_go_one_hop_to_each_interested_server() {
    let a = Server::start(1, options(&[])).await;
    let b = Server::start(2, options(&[&a.url()])).await;
    let c = Server::start(3, options(&[&a.url()])).await;
    // c and b only know a; gossip joins them.
    eventually("all are joined with whole pools", || [&a, &b, &c].iter().all(|server| server.links() == 6))
        .await;
    assert_eq!(b.peers(), ["s1", "s3"]);
    let (on_b, handler_b) = counter();
    let (on_c, handler_c) = counter();
    let _at_b = b.hub.global_account().subscribe_internal("orders.*", None, handler_b);
    let _at_c = c.hub.global_account().subscribe_internal("orders.>", None, handler_c);
    let account = a.hub.global_account();
    let mut deliveries = 0;
    eventually("both interests are known", || {
        deliveries = account.publish(b"orders.probe", None, b"", b"");
        deliveries == 2
    })
    .await;
    eventually("the probes arrived", || {
        on_b.load(Ordering::Relaxed) > 0 && on_b.load(Ordering::Relaxed) <= on_c.load(Ordering::Relaxed) + 1
    })
    .await;
    let (before_b, before_c) = (on_b.swap(0, Ordering::Relaxed), on_c.swap(0, Ordering::Relaxed));
    assert!(before_b > 0 && before_c > 0);
    for _ in 0..100 {
        account.publish(b"orders.new", None, b"", b"x");
    }
    eventually("each got each once", || {
        on_b.load(Ordering::Relaxed) >= 100 && on_c.load(Ordering::Relaxed) >= 100
    })
    .await;
    assert_eq!((on_b.load(Ordering::Relaxed), on_c.load(Ordering::Relaxed)), (100, 100));
}

#[tokio::test]
async fn queue_groups_are_spread_over_members_on_all_servers() {
    let a = Server::start(1, options(&[])).await;
    let b = Server::start(2, options(&[&a.url()])).await;
    eventually("the pool is whole", || a.links() == 3 && b.links() == 3).await;
    let (on_b, handler_b) = counter();
    let _at_b = b.hub.global_account().subscribe_internal("jobs", Some("workers"), handler_b);
    let account = a.hub.global_account();
    eventually("the group is known", || account.has_interest(b"jobs")).await;
    for _ in 0..10 {
        assert_eq!(account.publish(b"jobs", None, b"", b""), 1);
    }
    eventually("the other server's member got them", || on_b.load(Ordering::Relaxed) == 10).await;
    // With a member on each server, each is as likely, as in nats-server.
    let (on_a, handler_a) = counter();
    let at_a = account.subscribe_internal("jobs", Some("workers"), handler_a);
    for _ in 0..400 {
        assert_eq!(account.publish(b"jobs", None, b"", b""), 1);
    }
    let here = on_a.load(Ordering::Relaxed);
    assert!((120..280).contains(&here), "{here} of 400 were delivered here");
    eventually("the others got there", || on_b.load(Ordering::Relaxed) == 410 - here).await;
    drop(at_a);
    assert_eq!(account.publish(b"jobs", None, b"", b""), 1);
    eventually("it falls back", || on_b.load(Ordering::Relaxed) == 411 - here).await;
}

#[tokio::test]
async fn deliveries_keep_the_shown_subject_across_routes() {
    let a = Server::start(1, options(&[])).await;
    let b = Server::start(2, options(&[&a.url()])).await;
    let (sender, mut received) = tokio::sync::mpsc::unbounded_channel();
    let _inbox = b.hub.global_account().subscribe_internal(
        "_INBOX.x",
        None,
        Arc::new(move |message| {
            let _ = sender.send((message.subject.to_vec(), message.reply.map(<[u8]>::to_vec)));
        }),
    );
    let account = a.hub.global_account();
    eventually("the inbox is known", || account.has_interest(b"_INBOX.x")).await;
    let ack = b"$JS.ACK.ORDERS.c.1.2.3.4.5";
    account.publish_as(b"_INBOX.x", b"orders.new", Some(ack), b"", b"x");
    let got = tokio::time::timeout(PATIENCE, received.recv())
        .await
        .expect("it arrives")
        .expect("the channel lives");
    assert_eq!(got, (b"orders.new".to_vec(), Some(ack.to_vec())));
}

#[tokio::test]
async fn seeds_tell_what_came_of_them() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let own = format!("nats://127.0.0.1:{}", listener.local_addr().expect("an address").port());
    let a = Server::start(1, options(&[])).await;
    a.topology.announce(json!({"peer_id": "7"}));
    let b = Server::start_on(2, options(&[&own, &a.url(), "nats://127.0.0.1:1"]), listener);
    let states = || b.topology.seeds().into_iter().map(|seed| seed.state).collect::<Vec<_>>();
    eventually("self and other are told apart", || {
        matches!(&states()[..], [SeedState::Itself, SeedState::Connected(peer), SeedState::Unresolved]
            if peer.server_name == "s1" && peer.weir == Some(json!({"peer_id": "7"})))
    })
    .await;
    a.topology.announce(json!({"peer_id": "8"}));
    eventually("news are passed on", || {
        b.topology.peers().first().is_some_and(|peer| peer.weir == Some(json!({"peer_id": "8"})))
    })
    .await;
    assert_eq!(a.peers(), ["s2"]);
    drop(a);
    eventually("a gone server is unresolved", || {
        matches!(states()[1], SeedState::Unresolved) && b.peers().is_empty()
    })
    .await;
}

#[tokio::test]
async fn servers_that_dial_each_other_at_once_keep_one_pool() {
    let first = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let second = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = |listener: &TcpListener| {
        format!("nats://127.0.0.1:{}", listener.local_addr().expect("an address").port())
    };
    let seeds = [url(&first), url(&second)];
    let seeds: Vec<&str> = seeds.iter().map(String::as_str).collect();
    let a = Server::start_on(1, options(&seeds), first);
    let b = Server::start_on(2, options(&seeds), second);
    eventually("both pools are whole", || a.links() == 3 && b.links() == 3).await;
    let ids = |server: &Server| {
        server.topology.routes_snapshot().routes.iter().map(|route| route.address).collect::<Vec<_>>()
    };
    let before = ids(&a);
    // Nothing more happens: they do not cut each other's connections again and again.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(ids(&a), before);
    assert_eq!(b.links(), 3);
}

#[tokio::test]
async fn a_server_that_comes_back_is_joined_again() {
    let a = Server::start(1, options(&[])).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let b = Server::start_on(2, options(&[]), listener);
    let c = Server::start(3, options(&[&format!("nats://127.0.0.1:{port}")])).await;
    eventually("they are joined", || c.peers() == ["s2"]).await;
    drop(b);
    eventually("it is gone", || c.peers().is_empty()).await;
    let mut listener = TcpListener::bind(("127.0.0.1", port)).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while listener.is_err() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
        listener = TcpListener::bind(("127.0.0.1", port)).await;
    }
    let again = Server::start_on(4, options(&[]), listener.expect("the port is free again"));
    eventually("it is back under another identity", || c.peers() == ["s4"] && again.peers() == ["s3"]).await;
    assert!(a.peers().is_empty());
}

#[tokio::test]
async fn strangers_are_kept_out() {
    let secured = RouteOptions { user: Some("route".into()), password: Some("pw".into()), ..options(&[]) };
    let a = Server::start(1, secured).await;
    let wrong = Server::start(2, options(&[&a.url()])).await;
    let other = Server::start(3, RouteOptions { cluster: "D".into(), ..options(&[&a.url()]) }).await;
    let port = a.topology.port();
    let right = Server::start(4, options(&[&format!("nats://route:pw@127.0.0.1:{port}")])).await;
    eventually("who knows the password gets in", || right.peers() == ["s1"]).await;
    eventually("it is known there", || a.peers() == ["s4"]).await;
    assert!(wrong.peers().is_empty() && other.peers().is_empty());
}

#[tokio::test]
async fn another_clusters_servers_are_refused() {
    let a = Server::start(1, options(&[])).await;
    let other = Server::start(2, RouteOptions { cluster: "D".into(), ..options(&[&a.url()]) }).await;
    let same_name = Server::start(1, options(&[])).await;
    let friend = Server::start(3, options(&[&a.url()])).await;
    eventually("a friend gets in", || friend.peers() == ["s1"]).await;
    eventually("it is known there", || a.peers() == ["s3"]).await;
    assert!(other.peers().is_empty() && same_name.peers().is_empty());
}

#[tokio::test]
async fn interest_goes_when_a_server_goes() {
    let a = Server::start(1, options(&[])).await;
    let b = Server::start(2, options(&[&a.url()])).await;
    let (_, handler) = counter();
    let subscription = b.hub.global_account().subscribe_internal("x", None, handler);
    let account = a.hub.global_account();
    let watched = account.watch_interest("x");
    eventually("interest came", || *watched.borrow()).await;
    std::mem::forget(subscription);
    drop(b);
    eventually("interest went", || !*watched.borrow() && !account.has_interest(b"x")).await;
}
