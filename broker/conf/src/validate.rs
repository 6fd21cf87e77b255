//! Checks that need the whole of the options, with nats-server's texts.

use crate::{Options, format_duration};

/// What makes the options unusable, or `None`. Listening and writing files is not tried here.
pub(crate) fn problem(options: &Options) -> Option<String> {
    payload(options)
        .or_else(|| lame_duck(options))
        .or_else(|| system_account(options))
        .or_else(|| no_auth_user(options))
        .or_else(|| cluster(options))
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

fn system_account(options: &Options) -> Option<String> {
    let name = options.system_account.as_deref()?;
    let known = name == "$SYS" || options.accounts.contains_key(name);
    (!known).then(|| "error resolving system account: account missing".to_owned())
}

fn no_auth_user(options: &Options) -> Option<String> {
    let user = options.no_auth_user.as_deref()?;
    if options.users.is_empty() {
        return Some(format!("no_auth_user: {user:?} present, but users/nkeys are not defined"));
    }
    let known = options.users.iter().any(|known| known.user == user);
    (!known).then(|| {
        format!(
            "no_auth_user: {user:?} not present as user or nkey in authorization block or account configuration"
        )
    })
}

fn cluster(options: &Options) -> Option<String> {
    let cluster = options.cluster.as_ref()?;
    if cluster.port == 0 {
        return (!cluster.routes.is_empty())
            .then(|| "solicited routes require cluster capabilities, e.g. --cluster".to_owned());
    }
    options.jetstream.as_ref()?;
    if options.server_name.is_empty() {
        return Some("jetstream cluster requires `server_name` to be set".to_owned());
    }
    if cluster.name.is_empty() {
        return Some("jetstream cluster requires `cluster.name` to be set".to_owned());
    }
    None
}
