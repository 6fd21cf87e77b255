//! Clients over real sockets: what they send and what they get. Texts are those of nats-server 2.15.1.

mod door;

use door::{StaticAuthenticator, StaticUser};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use weir_hub::{
    Authenticator, CloseReason, Hub, HubOptions, Limits, OpenDoor, OutboundMessage, Permissions, Rule,
    RuleSet,
};

const PATIENCE: Duration = Duration::from_secs(10);
const QUIET: &str = r#"CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}"#;

struct Server {
    hub: Arc<Hub>,
    port: u16,
}

impl Server {
    async fn with(limits: Limits, authenticator: Arc<dyn Authenticator>) -> Self {
        let hub =
            Hub::new(HubOptions { server_id: "N1".into(), ..HubOptions::default() }, limits, authenticator);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(Arc::clone(&hub).serve(listener));
        Self { hub, port }
    }

    async fn open() -> Self {
        Self::with(Limits::default(), Arc::new(OpenDoor)).await
    }

    async fn connect(&self) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.expect("a connection");
        let mut client = Client { stream, received: Vec::new() };
        client.until("\r\n").await;
        client
    }

    async fn client(&self) -> Client {
        let mut client = self.connect().await;
        client.send(&format!("{QUIET}\r\n")).await;
        client.sync().await;
        client
    }
}

struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.expect("the server reads");
    }

    /// Reads until `end` was received; returns everything up to it.
    async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = find(&self.received, end.as_bytes()) {
                let rest = self.received.split_off(at + end.len());
                let text = String::from_utf8_lossy(&self.received).into_owned();
                self.received = rest;
                return text;
            }
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.received)).await;
            match read {
                Ok(Ok(count)) if count > 0 => {}
                other => panic!(
                    "{other:?} while waiting for {end:?}, got {:?}",
                    String::from_utf8_lossy(&self.received)
                ),
            }
        }
    }

    /// A round trip; returns what came before its PONG.
    async fn sync(&mut self) -> String {
        self.send("PING\r\n").await;
        self.until("PONG\r\n").await.trim_end_matches("PONG\r\n").to_owned()
    }

    /// Reads until the server closes.
    async fn rest(&mut self) -> String {
        loop {
            match tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.received)).await {
                Ok(Ok(count)) if count > 0 => {}
                Ok(_) => return String::from_utf8_lossy(&self.received).into_owned(),
                Err(_) => {
                    panic!("the server did not close, got {:?}", String::from_utf8_lossy(&self.received))
                }
            }
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn messages_reach_subscribers_with_reply_and_headers() {
    let server = Server::open().await;
    let (mut publisher, mut subscriber) = (server.client().await, server.client().await);
    subscriber.send("SUB foo.* 1\r\nSUB > 2\r\n").await;
    subscriber.sync().await;
    publisher
        .send("PUB foo.a 2\r\nhi\r\nHPUB bar r 12 14\r\nNATS/1.0\r\n\r\nho\r\nPUB a..b 1\r\nx\r\n")
        .await;
    publisher.sync().await;
    let got = subscriber.sync().await;
    let mut messages: Vec<&str> = got.split_inclusive("hi\r\n").collect();
    messages.sort_unstable();
    assert_eq!(messages[..2], ["HMSG bar 2 r 12 14\r\nNATS/1.0\r\n\r\nho\r\n", "MSG foo.a 1 2\r\nhi\r\n"]);
    assert_eq!(messages.len(), 3);
    let sent: u64 =
        server.hub.connections_snapshot(false).iter().map(|connection| connection.out_bytes).sum();
    assert_eq!((sent, server.hub.sent()), (18, (3, 18)));
}

#[tokio::test]
async fn clients_without_headers_get_the_payload_alone() {
    let server = Server::open().await;
    let mut plain = server.connect().await;
    plain.send("CONNECT {\"verbose\":false,\"headers\":false}\r\nSUB foo 1\r\n").await;
    plain.sync().await;
    let mut publisher = server.client().await;
    publisher.send("HPUB foo 12 14\r\nNATS/1.0\r\n\r\nho\r\n").await;
    publisher.sync().await;
    assert_eq!(plain.sync().await, "MSG foo 1 2\r\nho\r\n");
}

#[tokio::test]
async fn nobody_listening_is_told_to_requesters() {
    let server = Server::open().await;
    let mut client = server.client().await;
    client.send("SUB r.* 1\r\nPUB foo r.1 0\r\n\r\n").await;
    assert_eq!(client.sync().await, "HMSG r.1 1 35 35\r\nNATS/1.0 503\r\nNats-Subject: foo\r\n\r\n\r\n");
    client.send("PUB foo other 0\r\n\r\n").await;
    assert_eq!(client.sync().await, "");
}

#[tokio::test]
async fn one_member_of_a_queue_group_gets_each_message() {
    let server = Server::open().await;
    let mut members = [server.client().await, server.client().await, server.client().await];
    for member in &mut members {
        member.send("SUB jobs.* workers 1\r\nSUB jobs.> workers 2\r\n").await;
        member.sync().await;
    }
    let mut publisher = server.client().await;
    publisher.send(&"PUB jobs.x 1\r\nj\r\n".repeat(300)).await;
    publisher.sync().await;
    let mut total = 0;
    for member in &mut members {
        let count = member.sync().await.matches("MSG").count();
        assert!(count > 20, "a member got {count} of 300");
        total += count;
    }
    assert_eq!(total, 300);
}

#[tokio::test]
async fn subscriptions_end_after_their_maximum() {
    let server = Server::open().await;
    let mut client = server.client().await;
    client.send("SUB foo 1\r\nUNSUB 1 2\r\nPUB foo 1\r\na\r\nPUB foo 1\r\nb\r\nPUB foo 1\r\nc\r\n").await;
    assert_eq!(client.sync().await, "MSG foo 1 1\r\na\r\nMSG foo 1 1\r\nb\r\n");
    assert_eq!(server.hub.subscription_count(), 0);
    client.send("SUB foo 2\r\nUNSUB 2 0\r\nPUB foo 1\r\na\r\n").await;
    assert_eq!(client.sync().await, "");
}

#[tokio::test]
async fn a_client_may_refuse_its_own_echo() {
    let server = Server::open().await;
    let mut client = server.connect().await;
    client
        .send("CONNECT {\"verbose\":false,\"echo\":false}\r\nSUB foo 1\r\nSUB foo q 2\r\nPUB foo 2\r\nhi\r\n")
        .await;
    assert_eq!(client.sync().await, "");
}

#[tokio::test]
async fn verbose_clients_get_an_ok_for_each_operation() {
    let server = Server::open().await;
    let mut client = server.connect().await;
    client.send("CONNECT {\"verbose\":true}\r\nSUB foo 1\r\nPUB foo 2\r\nhi\r\nUNSUB 1\r\n").await;
    assert_eq!(client.sync().await, "+OK\r\n+OK\r\n+OK\r\nMSG foo 1 2\r\nhi\r\n+OK\r\n");
}

#[tokio::test]
async fn faults_close_with_the_texts_of_nats_server() {
    let server = Server::open().await;
    let big = format!("PUB foo {}\r\n", 1024 * 1024 + 1);
    let long = format!("SUB {}", "a".repeat(5000));
    for (sent, answer) in [
        ("FOO\r\n", "-ERR 'Unknown Protocol Operation'\r\n"),
        ("PUB foo 2\r\nhello\r\n", "-ERR 'Unknown Protocol Operation'\r\n"),
        ("SUB foo\r\n", ""),
        ("PUB foo x\r\n", ""),
        (big.as_str(), "-ERR 'Maximum Payload Violation'\r\n"),
        (long.as_str(), "-ERR 'maximum control line exceeded'\r\n"),
        ("CONNECT {bad\r\n", ""),
        ("CONNECT {\"protocol\":2}\r\n", "-ERR 'invalid client protocol'\r\n"),
        ("CONNECT {\"account\":\"x\"}\r\n", "-ERR 'Authorization Violation'\r\n"),
        ("CONNECT {\"no_responders\":true}\r\n", "-ERR 'no responders requires headers support'\r\n"),
    ] {
        let mut client = server.client().await;
        client.send(sent).await;
        assert_eq!(client.rest().await, answer, "{sent:.40}");
    }
    let mut client = server.client().await;
    client.send("SUB foo. 1\r\n").await;
    assert_eq!(client.sync().await, "-ERR 'Invalid Subject'\r\n");
}

#[tokio::test]
async fn info_follows_the_first_ping_of_clients_that_can_take_it() {
    let server = Server::open().await;
    let mut client = server.connect().await;
    client.send("CONNECT {\"verbose\":false,\"protocol\":1}\r\nPING\r\n").await;
    client.until("PONG\r\n").await;
    let info = client.until("\r\n").await;
    assert!(info.contains("\"connect_info\":true,\"remote_account\":\"$G\""), "{info}");
    server.hub.set_connect_urls(vec!["10.0.0.1:4222".into()]);
    let info = client.until("\r\n").await;
    assert!(info.contains("\"connect_urls\":[\"10.0.0.1:4222\"]"), "{info}");
}

#[tokio::test]
async fn large_messages_arrive_whole_and_in_order() {
    let server = Server::open().await;
    let (mut publisher, mut subscriber) = (server.client().await, server.client().await);
    let mut second = server.client().await;
    subscriber.send("SUB foo 1\r\n").await;
    second.send("SUB foo 1\r\n").await;
    subscriber.sync().await;
    second.sync().await;
    let expected: Vec<String> =
        [10usize, 70_000, 3_000, 1_000_000, 0, 100_000].iter().map(|size| "x".repeat(*size)).collect();
    let sender = async {
        for payload in &expected {
            publisher.send(&format!("PUB foo {}\r\n{payload}\r\n", payload.len())).await;
        }
        publisher.sync().await;
    };
    let receive = async |client: &mut Client| {
        for payload in &expected {
            assert_eq!(client.until("\r\n").await, format!("MSG foo 1 {}\r\n", payload.len()));
            assert!(client.until("\r\n").await.trim_end() == payload);
        }
    };
    tokio::join!(sender, receive(&mut subscriber), receive(&mut second));
}

#[tokio::test]
async fn messages_of_all_sizes_arrive_as_sent_wherever_reads_cut_them() {
    let server = Server::open().await;
    let (mut publisher, mut subscriber) = (server.client().await, server.client().await);
    subscriber.send("SUB foo 1\r\n").await;
    subscriber.sync().await;
    // Runs of small, of medium and of large messages; no two payloads begin alike.
    let size_of = |number: usize| match number / 50 % 4 {
        0 => number * 13 % 200,
        1 => 8_000 + number * 4_099 % 60_000,
        2 => 16 * 1024,
        _ => 60_000 + number * 1_021 % 200_000,
    };
    let payload_of = |number: usize| format!("{number} {}", "x".repeat(size_of(number)));
    let messages = 400;
    let sent: String = (0..messages)
        .map(payload_of)
        .map(|payload| format!("PUB foo {}\r\n{payload}\r\n", payload.len()))
        .collect();
    let sender = async {
        publisher.send(&sent).await;
        publisher.sync().await;
    };
    let receiver = async {
        for payload in (0..messages).map(payload_of) {
            assert_eq!(subscriber.until("\r\n").await, format!("MSG foo 1 {}\r\n", payload.len()));
            assert!(subscriber.until("\r\n").await == payload + "\r\n");
        }
    };
    tokio::join!(sender, receiver);
}

#[tokio::test]
async fn bytes_may_come_one_by_one() {
    let server = Server::open().await;
    let mut client = server.client().await;
    for byte in "SUB foo 1\r\nPUB foo 5\r\nhello\r\n".chars() {
        client.send(&byte.to_string()).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.sync().await, "MSG foo 1 5\r\nhello\r\n");
}

#[tokio::test]
async fn credentials_are_needed_before_anything_else() {
    let user = StaticUser { user: "u".into(), password: "p".into(), account: "A".into(), permissions: None };
    let door = StaticAuthenticator { users: vec![user] };
    let limits = Limits { auth_timeout: Duration::from_millis(100), ..Limits::default() };
    let server = Server::with(limits, Arc::new(door)).await;
    for sent in ["PING\r\n", "CONNECT {}\r\n", "CONNECT {\"user\":\"u\",\"pass\":\"x\"}\r\n"] {
        let mut client = server.connect().await;
        client.send(sent).await;
        assert_eq!(client.rest().await, "-ERR 'Authorization Violation'\r\n", "{sent}");
    }
    let mut silent = server.connect().await;
    assert_eq!(silent.rest().await, "-ERR 'Authentication Timeout'\r\n");
    let mut client = server.connect().await;
    client.send("CONNECT {\"verbose\":false,\"user\":\"u\",\"pass\":\"p\"}\r\n").await;
    assert_eq!(client.sync().await, "");
    assert_eq!(server.hub.connections_snapshot(false)[0].account, "A");
    // Who came in stays: one that came later and stayed silent is cut before.
    let mut later = server.connect().await;
    assert_eq!(later.rest().await, "-ERR 'Authentication Timeout'\r\n");
    assert_eq!(client.sync().await, "");
    eventually("closed connections are remembered", || {
        let closed = server.hub.closed_connections_snapshot();
        let count = |wanted| closed.iter().filter(|connection| connection.reason == Some(wanted)).count();
        count(CloseReason::AuthenticationViolation) == 3 && count(CloseReason::AuthenticationTimeout) == 2
    })
    .await;
}

#[tokio::test]
async fn changed_users_are_applied_to_those_who_are_in() {
    let user = |name: &str, permissions| StaticUser {
        user: name.into(),
        password: "p".into(),
        account: "A".into(),
        permissions,
    };
    let door = |users| Arc::new(StaticAuthenticator { users });
    let server = Server::with(Limits::default(), door(vec![user("a", None), user("b", None)])).await;
    let (mut a, mut b) = (server.connect().await, server.connect().await);
    a.send("CONNECT {\"verbose\":false,\"user\":\"a\",\"pass\":\"p\"}\r\nSUB x 1\r\nSUB y 2\r\n").await;
    a.sync().await;
    b.send("CONNECT {\"verbose\":false,\"user\":\"b\",\"pass\":\"p\"}\r\n").await;
    b.sync().await;
    let rules = RuleSet { allow: None, deny: vec![Rule::parse("x")] };
    let permissions = Permissions { subscribe: rules, ..Permissions::default() };
    server.hub.set_authenticator(door(vec![user("a", Some(Arc::new(permissions)))]));
    server.hub.recheck_credentials().await;
    assert_eq!(b.rest().await, "", "who does not exist any more is closed without a word");
    assert_eq!(a.sync().await, "-ERR 'Permissions Violation for Subscription to \"x\" (sid \"1\")'\r\n");
    assert_eq!(server.hub.subscription_count(), 1);
}

#[tokio::test]
async fn operations_behind_a_slow_connect_wait_for_it() {
    let password = bcrypt::hash("secret", 4).expect("valid cost");
    let user = StaticUser { user: "u".into(), password, account: "A".into(), permissions: None };
    let door = StaticAuthenticator { users: vec![user] };
    let server = Server::with(Limits::default(), Arc::new(door)).await;
    let mut client = server.connect().await;
    client
        .send("CONNECT {\"verbose\":false,\"user\":\"u\",\"pass\":\"secret\"}\r\nSUB a 1\r\nPUB a 1\r\nx\r\n")
        .await;
    assert_eq!(client.sync().await, "MSG a 1 1\r\nx\r\n");
}

#[tokio::test]
async fn permissions_bound_what_a_user_may_do() {
    let rules = |allow: &[&str], deny: &[&str]| RuleSet {
        allow: Some(allow.iter().map(|text| Rule::parse(text)).collect()),
        deny: deny.iter().map(|text| Rule::parse(text)).collect(),
    };
    let permissions = Permissions {
        publish: rules(&["a.>"], &["a.x"]),
        subscribe: rules(&["a.>"], &["a.secret"]),
        ..Permissions::default()
    };
    let user = |name: &str, permissions| StaticUser {
        user: name.into(),
        password: "p".into(),
        account: "A".into(),
        permissions,
    };
    let users = vec![user("bound", Some(Arc::new(permissions))), user("free", None)];
    let door = StaticAuthenticator { users };
    let server = Server::with(Limits::default(), Arc::new(door)).await;
    let mut bound = server.connect().await;
    bound.send("CONNECT {\"verbose\":false,\"user\":\"bound\",\"pass\":\"p\"}\r\n").await;
    bound.send("PUB b 0\r\n\r\nPUB a.x 0\r\n\r\nSUB b 1\r\nSUB > q 2\r\nSUB a.* 3\r\n").await;
    assert_eq!(
        bound.sync().await,
        "-ERR 'Permissions Violation for Publish to \"b\"'\r\n\
         -ERR 'Permissions Violation for Publish to \"a.x\"'\r\n\
         -ERR 'Permissions Violation for Subscription to \"b\"'\r\n\
         -ERR 'Permissions Violation for Subscription to \">\" using queue \"q\"'\r\n"
    );
    let mut free = server.connect().await;
    free.send("CONNECT {\"verbose\":false,\"user\":\"free\",\"pass\":\"p\"}\r\nPUB a.secret 1\r\ns\r\nPUB a.b 1\r\nb\r\n").await;
    free.sync().await;
    assert_eq!(bound.sync().await, "MSG a.b 3 1\r\nb\r\n");
}

#[tokio::test]
async fn accounts_do_not_hear_each_other() {
    let user = |name: &str| StaticUser {
        user: name.into(),
        password: "p".into(),
        account: name.to_uppercase(),
        permissions: None,
    };
    let door = StaticAuthenticator { users: vec![user("a"), user("b")] };
    let server = Server::with(Limits::default(), Arc::new(door)).await;
    let (mut a, mut b) = (server.connect().await, server.connect().await);
    a.send("CONNECT {\"verbose\":false,\"user\":\"a\",\"pass\":\"p\"}\r\nSUB > 1\r\n").await;
    a.sync().await;
    b.send("CONNECT {\"verbose\":false,\"user\":\"b\",\"pass\":\"p\"}\r\nPUB x 0\r\n\r\n").await;
    b.sync().await;
    assert_eq!(a.sync().await, "");
}

#[tokio::test]
async fn limits_on_connections_and_subscriptions_hold() {
    let limits = Limits { max_connections: 1, max_subscriptions: 1, ..Limits::default() };
    let server = Server::with(limits, Arc::new(OpenDoor)).await;
    let mut first = server.client().await;
    first.send("SUB a 1\r\nSUB b 2\r\n").await;
    assert_eq!(first.sync().await, "-ERR 'maximum subscriptions exceeded'\r\n");
    let mut second = server.connect().await;
    assert_eq!(second.rest().await, "-ERR 'maximum connections exceeded'\r\n");
    drop(first);
    eventually("the place is free again", || server.hub.connection_count() == 0).await;
    assert_eq!(server.hub.subscription_count(), 0);
    server.client().await;
}

#[tokio::test]
async fn silent_clients_are_pinged_and_cut() {
    let limits = Limits { ping_interval: Duration::from_millis(50), ping_max: 2, ..Limits::default() };
    let server = Server::with(limits, Arc::new(OpenDoor)).await;
    let mut client = server.connect().await;
    client.send(&format!("{QUIET}\r\n")).await;
    let rest = client.rest().await;
    assert!(rest.starts_with("PING\r\n") && rest.ends_with("-ERR 'Stale Connection'\r\n"), "{rest}");
    eventually("it is counted", || server.hub.counters().stale_connections() == 1).await;
}

#[tokio::test]
async fn a_slow_consumer_is_cut_and_nobody_else() {
    let limits = Limits { max_pending: 256 * 1024, ..Limits::default() };
    let server = Server::with(limits, Arc::new(OpenDoor)).await;
    let (mut publisher, mut slow, mut other) =
        (server.client().await, server.client().await, server.client().await);
    slow.send("SUB foo 1\r\n").await;
    slow.sync().await;
    other.send("SUB bar 1\r\n").await;
    other.sync().await;
    let chunk = format!("PUB foo 32000\r\n{}\r\n", "x".repeat(32000)).repeat(8);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while server.hub.counters().slow_consumers() == 0 {
        assert!(tokio::time::Instant::now() < deadline, "the slow consumer was not cut");
        publisher.send(&chunk).await;
    }
    publisher.send("PUB bar 1\r\nb\r\n").await;
    publisher.sync().await;
    assert_eq!(other.sync().await, "MSG bar 1 1\r\nb\r\n");
    assert_eq!(server.hub.connection_count(), 2);
}

#[tokio::test]
async fn code_inside_subscribes_and_publishes() {
    let server = Server::open().await;
    let account = server.hub.global_account();
    let count = Arc::new(AtomicUsize::new(0));
    let (seen, answering) = (Arc::clone(&count), Arc::clone(&account));
    let service = account.subscribe_internal(
        "svc.*",
        None,
        Arc::new(move |message| {
            seen.fetch_add(1, Ordering::Relaxed);
            if let Some(reply) = message.reply {
                answering.publish(reply, None, b"", message.payload);
            }
        }),
    );
    let mut client = server.client().await;
    client.send("SUB r 1\r\nPUB svc.a r 3\r\nabc\r\n").await;
    assert_eq!(client.sync().await, "MSG r 1 3\r\nabc\r\n");
    assert_eq!(account.publish_as(b"r", b"orders.new", Some(b"ack"), b"", b"x"), 1);
    assert_eq!(client.sync().await, "MSG orders.new 1 ack 1\r\nx\r\n");
    let batch = [b"r".as_slice(), b"none", b"svc.b"].map(|subject| OutboundMessage {
        subject,
        payload: b"1",
        ..OutboundMessage::default()
    });
    let mut told = Vec::new();
    account.publish_batch_with(batch, |_, deliveries| told.push(deliveries));
    assert_eq!(told, [1, 0, 1]);
    assert_eq!(count.load(Ordering::Relaxed), 2);
    drop(service);
    assert!(!account.has_interest(b"svc.a"));
    assert_eq!(account.publish(b"svc.a", None, b"", b""), 0);
}

#[tokio::test]
async fn interest_can_be_watched() {
    let server = Server::open().await;
    let account = server.hub.global_account();
    let watched = account.watch_interest("deliver.x");
    let mut changes = account.interest_changes();
    assert!(!*watched.borrow());
    let mut client = server.client().await;
    client.send("SUB deliver.* 1\r\n").await;
    client.sync().await;
    assert!(*watched.borrow());
    assert!(tokio::time::timeout(PATIENCE, changes.changed()).await.is_ok());
    client.send("SUB deliver.x 2\r\nUNSUB 1\r\n").await;
    client.sync().await;
    assert!(*watched.borrow());
    drop(client);
    eventually("interest went with the client", || !*watched.borrow()).await;
}

#[tokio::test]
async fn listeners_of_just_a_subject_and_group_can_be_watched() {
    let server = Server::open().await;
    let account = server.hub.global_account();
    let (plain, member) =
        (account.watch_listeners("deliver.x", None), account.watch_listeners("deliver.x", Some("g")));
    let heard = || (*plain.borrow(), *member.borrow());
    let mut client = server.client().await;
    client.send("SUB deliver.* 1\r\nSUB deliver.x h 2\r\n").await;
    client.sync().await;
    assert_eq!(heard(), (false, false));
    client.send("SUB deliver.x g 3\r\n").await;
    client.sync().await;
    assert_eq!(heard(), (false, true));
    client.send("SUB deliver.x 4\r\nUNSUB 3\r\n").await;
    client.sync().await;
    assert_eq!(heard(), (true, false));
}

#[tokio::test]
async fn a_panic_ends_one_connection_only() {
    let server = Server::open().await;
    let account = server.hub.global_account();
    let _trap = account.subscribe_internal("trap", None, Arc::new(|_| panic!("on purpose")));
    let mut other = server.client().await;
    let mut victim = server.client().await;
    victim.send("SUB a 1\r\nPUB trap 0\r\n\r\n").await;
    victim.rest().await;
    assert_eq!(other.sync().await, "");
    eventually("the books are clean", || {
        server.hub.connection_count() == 1 && server.hub.subscription_count() == 1
    })
    .await;
}

#[tokio::test]
async fn lame_duck_mode_tells_clients_and_closes_them() {
    let server = Server::open().await;
    let mut client = server.connect().await;
    client.send("CONNECT {\"verbose\":false,\"protocol\":1}\r\nPING\r\n").await;
    client.until("PONG\r\n").await;
    client.until("\r\n").await;
    let hub = Arc::clone(&server.hub);
    let leaving = tokio::spawn(async move {
        hub.enter_lame_duck(Duration::from_millis(60), Duration::from_millis(20)).await
    });
    assert!(client.until("\r\n").await.contains("\"ldm\":true"));
    client.rest().await;
    assert!(leaving.await.is_ok());
    eventually("the port is closed", || std::net::TcpStream::connect(("127.0.0.1", server.port)).is_err())
        .await;
}

#[tokio::test]
async fn shutdown_closes_everything() {
    let server = Server::open().await;
    let mut client = server.client().await;
    client.send("SUB a 1\r\n").await;
    client.sync().await;
    server.hub.shutdown(PATIENCE).await;
    client.rest().await;
    assert_eq!((server.hub.connection_count(), server.hub.subscription_count()), (0, 0));
}
