//! The seam for credentials, and the simple kinds: a token, users with passwords. Not what a user may do.

use crate::close_reason::CloseReason;
use crate::permissions::Permissions;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use weir_net::TransportFacts;
use weir_proto::{ConnectOptions, err};
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

/// Who a client is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Principal {
    /// The name of its account.
    pub account: String,
    /// The user's name as monitoring shows it; empty for a token.
    pub user: String,
    /// What it may do; `None` means everything.
    pub permissions: Option<Arc<Permissions>>,
    /// When the connection has to end with 'User Authentication Expired'.
    pub expires: Option<UnixNanos>,
    /// Limits of this user.
    pub limits: ConnectionLimits,
    /// The public nkey it signed with; empty without one.
    pub nkey: String,
    /// The key that signed the user's JWT; empty without one.
    pub issuer_key: String,
    /// The name in the user's JWT; empty without one.
    pub name_tag: String,
    /// The tags in the user's JWT.
    pub tags: Vec<String>,
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
}

impl Refusal {
    /// Wrong or missing credentials; `detail` follows nats-server's `authentication error` in the log.
    pub fn violation(detail: &str) -> Self {
        let separator = if detail.is_empty() { "" } else { " - " };
        Self {
            reason: CloseReason::AuthenticationViolation,
            answer: err::AUTHORIZATION.to_owned(),
            log: format!("authentication error{separator}{detail}"),
        }
    }
}

/// Who the client is, or why it is refused.
pub type Verdict = Result<Principal, Refusal>;

/// An authenticator's answer.
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
    /// Whether clients have to send CONNECT with credentials before anything else.
    fn is_required(&self) -> bool;
    /// Whether INFO has a nonce that clients may have to sign.
    fn nonce_required(&self) -> bool {
        false
    }
    /// Who the client is.
    fn authenticate(&self, credentials: &Credentials) -> Decision;
    /// Who clients are that need no credentials; used when `is_required` is false.
    fn default_principal(&self) -> Principal {
        Principal::anonymous(crate::GLOBAL_ACCOUNT)
    }
}

/// Lets everybody into the global account.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenDoor;

impl Authenticator for OpenDoor {
    fn is_required(&self) -> bool {
        false
    }

    fn authenticate(&self, _credentials: &Credentials) -> Decision {
        Decision::Now(Ok(self.default_principal()))
    }
}

/// One configured user.
#[derive(Debug, Clone)]
pub struct StaticUser {
    /// The user's name.
    pub user: String,
    /// The password, plain or bcrypt (`$2a$...`).
    pub password: String,
    /// The name of the account.
    pub account: String,
    /// What the user may do; `None` means everything.
    pub permissions: Option<Arc<Permissions>>,
}

/// A token and users from the configuration.
#[derive(Debug, Clone, Default)]
pub struct StaticAuthenticator {
    /// The token that lets into the global account.
    pub token: Option<String>,
    /// The users.
    pub users: Vec<StaticUser>,
    /// The user that clients without credentials become.
    pub no_auth_user: Option<String>,
}

impl StaticAuthenticator {
    fn find(&self, user: &str) -> Option<&StaticUser> {
        self.users.iter().find(|known| known.user == user)
    }
}

impl StaticUser {
    fn principal(&self) -> Principal {
        Principal {
            user: self.user.clone(),
            permissions: self.permissions.clone(),
            ..Principal::anonymous(&self.account)
        }
    }
}

/// Compares a secret and says who it belongs to; hashes are computed off the connection's thread.
fn decide(secret: &str, given: &str, principal: Principal, refusal: Refusal) -> Decision {
    if !is_bcrypt(secret) {
        return Decision::Now(if verify(secret, given) { Ok(principal) } else { Err(refusal) });
    }
    let (secret, given) = (secret.to_owned(), given.to_owned());
    Decision::Later(Box::pin(async move {
        let matches = tokio::task::spawn_blocking(move || verify(&secret, &given)).await;
        if matches.unwrap_or(false) { Ok(principal) } else { Err(refusal) }
    }))
}

impl Authenticator for StaticAuthenticator {
    fn is_required(&self) -> bool {
        let is_configured = self.token.is_some() || !self.users.is_empty();
        is_configured && self.no_auth_user.as_deref().and_then(|user| self.find(user)).is_none()
    }

    fn authenticate(&self, credentials: &Credentials) -> Decision {
        let options = &credentials.options;
        if self.token.is_none() && self.users.is_empty() {
            return Decision::Now(Ok(self.default_principal()));
        }
        let refusal = || Refusal::violation(&format!("User {:?}", options.user));
        if options.user.is_empty() && options.auth_token.is_empty() && options.pass.is_empty() {
            let user = self.no_auth_user.as_deref().and_then(|user| self.find(user));
            return Decision::Now(user.map(StaticUser::principal).ok_or_else(refusal));
        }
        if let Some(token) = &self.token {
            // nats-server takes a lone password or user for the token as well; clients send `auth_token`.
            let principal = Principal::anonymous(crate::GLOBAL_ACCOUNT);
            return decide(token, &options.auth_token, principal, refusal());
        }
        match self.find(&options.user) {
            Some(user) => decide(&user.password, &options.pass, user.principal(), refusal()),
            None => Decision::Now(Err(refusal())),
        }
    }

    fn default_principal(&self) -> Principal {
        self.no_auth_user
            .as_deref()
            .and_then(|user| self.find(user))
            .map_or_else(|| Principal::anonymous(crate::GLOBAL_ACCOUNT), StaticUser::principal)
    }
}

/// Whether a configured secret is a bcrypt hash, as nats-server tells.
pub fn is_bcrypt(secret: &str) -> bool {
    secret.starts_with("$2a$") || secret.starts_with("$2b$") || secret.starts_with("$2y$")
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

    fn credentials(user: &str, pass: &str, token: &str) -> Credentials {
        let options = ConnectOptions {
            user: user.into(),
            pass: pass.into(),
            auth_token: token.into(),
            ..ConnectOptions::default()
        };
        Credentials {
            options,
            connection: 1,
            started: UnixNanos(0),
            address: ([127, 0, 0, 1], 1).into(),
            nonce: String::new(),
            transport: Arc::default(),
        }
    }

    async fn ask(door: &StaticAuthenticator, (user, pass, token): (&str, &str, &str)) -> Verdict {
        door.authenticate(&credentials(user, pass, token)).verdict().await
    }

    fn user(name: &str, password: &str) -> StaticUser {
        StaticUser { user: name.into(), password: password.into(), account: "A".into(), permissions: None }
    }

    #[tokio::test]
    async fn only_the_right_password_lets_in() {
        let hash = bcrypt::hash("secret", 4).expect("valid cost").replacen("$2b$", "$2a$", 1);
        let door = StaticAuthenticator {
            users: vec![user("plain", "pw"), user("hashed", &hash)],
            ..Default::default()
        };
        assert!(door.is_required());
        assert_eq!(ask(&door, ("plain", "pw", "")).await.map(|who| who.account), Ok("A".into()));
        assert!(ask(&door, ("hashed", "secret", "")).await.is_ok());
        let slow = door.authenticate(&credentials("hashed", "secret", ""));
        assert!(matches!(slow, Decision::Later(_)));
        for (name, password) in
            [("plain", "p"), ("plain", "pwpw"), ("plain", ""), ("hashed", &hash), ("none", "pw"), ("", "")]
        {
            assert!(ask(&door, (name, password, "")).await.is_err(), "{name} {password}");
        }
    }

    #[tokio::test]
    async fn a_token_must_match_whole() {
        let door = StaticAuthenticator { token: Some("tok".into()), ..Default::default() };
        assert!(ask(&door, ("", "", "tok")).await.is_ok());
        for token in ["", "t", "toktok", "tik"] {
            assert!(ask(&door, ("", "", token)).await.is_err(), "{token}");
        }
    }

    #[tokio::test]
    async fn no_auth_user_stands_in_for_missing_credentials() {
        let door = StaticAuthenticator {
            users: vec![user("guest", "x")],
            no_auth_user: Some("guest".into()),
            ..Default::default()
        };
        assert!(!door.is_required());
        assert_eq!(door.default_principal().user, "guest");
        assert!(ask(&door, ("", "", "")).await.is_ok());
        assert!(ask(&door, ("guest", "wrong", "")).await.is_err());
    }
}
