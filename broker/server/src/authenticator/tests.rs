//! Claims this: configured users get in with what is configured for them, and with nothing else.

use std::{net::SocketAddr, sync::Arc};

use weir_auth::nkey::{KeyPair, Kind};
use weir_conf::{SubjectPermission, UserConfig, WebSocketOptions};
use weir_hub::{HubOptions, Limits, OpenDoor, TransportFacts};

use super::*;

fn user(name: &str, password: &str, account: &str) -> UserConfig {
    UserConfig {
        account: account.to_owned(),
        user: name.to_owned(),
        password: password.to_owned(),
        ..UserConfig::default()
    }
}

fn gatekeeper(options: &Options) -> Arc<Gatekeeper> {
    let hub = Hub::new(HubOptions::default(), Limits::default(), Arc::new(OpenDoor));
    let keys = Arc::new(ServerKeys::draw().expect("randomness"));
    Gatekeeper::new(options, &hub, &keys, None)
}

fn credentials(change: impl FnOnce(&mut ConnectOptions)) -> Credentials {
    let mut options = ConnectOptions::default();
    change(&mut options);
    Credentials {
        options,
        connection: 1,
        started: weir_stdx::time::UnixNanos(0),
        address: SocketAddr::from(([127, 0, 0, 1], 1)),
        nonce: "nonce".to_owned(),
        transport: Arc::default(),
    }
}

fn login(user: &str, pass: &str, token: &str) -> Credentials {
    credentials(|options| {
        user.clone_into(&mut options.user);
        pass.clone_into(&mut options.pass);
        token.clone_into(&mut options.auth_token);
    })
}

async fn account(gatekeeper: &Gatekeeper, credentials: &Credentials) -> Option<String> {
    gatekeeper.authenticate(credentials).verdict().await.ok().map(|principal| principal.account)
}

#[tokio::test]
async fn without_users_the_door_is_open() {
    assert!(!is_required(&Options::default()));
    let door = gatekeeper(&Options::default());
    assert!(!door.is_required(ConnectionKind::Standard) && !door.nonce_required());
    assert_eq!(account(&door, &login("any", "thing", "")).await.as_deref(), Some("$G"));
}

#[tokio::test]
async fn only_the_right_password_lets_in() {
    // "secret" at the lowest cost.
    let hash = "$2a$04$LRXgkl.hjzhlJKz/XUpyzOyWPL7tQoXYKsaU9hPzgjeJSInvTvuLq";
    let options =
        Options { users: vec![user("plain", "pw", "A"), user("hashed", hash, "B")], ..Options::default() };
    let door = gatekeeper(&options);
    assert!(is_required(&options) && door.is_announced(ConnectionKind::Standard));
    assert_eq!(account(&door, &login("plain", "pw", "")).await.as_deref(), Some("A"));
    for (name, password) in [("plain", "p"), ("plain", ""), ("hashed", hash), ("none", "pw"), ("", "")] {
        assert_eq!(account(&door, &login(name, password, "")).await, None, "{name} {password}");
    }
    assert!(door.authenticate_silent(&login("", "", "")).is_none());
}

#[tokio::test]
async fn a_token_must_match_whole() {
    let door = gatekeeper(&Options { auth_token: Some("tok".to_owned()), ..Options::default() });
    assert_eq!(account(&door, &login("", "", "tok")).await.as_deref(), Some("$G"));
    for token in ["", "t", "toktok", "tik"] {
        assert_eq!(account(&door, &login("", "", token)).await, None, "{token}");
    }
    assert_eq!(account(&door, &login("tok", "", "")).await, None);
}

#[tokio::test]
async fn somebody_stands_in_for_clients_that_say_nothing() {
    let options = Options {
        users: vec![user("guest", "x", "A")],
        no_auth_user: Some("guest".to_owned()),
        ..Options::default()
    };
    let door = gatekeeper(&options);
    assert!(door.is_required(ConnectionKind::Standard) && !door.is_announced(ConnectionKind::Standard));
    assert_eq!(account(&door, &login("", "", "")).await.as_deref(), Some("A"));
    assert_eq!(account(&door, &login("guest", "wrong", "")).await, None);
    let silent = door.authenticate_silent(&login("", "", "")).expect("let in");
    assert_eq!(silent.verdict().await.map(|principal| principal.account), Ok("A".to_owned()));
}

#[tokio::test]
async fn an_nkey_must_sign_the_nonce() {
    use base64::Engine as _;
    let key = KeyPair::from_random(Kind::User, &[1; 32]).expect("a key");
    let known = UserConfig { nkey: Some(key.public()), ..user("", "", "A") };
    let door = gatekeeper(&Options { users: vec![known], ..Options::default() });
    assert!(door.nonce_required());
    let signed = |nonce: &[u8]| {
        let signature = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(key.sign(nonce));
        credentials(|options| {
            options.nkey = key.public();
            options.sig = signature;
        })
    };
    assert_eq!(account(&door, &signed(b"nonce")).await.as_deref(), Some("A"));
    assert_eq!(account(&door, &signed(b"other")).await, None);
}

#[tokio::test]
async fn connection_types_and_proxies_bound_a_user() {
    use base64::Engine as _;
    let proxy = KeyPair::from_random(Kind::User, &[5; 32]).expect("a key");
    let websocket =
        UserConfig { allowed_connection_types: ["WEBSOCKET".to_owned()].into(), ..user("ws", "p", "A") };
    let proxied = UserConfig { proxy_required: true, ..user("px", "p", "A") };
    let options = Options {
        users: vec![websocket, proxied],
        proxies: vec![weir_conf::TrustedProxy { key: proxy.public() }],
        ..Options::default()
    };
    let door = gatekeeper(&options);
    assert_eq!(account(&door, &login("ws", "p", "")).await, None);
    let facts = TransportFacts { kind: ConnectionKind::WebSocket, ..TransportFacts::default() };
    let by_websocket = Credentials { transport: Arc::new(facts), ..login("ws", "p", "") };
    assert_eq!(account(&door, &by_websocket).await.as_deref(), Some("A"));
    let refusal = door.authenticate(&login("px", "p", "")).verdict().await.expect_err("refused");
    assert_eq!(refusal.reason, CloseReason::ProxyRequired);
    let with = |signature: String| {
        let mut credentials = login("px", "p", "");
        credentials.options.proxy_sig = signature;
        credentials
    };
    let signature = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(proxy.sign(b"nonce"));
    assert_eq!(account(&door, &with(signature)).await.as_deref(), Some("A"));
    let refusal = door.authenticate(&with("AAAA".to_owned())).verdict().await.expect_err("refused");
    assert_eq!(refusal.reason, CloseReason::ProxyNotTrusted);
}

#[tokio::test]
async fn websockets_may_have_a_login_of_their_own() {
    let websocket = WebSocketOptions {
        username: Some("w".to_owned()),
        password: Some("p".to_owned()),
        ..Default::default()
    };
    let door = gatekeeper(&Options { websocket: Some(websocket), ..Options::default() });
    assert!(door.is_required(ConnectionKind::WebSocket) && !door.is_required(ConnectionKind::Standard));
    let facts = TransportFacts { kind: ConnectionKind::WebSocket, ..TransportFacts::default() };
    let by_websocket = |credentials| Credentials { transport: Arc::new(facts.clone()), ..credentials };
    assert!(account(&door, &by_websocket(login("w", "p", ""))).await.is_some());
    assert!(account(&door, &by_websocket(login("w", "x", ""))).await.is_none());
}

#[test]
fn permissions_reach_the_hub() {
    let publish = SubjectPermission { allow: Some(vec!["a.>".to_owned()]), deny: vec!["a.x".to_owned()] };
    let granted = weir_conf::Permissions { publish: Some(publish), ..weir_conf::Permissions::default() };
    let granted = configured_permissions(&granted);
    assert!(granted.may_publish(b"a.b") && !granted.may_publish(b"a.x") && !granted.may_publish(b"b"));
}

#[test]
fn plain_secrets_are_told_from_hashes() {
    let with = |password: &str| Options { users: vec![user("u", password, "A")], ..Options::default() };
    assert!(has_plain_secrets(&with("p")));
    assert!(!has_plain_secrets(&with("$2a$11$abc")));
    assert!(!has_plain_secrets(&Options::default()));
}
