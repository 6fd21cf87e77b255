//! The seam for credentials, and the simple kinds: a token, users with passwords. Not what a user may do.

use crate::close_reason::CloseReason;
use crate::permissions::Permissions;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use weir_net::{ConnectionKind, TransportFacts};
use weir_proto::{ConnectOptions, err};
use weir_stdx::quote::quote;
use weir_stdx::time::UnixNanos;

/// What a client shows to get in.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// What it said in CONNECT.
    pub options: ConnectOptions,
    /// The connection's id (`cid`).
    pub connection: u64,
    /// When the connection began.
    pub started: UnixNanos,
    /// Where it comes from.
    pub address: SocketAddr,
    /// What it had to sign; empty when nothing.
    pub nonce: String,
    /// How it reaches the server.
    pub transport: Arc<TransportFacts>,
}

/// What a user's own limits are; what is `None` follows the account and the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Subscriptions of the connection.
    pub max_subscriptions: Option<usize>,
    /// Bytes of a message.
    pub max_payload: Option<usize>,
}

/// What a client calls itself, or is found to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Identity {
    /// It says nothing.
    #[default]
    Nobody,
    /// A public nkey.
    Nkey(String),
    /// A user's name.
    User(String),
    /// The public key in a user's JWT; empty while the JWT was not read.
    Jwt(String),
    /// A token, which is not shown.
    Token,
}

impl Identity {
    /// What CONNECT says; `key` is the public key of its JWT where JWTs count.
    pub fn of(options: &ConnectOptions, key: Option<&str>) -> Self {
        if !options.nkey.is_empty() {
            Self::Nkey(options.nkey.clone())
        } else if !options.user.is_empty() {
            Self::User(options.user.clone())
        } else if let Some(key) = key {
            Self::Jwt(key.to_owned())
        } else if !options.auth_token.is_empty() {
            Self::Token
        } else {
            Self::Nobody
        }
    }

    /// As monitoring shows it; empty for nobody.
    pub fn shown(&self) -> &str {
        match self {
            Self::Nobody => "",
            Self::Nkey(text) | Self::User(text) | Self::Jwt(text) => text,
            Self::Token => "[REDACTED]",
        }
    }

    /// As the label of a connection in the log ends; empty for nobody.
    pub fn label(&self) -> String {
        match self {
            Self::Nobody => String::new(),
            Self::Nkey(text) => format!("nkey:{text}"),
            Self::User(text) => format!("user:{text}"),
            Self::Jwt(text) => format!("jwt:{text}"),
            Self::Token => "token".to_owned(),
        }
    }

    /// As a failed login is logged.
    pub fn described(&self) -> String {
        match self {
            Self::Nobody => "User \"N/A\"".to_owned(),
            Self::Nkey(text) => format!("Nkey {}", quote(text.as_bytes())),
            Self::User(text) => format!("User {}", quote(text.as_bytes())),
            Self::Jwt(text) => format!("JWT User {}", quote(text.as_bytes())),
            Self::Token => "Token \"[REDACTED]\"".to_owned(),
        }
    }
}

/// Who a client is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Principal {
    /// The name of its account.
    pub account: String,
    /// How logs and monitoring name it.
    pub identity: Identity,
    /// What it may do; `None` means everything.
    pub permissions: Option<Arc<Permissions>>,
    /// When the connection has to end with 'User Authentication Expired'.
    pub expires: Option<UnixNanos>,
    /// Limits of this user.
    pub limits: ConnectionLimits,
    /// The public key in the user's JWT; empty without one.
    pub nkey: String,
    /// The account key or signing key that vouches for the user, as monitoring shows it; empty without one.
    pub issuer_key: String,
    /// The signing key that signed the user's JWT; empty when none did.
    pub signing_key: String,
    /// The name in the user's JWT; empty without one.
    pub name_tag: String,
    /// The tags in the user's JWT.
    pub tags: Vec<String>,
    /// Whether the JWT in CONNECT counted.
    pub has_jwt: bool,
    /// When the user's JWT was signed, in seconds since 1970; 0 without one.
    pub issued_at: i64,
    /// Whether the permissions are the account's default ones.
    pub has_default_permissions: bool,
    /// The trusted proxy it came through; empty without one.
    pub proxy_key: String,
}

impl Principal {
    /// Somebody without a name who may do everything in the account.
    pub fn anonymous(account: &str) -> Self {
        Self { account: account.to_owned(), ..Self::default() }
    }
}

/// Why a client does not get in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What monitoring shows as the reason.
    pub reason: CloseReason,
    /// What `-ERR` says; empty for nothing.
    pub answer: String,
    /// What the log says, at level error; empty for nothing.
    pub log: String,
    /// The account that is told of it; `None` for the one the connection is in so far.
    pub account: Option<String>,
}

impl Refusal {
    /// Ends a connection that was in: what it is told, and what monitoring shows.
    pub fn ended(reason: CloseReason, answer: &str) -> Self {
        Self { reason, answer: answer.to_owned(), log: String::new(), account: None }
    }

    /// Wrong or missing credentials.
    pub fn violation(identity: &Identity) -> Self {
        Self::because(CloseReason::AuthenticationViolation, identity)
    }

    /// Answered as wrong credentials are, but shown with another reason.
    pub fn because(reason: CloseReason, identity: &Identity) -> Self {
        let log = match identity.shown() {
            "" => "authentication error".to_owned(),
            _ => format!("authentication error - {}", identity.described()),
        };
        Self { reason, answer: err::AUTHORIZATION.to_owned(), log, account: None }
    }

    /// The same, told to an account.
    pub fn told_to(self, account: &str) -> Self {
        Self { account: Some(account.to_owned()), ..self }
    }
}

/// Who the client is, or why it is refused.
pub type Verdict = Result<Principal, Refusal>;

/// An authenticator's answer.
#[expect(clippy::large_enum_variant, reason = "an answer is taken apart at once and never kept")]
pub enum Decision {
    /// Known at once.
    Now(Verdict),
    /// Takes longer than a connection's thread should be held up, or waits for somebody else.
    Later(Pin<Box<dyn Future<Output = Verdict> + Send>>),
}

impl Decision {
    /// The verdict, however long it takes.
    pub async fn verdict(self) -> Verdict {
        match self {
            Self::Now(verdict) => verdict,
            Self::Later(verdict) => verdict.await,
        }
    }
}

/// Decides who gets in.
pub trait Authenticator: Send + Sync {
    /// Whether clients of that kind have to say who they are, in time.
    fn is_required(&self, kind: ConnectionKind) -> bool;
    /// Whether the first INFO tells them so.
    fn is_announced(&self, kind: ConnectionKind) -> bool {
        self.is_required(kind)
    }
    /// Whether INFO has a nonce that clients may have to sign.
    fn nonce_required(&self) -> bool {
        false
    }
    /// Who the client is.
    fn authenticate(&self, credentials: &Credentials) -> Decision;
    /// Who a client is that begins without CONNECT although it is required; `None` refuses it.
    fn authenticate_silent(&self, _credentials: &Credentials) -> Option<Decision> {
        None
    }
    /// Whether a user that is in does not exist any more, or not in that account.
    fn has_moved(&self, _principal: &Principal) -> bool {
        false
    }
}

/// What becomes of a connection when its account changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Review {
    /// Nothing.
    Keep,
    /// It goes on as that.
    Replace(Box<Principal>),
    /// It ends.
    Close(Refusal),
}

/// Lets everybody into the global account.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenDoor;

impl Authenticator for OpenDoor {
    fn is_required(&self, _kind: ConnectionKind) -> bool {
        false
    }

    fn authenticate(&self, _credentials: &Credentials) -> Decision {
        Decision::Now(Ok(Principal::anonymous(crate::GLOBAL_ACCOUNT)))
    }
}

/// Whether a configured secret is a bcrypt hash, as nats-server tells.
pub fn is_bcrypt(secret: &str) -> bool {
    let bytes = secret.as_bytes();
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    bytes.starts_with(b"$2")
        && matches!(bytes.get(2), Some(b'a' | b'b' | b'x' | b'y'))
        && bytes.get(3) == Some(&b'$')
        && is_digit(4)
        && is_digit(5)
        && bytes.get(6) == Some(&b'$')
}

/// Whether `given` is the configured secret, in a time that tells nothing about it.
pub fn verify(configured: &str, given: &str) -> bool {
    if is_bcrypt(configured) {
        return bcrypt::verify(given, configured).unwrap_or(false);
    }
    let (configured, given) = (configured.as_bytes(), given.as_bytes());
    let mut difference = u8::from(configured.len() != given.len());
    for (at, byte) in given.iter().enumerate() {
        // The secret is read in a circle, so that the time follows what was given only.
        difference |= byte ^ configured.get(at % configured.len().max(1)).copied().unwrap_or(0);
    }
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_must_match_whole() {
        let hash = bcrypt::hash("secret", 4).expect("valid cost").replacen("$2b$", "$2a$", 1);
        assert!(verify("pw", "pw") && verify(&hash, "secret") && verify("", ""));
        for (configured, given) in [
            ("pw", "p"),
            ("pw", "pwpw"),
            ("pw", ""),
            ("", "pw"),
            (hash.as_str(), hash.as_str()),
            ("tok", "tik"),
        ] {
            assert!(!verify(configured, given), "{configured} {given}");
        }
    }

    #[test]
    fn hashes_are_told_from_passwords() {
        for hash in ["$2a$11$abc", "$2y$04$", "$2x$10$x"] {
            assert!(is_bcrypt(hash), "{hash}");
        }
        for password in ["$2a$", "$2c$11$abc", "2a$11$abc", "", "$2a$1$abc"] {
            assert!(!is_bcrypt(password), "{password}");
        }
    }
}
