//! Letting users in by their JWT. Not the rules of that (weir_auth::operator), nor where accounts come from.

use std::sync::Arc;

use tracing::{debug, error};
use weir_auth::{
    jwt::{self, Account, Claims, User},
    operator::{self, Denial, Grant, Presented},
};
use weir_hub::{CloseReason, ConnectionLimits, Credentials, Identity, Principal, Refusal, Verdict};
use weir_stdx::time::UnixNanos;

use super::{
    callout::{Asker, Question, now},
    jwt_permissions,
};
use crate::resolver::{Accounts, default_permissions};

/// Decides on a client in operator mode.
pub(super) async fn authenticate(
    accounts: Arc<Accounts>,
    asker: Arc<Asker>,
    mut question: Question,
) -> Verdict {
    let presented = std::mem::take(&mut question.credentials.options.jwt);
    let Some((token, user)) = presented_user(&accounts, presented, &question.credentials) else {
        return Err(Refusal::violation(&question.identity()));
    };
    question.credentials.options.jwt.clone_from(&token);
    question.jwt = token;
    let identity = Identity::of(&question.credentials.options, Some(""));
    let refusal = Refusal::violation(&identity);
    question.proxy_required = user.nats.limits.proxy_required;
    if question.proxy_required && question.proxy.is_none() {
        return Err(Refusal::because(CloseReason::ProxyRequired, &identity));
    }
    if let Some(reason) = unusable(&accounts, &user) {
        debug!("{} - {reason}", label(&question.credentials));
        return Err(refusal);
    }
    let account = match accounts.lookup(user.account()).await {
        Ok(account) => account,
        Err(reason) => {
            debug!("{} - Account JWT lookup error: {reason}", label(&question.credentials));
            return Err(refusal);
        }
    };
    let verdict = admit(&user, &account, &accounts, &question);
    let authorization = &account.nats.authorization;
    let Ok(principal) = &verdict else { return verdict };
    if !authorization.is_enabled() {
        return verdict;
    }
    if authorization.auth_users.contains(&user.subject) {
        return super::callout::shielded(verdict, Some(&account.subject));
    }
    question.principal = Some(principal.clone());
    asker.ask_account(&question, &accounts, &account).await
}

/// The JWT the client shows, or the one that stands in for it.
fn presented_user(
    accounts: &Accounts,
    presented: String,
    credentials: &Credentials,
) -> Option<(String, Box<Claims<User>>)> {
    if let Ok(user) = jwt::decode_user(&presented) {
        return Some((presented, user));
    }
    let Some(sentinel) = accounts.default_sentinel() else {
        debug!("{} - Authentication requires a user JWT", label(credentials));
        return None;
    };
    match jwt::decode_user(sentinel) {
        Ok(user) => Some((sentinel.to_owned(), user)),
        Err(reason) => {
            debug!("{} - User JWT not valid: {reason}", label(credentials));
            None
        }
    }
}

/// Why the claims cannot be used, whatever the account says.
fn unusable(accounts: &Accounts, user: &Claims<User>) -> Option<String> {
    let issues = user.issues(weir_auth::schedule::seconds(now()));
    if issues.is_blocking(true) {
        return Some(format!("User JWT no longer valid: {:?}", issues.first().unwrap_or_default()));
    }
    let account = user.account();
    (!accounts.is_pinned(account)).then(|| format!("Account {account} not listed as operator pinned account"))
}

fn admit(
    user: &Claims<User>,
    account: &Claims<Account>,
    accounts: &Accounts,
    question: &Question,
) -> Verdict {
    let credentials = &question.credentials;
    let presented = Presented {
        nonce: &credentials.nonce,
        signature: &credentials.options.sig,
        address: credentials.address.ip(),
        connection_type: credentials.transport.kind.name(),
        is_proxied: question.proxy.is_some(),
        now: now(),
    };
    let identity = Identity::of(&credentials.options, Some(&user.subject));
    match operator::admit(user, account, accounts.is_strict(account), &presented) {
        Ok(grant) => Ok(principal(user, account, &grant, identity, question)),
        Err(Denial::ProxyRequired) => Err(Refusal::because(CloseReason::ProxyRequired, &identity)),
        Err(Denial::Quiet(reason)) => {
            debug!("{} - {reason}", label(credentials));
            Err(Refusal::violation(&Identity::of(&credentials.options, Some(""))))
        }
        Err(Denial::Loud(reason)) => {
            error!("{} - {reason}", label(credentials));
            Err(Refusal::violation(&Identity::of(&credentials.options, Some(""))))
        }
    }
}

fn principal(
    user: &Claims<User>,
    account: &Claims<Account>,
    grant: &Grant,
    identity: Identity,
    question: &Question,
) -> Principal {
    let own = grant.permissions();
    let limit = |value: i64| usize::try_from(value).ok();
    Principal {
        account: account.subject.clone(),
        identity,
        has_default_permissions: own.is_none(),
        permissions: match own {
            Some(own) => Some(Arc::new(jwt_permissions(&own))),
            None => default_permissions(account),
        },
        expires: grant.expires.and_then(|expires| u64::try_from(expires).ok()).map(UnixNanos),
        limits: ConnectionLimits {
            max_subscriptions: limit(grant.limits.subscriptions),
            max_payload: limit(grant.limits.payload),
        },
        nkey: user.subject.clone(),
        issuer_key: if user.nats.issuer_account.is_empty() {
            account.subject.clone()
        } else {
            user.issuer.clone()
        },
        signing_key: if user.nats.issuer_account.is_empty() { String::new() } else { user.issuer.clone() },
        name_tag: user.name.clone(),
        tags: user.nats.tags.clone(),
        has_jwt: true,
        issued_at: user.issued_at,
        proxy_key: question.proxy.clone().unwrap_or_default(),
    }
}

fn label(credentials: &Credentials) -> String {
    format!("{} - cid:{}", credentials.address, credentials.connection)
}
