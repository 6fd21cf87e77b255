//! `/accountz` and `/accstatz`: the accounts. Imports and exports are not served yet.

use serde::Serialize;
use weir_jsapi::time::Time;

use crate::{
    Source,
    query::{Query, Refused},
    view::Account,
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
    account_detail: Option<Detail>,
}

#[derive(Serialize)]
struct Detail {
    account_name: String,
    update_time: Time,
    #[serde(skip_serializing_if = "crate::json::is_false")]
    is_system: bool,
    expired: bool,
    complete: bool,
    jetstream_enabled: bool,
    leafnode_connections: u64,
    client_connections: u64,
    subscriptions: u64,
    name_tag: String,
    sublist_stats: SublistStats,
}

#[derive(Serialize, Default)]
struct SublistStats {
    num_subscriptions: u64,
    num_cache: u64,
    num_inserts: u64,
    num_removes: u64,
    num_matches: u64,
    cache_hit_rate: u64,
    max_fanout: u64,
    avg_fanout: u64,
}

pub(crate) fn accountz(source: &dyn Source, query: &Query) -> Result<Accountz, Refused> {
    let server = source.server();
    let mut accounts = source.accounts();
    accounts.sort_by(|a, b| a.name.cmp(&b.name));
    let system_account = server.settings.system_account;
    let mut answer = Accountz {
        server_id: server.settings.server_id,
        now: server.now,
        accounts: Vec::new(),
        account_detail: None,
        system_account: system_account.clone(),
    };
    match query.text("acc") {
        None => answer.accounts = accounts.into_iter().map(|account| account.name).collect(),
        Some(name) => {
            let found = accounts.into_iter().find(|account| account.name == name);
            let account = found.ok_or_else(|| format!("Account {name} does not exist"))?;
            answer.account_detail = Some(Detail {
                is_system: account.name == system_account,
                name_tag: account.name.clone(),
                account_name: account.name,
                update_time: server.settings.start,
                expired: false,
                complete: true,
                jetstream_enabled: account.jetstream,
                leafnode_connections: 0,
                client_connections: account.connections,
                subscriptions: account.subscriptions,
                sublist_stats: SublistStats {
                    num_subscriptions: account.subscriptions,
                    num_inserts: account.subscriptions,
                    ..SublistStats::default()
                },
            });
        }
    }
    Ok(answer)
}

#[derive(Serialize)]
pub(crate) struct Accstatz {
    server_id: String,
    now: Time,
    account_statz: Vec<Stat>,
}

#[derive(Serialize)]
struct Stat {
    acc: String,
    name: String,
    conns: u64,
    leafnodes: u64,
    total_conns: u64,
    num_subscriptions: u64,
    sent: Traffic,
    received: Traffic,
    slow_consumers: u64,
}

#[derive(Serialize)]
struct Traffic {
    msgs: u64,
    bytes: u64,
}

pub(crate) fn accstatz(source: &dyn Source, query: &Query) -> Result<Accstatz, Refused> {
    let unused = query.boolean("unused")?;
    let server = source.server();
    let mut accounts = source.accounts();
    accounts.sort_by(|a, b| a.name.cmp(&b.name));
    accounts.retain(|account| unused || account.connections > 0);
    Ok(Accstatz {
        server_id: server.settings.server_id,
        now: server.now,
        account_statz: accounts.into_iter().map(stat).collect(),
    })
}

fn stat(account: Account) -> Stat {
    Stat {
        acc: account.name.clone(),
        name: account.name,
        conns: account.connections,
        leafnodes: 0,
        total_conns: account.total_connections,
        num_subscriptions: account.subscriptions,
        sent: Traffic { msgs: account.out_msgs, bytes: account.out_bytes },
        received: Traffic { msgs: account.in_msgs, bytes: account.in_bytes },
        slow_consumers: account.slow_consumers,
    }
}
