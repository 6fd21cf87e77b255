//! What accounts offer each other, as `/accountz` prints it. Not the exchange itself.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use weir_hub::{AccountSettings, ExchangeKind, Export, Import, LatencyConfig, MappingConfig, ResponseType};

/// Requests that every account may make of the system account: the local subject, the last token of the service's
/// subject behind the account's name, and whether the service is told who asks.
const SYSTEM_IMPORTS: [(&str, &str, bool); 4] = [
    ("$SYS.REQ.ACCOUNT.PING.CONNZ", "CONNZ", false),
    ("$SYS.REQ.SERVER.PING.CONNZ", "CONNZ", false),
    ("$SYS.REQ.ACCOUNT.PING.STATZ", "STATZ", false),
    ("$SYS.REQ.USER.INFO", "INFO", true),
];
/// What the system account offers for that, and how it responds.
const SYSTEM_EXPORTS: [(&str, &str); 4] = [
    ("$SYS.REQ.ACCOUNT.*.CONNZ", "Streamed"),
    ("$SYS.REQ.ACCOUNT.*.STATZ", "Streamed"),
    ("$SYS.DEBUG.SUBSCRIBERS", "Singleton"),
    ("$SYS.REQ.USER.*.INFO", "Singleton"),
];

/// The JetStream API, where it is served: offered by the system account, taken by all others.
const JETSTREAM_API: &str = "$JS.API.>";

/// What an account offers; the system account offers its services besides.
pub(crate) fn exports(settings: &AccountSettings, is_system: bool, jetstream: bool) -> Vec<Value> {
    let api = (JETSTREAM_API, "Singleton");
    let system = SYSTEM_EXPORTS.iter().chain(jetstream.then_some(&api)).filter(|_| is_system);
    let system = system.map(
        |(subject, response)| json!({ "subject": subject, "type": "service", "response_type": response }),
    );
    settings.exports.iter().map(export).chain(system).collect()
}

fn export(export: &Export) -> Value {
    let mut shown = Map::new();
    shown.insert("subject".to_owned(), export.subject.clone().into());
    shown.insert("type".to_owned(), kind(export.kind).into());
    if export.access.token_required {
        shown.insert("token_req".to_owned(), true.into());
    }
    if export.kind == ExchangeKind::Service {
        let response = match export.response_type {
            ResponseType::Singleton => "Singleton",
            ResponseType::Stream => "Streamed",
            ResponseType::Chunked => "Chunked",
        };
        shown.insert("response_type".to_owned(), response.into());
        if let Some(settings) = &export.latency {
            shown.insert("service_latency".to_owned(), latency(settings));
        }
    }
    if let Some(accounts) = export.access.accounts.as_ref().filter(|accounts| !accounts.is_empty()) {
        shown.insert("approved_accounts".to_owned(), accounts.iter().cloned().collect());
    }
    Value::Object(shown)
}

fn kind(kind: ExchangeKind) -> &'static str {
    match kind {
        ExchangeKind::Stream => "stream",
        ExchangeKind::Service => "service",
    }
}

fn latency(settings: &LatencyConfig) -> Value {
    let sampling = match settings.sampling {
        0 => Value::from("headers"),
        percent => percent.into(),
    };
    json!({ "sampling": sampling, "results": settings.subject })
}

/// What an account takes from others. `exported` finds the settings of an export's account.
pub(crate) fn imports(
    name: &str,
    system_account: &str,
    settings: &AccountSettings,
    jetstream: bool,
    exported: impl Fn(&str) -> Option<std::sync::Arc<AccountSettings>>,
) -> Vec<Value> {
    let is_system = name == system_account;
    let own = SYSTEM_IMPORTS.iter().filter(|(_, _, share)| !is_system || *share);
    let own = own.map(|(local, service, share)| {
        let place = if *share { "USER" } else { "ACCOUNT" };
        let subject = format!("$SYS.REQ.{place}.{name}.{service}");
        imported(subject, system_account, Some(local), local, ExchangeKind::Service, *share)
    });
    let taken = settings.imports.iter().map(|import| {
        let mut shown = import_json(import);
        let tracked = exported(&import.account).and_then(|exporter| {
            let offered = exporter.exports.iter().filter(|export| export.kind == import.kind);
            let covers = |export: &&Export| {
                weir_subject::is_subset(import.subject.as_bytes(), export.subject.as_bytes())
            };
            offered.into_iter().find(covers).and_then(|export| export.latency.as_ref().map(latency))
        });
        if let (Some(tracked), Some(fields)) = (tracked, shown.as_object_mut()) {
            fields.insert("latency".to_owned(), tracked);
        }
        shown
    });
    let api = (jetstream && !is_system).then(|| {
        let subject = JETSTREAM_API.to_owned();
        imported(subject, system_account, Some(JETSTREAM_API), JETSTREAM_API, ExchangeKind::Service, true)
    });
    own.chain(api).chain(taken).collect()
}

fn import_json(import: &Import) -> Value {
    let local = match (&import.to, &import.prefix) {
        (Some(to), _) => to.clone(),
        (None, Some(prefix)) => format!("{}.{}", prefix.trim_end_matches('.'), import.subject),
        (None, None) => import.subject.clone(),
    };
    let to = (import.kind == ExchangeKind::Service).then_some(local.as_str());
    imported(import.subject.clone(), &import.account, to, &local, import.kind, import.share)
}

fn imported(
    subject: String,
    account: &str,
    to: Option<&str>,
    local: &str,
    of: ExchangeKind,
    share: bool,
) -> Value {
    let mut shown = json!({
        "subject": subject, "account": account, "local_subject": local, "type": kind(of),
        "invalid": false, "share": share, "tracking": false,
    });
    if let (Some(to), Some(fields)) = (to, shown.as_object_mut()) {
        fields.insert("to".to_owned(), to.into());
    }
    shown
}

/// Where publishes go instead, by source: weights add up from one destination to the next, and what they leave over
/// stays with the source.
pub(crate) fn mappings(settings: &AccountSettings) -> BTreeMap<String, Vec<Value>> {
    settings.mappings.iter().map(|mapping| (mapping.source.clone(), destinations(mapping))).collect()
}

fn destinations(mapping: &MappingConfig) -> Vec<Value> {
    let mut by_cluster: BTreeMap<Option<&str>, Vec<(String, u32)>> = BTreeMap::new();
    by_cluster.entry(None).or_default();
    for destination in &mapping.destinations {
        let entry = by_cluster.entry(destination.cluster.as_deref()).or_default();
        entry.push((destination.subject.clone(), destination.weight.into()));
    }
    let names_source = mapping.destinations.iter().any(|destination| destination.subject == mapping.source);
    let mut shown = Vec::new();
    for (cluster, mut list) in by_cluster {
        let total: u32 = list.iter().map(|(_, weight)| weight).sum();
        if total != 100 && !names_source {
            list.push((numbered(&mapping.source), 100_u32.saturating_sub(total)));
        }
        list.sort_by_key(|(_, weight)| *weight);
        let mut sum = 0;
        for (subject, weight) in list {
            sum += weight;
            let mut entry = json!({ "subject": subject, "weight": sum });
            if let (Some(cluster), Some(fields)) = (cluster, entry.as_object_mut()) {
                fields.insert("cluster".to_owned(), cluster.into());
            }
            shown.push(entry);
        }
    }
    shown
}

/// A source as a destination: its wildcards become `$1`, `$2` and so on.
fn numbered(source: &str) -> String {
    let mut count = 0;
    let token = |token: &str| {
        if token == "*" {
            count += 1;
            format!("${count}")
        } else {
            token.to_owned()
        }
    };
    source.split('.').map(token).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_hub::MappingDestination;

    #[test]
    fn what_weights_leave_over_stays_with_the_source() {
        let destination = |subject: &str, weight, cluster: Option<&str>| MappingDestination {
            subject: subject.to_owned(),
            weight,
            cluster: cluster.map(str::to_owned),
        };
        let mapping = MappingConfig {
            source: "m.*".to_owned(),
            destinations: vec![destination("n.$1", 50, None), destination("o.$1", 30, Some("c"))],
        };
        assert_eq!(
            destinations(&mapping),
            [
                json!({ "subject": "n.$1", "weight": 50 }),
                json!({ "subject": "m.$1", "weight": 100 }),
                json!({ "subject": "o.$1", "weight": 30, "cluster": "c" }),
                json!({ "subject": "m.$1", "weight": 100, "cluster": "c" }),
            ]
        );
    }
}
