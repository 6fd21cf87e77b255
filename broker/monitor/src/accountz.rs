//! `/accountz` and `/accstatz`: the accounts, one of them in detail, and what their connections moved.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use weir_jsapi::time::Time;

use crate::{
    Source,
    json::is_false,
    query::{Query, Refused},
    subsz::SublistStats,
    view::{Account, Traffic},
};

#[derive(Serialize)]
pub(crate) struct Accountz {
    server_id: String,
    now: Time,
    #[serde(skip_serializing_if = "String::is_empty")]
    system_account: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    accounts: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_detail: Option<AccountInfo>,
}

/// One account in detail.
#[derive(Serialize)]
pub(crate) struct AccountInfo {
    account_name: String,
    update_time: Time,
    #[serde(skip_serializing_if = "is_false")]
    is_system: bool,
    expired: bool,
    complete: bool,
    jetstream_enabled: bool,
    leafnode_connections: u64,
    client_connections: u64,
    subscriptions: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    mappings: BTreeMap<String, Vec<Value>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    exports: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    imports: Vec<Value>,
    #[serde(skip_serializing_if = "String::is_empty")]
    jwt: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    issuer_key: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name_tag: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decoded_jwt: Option<Value>,
    sublist_stats: SublistStats,
}

pub(crate) fn accountz(source: &dyn Source, query: &Query) -> Result<Accountz, Refused> {
    let server = source.server();
    let mut answer = Accountz {
        server_id: server.settings.server_id,
        now: server.now,
        system_account: server.settings.system_account,
        accounts: Vec::new(),
        account_detail: None,
    };
    match query.text("acc") {
        Some(name) => answer.account_detail = Some(account_info(source, name)?),
        None => {
            answer.accounts = source.accounts().into_iter().map(|account| account.name).collect();
            answer.accounts.sort();
        }
    }
    Ok(answer)
}

pub(crate) fn account_info(source: &dyn Source, name: &str) -> Result<AccountInfo, Refused> {
    let found = source.accounts().into_iter().find(|account| account.name == name);
    let account = found.ok_or_else(|| format!("Account {name} does not exist"))?;
    Ok(AccountInfo {
        is_system: account.name == source.server().settings.system_account,
        sublist_stats: SublistStats::of(&account),
        name_tag: account.name_tag,
        account_name: account.name,
        update_time: account.updated,
        expired: account.expired,
        complete: true,
        jetstream_enabled: account.jetstream,
        leafnode_connections: account.leafnodes,
        client_connections: account.connections,
        subscriptions: account.subscriptions,
        mappings: account.mappings,
        exports: account.exports,
        imports: account.imports,
        jwt: account.jwt,
        issuer_key: account.issuer_key,
        tags: account.tags,
        decoded_jwt: account.decoded_jwt,
    })
}

#[derive(Serialize)]
pub(crate) struct Accstatz {
    server_id: String,
    now: Time,
    account_statz: Vec<AccountStat>,
}

/// What an account's connections moved; also in events about the number of its connections.
#[derive(Serialize)]
pub struct AccountStat {
    acc: String,
    name: String,
    conns: u64,
    leafnodes: u64,
    total_conns: u64,
    num_subscriptions: u64,
    sent: Moved,
    received: Moved,
    slow_consumers: u64,
}

/// The whole, and the parts that came by other servers.
#[derive(Serialize)]
struct Moved {
    #[serde(flatten)]
    all: Traffic,
    gateways: Traffic,
    routes: Traffic,
    leafs: Traffic,
}

impl AccountStat {
    /// The figures of one account.
    pub fn of(account: Account) -> Self {
        let moved = |clients: Traffic, routes: Traffic| Moved {
            all: clients + routes,
            gateways: Traffic::default(),
            routes,
            leafs: Traffic::default(),
        };
        Self {
            acc: account.name,
            name: account.name_tag,
            conns: account.connections,
            leafnodes: account.leafnodes,
            total_conns: account.connections + account.leafnodes,
            num_subscriptions: account.subscriptions,
            sent: moved(account.sent, account.sent_by_routes),
            received: moved(account.received, account.received_by_routes),
            slow_consumers: account.slow_consumers,
        }
    }
}

pub(crate) fn accstatz(source: &dyn Source, query: &Query) -> Result<Accstatz, Refused> {
    statz(source, &[], query.boolean("unused")?)
}

/// The figures of all accounts or of those named, of the ones without connections only with `unused`.
pub(crate) fn statz(source: &dyn Source, names: &[String], unused: bool) -> Result<Accstatz, Refused> {
    let server = source.server();
    let mut accounts = source.accounts();
    accounts.sort_by(|a, b| a.name.cmp(&b.name));
    accounts.retain(|account| {
        (names.is_empty() || names.contains(&account.name))
            && (unused || account.connections + account.leafnodes > 0)
    });
    Ok(Accstatz {
        server_id: server.settings.server_id,
        now: server.now,
        account_statz: accounts.into_iter().map(AccountStat::of).collect(),
    })
}

impl Accstatz {
    pub(crate) fn is_empty(&self) -> bool {
        self.account_statz.is_empty()
    }
}
