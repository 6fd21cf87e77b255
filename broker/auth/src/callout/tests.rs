//! Claims this: an answer counts only from who was asked, for whom it was asked.

use super::*;
use crate::jwt::encode;
use crate::nkey::Kind;

const NOW: i128 = 1_700_000_000 * 1_000_000_000;
const SECONDS: i64 = 1_700_000_000;

fn key(kind: Kind, seed: u8) -> KeyPair {
    KeyPair::from_random(kind, &[seed; 32]).expect("a signing kind")
}

struct World {
    issuer: KeyPair,
    user: String,
    server: String,
}

impl World {
    fn new() -> Self {
        Self {
            issuer: key(Kind::Account, 1),
            user: key(Kind::User, 2).public(),
            server: key(Kind::Server, 3).public(),
        }
    }

    fn user(&self, by: &KeyPair, subject: &str) -> String {
        let mut nats = User::default();
        "user".clone_into(&mut nats.kind);
        nats.version = 2;
        encode(
            Claims { subject: subject.to_owned(), audience: "APP".into(), nats, ..Claims::default() },
            by,
            SECONDS,
        )
    }

    fn response(&self, by: &KeyPair, change: impl FnOnce(&mut Claims<AuthorizationResponse>)) -> String {
        let mut claims = Claims {
            subject: self.user.clone(),
            audience: self.server.clone(),
            nats: AuthorizationResponse {
                jwt: self.user(&self.issuer, &self.user),
                kind: "authorization_response".into(),
                version: 2,
                ..AuthorizationResponse::default()
            },
            ..Claims::default()
        };
        change(&mut claims);
        encode(claims, by, SECONDS)
    }

    fn read(&self, response: &str) -> Result<String, String> {
        let issuer = self.issuer.public();
        let expected = Expected {
            user: &self.user,
            server: &self.server,
            account: "AUTH",
            setting: Setting::Configured { issuer: &issuer },
            now: NOW,
        };
        let user = read_response(response.as_bytes(), false, &expected)?;
        check_user(&user, &expected)?;
        placement(&user, &expected)
    }
}

#[test]
fn a_good_answer_places_the_user() {
    let world = World::new();
    assert_eq!(world.read(&world.response(&world.issuer, |_| {})), Ok("APP".to_owned()));
}

#[test]
fn other_answers_are_not_believed() {
    let world = World::new();
    let other = key(Kind::Account, 7);
    let refused = |response: String| world.read(&response).expect_err("refused");
    assert_eq!(refused(world.response(&other, |_| {})), "auth callout signing key is unknown");
    assert_eq!(
        refused(world.response(&world.issuer, |claims| claims.subject = key(Kind::User, 8).public())),
        "auth callout violation: auth callout response is not for expected user"
    );
    assert_eq!(
        refused(world.response(&world.issuer, |claims| claims.audience = key(Kind::Server, 8).public())),
        "auth callout violation: auth callout response is not for server"
    );
    assert_eq!(
        refused(world.response(&world.issuer, |claims| {
            claims.nats.jwt.clear();
            claims.nats.error = "no".into();
        })),
        "auth callout service returned an error: no"
    );
    assert_eq!(
        refused(world.response(&world.issuer, |claims| claims.nats.jwt.clear())),
        "authorization response had validation errors: Error or Jwt is required"
    );
    let foreign = world.user(&other, &world.user);
    assert!(
        refused(world.response(&world.issuer, |claims| claims.nats.jwt = foreign))
            .starts_with("wrong issuer")
    );
    let stranger = world.user(&world.issuer, &key(Kind::User, 9).public());
    assert!(
        refused(world.response(&world.issuer, |claims| claims.nats.jwt = stranger))
            .starts_with("Expected authorized")
    );
    assert_eq!(refused("x".into()), "expected 3 chunks");
}

#[test]
fn sealed_answers_are_opened() {
    let (server, service) = (CurveKey::from_random([1; 32]), CurveKey::from_random([2; 32]));
    let sealed = service.seal(b"answer", &server.public(), [3; 24]).expect("sealed");
    let sender = service.public();
    assert_eq!(open(&sealed, Some((&server, &sender)), "A"), Ok((b"answer".to_vec(), true)));
    assert_eq!(open(b"eyJ", Some((&server, &sender)), "A"), Ok((b"eyJ".to_vec(), false)));
    assert!(open(b"garbage", Some((&server, &sender)), "A").is_err());
    assert_eq!(open(b"plain", None, "A"), Ok((b"plain".to_vec(), false)));
    assert!(open(b"", None, "A").is_err());
}

#[test]
fn questions_are_signed_by_the_server() {
    let server = key(Kind::Server, 3);
    let request = AuthorizationRequest { user_nkey: "U".into(), ..AuthorizationRequest::default() };
    let token = encode_request("AISSUER", request, &server, SECONDS, SECONDS + 2);
    let jwt::Token::Request(claims) = jwt::decode(&token).expect("a token") else { panic!("a request") };
    assert_eq!((claims.issuer, claims.subject.as_str()), (server.public(), "AISSUER"));
    assert_eq!((claims.audience.as_str(), claims.expires), (AUDIENCE, SECONDS + 2));
}
