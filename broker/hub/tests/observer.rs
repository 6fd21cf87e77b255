//! Who is told of clients that come and go, and what is counted of those that are gone.

mod door;

use door::{StaticAuthenticator, StaticUser};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use weir_hub::{Account, Authenticator, CloseReason, ConnectionSnapshot, Hub, HubOptions, Limits, Observer};

const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Notes {
    fn add(&self, text: String) {
        self.0.lock().expect("not poisoned").push(text);
    }

    async fn until(&self, wanted: usize) -> Vec<String> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let seen = self.0.lock().expect("not poisoned").clone();
            if seen.len() >= wanted {
                return seen;
            }
            assert!(tokio::time::Instant::now() < deadline, "only {seen:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Observer for Notes {
    fn connected(&self, connection: &ConnectionSnapshot) {
        self.add(format!("connected {} {}", connection.account, connection.authorized_user));
    }

    fn disconnected(&self, connection: &ConnectionSnapshot) {
        let reason = connection.reason.map(CloseReason::text).unwrap_or_default();
        let list: Vec<_> = connection.subscription_list.iter().map(|one| one.subject.as_str()).collect();
        self.add(format!("gone {} {} {reason} {list:?}", connection.account, connection.in_messages));
    }

    fn authentication_failed(
        &self,
        connection: &ConnectionSnapshot,
        reason: CloseReason,
        _: Option<&Arc<Account>>,
    ) {
        self.add(format!("refused {} {}", connection.authorized_user, reason.text()));
    }

    fn account_added(&self, account: &Arc<Account>) {
        self.add(format!("added {}", account.name()));
    }

    fn account_changed(&self, account: &Arc<Account>) {
        self.add(format!("changed {} {}", account.name(), account.connection_count()));
    }
}

async fn converse(port: u16, text: &str, until: &str) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("a connection");
    stream.write_all(text.as_bytes()).await.expect("the server reads");
    let mut received = Vec::new();
    let read = async {
        while !String::from_utf8_lossy(&received).contains(until) {
            if stream.read_buf(&mut received).await.unwrap_or(0) == 0 {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("an answer in time");
}

fn user(name: &str) -> StaticUser {
    StaticUser { user: name.into(), password: "pw".into(), account: "A".into(), permissions: None }
}

#[tokio::test]
async fn an_observer_is_told_of_clients_that_come_go_and_are_refused() {
    let door: Arc<dyn Authenticator> = Arc::new(StaticAuthenticator { users: vec![user("u")] });
    let options = HubOptions { system_account: "OPS".to_owned(), ..HubOptions::default() };
    let hub = Hub::new(options, Limits::default(), door);
    assert_eq!(hub.system_account().name(), "OPS");
    assert!(hub.account("$SYS").is_none());
    let notes = Arc::new(Notes::default());
    hub.set_observer(Arc::clone(&notes) as Arc<dyn Observer>);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(Arc::clone(&hub).serve(listener));

    let login = r#"CONNECT {"verbose":false,"user":"u","pass":"pw"}"#;
    converse(port, &format!("{login}\r\nSUB a.b 1\r\nPUB x 2\r\nhi\r\nPING\r\n"), "PONG").await;
    let seen = notes.until(5).await;
    assert_eq!(
        seen,
        ["added A", "changed A 1", "connected A u", "changed A 0", "gone A 1 Client Closed [\"a.b\"]"]
    );
    converse(port, "CONNECT {\"user\":\"u\",\"pass\":\"no\"}\r\n", "Authorization Violation").await;
    let seen = notes.until(7).await;
    assert_eq!(seen[5..], ["refused u Authentication Failure", "gone  0 Authentication Failure []"]);
    let traffic = hub.account_traffic();
    assert_eq!((traffic["A"].in_messages, traffic["A"].in_bytes), (1, 2));
}

#[tokio::test]
async fn closed_connections_are_remembered_up_to_the_limit() {
    let limits = Limits { max_closed_clients: 2, ..Limits::default() };
    let hub = Hub::new(HubOptions::default(), limits, Arc::new(weir_hub::OpenDoor));
    let notes = Arc::new(Notes::default());
    hub.set_observer(Arc::clone(&notes) as Arc<dyn Observer>);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(Arc::clone(&hub).serve(listener));
    for name in ["one", "two", "three"] {
        converse(port, &format!("CONNECT {{\"name\":\"{name}\"}}\r\nPING\r\n"), "PONG").await;
        let count = notes.0.lock().expect("not poisoned").len();
        notes.until(count.max(1)).await;
    }
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let names: Vec<_> = hub.closed_connections_snapshot().into_iter().map(|one| one.name).collect();
        if names.len() == 2 && hub.connection_count() == 0 {
            assert!(names.contains(&"three".to_owned()) || names.contains(&"two".to_owned()), "{names:?}");
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{names:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
