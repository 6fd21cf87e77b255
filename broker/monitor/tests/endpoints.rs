//! The endpoints over a made-up source: the keys are those that nats-server 2.15.1 prints, in its
//! order; parameters and refusals are worded as there.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use weir_jsapi::{config::StreamConfig, stream::StreamState, time::Time};
use weir_monitor::{
    Account, Connection, Health, JetStream, JetStreamAccount, JetStreamStream, MetaGroup, Monitor, Presence,
    Queue, RaftGroup, Route, Server, ServerSettings, Source, SubjectRules, Subscription, Wanted,
};

#[derive(Default)]
struct Fake {
    behind: AtomicBool,
    without_jetstream: bool,
    draining: bool,
    requests: Mutex<BTreeMap<String, u64>>,
}

fn subscription(subject: &str) -> Subscription {
    let (account, sid) = ("$G".to_owned(), "1".to_owned());
    Subscription { account, subject: subject.to_owned(), sid, cid: 7, ..Subscription::default() }
}

impl Source for Fake {
    fn server(&self) -> Server {
        let settings = ServerSettings {
            server_id: "NID".to_owned(),
            server_name: "a".to_owned(),
            feature_flags: BTreeMap::from([("flag".to_owned(), false)]),
            ..ServerSettings::default()
        };
        Server { settings, now: Time::from_unix_nanos(3_600_000_000_000), ..Server::default() }
    }

    fn connections(&self, wanted: Wanted) -> Vec<Connection> {
        let connection = |cid: u64, out_msgs: u64| Connection {
            cid,
            out_msgs,
            start: Time::from_unix_nanos(0),
            account: "$G".to_owned(),
            authorized_user: format!("user-{cid}"),
            subscriptions: if wanted.subscriptions { vec![subscription("a.>")] } else { vec![] },
            ..Connection::default()
        };
        let mut found = Vec::new();
        if wanted.open {
            found.extend([connection(9, 1), connection(7, 5), connection(8, 3)]);
        }
        if wanted.closed {
            let stop = Some(Time::from_unix_nanos(1));
            found.push(Connection { stop, reason: "Client Closed".to_owned(), ..connection(6, 0) });
        }
        found
    }

    fn route_rules(&self) -> (Option<SubjectRules>, Option<SubjectRules>) {
        (None, None)
    }

    fn routes(&self, _: bool) -> Vec<Route> {
        vec![Route { rid: 3, remote_name: "b".to_owned(), ..Route::default() }]
    }

    fn subscriptions(&self, _: Option<&str>) -> Vec<Subscription> {
        vec![subscription("a.>"), subscription("b")]
    }

    fn raft_groups(&self) -> Option<Vec<RaftGroup>> {
        None
    }

    fn queues(&self) -> Vec<Queue> {
        Vec::new()
    }

    fn command_line(&self) -> Vec<String> {
        vec!["weir".to_owned()]
    }

    fn http_requests(&self) -> BTreeMap<String, u64> {
        self.requests.lock().expect("not poisoned").clone()
    }

    fn count_http_request(&self, path: &'static str) {
        *self.requests.lock().expect("not poisoned").entry(path.to_owned()).or_insert(0) += 1;
    }

    fn accounts(&self) -> Vec<Account> {
        vec![Account { name: "$G".to_owned(), subscriptions: 2, jetstream: true, ..Account::default() }]
    }

    fn jetstream(&self, _: bool) -> Option<JetStream> {
        if self.without_jetstream {
            return None;
        }
        let stream = JetStreamStream {
            config: StreamConfig { name: "S".to_owned(), ..StreamConfig::default() },
            created: Time::ZERO,
            state: StreamState { messages: 5, ..StreamState::default() },
            cluster: None,
            mirror: None,
            sources: Vec::new(),
            is_leader: true,
            consumers: Vec::new(),
            direct_consumers: Vec::new(),
        };
        let account =
            JetStreamAccount { name: "$G".to_owned(), streams: vec![stream], ..JetStreamAccount::default() };
        let meta = MetaGroup { cluster_size: 3, ..MetaGroup::default() };
        Some(JetStream { accounts: vec![account], meta: Some(meta), ..JetStream::default() })
    }

    fn health(&self) -> Health {
        let behind = self.behind.load(Ordering::Relaxed).then(|| "stream S: 3 behind".to_owned());
        Health {
            accepting: !self.draining,
            jetstream_configured: !self.without_jetstream,
            jetstream_running: !self.without_jetstream,
            meta_problem: None,
            behind: behind.into_iter().collect(),
        }
    }

    fn presence(&self, account: &str, stream: &str, consumer: Option<&str>) -> Presence {
        match (account, stream, consumer) {
            ("$G", "S", None) => Presence::Healthy,
            ("$G", "S", Some(_)) => Presence::NoConsumer,
            ("$G", ..) => Presence::NoStream,
            _ => Presence::NoAccount,
        }
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

/// One request over a real socket.
async fn get(source: Arc<Fake>, base_path: &str, path: &str) -> Answer {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let base_path = base_path.to_owned();
    let server = tokio::spawn(async move {
        weir_monitor::serve(listener, Monitor::new(source), &base_path, std::future::pending()).await;
    });
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("answered");
    server.abort();
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

async fn ask(path: &str) -> Answer {
    get(Arc::default(), "", path).await
}

/// The keys of the outermost object in the order printed: two blanks of indentation, then a quote.
fn keys(body: &str) -> String {
    let lines = body.lines().filter_map(|line| line.strip_prefix("  \""));
    lines.filter_map(|line| line.split('"').next()).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn the_keys_are_those_of_nats_server_in_its_order() {
    let table = [
        (
            "/varz",
            "server_id server_name version proto git_commit go host port max_connections \
             ping_interval ping_max http_host http_port http_base_path https_port auth_timeout \
             max_control_line max_payload max_pending cluster gateway leaf mqtt websocket jetstream \
             tls_timeout write_deadline start now uptime mem cores gomaxprocs cpu connections \
             total_connections routes remotes leafnodes in_msgs in_bytes in_client_msgs \
             in_client_bytes out_msgs out_bytes out_client_msgs out_client_bytes slow_consumers \
             stale_connections stalled_clients subscriptions http_req_stats config_load_time \
             config_digest feature_flags slow_consumer_stats stale_connection_stats \
             disk_io_wait_stats",
        ),
        ("/connz", "server_id now num_connections total offset limit connections"),
        ("/routez", "server_id server_name now num_routes routes"),
        (
            "/subsz",
            "server_id now num_subscriptions num_cache num_inserts num_removes num_matches \
             cache_hit_rate max_fanout avg_fanout total offset limit",
        ),
        (
            "/jsz",
            "memory storage reserved_memory reserved_storage accounts ha_assets api server_id now \
             config limits streams consumers messages bytes meta_cluster total",
        ),
        ("/accountz", "server_id now accounts"),
        ("/gatewayz", "server_id now outbound_gateways inbound_gateways"),
        ("/leafz", "server_id now leafnodes leafs"),
    ];
    for (path, wanted) in table {
        let answer = ask(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.head.contains("content-type: application/json"), "{path}");
        assert!(answer.head.contains("access-control-allow-origin: *"), "{path}");
        let wanted = wanted.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(keys(&answer.body), wanted, "{path}");
    }
}

#[tokio::test]
async fn refusals_are_worded_as_in_nats_server() {
    let table = [
        ("/connz?sort=zz", "invalid sorting option: zz"),
        ("/connz?sort=stop", "sort by stop only valid on closed connections"),
        ("/connz?state=zz", "Error decoding state for zz"),
        ("/connz?limit=x", "Error decoding int for 'limit': strconv.Atoi: parsing \"x\": invalid syntax"),
        ("/connz?cid=x", "Error decoding uint64 for 'cid': strconv.ParseUint: parsing \"x\": invalid syntax"),
        (
            "/jsz?accounts=foo",
            "Error decoding boolean for 'accounts': strconv.ParseBool: parsing \"foo\": invalid syntax",
        ),
        ("/jsz?leader-only=1", "filtered response: not leader"),
        ("/accountz?acc=zz", "Account zz does not exist"),
        ("/subsz?test=a..b", "invalid test subject, must be valid publish subject: a..b"),
    ];
    for (path, wanted) in table {
        let answer = ask(path).await;
        assert_eq!((answer.status, answer.body.as_str()), (400, wanted), "{path}");
    }
    let answer = ask("/foo").await;
    assert_eq!((answer.status, answer.body.as_str()), (404, "404 page not found\n"));
}

fn cids(body: &str) -> Vec<u64> {
    let parsed: serde_json::Value = serde_json::from_str(body).expect("JSON");
    let list = parsed["connections"].as_array().expect("connections").iter();
    list.filter_map(|connection| connection["cid"].as_u64()).collect()
}

#[tokio::test]
async fn connections_are_sorted_filtered_and_paged() {
    let table: [(&str, &[u64]); 8] = [
        ("/connz", &[7, 8, 9]),
        ("/connz?sort=msgs_to", &[7, 8, 9]),
        ("/connz?sort=msgs_to&limit=1&offset=1", &[8]),
        ("/connz?state=closed", &[6]),
        ("/connz?state=any&sort=cid", &[6, 7, 8, 9]),
        ("/connz?cid=8", &[8]),
        ("/connz?user=user-9", &[9]),
        ("/connz?filter_subject=zz&limit=2", &[7, 8]),
    ];
    for (path, wanted) in table {
        assert_eq!(cids(&ask(path).await.body), wanted, "{path}");
    }
    let detail = ask("/connz?subs=detail&auth=1&limit=1").await.body;
    assert!(detail.contains("\"subject\": \"a.\\u003e\""), "{detail}");
    assert!(detail.contains("\"authorized_user\": \"user-7\""), "{detail}");
    assert!(!ask("/connz").await.body.contains("authorized_user"));
}

#[tokio::test]
async fn jetstream_goes_as_deep_as_asked() {
    assert!(!ask("/jsz").await.body.contains("account_details"));
    let accounts = ask("/jsz?accounts=1").await.body;
    assert!(accounts.contains("account_details") && !accounts.contains("stream_detail"));
    let streams = ask("/jsz?streams=1").await.body;
    assert!(
        streams.contains("\"name\": \"S\"") && !streams.contains("\"config\": {\n              \"name\"")
    );
    let other = ask("/jsz?acc=X&streams=1").await.body;
    assert!(!other.contains("account_details"));
    let without = Arc::new(Fake { without_jetstream: true, ..Fake::default() });
    assert!(get(without, "", "/jsz").await.body.contains("\"disabled\": true"));
}

#[tokio::test]
async fn health_is_answered_as_by_nats_server() {
    let table = [
        ("/healthz", 200, r#"{"status":"ok"}"#),
        ("/healthz?js-server-only=true", 200, r#"{"status":"ok"}"#),
        ("/healthz?account=$G&stream=S", 200, r#"{"status":"ok"}"#),
        (
            "/healthz?account=$G&stream=X",
            404,
            r#"{"status":"unavailable","error":"JetStream stream \"X\" not found on account \"$G\""}"#,
        ),
        (
            "/healthz?account=X&stream=S",
            404,
            r#"{"status":"unavailable","error":"JetStream account \"X\" not found"}"#,
        ),
        (
            "/healthz?account=$G&stream=S&consumer=zz",
            404,
            r#"{"status":"unavailable","error":"JetStream consumer \"zz\" not found for stream \"S\" on account \"$G\""}"#,
        ),
        (
            "/healthz?stream=S",
            400,
            r#"{"status":"error","error":"\"account\" must not be empty when checking stream health"}"#,
        ),
        (
            "/healthz?account=$G&stream=X&details=true",
            404,
            r#"{"status":"error","errors":[{"type":"STREAM","account":"$G","stream":"X","error":"JetStream stream \"X\" not found on account \"$G\""}]}"#,
        ),
    ];
    for (path, status, body) in table {
        let answer = ask(path).await;
        assert_eq!((answer.status, answer.body.as_str()), (status, body), "{path}");
    }
}

#[tokio::test]
async fn a_server_that_is_behind_is_not_ready_but_alive() {
    let source = Arc::new(Fake::default());
    source.behind.store(true, Ordering::Relaxed);
    let ready = get(Arc::clone(&source), "", "/healthz?weir-caught-up=true").await;
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("stream S: 3 behind"), "{}", ready.body);
    assert_eq!(get(Arc::clone(&source), "", "/healthz?js-server-only=true").await.status, 200);
    source.behind.store(false, Ordering::Relaxed);
    assert_eq!(get(source, "", "/healthz?weir-caught-up=true").await.status, 200);
    let draining = Arc::new(Fake { draining: true, ..Fake::default() });
    assert_eq!(get(draining, "", "/healthz?js-server-only=true").await.status, 503);
}

#[tokio::test]
async fn the_base_path_stands_before_every_endpoint() {
    assert_eq!(get(Arc::default(), "/zz", "/zz/varz").await.status, 200);
    assert_eq!(get(Arc::default(), "/zz", "/zz").await.status, 200);
    assert_eq!(get(Arc::default(), "/zz", "/varz").await.status, 404);
}

#[tokio::test]
async fn metrics_name_each_stream() {
    let answer = ask("/metrics").await;
    assert!(answer.head.contains("text/plain; version=0.0.4"));
    assert!(answer.body.contains("weir_stream_messages{account=\"$G\",stream=\"S\"} 5\n"));
    assert!(answer.body.contains("\nweir_meta_members 3\n"));
}
