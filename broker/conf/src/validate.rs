//! Checks that need the whole of the options, with nats-server's texts and in its order.

use crate::{
    Options, Resolver, UserConfig, WebSocketOptions, format_duration,
    keys::{self, KeyKind},
};

/// What makes the options unusable, or `None`. Listening and writing files is not tried here.
pub(crate) fn problem(options: &Options) -> Option<String> {
    lame_duck(options)
        .or_else(|| payload(options))
        .or_else(|| operators(options))
        .or_else(|| no_auth_user(options, options.no_auth_user.as_deref()))
        .or_else(|| options.problems.first().cloned())
        .or_else(|| pinned_accounts(options))
        .or_else(|| jetstream(options))
        .or_else(|| websocket(options))
        .or_else(|| system_account(options))
        .or_else(|| cluster(options))
        .or_else(|| monitoring(options))
}

fn payload(options: &Options) -> Option<String> {
    let (payload, pending) = (options.max_payload, options.max_pending);
    (u64::from(payload) > pending)
        .then(|| format!("max_payload ({payload}) cannot be higher than max_pending ({pending})"))
}

fn lame_duck(options: &Options) -> Option<String> {
    let (grace, duration) = (options.lame_duck_grace_period, options.lame_duck_duration);
    (grace >= duration).then(|| {
        format!(
            "lame duck grace period ({}) should be strictly lower than lame duck duration ({})",
            format_duration(grace),
            format_duration(duration)
        )
    })
}

/// Operator mode excludes what it replaces.
fn operators(options: &Options) -> Option<String> {
    let operator = &options.operator;
    if operator.jwts.is_empty() {
        let sentinel = operator.default_sentinel.is_some();
        return sentinel.then(|| "default sentinel requires operators and accounts".to_owned());
    }
    let problem = if operator.resolver.is_none() {
        "operators require an account resolver to be configured"
    } else if !options.accounts.is_empty() {
        "operators do not allow Accounts to be configured directly"
    } else if configured_users(options).next().is_some() {
        "operators do not allow users to be configured directly"
    } else if !operator.trusted_keys.is_empty() {
        "conflicting options for 'TrustedKeys' and 'TrustedOperators'"
    } else if options.system_account.is_none()
        && matches!(operator.resolver, Some(Resolver::Full { .. } | Resolver::Cache { .. }))
    {
        "using nats based account resolver - the system account needs to be specified in configuration or the operator jwt"
    } else {
        return None;
    };
    Some(problem.to_owned())
}

/// The users of lists; the single user is none of them.
fn configured_users(options: &Options) -> impl Iterator<Item = &UserConfig> {
    options.users.iter().filter(|user| Some(&user.user) != options.single_user.as_ref())
}

fn no_auth_user(options: &Options, user: Option<&str>) -> Option<String> {
    let user = user?;
    if !options.operator.jwts.is_empty() {
        return Some("no_auth_user not compatible with Trusted Operator".to_owned());
    }
    let mut users = configured_users(options).peekable();
    if users.peek().is_none() {
        return Some(format!("no_auth_user: \"{user}\" present, but users/nkeys are not defined"));
    }
    let known = users.any(|known| known.nkey.as_ref().unwrap_or(&known.user) == user);
    (!known).then(|| {
        format!(
            "no_auth_user: \"{user}\" not present as user or nkey in authorization block or account configuration"
        )
    })
}

fn pinned_accounts(options: &Options) -> Option<String> {
    let cluster = options.cluster.as_ref()?;
    let accounts = &cluster.accounts;
    if !accounts.is_empty() && cluster.pool_size < 0 {
        return Some("pool_size cannot be negative if pinned accounts are specified".to_owned());
    }
    let twice = accounts.iter().enumerate().find(|(at, name)| accounts[..*at].contains(name))?;
    let list: Vec<String> = accounts.iter().map(|name| format!("{name:?}")).collect();
    let (name, list) = (twice.1, list.join(" "));
    Some(format!("found duplicate account name {name:?} in pinned accounts list [{list}]"))
}

fn jetstream(options: &Options) -> Option<String> {
    let operator_mode = !options.operator.jwts.is_empty();
    for (account, domain) in &options.default_js_domain {
        if operator_mode {
            if !keys::is_valid(account, KeyKind::Account) {
                return Some(format!(
                    "default_js_domain contains account name {account:?}, which is not a valid public account nkey"
                ));
            }
        } else if account != "$G" {
            let Some(config) = options.accounts.get(account) else {
                return Some(format!(
                    "in non operator mode, `default_js_domain` references non existing account {account:?}"
                ));
            };
            if config.jetstream.is_some() && !domain.is_empty() {
                return Some(format!(
                    "default_js_domain contains account name {account:?} with enabled JetStream"
                ));
            }
        }
        if options.system_account.as_deref().unwrap_or("$SYS") == account {
            return Some(format!("system account {account:?} can not be in default_js_domain"));
        }
        if !domain.is_empty() && !is_domain_subject(domain) {
            return Some(format!(
                "default_js_domain contains account {account:?} with invalid domain name {domain:?}"
            ));
        }
    }
    let domain = options.jetstream.as_ref()?.domain.as_ref()?;
    if !is_domain_subject(domain) {
        let subject = format!("$JS.{domain}.API.>");
        return Some(format!("invalid domain name: derived {subject:?} is not a valid subject"));
    }
    domain.contains(['.', '*', '>', ' ']).then(|| "invalid domain name: may not contain ., * or >".to_owned())
}

/// The domain can stand in `$JS.<domain>.API.>`.
fn is_domain_subject(domain: &str) -> bool {
    domain.split('.').all(|token| !token.is_empty() && token != ">" && !token.contains(char::is_whitespace))
}

fn websocket(options: &Options) -> Option<String> {
    let websocket = options.websocket.as_ref()?;
    if websocket.tls.is_none() && !websocket.no_tls {
        return Some("websocket requires TLS configuration".to_owned());
    }
    if let Some(problem) = websocket.allowed_origins.iter().find_map(|origin| origin_problem(origin)) {
        return Some(problem);
    }
    if let Some(problem) = no_auth_user(options, websocket.no_auth_user.as_deref()) {
        return Some(problem);
    }
    if configured_users(options).next().is_some() {
        let what = match (&websocket.username, &websocket.token) {
            (Some(_), _) => Some("username"),
            (None, Some(_)) => Some("token"),
            (None, None) => None,
        };
        if let Some(what) = what {
            return Some(format!(
                "websocket authentication {what} not compatible with presence of users/nkeys"
            ));
        }
    }
    if let Some(cookie) = &websocket.jwt_cookie
        && options.operator.jwts.is_empty()
        && options.operator.trusted_keys.is_empty()
    {
        return Some(format!(
            "trusted operators or trusted keys configuration is required for JWT authentication via cookie {cookie:?}"
        ));
    }
    header_problem(websocket)
}

fn header_problem(websocket: &WebSocketOptions) -> Option<String> {
    const OURS: [&str; 5] = ["host", "content-length", "connection", "upgrade", "nats-no-masking"];
    websocket.headers.keys().find_map(|name| {
        let lower = name.to_lowercase();
        if OURS.contains(&lower.as_str()) {
            return Some(format!("websocket: invalid header {name:?} not allowed"));
        }
        lower
            .starts_with("sec-websocket-")
            .then(|| format!("websocket: invalid header {name:?}, \"Sec-WebSocket-\" prefix not allowed"))
    })
}

fn origin_problem(origin: &str) -> Option<String> {
    let Some((scheme, rest)) = origin.split_once("://") else {
        if origin.starts_with('/') {
            return Some(format!(
                "unable to parse allowed origin {origin:?}: allowed origins must be absolute URLs with http or https scheme"
            ));
        }
        return Some(format!("unable to parse allowed origin: parse {origin:?}: invalid URI for request"));
    };
    if scheme != "http" && scheme != "https" {
        return Some(format!(
            "unable to parse allowed origin {origin:?}: allowed origins must be absolute URLs with http or https scheme"
        ));
    }
    let host = rest.split('/').next().unwrap_or_default();
    host.is_empty().then(|| format!("unable to parse allowed origin {origin:?}: host is required"))
}

fn system_account(options: &Options) -> Option<String> {
    let name = options.system_account.as_deref()?;
    // In operator mode accounts come from the resolver.
    let operator_mode = !options.operator.jwts.is_empty() || !options.operator.trusted_keys.is_empty();
    let known = operator_mode || name == "$SYS" || options.accounts.contains_key(name);
    (!known).then(|| "error resolving system account: account missing".to_owned())
}

fn cluster(options: &Options) -> Option<String> {
    let cluster = options.cluster.as_ref()?;
    if cluster.port == 0 || options.jetstream.is_none() {
        return None;
    }
    if options.server_name.is_empty() {
        return Some("jetstream cluster requires `server_name` to be set".to_owned());
    }
    if cluster.name.is_empty() {
        return Some("jetstream cluster requires `cluster.name` to be set".to_owned());
    }
    None
}

fn monitoring(options: &Options) -> Option<String> {
    let secure = options.https_port?;
    if let Some(plain) = options.http_port {
        return Some(format!(
            "Can't start monitoring: can't specify both HTTP ({plain}) and HTTPs ({secure}) ports"
        ));
    }
    options.tls.is_none().then(|| "Can't start monitoring: TLS cert and key required for HTTPS".to_owned())
}
