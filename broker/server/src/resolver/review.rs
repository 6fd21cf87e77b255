//! What becomes of an account's users when its claims change. Pure.

use weir_auth::{
    jwt::{self, Account, Claims},
    operator::signer,
};
use weir_hub::{CloseReason, Credentials, Principal, Refusal, Review};
use weir_proto::err;

use super::settings::default_permissions;

const REVOKED: &str = "User Authentication Revoked";

/// Everybody goes: the account has expired.
pub(super) fn expired() -> Review {
    let reason = CloseReason::AuthenticationExpired;
    Review::Close(Refusal::ended(reason, err::ACCOUNT_AUTHENTICATION_EXPIRED))
}

/// One user under new claims of its account.
pub(super) fn review(
    claims: &Claims<Account>,
    before: &Claims<Account>,
    strict: bool,
    principal: &Principal,
    credentials: Option<&Credentials>,
) -> Review {
    let account = &claims.nats;
    if principal.has_jwt && account.limits.disallow_bearer && is_bearer(credentials) {
        return Review::Close(Refusal::violation(&principal.identity));
    }
    let is_user = !principal.nkey.is_empty() && principal.issued_at > 0;
    if is_user && jwt::is_revoked(&account.revocations, &principal.nkey, principal.issued_at) {
        return Review::Close(Refusal::ended(CloseReason::CredentialsRevoked, REVOKED));
    }
    let key = &principal.signing_key;
    if !key.is_empty() {
        let scope = |claims: &Claims<Account>| signer(claims, strict, key).map(|scope| scope.cloned());
        let now = scope(claims);
        if now.is_none() || now != scope(before) {
            return Review::Close(Refusal::ended(CloseReason::AuthenticationViolation, ""));
        }
    }
    if principal.has_default_permissions && account.default_permissions != before.nats.default_permissions {
        let permissions = default_permissions(claims);
        return Review::Replace(Box::new(Principal { permissions, ..principal.clone() }));
    }
    Review::Keep
}

fn is_bearer(credentials: Option<&Credentials>) -> bool {
    let token = credentials.map(|credentials| credentials.options.jwt.as_str());
    token.and_then(|token| jwt::decode_user(token).ok()).is_some_and(|user| user.nats.limits.bearer_token)
}
