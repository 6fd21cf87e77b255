//! From configured accounts to what the hub is told of them. Not their users (see `authenticator`).

use std::collections::BTreeMap;

use crate::jetstream::domain;
use weir_conf::{AccountConfig, Options};
use weir_hub::{AccountLimits, AccountSettings, Export, ExportAccess, GLOBAL_ACCOUNT, Hub, Import};

/// What nats-server would refuse in the accounts of these options, in its words.
pub(crate) fn check(options: &Options, cluster: Option<&str>) -> Result<(), String> {
    Hub::check_accounts(&all(options), cluster).map_err(|error| error.to_string())
}

/// Makes the hub's accounts what the options say; those that are not there any more become empty.
pub(crate) fn apply(hub: &Hub, options: &Options, before: Option<&Options>) {
    let mut accounts = all(options);
    for name in before.into_iter().flat_map(|before| before.accounts.keys()) {
        accounts.entry(name.clone()).or_default();
    }
    hub.configure_accounts(accounts);
}

fn all(options: &Options) -> BTreeMap<String, AccountSettings> {
    let named = options.accounts.iter().map(|(name, config)| (name.clone(), settings(config)));
    let mut accounts: BTreeMap<_, _> = named.collect();
    let global = accounts.entry(GLOBAL_ACCOUNT.to_owned()).or_default();
    global.mappings.extend(options.mappings.iter().cloned());
    let system = crate::settings::system_account(options);
    accounts.entry(system.clone()).or_default();
    for (name, account) in &mut accounts {
        let has_jetstream = options.accounts.get(name).is_some_and(|config| config.jetstream.is_some());
        let default = options.default_js_domain.get(name).map(String::as_str);
        domain::add_default(account, default, has_jetstream);
        domain::add(account, domain::of(options), *name == system);
    }
    accounts
}

fn settings(config: &AccountConfig) -> AccountSettings {
    // Below 0 is no limit.
    let limit = |value: Option<i64>| value.and_then(|value| usize::try_from(value).ok());
    AccountSettings {
        exports: config.exports.iter().map(export).collect(),
        imports: config.imports.iter().map(import).collect(),
        mappings: config.mappings.clone(),
        limits: AccountLimits {
            max_connections: limit(config.limits.max_connections),
            max_subscriptions: limit(config.limits.max_subscriptions),
            max_payload: limit(config.limits.max_payload),
            max_leafnodes: limit(config.limits.max_leafnodes),
        },
        message_trace: config.msg_trace.clone(),
        ..AccountSettings::default()
    }
}

fn export(config: &weir_conf::ExportConfig) -> Export {
    Export {
        kind: config.kind,
        subject: config.subject.clone(),
        access: ExportAccess {
            // An empty list asks for a token, which only claims can have.
            token_required: config.accounts.as_ref().is_some_and(Vec::is_empty),
            accounts: config.accounts.as_ref().map(|accounts| accounts.iter().cloned().collect()),
            account_token_position: config.account_token_position,
            revocations: BTreeMap::new(),
        },
        response_type: config.response_type,
        response_threshold: config.response_threshold,
        latency: config.latency.clone(),
        allow_trace: config.allow_trace,
    }
}

fn import(config: &weir_conf::ImportConfig) -> Import {
    Import {
        kind: config.kind,
        account: config.account.clone(),
        subject: config.subject.clone(),
        to: config.to.clone(),
        prefix: config.prefix.clone(),
        share: config.share,
        allow_trace: config.allow_trace,
        activation: None,
    }
}
