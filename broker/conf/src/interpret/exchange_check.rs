//! Whether the exports and imports of all accounts fit together: names, permissions, cycles.

use std::collections::{BTreeMap, BTreeSet};

use weir_subject::{Transform, has_wildcards, is_subset, overlaps, tokenize, untokenize};

use super::{
    exchange::is_usable,
    permissions::{is_valid_publish_subject, is_valid_subject},
};
use crate::{
    options::{AccountConfig, ExchangeKind, ExportConfig, ImportConfig, Options, ResponseType},
    read::Reader,
    value::Node,
};

/// Longer chains of imports are refused.
const CYCLE_SEARCH_DEPTH: usize = 1024;

type Accounts = BTreeMap<String, AccountConfig>;

/// Complains at the `accounts` block, as the reference does: streams before services, exports before
/// imports.
pub(super) fn check(reader: &mut Reader<'_>, options: &Options, node: &Node) {
    let accounts = &options.accounts;
    for kind in [ExchangeKind::Stream, ExchangeKind::Service] {
        for account in accounts.values() {
            for export in account.exports.iter().filter(|export| export.kind == kind) {
                if let Err(message) = check_export(options, account, export) {
                    reader.error(node, message);
                }
            }
        }
    }
    // The imports that were taken so far: cycles are looked for among them.
    let mut taken: BTreeMap<&str, Vec<&ImportConfig>> = BTreeMap::new();
    for kind in [ExchangeKind::Stream, ExchangeKind::Service] {
        for account in accounts.values() {
            for import in account.imports.iter().filter(|import| import.kind == kind) {
                match check_import(accounts, &taken, account, import) {
                    Ok(()) => taken.entry(&account.name).or_default().push(import),
                    Err(message) => reader.error(node, message),
                }
            }
        }
    }
}

fn word(kind: ExchangeKind) -> &'static str {
    match kind {
        ExchangeKind::Stream => "stream",
        ExchangeKind::Service => "service",
    }
}

fn check_export(options: &Options, account: &AccountConfig, export: &ExportConfig) -> Result<(), String> {
    let (kind, subject) = (word(export.kind), &export.subject);
    for name in export.accounts.iter().flatten() {
        if !options.accounts.contains_key(name) {
            return Err(format!("{name:?} account not defined for {kind} export"));
        }
    }
    let position = export.account_token_position;
    if position > 0 && subject.split('.').nth(position - 1) != Some("*") {
        return Err(format!("Error adding {kind} export {subject:?}: sublist: invalid subject"));
    }
    let Some(latency) = &export.latency else { return Ok(()) };
    if options.no_system_account {
        return Err(format!(
            "Error adding service latency sampling for {subject:?}: system account not setup"
        ));
    }
    let to = &latency.subject;
    let loops = account.exports.iter().any(|other| {
        other.kind == ExchangeKind::Service && is_subset(to.as_bytes(), other.subject.as_bytes())
    });
    let problem = if !is_valid_publish_subject(to) || loops {
        "invalid publish subject"
    } else if export.response_type != ResponseType::Singleton {
        "bad service response type"
    } else {
        return Ok(());
    };
    Err(format!("Error adding service latency sampling for {subject:?} on subject {to:?}: {problem}"))
}

fn check_import(
    accounts: &Accounts,
    taken: &BTreeMap<&str, Vec<&ImportConfig>>,
    account: &AccountConfig,
    import: &ImportConfig,
) -> Result<(), String> {
    let kind = word(import.kind);
    let Some(exporter) = accounts.get(&import.account) else {
        return Err(format!("{:?} account not defined for {kind} import", import.account));
    };
    let result = match import.kind {
        ExchangeKind::Stream => check_stream(accounts, taken, account, exporter, import),
        ExchangeKind::Service => check_service(accounts, taken, account, exporter, import),
    };
    result.map_err(|reason| format!("Error adding {kind} import {:?}: {reason}", import.subject))
}

/// The subject of an import in the importing account.
fn local(import: &ImportConfig) -> String {
    match (&import.to, &import.prefix) {
        (Some(to), _) => to.clone(),
        (None, Some(prefix)) => format!("{}.{}", prefix.trim_end_matches('.'), import.subject),
        (None, None) => import.subject.clone(),
    }
}

fn wild(subject: &str) -> bool {
    has_wildcards(subject.as_bytes())
}

fn check_stream(
    accounts: &Accounts,
    taken: &BTreeMap<&str, Vec<&ImportConfig>>,
    account: &AccountConfig,
    exporter: &AccountConfig,
    import: &ImportConfig,
) -> Result<(), String> {
    if !is_usable(&import.subject) || !may_import(exporter, account, import) {
        return Err("stream import not authorized".to_owned());
    }
    if import.prefix.as_deref().is_some_and(wild) {
        return Err("stream import prefix can not contain wildcard tokens".to_owned());
    }
    let to = local(import);
    for subject in [&to, &import.subject] {
        let mut visited = BTreeSet::from([account.name.as_str()]);
        find_cycle(accounts, taken, &exporter.name, ExchangeKind::Stream, subject, &mut visited)?;
    }
    if wild(&import.subject) && to != import.subject {
        Transform::new_reversible(&import.subject, &tokenize(&to)).map_err(|error| {
            let from = &import.subject;
            format!("failed to create mapping transform for stream import subject from {from:?} to {to:?}: {error}")
        })?;
    }
    let same = |other: &&&ImportConfig| {
        other.kind == import.kind && other.account == import.account && other.subject == import.subject
    };
    if taken.get(account.name.as_str()).is_some_and(|list| list.iter().any(|other| same(&other))) {
        return Err("stream import already exists".to_owned());
    }
    Ok(())
}

fn check_service(
    accounts: &Accounts,
    taken: &BTreeMap<&str, Vec<&ImportConfig>>,
    account: &AccountConfig,
    exporter: &AccountConfig,
    import: &ImportConfig,
) -> Result<(), String> {
    let from = local(import);
    let to = &import.subject;
    if !is_valid_subject(&from) || !is_valid_subject(to) {
        return Err("sublist: invalid subject".to_owned());
    }
    if !may_import(exporter, account, import) {
        return Err("service import not authorized".to_owned());
    }
    let plain = if wild(to) { untokenize(&from).0 } else { from.clone() };
    let mut visited = BTreeSet::from([account.name.as_str()]);
    find_cycle(accounts, taken, &exporter.name, ExchangeKind::Service, &plain, &mut visited)?;
    if wild(to) && *to != from {
        let (bare, _) = untokenize(to);
        Transform::new_reversible(&bare, &tokenize(&from)).map_err(|error| {
            format!(
                "failed to create mapping transform for service import subject from {from:?} to {bare:?}: {error}"
            )
        })?;
    }
    Ok(())
}

/// The exporter offers the subject, or more, to this account.
fn may_import(exporter: &AccountConfig, importer: &AccountConfig, import: &ImportConfig) -> bool {
    let subject = import.subject.as_str();
    let offers = |export: &&ExportConfig| export.kind == import.kind;
    let exact = exporter.exports.iter().filter(offers).rfind(|export| export.subject == subject);
    if let Some(export) = exact {
        return is_approved(export, importer, None);
    }
    // Of several that cover the subject the reference asks any one; we ask all.
    exporter
        .exports
        .iter()
        .filter(offers)
        .filter(|export| is_subset(subject.as_bytes(), export.subject.as_bytes()))
        .any(|export| is_approved(export, importer, Some(subject)))
}

fn is_approved(export: &ExportConfig, importer: &AccountConfig, subject: Option<&str>) -> bool {
    let position = export.account_token_position;
    if position > 0 {
        let token = subject.and_then(|subject| subject.split('.').nth(position - 1));
        return token == Some(importer.name.as_str());
    }
    export.accounts.as_ref().is_none_or(|accounts| accounts.contains(&importer.name))
}

fn find_cycle<'a>(
    accounts: &'a Accounts,
    taken: &BTreeMap<&str, Vec<&'a ImportConfig>>,
    name: &'a str,
    kind: ExchangeKind,
    subject: &str,
    visited: &mut BTreeSet<&'a str>,
) -> Result<(), String> {
    if visited.len() >= CYCLE_SEARCH_DEPTH {
        return Err("search cycle depth exhausted".to_owned());
    }
    let exports = accounts.get(name).map_or(&[][..], |account| &account.exports);
    let exported = exports
        .iter()
        .any(|export| export.kind == kind && is_subset(subject.as_bytes(), export.subject.as_bytes()));
    if kind == ExchangeKind::Stream && !exported {
        return Ok(());
    }
    for import in taken.get(name).into_iter().flatten().filter(|import| import.kind == kind) {
        // A stream flows on from what it is here; a request from what it becomes there.
        let (here, there) = match kind {
            ExchangeKind::Stream => (local(import), local(import)),
            ExchangeKind::Service => (import.subject.clone(), local(import)),
        };
        if !overlaps(subject.as_bytes(), here.as_bytes()) {
            continue;
        }
        if visited.contains(import.account.as_str()) {
            return Err("import forms a cycle".to_owned());
        }
        visited.insert(name);
        let narrower = is_subset(there.as_bytes(), subject.as_bytes());
        let next = if narrower { there.as_str() } else { subject };
        find_cycle(accounts, taken, &import.account, kind, next, visited)?;
    }
    Ok(())
}
