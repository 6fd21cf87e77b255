//! Claims this: a user gets in only as its account and its signer allow.

use super::*;
use crate::jwt::{Permission, SigningKeys};
use crate::nkey::KeyPair;

const NOW: i128 = 1_700_000_000 * 1_000_000_000;

struct World {
    user: KeyPair,
    account: Claims<Account>,
    claims: Claims<User>,
}

fn key(kind: Kind, seed: u8) -> KeyPair {
    KeyPair::from_random(kind, &[seed; 32]).expect("a signing kind")
}

fn world() -> World {
    let (user, account) = (key(Kind::User, 1), key(Kind::Account, 2));
    let claims = Claims::<User> {
        subject: user.public(),
        issuer: account.public(),
        issued_at: 1000,
        ..Claims::default()
    };
    World { user, account: Claims { subject: account.public(), ..Claims::default() }, claims }
}

impl World {
    fn admit(&self) -> Result<Grant, Denial> {
        let signature = URL_SAFE_NO_PAD.encode(self.user.sign(b"nonce"));
        self.admit_with(&signature, false)
    }

    fn admit_with(&self, signature: &str, strict: bool) -> Result<Grant, Denial> {
        let presented = Presented {
            nonce: "nonce",
            signature,
            address: IpAddr::from([127, 0, 0, 1]),
            connection_type: "STANDARD",
            is_proxied: false,
            now: NOW,
        };
        admit(&self.claims, &self.account, strict, &presented)
    }
}

fn quiet(text: &str) -> Result<Grant, Denial> {
    Err(Denial::Quiet(text.to_owned()))
}

#[test]
fn the_nonce_must_be_signed_unless_the_token_is_a_bearer() {
    let mut world = world();
    assert!(world.admit().is_ok());
    assert_eq!(world.admit_with("", false), quiet("Signature missing"));
    assert_eq!(world.admit_with("!", false), quiet("Signature not valid base64"));
    let other = URL_SAFE_NO_PAD.encode(world.user.sign(b"other"));
    assert_eq!(world.admit_with(&other, false), quiet("Signature not verified"));
    let padded = STANDARD.encode(world.user.sign(b"nonce"));
    assert!(world.admit_with(&padded, false).is_ok());
    world.claims.nats.limits.bearer_token = true;
    assert!(world.admit_with("", false).is_ok());
    world.account.nats.limits.disallow_bearer = true;
    assert_eq!(world.admit(), quiet("Account does not allow bearer tokens"));
}

#[test]
fn the_signer_must_be_the_accounts() {
    let mut world = world();
    world.claims.issuer = key(Kind::Account, 9).public();
    assert_eq!(world.admit(), quiet("User JWT issuer is not known"));
    world.account.nats.signing_keys = SigningKeys([(world.claims.issuer.clone(), None)].into());
    assert!(world.admit().is_ok());
    world.claims.issuer.clone_from(&world.account.subject);
    let signature = URL_SAFE_NO_PAD.encode(world.user.sign(b"nonce"));
    assert_eq!(world.admit_with(&signature, true), quiet("User JWT issuer is not known"));
}

#[test]
fn a_scope_says_everything() {
    let mut world = world();
    let signer = key(Kind::Account, 9).public();
    let mut template = UserPermissionLimits { subscriptions: 7, payload: -1, ..Default::default() };
    template.publish = Permission { allow: vec!["a.{{name()}}".into()], deny: Vec::new() };
    let scope = UserScope { key: signer.clone(), template, ..UserScope::default() };
    world.account.nats.signing_keys = SigningKeys([(signer.clone(), Some(scope))].into());
    world.claims.issuer = signer;
    world.claims.name = "bob".into();
    let grant = world.admit().expect("admitted");
    assert_eq!(grant.limits.subscriptions, 7);
    assert_eq!(grant.permissions().expect("permissions").publish.allow, ["a.bob"]);
    world.claims.nats.limits.subscriptions = 1;
    assert!(matches!(world.admit(), Err(Denial::Quiet(text)) if text.contains("require no permissions")));
}

#[test]
fn revocation_source_times_and_types_bound_a_user() {
    let mut revoked = world();
    revoked.account.nats.revocations.insert(revoked.claims.subject.clone(), 1000);
    assert_eq!(revoked.admit(), quiet("User authentication revoked"));
    let mut elsewhere = world();
    elsewhere.claims.nats.limits.sources = vec!["10.0.0.0/8".into()];
    assert_eq!(elsewhere.admit(), Err(Denial::Loud("Bad src Ip 127.0.0.1".into())));
    let mut websocket = world();
    websocket.claims.nats.limits.allowed_connection_types = vec!["websocket".into()];
    assert_eq!(websocket.admit(), quiet("Connection type not allowed"));
    websocket.claims.nats.limits.allowed_connection_types = vec!["future".into()];
    assert_eq!(websocket.admit(), quiet("invalid connection types"));
    websocket.claims.nats.limits.allowed_connection_types = vec!["future".into(), "standard".into()];
    assert!(websocket.admit().is_ok());
    let mut proxied = world();
    proxied.claims.nats.limits.proxy_required = true;
    assert_eq!(proxied.admit(), Err(Denial::ProxyRequired));
    let mut expired = world();
    expired.account.expires = 5;
    assert_eq!(expired.admit(), quiet("Account JWT has expired"));
}

#[test]
fn the_earlier_end_counts() {
    let mut world = world();
    assert_eq!(world.admit().expect("admitted").expires, None);
    world.claims.expires = 1_700_000_060;
    assert_eq!(world.admit().expect("admitted").expires, Some(1_700_000_060 * 1_000_000_000));
}

#[test]
fn strict_operators_trust_signing_keys_only() {
    let (operator, signer) = (key(Kind::Operator, 1).public(), key(Kind::Operator, 2).public());
    let mut claims = Claims::<Operator> { subject: operator.clone(), ..Claims::default() };
    claims.nats.signing_keys = vec![signer.clone()];
    let trust = Trust::new(std::slice::from_ref(&claims), &[]);
    assert!(trust.trusts(&operator) && trust.trusts(&signer) && !trust.is_strict(&signer));
    claims.nats.strict_signing_key_usage = true;
    let trust = Trust::new(&[claims], &[]);
    assert!(!trust.trusts(&operator) && trust.trusts(&signer) && trust.is_strict(&signer));
}

#[test]
fn a_proxy_is_known_by_its_signature() {
    let proxy = key(Kind::User, 5);
    let trusted = [key(Kind::User, 6).public(), proxy.public()];
    let signature = URL_SAFE_NO_PAD.encode(proxy.sign(b"nonce"));
    assert_eq!(proxy_key(&trusted, "nonce", &signature), Some(proxy.public().as_str()));
    assert_eq!(proxy_key(&trusted[..1], "nonce", &signature), None);
    assert_eq!(proxy_key(&trusted, "other", &signature), None);
}
