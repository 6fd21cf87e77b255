//! Operator mode: whose accounts are trusted, and whether a user's claims let it into its account. Not fetching.

use crate::jwt::{self, Account, Claims, Operator, Permissions, User, UserPermissionLimits, UserScope};
use crate::nkey::{Kind, PublicKey, is_public};
use crate::{schedule, source, template};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The operators a server trusts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trust {
    /// Keys that may sign accounts.
    pub keys: Vec<String>,
    /// Signing keys of operators that want accounts to use signing keys as well.
    pub strict: BTreeSet<String>,
}

impl Trust {
    /// The trust in these operators and, without any, in bare keys.
    pub fn new(operators: &[Claims<Operator>], keys: &[String]) -> Self {
        let strict = operators.iter().filter(|operator| operator.nats.strict_signing_key_usage);
        Self {
            strict: strict.flat_map(|operator| operator.nats.signing_keys.iter().cloned()).collect(),
            keys: operators.iter().flat_map(Claims::trusted_keys).chain(keys.iter().cloned()).collect(),
        }
    }

    /// Whether that key may sign accounts.
    pub fn trusts(&self, issuer: &str) -> bool {
        self.keys.iter().any(|key| key == issuer)
    }

    /// Whether accounts signed by that key may use signing keys only.
    pub fn is_strict(&self, issuer: &str) -> bool {
        self.strict.contains(issuer)
    }

    /// Reads an account's JWT and checks that it may be used at `now` (seconds since 1970).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify_account(&self, token: &str, now: i64) -> Result<Box<Claims<Account>>, String> {
        const INVALID: &str = "account validation failed";
        let claims = jwt::decode_account(token).map_err(|error| error.to_string())?;
        if !self.trusts(&claims.issuer) || claims.issues(now).is_blocking(true) {
            return Err(INVALID.to_owned());
        }
        Ok(claims)
    }
}

/// Whether `key` may sign for the account; with its scope, if it has one.
pub fn signer<'a>(account: &'a Claims<Account>, strict: bool, key: &str) -> Option<Option<&'a UserScope>> {
    if let Some(scope) = account.nats.signing_keys.0.get(key) {
        return Some(scope.as_ref());
    }
    (!strict && key == account.subject).then_some(None)
}

/// What is known of a connection that shows a user's JWT.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// What it had to sign.
    pub nonce: &'a str,
    /// Its signature in base64.
    pub signature: &'a str,
    /// Where it comes from.
    pub address: IpAddr,
    /// How it came in, as `allowed_connection_types` writes it.
    pub connection_type: &'a str,
    /// Whether a trusted proxy vouches for it.
    pub is_proxied: bool,
    /// Nanoseconds since 1970.
    pub now: i128,
}

/// Why a user's claims do not let it in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// For the log at level debug.
    Quiet(String),
    /// For the log at level error.
    Loud(String),
    /// It must come through a trusted proxy.
    ProxyRequired,
}

impl Denial {
    fn quiet(text: impl Into<String>) -> Self {
        Self::Quiet(text.into())
    }
}

/// What a user gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its limits, after its scope had its say.
    pub limits: UserPermissionLimits,
    /// When the connection has to end, in nanoseconds since 1970.
    pub expires: Option<i128>,
}

impl Grant {
    /// Its own permissions; `None` when it has none, so that the account's default ones hold.
    pub fn permissions(&self) -> Option<Permissions> {
        let permissions = self.limits.permissions();
        (permissions != Permissions::default()).then_some(permissions)
    }
}

/// Whether the user may come into its account now. Signatures of JWTs were checked when they were read.
///
/// # Errors
/// Why it may not.
pub fn admit(
    user: &Claims<User>,
    account: &Claims<Account>,
    strict: bool,
    presented: &Presented<'_>,
) -> Result<Grant, Denial> {
    let seconds = schedule::seconds(presented.now);
    let limits = scoped_limits(user, account, strict)?;
    if limits.proxy_required && !presented.is_proxied {
        return Err(Denial::ProxyRequired);
    }
    if account.expires > 0 && account.expires <= seconds {
        return Err(Denial::quiet("Account JWT has expired"));
    }
    if limits.bearer_token && account.nats.limits.disallow_bearer {
        return Err(Denial::quiet("Account does not allow bearer tokens"));
    }
    check_connection_type(&limits.allowed_connection_types, presented.connection_type)
        .map_err(|reason| Denial::Quiet(reason.to_owned()))?;
    if !limits.bearer_token {
        check_signature(&user.subject, presented.nonce, presented.signature).map_err(Denial::quiet)?;
    }
    if jwt::is_revoked(&account.nats.revocations, &user.subject, user.issued_at) {
        return Err(Denial::quiet("User authentication revoked"));
    }
    if !source::is_allowed(&limits.sources, presented.address) {
        return Err(Denial::Loud(format!("Bad src Ip {}", presented.address)));
    }
    let expires = expiry(user.expires, &limits, presented.now)
        .ok_or_else(|| Denial::Loud("Outside connect times".to_owned()))?;
    Ok(Grant { limits, expires })
}

/// When a connection of a user with these limits has to end; `None` when it may not begin at `now`.
pub fn expiry(expires: i64, limits: &UserPermissionLimits, now: i128) -> Option<Option<i128>> {
    let scheduled = schedule::allowed_until(&limits.times, &limits.times_location, now)?;
    let claimed = (expires > 0).then(|| i128::from(expires) * 1_000_000_000);
    Some(match (scheduled, claimed) {
        (Some(scheduled), Some(claimed)) => Some(scheduled.min(claimed)),
        (scheduled, claimed) => scheduled.or(claimed),
    })
}

/// The user's limits: its own, or those of the scope of the key that signed it.
///
/// # Errors
/// When that key may not sign, or the scope does not fit.
pub fn scoped_limits(
    user: &Claims<User>,
    account: &Claims<Account>,
    strict: bool,
) -> Result<UserPermissionLimits, Denial> {
    let Some(scope) = signer(account, strict, &user.issuer) else {
        return Err(Denial::quiet("User JWT issuer is not known"));
    };
    let Some(scope) = scope else { return Ok(user.nats.limits.clone()) };
    if !user.has_empty_permissions() {
        let text = "User JWT is not valid: scoped users require no permissions or limits set";
        return Err(Denial::quiet(text));
    }
    let names = template::Names {
        user_name: &user.name,
        user_subject: &user.subject,
        user_tags: &user.nats.tags,
        account_name: &account.name,
        account_subject: &user.nats.issuer_account,
        account_tags: &account.nats.tags,
    };
    template::apply(&scope.template, &names)
        .map_err(|_| Denial::quiet("User JWT generated invalid permissions"))
}

/// Whether a connection of that type may come in; an empty list allows every type.
///
/// # Errors
/// When it may not, or none of the allowed types is known.
pub fn check_connection_type(allowed: &[String], connection_type: &str) -> Result<(), &'static str> {
    const KNOWN: [&str; 7] =
        ["STANDARD", "WEBSOCKET", "LEAFNODE", "LEAFNODE_WS", "MQTT", "MQTT_WS", "IN_PROCESS"];
    if allowed.is_empty() {
        return Ok(());
    }
    let mut known = allowed.iter().map(|name| name.to_ascii_uppercase());
    if !known.clone().any(|name| KNOWN.contains(&name.as_str())) {
        return Err("invalid connection types");
    }
    if known.any(|name| name == connection_type) { Ok(()) } else { Err("Connection type not allowed") }
}

/// Whether `signature` (base64) is the key's of the nonce.
///
/// # Errors
/// What is wrong, in the words of the reference.
pub fn check_signature(key: &str, nonce: &str, signature: &str) -> Result<(), &'static str> {
    if signature.is_empty() {
        return Err("Signature missing");
    }
    let decoded = URL_SAFE_NO_PAD.decode(signature).or_else(|_| STANDARD.decode(signature));
    let decoded = decoded.map_err(|_| "Signature not valid base64")?;
    let Some(key) = PublicKey::parse(key) else {
        return Err("User nkey not valid: nkeys: invalid encoded key");
    };
    if key.verify(nonce.as_bytes(), &decoded) { Ok(()) } else { Err("Signature not verified") }
}

/// Whether a proxy with one of the trusted keys signed the nonce: the key, or `None`.
pub fn proxy_key<'a>(trusted: &'a [String], nonce: &str, signature: &str) -> Option<&'a str> {
    let decoded = URL_SAFE_NO_PAD.decode(signature).ok()?;
    let signed =
        |key: &&String| PublicKey::parse(key).is_some_and(|key| key.verify(nonce.as_bytes(), &decoded));
    trusted.iter().find(signed).map(String::as_str)
}

/// Whether the text may name an account in operator mode.
pub fn is_account_key(text: &str) -> bool {
    is_public(Kind::Account, text)
}

#[cfg(test)]
mod tests;
