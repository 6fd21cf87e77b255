//! An authenticator for tests: users with passwords. Not the server's.

use std::sync::Arc;
use weir_hub::{
    Authenticator, ConnectionKind, Credentials, Decision, Identity, Permissions, Principal, Refusal,
    is_bcrypt, verify,
};

/// One user.
#[derive(Clone)]
pub(crate) struct StaticUser {
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) account: String,
    pub(crate) permissions: Option<Arc<Permissions>>,
}

/// Lets these users in, and nobody else.
#[derive(Default)]
pub(crate) struct StaticAuthenticator {
    pub(crate) users: Vec<StaticUser>,
}

impl Authenticator for StaticAuthenticator {
    fn is_required(&self, _kind: ConnectionKind) -> bool {
        true
    }

    fn authenticate(&self, credentials: &Credentials) -> Decision {
        let options = credentials.options.clone();
        let identity = Identity::User(options.user.clone());
        let refusal = Refusal::violation(&identity);
        let Some(user) = self.users.iter().find(|user| user.user == options.user).cloned() else {
            return Decision::Now(Err(refusal));
        };
        let judge = move || {
            let principal = Principal {
                identity,
                permissions: user.permissions.clone(),
                ..Principal::anonymous(&user.account)
            };
            if verify(&user.password, &options.pass) { Ok(principal) } else { Err(refusal) }
        };
        if self.users.iter().any(|user| is_bcrypt(&user.password)) {
            return Decision::Later(Box::pin(async move { judge() }));
        }
        Decision::Now(judge())
    }

    fn has_moved(&self, principal: &Principal) -> bool {
        !self
            .users
            .iter()
            .any(|user| user.user == principal.identity.shown() && user.account == principal.account)
    }
}
