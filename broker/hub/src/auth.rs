//! The seam for credentials, and the simple kinds: a token, users with passwords. Not what a user may do.

use crate::permissions::Permissions;
use std::net::SocketAddr;
use std::sync::Arc;
use weir_proto::ConnectOptions;

/// What a client shows to get in.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// What it said in CONNECT.
    pub options: ConnectOptions,
    /// Where it comes from.
    pub address: SocketAddr,
    /// What it had to sign; empty when nothing.
    pub nonce: String,
}

/// Who a client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The name of its account.
    pub account: String,
    /// The user's name as monitoring shows it; empty for a token.
    pub user: String,
    /// What it may do; `None` means everything.
    pub permissions: Option<Arc<Permissions>>,
}

/// Decides who gets in. Called off the connections' threads when `is_slow` says so.
pub trait Authenticator: Send + Sync {
    /// Whether clients have to send CONNECT with credentials before anything else.
    fn is_required(&self) -> bool;
    /// Who the client is; `None` refuses it.
    fn authenticate(&self, credentials: &Credentials) -> Option<Principal>;
    /// Whether deciding takes longer than a connection's thread should be held up (bcrypt).
    fn is_slow(&self, _credentials: &Credentials) -> bool {
        false
    }
    /// Who clients are that need no credentials; used when `is_required` is false.
    fn default_principal(&self) -> Principal {
        Principal { account: crate::GLOBAL_ACCOUNT.to_owned(), user: String::new(), permissions: None }
    }
}

/// Lets everybody into the global account.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenDoor;

impl Authenticator for OpenDoor {
    fn is_required(&self) -> bool {
        false
    }

    fn authenticate(&self, _credentials: &Credentials) -> Option<Principal> {
        Some(self.default_principal())
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
            account: self.account.clone(),
            user: self.user.clone(),
            permissions: self.permissions.clone(),
        }
    }
}

impl Authenticator for StaticAuthenticator {
    fn is_required(&self) -> bool {
        let is_configured = self.token.is_some() || !self.users.is_empty();
        is_configured && self.no_auth_user.as_deref().and_then(|user| self.find(user)).is_none()
    }

    fn authenticate(&self, credentials: &Credentials) -> Option<Principal> {
        let options = &credentials.options;
        if self.token.is_none() && self.users.is_empty() {
            return Some(self.default_principal());
        }
        if options.user.is_empty() && options.auth_token.is_empty() && options.pass.is_empty() {
            let user = self.no_auth_user.as_deref().and_then(|user| self.find(user))?;
            return Some(user.principal());
        }
        if let Some(token) = &self.token {
            // nats-server takes a lone password or user for the token as well; clients send `auth_token`.
            return verify(token, &options.auth_token).then(|| Principal {
                account: crate::GLOBAL_ACCOUNT.to_owned(),
                user: String::new(),
                permissions: None,
            });
        }
        let user = self.find(&options.user)?;
        verify(&user.password, &options.pass).then(|| user.principal())
    }

    fn is_slow(&self, credentials: &Credentials) -> bool {
        let secret = match &self.token {
            Some(token) => Some(token.as_str()),
            None => self.find(&credentials.options.user).map(|user| user.password.as_str()),
        };
        secret.is_some_and(is_bcrypt)
    }

    fn default_principal(&self) -> Principal {
        self.no_auth_user.as_deref().and_then(|user| self.find(user)).map_or_else(
            || Principal {
                account: crate::GLOBAL_ACCOUNT.to_owned(),
                user: String::new(),
                permissions: None,
            },
            StaticUser::principal,
        )
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
        Credentials { options, address: ([127, 0, 0, 1], 1).into(), nonce: String::new() }
    }

    fn user(name: &str, password: &str) -> StaticUser {
        StaticUser { user: name.into(), password: password.into(), account: "A".into(), permissions: None }
    }

    #[test]
    fn only_the_right_password_lets_in() {
        let hash = bcrypt::hash("secret", 4).expect("valid cost").replacen("$2b$", "$2a$", 1);
        let door = StaticAuthenticator {
            users: vec![user("plain", "pw"), user("hashed", &hash)],
            ..Default::default()
        };
        assert!(door.is_required());
        assert_eq!(
            door.authenticate(&credentials("plain", "pw", "")).map(|who| who.account),
            Some("A".into())
        );
        assert!(door.authenticate(&credentials("hashed", "secret", "")).is_some());
        assert!(door.is_slow(&credentials("hashed", "secret", "")));
        for (name, password) in
            [("plain", "p"), ("plain", "pwpw"), ("plain", ""), ("hashed", &hash), ("none", "pw"), ("", "")]
        {
            assert!(door.authenticate(&credentials(name, password, "")).is_none(), "{name} {password}");
        }
    }

    #[test]
    fn a_token_must_match_whole() {
        let door = StaticAuthenticator { token: Some("tok".into()), ..Default::default() };
        assert!(door.authenticate(&credentials("", "", "tok")).is_some());
        for token in ["", "t", "toktok", "tik"] {
            assert!(door.authenticate(&credentials("", "", token)).is_none(), "{token}");
        }
    }

    #[test]
    fn no_auth_user_stands_in_for_missing_credentials() {
        let door = StaticAuthenticator {
            users: vec![user("guest", "x")],
            no_auth_user: Some("guest".into()),
            ..Default::default()
        };
        assert!(!door.is_required());
        assert_eq!(door.default_principal().user, "guest");
        assert!(door.authenticate(&credentials("", "", "")).is_some());
        assert!(door.authenticate(&credentials("guest", "wrong", "")).is_none());
    }
}
