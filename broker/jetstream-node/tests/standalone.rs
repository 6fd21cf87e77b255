//! JetStream on a single server, in one process: what a client would do through the hub, and restarts on the same
//! store. Not the wire protocol: the black-box tests have that.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;
use weir_hub::{Account, Hub, HubOptions, Limits, OpenDoor};
use weir_jetstream_node::{
    AccountShare, BatchLimits, IngestLimits, JetStreamNode, NodeOptions, ServerLimits, ServerRoom, StartError,
};
use weir_storage::{StorageError, SyncPolicy};

const DEADLINE: Duration = Duration::from_secs(10);

struct Server {
    node: Arc<JetStreamNode>,
    account: Arc<Account>,
}

/// Starts on the store, once the server before has let go of it.
async fn start(store: &Path) -> Server {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        match try_start(store).await {
            Ok(server) => return server,
            Err(StartError::Storage(StorageError::InUse { .. }))
                if tokio::time::Instant::now() < deadline =>
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) => panic!("JetStream starts: {error}"),
        }
    }
}

async fn try_start(store: &Path) -> Result<Server, StartError> {
    let hub = Hub::new(HubOptions::default(), Limits::default(), Arc::new(OpenDoor));
    let options = NodeOptions {
        server_name: "one".to_owned(),
        store_dir: store.to_owned(),
        sync: SyncPolicy::Always,
        encryption: None,
        room: ServerRoom {
            max_memory: 64 << 20,
            max_file: 256 << 20,
            limits: ServerLimits::default(),
            batches: BatchLimits::default(),
        },
        strict: true,
        scoped_acks: false,
        api_requests_max: 0,
        domain: None,
        ingest: IngestLimits::default(),
        accounts: BTreeMap::from([("$G".to_owned(), Some(AccountShare::default()))]),
        cluster: None,
    };
    let node = JetStreamNode::start(options, Arc::clone(&hub)).await?;
    Ok(Server { node, account: hub.global_account() })
}

/// Collects the payloads, replies and headers that arrive on a subject.
struct Inbox {
    subject: String,
    messages: Arc<Mutex<Vec<(String, String, String)>>>,
    arrived: Arc<Notify>,
    _subscription: weir_hub::InternalSubscription,
}

fn inbox(account: &Arc<Account>, subject: &str) -> Inbox {
    let messages: Arc<Mutex<Vec<_>>> = Arc::default();
    let arrived = Arc::new(Notify::new());
    let (sink, wake) = (Arc::clone(&messages), Arc::clone(&arrived));
    let subscription = account.subscribe_internal(
        subject,
        None,
        Arc::new(move |message| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let reply = text(message.reply.unwrap_or_default());
            sink.lock().push((text(message.payload), reply, text(message.headers)));
            wake.notify_one();
        }),
    );
    Inbox { subject: subject.to_owned(), messages, arrived, _subscription: subscription }
}

impl Inbox {
    async fn wait_for(&self, count: usize) -> Vec<(String, String, String)> {
        let waiting = async {
            while self.messages.lock().len() < count {
                self.arrived.notified().await;
            }
        };
        tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| {
            panic!("{} of {count} messages on {}", self.messages.lock().len(), self.subject)
        });
        self.messages.lock().clone()
    }
}

async fn ask(account: &Arc<Account>, subject: &str, body: &Value) -> Value {
    let reply = inbox(account, "_INBOX.test");
    let body =
        if body.is_null() { Vec::new() } else { serde_json::to_vec(body).expect("JSON values serialize") };
    account.publish(subject.as_bytes(), Some(b"_INBOX.test"), b"", &body);
    serde_json::from_str(&reply.wait_for(1).await[0].0).expect("the API answers in JSON")
}

async fn publish(account: &Arc<Account>, subject: &str, from: usize, to: usize) {
    let acks = inbox(account, "_INBOX.acks");
    for n in from..to {
        account.publish(subject.as_bytes(), Some(b"_INBOX.acks"), b"", format!("message {n}").as_bytes());
    }
    for (ack, ..) in acks.wait_for(to - from).await {
        assert!(ack.contains("\"seq\":") && !ack.contains("error"), "{ack}");
    }
}

/// What a start reads of the journal, in files.
fn journal_files_read(store: &Path) -> usize {
    let (_journal, recovery) =
        weir_storage::Journal::open(&store.join("journal"), weir_storage::JournalOptions::default())
            .expect("the node has closed it");
    assert!(recovery.unreadable.is_empty() && recovery.damages.is_empty(), "{recovery:?}");
    recovery.files
}

async fn create_stream(account: &Arc<Account>) {
    let config = json!({"name": "ORDERS", "subjects": ["ORDERS.*"]});
    let created = ask(account, "$JS.API.STREAM.CREATE.ORDERS", &config).await;
    assert_eq!(created["did_create"], json!(true), "{created}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_after_a_clean_stop_has_one_file_of_the_journal_to_read() {
    let store = tempfile::tempdir().unwrap();
    let server = start(store.path()).await;
    create_stream(&server.account).await;
    let (acks, payload) = (inbox(&server.account, "_INBOX.acks"), vec![b'x'; 512 << 10]);
    // The first file has 16 MiB.
    for _ in 0..40 {
        server.account.publish(b"ORDERS.new", Some(b"_INBOX.acks"), b"", &payload);
    }
    acks.wait_for(40).await;
    server.node.shutdown().await;
    assert_eq!(journal_files_read(store.path()), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_messages_are_there_after_a_clean_stop_and_after_an_unclean_one() {
    let store = tempfile::tempdir().unwrap();
    let server = start(store.path()).await;
    create_stream(&server.account).await;
    publish(&server.account, "ORDERS.new", 0, 500).await;
    server.node.shutdown().await;
    drop(server);

    let server = start(store.path()).await;
    publish(&server.account, "ORDERS.new", 500, 700).await;
    // No checkpoint this time: the journal alone holds the last 200.
    server.node.abandon();
    drop(server);

    let server = start(store.path()).await;
    let info = ask(&server.account, "$JS.API.STREAM.INFO.ORDERS", &Value::Null).await;
    assert_eq!(info["state"]["messages"], json!(700), "{info}");
    let last = ask(&server.account, "$JS.API.STREAM.MSG.GET.ORDERS", &json!({"seq": 700})).await;
    assert_eq!(last["message"]["data"], json!("bWVzc2FnZSA2OTk="), "{last}");
    server.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_consumer_gets_every_message_and_its_acks_survive_a_restart() {
    let store = tempfile::tempdir().unwrap();
    let server = start(store.path()).await;
    create_stream(&server.account).await;
    publish(&server.account, "ORDERS.new", 0, 20).await;
    let consumer =
        json!({"stream_name": "ORDERS", "config": {"durable_name": "review", "ack_policy": "explicit"}});
    let created = ask(&server.account, "$JS.API.CONSUMER.CREATE.ORDERS.review", &consumer).await;
    assert_eq!(created["num_pending"], json!(20), "{created}");

    let pulled = inbox(&server.account, "_INBOX.pull");
    let request = br#"{"batch":20,"expires":5000000000}"#;
    server.account.publish(b"$JS.API.CONSUMER.MSG.NEXT.ORDERS.review", Some(b"_INBOX.pull"), b"", request);
    let messages = pulled.wait_for(20).await;
    assert_eq!(messages[19].0, "message 19");
    // Confirmed acknowledgements are in the log.
    let confirmed = inbox(&server.account, "_INBOX.confirmed");
    for (_, ack, _) in &messages[..15] {
        server.account.publish(ack.as_bytes(), Some(b"_INBOX.confirmed"), b"", b"+ACK");
    }
    confirmed.wait_for(15).await;
    server.node.abandon();
    drop((pulled, confirmed, server));

    let server = start(store.path()).await;
    let info = ask(&server.account, "$JS.API.CONSUMER.INFO.ORDERS.review", &Value::Null).await;
    assert_eq!(info["ack_floor"]["stream_seq"], json!(15), "{info}");
    assert_eq!(info["num_ack_pending"], json!(5), "{info}");
    server.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_stream_is_gone_and_its_name_is_free() {
    let store = tempfile::tempdir().unwrap();
    let server = start(store.path()).await;
    create_stream(&server.account).await;
    publish(&server.account, "ORDERS.new", 0, 10).await;
    let deleted = ask(&server.account, "$JS.API.STREAM.DELETE.ORDERS", &Value::Null).await;
    assert_eq!(deleted["success"], json!(true), "{deleted}");
    let info = ask(&server.account, "$JS.API.STREAM.INFO.ORDERS", &Value::Null).await;
    assert_eq!(info["error"]["err_code"], json!(10059), "{info}");
    create_stream(&server.account).await;
    let info = ask(&server.account, "$JS.API.STREAM.INFO.ORDERS", &Value::Null).await;
    assert_eq!(info["state"]["messages"], json!(0), "{info}");
    server.node.shutdown().await;
}
