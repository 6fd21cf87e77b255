//! JWTs and the keys about them: whole tokens as they come, and claims signed here so that they are believed.

use serde_json::{Map, Value};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;
use weir_auth::jwt::{Account, Claims, Token, User, decode, decode_generic, encode, undecorated};
use weir_auth::nkey::{self, KeyPair, Kind};
use weir_auth::operator::{self, Presented, Trust};

const NOW_SECONDS: i64 = 1_750_000_000;
const NOW_NANOS: i128 = NOW_SECONDS as i128 * 1_000_000_000;

struct Keys {
    operator: KeyPair,
    account: KeyPair,
    user: KeyPair,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let make = |kind, random| KeyPair::from_random(kind, &[random; 32]).expect("a kind of key that signs");
    Keys { operator: make(Kind::Operator, 1), account: make(Kind::Account, 2), user: make(Kind::User, 3) }
});

/// Any text as token, key and decorated file.
pub(crate) fn token(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = decode(&text);
    let _ = decode_generic(&text);
    let inner = undecorated(&text);
    assert!(inner.len() <= text.len());
    if nkey::is_any_public(&text) {
        assert!(nkey::PublicKey::parse(&text).is_some());
    }
    let _ = nkey::parse_seed(&text);
    let _ = operator::check_signature(&KEYS.user.public(), "nonce", &text);
    let _ = weir_auth::source::Network::parse(&text);
    let _ = weir_auth::schedule::parse_time_of_day(&text);
    let _ = weir_auth::schedule::is_zone(&text);
    let _ = weir_auth::distinguished_name::DistinguishedName::parse(&text);
}

/// Any JSON as the claims of a token whose signature is right; what is believed is judged, written and read again.
pub(crate) fn claims(data: &[u8]) {
    let Ok(Value::Object(mut payload)) = serde_json::from_slice(data) else { return };
    let kind =
        payload.get("nats").and_then(|nats| nats.get("type")).and_then(Value::as_str).unwrap_or_default();
    let key = match kind {
        "operator" | "account" => &KEYS.operator,
        "authorization_response" | "user" | "activation" => &KEYS.account,
        _ => &KEYS.user,
    };
    payload.insert("iss".to_owned(), Value::String(key.public()));
    let Ok(token) = decode(&signed(&payload, key)) else { return };
    match token {
        Token::Operator(claims) => {
            let _ = claims.issues(NOW_SECONDS);
            let _ = (claims.nats.asserted_version(), claims.trusted_keys());
            let trust = Trust::new(std::slice::from_ref(&*claims), &[]);
            let _ = (trust.trusts(&claims.issuer), trust.is_strict(&claims.issuer));
            read_back(*claims, key);
        }
        Token::Account(claims) => {
            let _ = claims.issues(NOW_SECONDS);
            admit(&user_of(&claims), &claims);
            read_back(*claims, key);
        }
        Token::User(claims) => {
            let _ = claims.issues(NOW_SECONDS);
            admit(&claims, &account());
            read_back(*claims, key);
        }
        Token::Activation(claims) => {
            let _ = claims.issues(Some(NOW_SECONDS));
            read_back(*claims, key);
        }
        Token::Request(claims) => read_back(*claims, key),
        Token::Response(claims) => {
            let _ = claims.issues(NOW_SECONDS);
            read_back(*claims, key);
        }
        Token::Generic(claims) => read_back(*claims, key),
    }
}

fn signed(payload: &Map<String, Value>, key: &KeyPair) -> String {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let mut token = URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(payload).unwrap_or_default(), &mut token);
    let signature = key.sign(token.as_bytes());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    token
}

fn read_back<T: Default + serde::Serialize + serde::de::DeserializeOwned>(claims: Claims<T>, key: &KeyPair) {
    let written = encode(claims, key, NOW_SECONDS);
    decode_generic(&written).expect("what was written reads back");
}

fn account() -> Claims<Account> {
    Claims { subject: KEYS.account.public(), ..Claims::default() }
}

fn user_of(account: &Claims<Account>) -> Claims<User> {
    Claims { subject: KEYS.user.public(), issuer: account.subject.clone(), ..Claims::default() }
}

fn admit(user: &Claims<User>, account: &Claims<Account>) {
    for (address, connection_type) in
        [(Ipv4Addr::LOCALHOST, "STANDARD"), (Ipv4Addr::new(192, 0, 2, 1), "WEBSOCKET")]
    {
        for strict in [false, true] {
            let presented = Presented {
                nonce: "nonce",
                signature: "",
                address: IpAddr::V4(address),
                connection_type,
                is_proxied: false,
                now: NOW_NANOS,
            };
            if let Ok(grant) = operator::admit(user, account, strict, &presented) {
                let _ = grant.permissions();
            }
        }
    }
}
