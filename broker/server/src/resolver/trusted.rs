//! The operators a configuration names: what is wrong with them, and what they say. Not their accounts.

use std::collections::BTreeSet;

use tracing::{error, info, warn};
use weir_auth::{
    jwt::{self, Claims},
    nkey::{Kind, is_public},
};
use weir_conf::{Options, Resolver};

use crate::COMPATIBLE_VERSION;

type OperatorClaims = Claims<jwt::Operator>;

/// What the first operator is to the resolver.
pub(super) struct Operator {
    /// Its public key.
    pub(super) key: String,
    /// Accounts must be signed by its signing keys.
    pub(super) is_strict: bool,
    /// Keys that may delete accounts.
    pub(super) signers: BTreeSet<String>,
}

impl Operator {
    pub(super) fn of(operators: &[OperatorClaims]) -> Self {
        let first = operators.first();
        Self {
            key: first.map(|operator| operator.subject.clone()).unwrap_or_default(),
            is_strict: first.is_some_and(|operator| operator.nats.strict_signing_key_usage),
            signers: first.map(Claims::trusted_keys).unwrap_or_default().into_iter().collect(),
        }
    }
}

/// The operators' claims.
pub(super) fn operators(options: &Options) -> Result<Vec<OperatorClaims>, String> {
    let read = |text: &String| {
        let claims = jwt::decode_operator(jwt::undecorated(text).trim());
        claims.map(|claims| *claims).map_err(|error| format!("error parsing operator JWT: {error}"))
    };
    options.operator.jwts.iter().map(read).collect()
}

/// The system account's name, from the configuration or the first operator; `None` for the default one.
pub(crate) fn system_account(options: &Options) -> Option<String> {
    if options.system_account.is_some() {
        return options.system_account.clone();
    }
    let operators = operators(options).ok()?;
    let named = operators.first().map(|operator| operator.nats.system_account.clone())?;
    Some(named).filter(|name| !name.is_empty())
}

/// The accounts whose users may come in; the system account always is one of them.
pub(super) fn pinned(options: &Options) -> BTreeSet<String> {
    let mut pinned = options.operator.resolver_pinned_accounts.clone();
    if !pinned.is_empty() {
        pinned.extend(system_account(options));
    }
    pinned
}

/// What nats-server would refuse in the operators of these options, in its words.
pub(crate) fn check(options: &Options) -> Result<(), String> {
    let configured = &options.operator;
    let operators = operators(options)?;
    if operators.is_empty() {
        if configured.default_sentinel.is_some() {
            return Err("default sentinel requires operators and accounts".to_owned());
        }
        return check_keys(&configured.trusted_keys);
    }
    check_sentinel(configured.default_sentinel.as_deref())?;
    if configured.resolver.is_none() {
        return Err("operators require an account resolver to be configured".to_owned());
    }
    if !options.accounts.is_empty() {
        return Err("operators do not allow Accounts to be configured directly".to_owned());
    }
    if !options.users.is_empty() {
        return Err("operators do not allow users to be configured directly".to_owned());
    }
    if !configured.trusted_keys.is_empty() {
        return Err("conflicting options for 'TrustedKeys' and 'TrustedOperators'".to_owned());
    }
    check_system_account(options, &operators)?;
    for operator in &operators {
        check_version(operator)?;
    }
    let keys: Vec<String> = operators.iter().flat_map(Claims::trusted_keys).collect();
    check_keys(&keys)?;
    if let Some(key) = configured.resolver_pinned_accounts.iter().find(|key| !is_public(Kind::Account, key)) {
        return Err(format!("pinned account key {key:?} is not a valid public account nkey"));
    }
    if options.auth_callout.is_some() {
        return Err("operators do not allow authorization callouts to be configured directly".to_owned());
    }
    if options.no_auth_user.is_some() {
        return Err("no_auth_user not compatible with Trusted Operator".to_owned());
    }
    Ok(())
}

fn check_keys(keys: &[String]) -> Result<(), String> {
    match keys.iter().find(|key| !is_public(Kind::Operator, key)) {
        Some(key) => Err(format!("trusted Keys {key:?} are required to be a valid public operator nkey")),
        None => Ok(()),
    }
}

fn check_sentinel(sentinel: Option<&str>) -> Result<(), String> {
    let Some(sentinel) = sentinel else { return Ok(()) };
    let Ok(user) = jwt::decode_user(sentinel) else {
        return Err("default sentinel JWT not valid".to_owned());
    };
    let is_scoped = !user.nats.issuer_account.is_empty() && user.has_empty_permissions();
    if user.nats.limits.bearer_token || is_scoped {
        return Ok(());
    }
    Err("default sentinel must be a bearer token".to_owned())
}

fn check_system_account(options: &Options, operators: &[OperatorClaims]) -> Result<(), String> {
    let named = |operator: &OperatorClaims| operator.nats.system_account.clone();
    match &options.system_account {
        Some(configured) => {
            let mut others = operators.iter().map(named).filter(|name| !name.is_empty()).peekable();
            if others.peek().is_some() && !others.any(|name| name == *configured) {
                return Err("system_account in config and operator JWT must be identical".to_owned());
            }
        }
        None => {
            let is_missing = operators.first().map(named).is_none_or(|name| name.is_empty());
            let needs =
                matches!(options.operator.resolver, Some(Resolver::Full { .. } | Resolver::Cache { .. }));
            if is_missing && needs {
                return Err(
                    "using nats based account resolver - the system account needs to be specified in \
                     configuration or the operator jwt"
                        .to_owned(),
                );
            }
        }
    }
    Ok(())
}

fn check_version(operator: &OperatorClaims) -> Result<(), String> {
    let key = &operator.subject;
    let wanted = operator.nats.asserted_version().map_err(|reason| {
        let version = &operator.nats.assert_server_version;
        format!("operator {key} expects version {version} got error instead: {reason}")
    })?;
    let mut own = COMPATIBLE_VERSION.split('.').map(|part| part.parse::<u64>().unwrap_or(0));
    for (what, wanted) in ["major", "minor", "update"].into_iter().zip(wanted) {
        let own = own.next().unwrap_or(0);
        if wanted > own {
            return Err(format!(
                "operator {key} expected {what} version {wanted} > server {what} version {own}"
            ));
        }
        if own > wanted {
            break;
        }
    }
    Ok(())
}

/// What the log says of the operators when the server starts.
pub(crate) fn announce(options: &Options) {
    let Ok(operators) = operators(options) else { return };
    if operators.is_empty() {
        return;
    }
    info!("Trusted Operators");
    for operator in &operators {
        info!("  System  : {:?}", operator.audience);
        info!("  Operator: {:?}", operator.name);
        info!("  Issued  : {}", shown(operator.issued_at));
        match operator.expires {
            0 => info!("  Expires : Never"),
            expires => info!("  Expires : {}", shown(expires)),
        }
    }
    if system_account(options).is_none() {
        warn!("Trusted Operators should utilize a System Account");
    }
    check_preloaded(options);
}

/// Complains about preloaded accounts that nobody will be able to use.
fn check_preloaded(options: &Options) {
    for (key, token) in &options.operator.resolver_preload {
        let Ok(claims) = jwt::decode_account(token) else {
            error!("Preloaded account [{key}] not valid");
            continue;
        };
        let issues = claims.issues(super::now());
        if issues.is_blocking(true) {
            warn!("Account [{key}] has validation issues:");
            for issue in &issues.0 {
                warn!("  - {}", issue.text);
            }
        }
    }
}

/// A time as Go prints it, in UTC.
fn shown(seconds: i64) -> String {
    let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second] +0000 UTC");
    let moment = time::OffsetDateTime::from_unix_timestamp(seconds);
    moment.ok().and_then(|moment| moment.format(format).ok()).unwrap_or_default()
}
