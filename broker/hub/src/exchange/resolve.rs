//! From settings to imports that can be used: permission, cycles, duplicates, transforms. Not their installation.

use super::Exchange;
use super::exports;
use super::mapping::Mappings;
use super::service::{DEFAULT_RESPONSE_THRESHOLD, ServiceExport, ServiceImport};
use super::stream::StreamImport;
use crate::account::Account;
use crate::account_settings::{AccountSettings, ActivationCheck, ExchangeKind, Import, ResponseType};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use weir_subject::{Transform, has_wildcards, is_subset, is_valid_subject, overlaps, tokenize, untokenize};

/// So many accounts are looked through for a cycle, as in nats-server.
const MAX_CYCLE_DEPTH: usize = 1024;

/// What resolving needs to know of other accounts.
pub(crate) struct Lookup<'l> {
    /// The exchange of an account.
    pub(crate) exchange: &'l dyn Fn(&str) -> Option<Arc<Exchange>>,
    /// The account itself, as far as it exists.
    pub(crate) account: &'l dyn Fn(&str) -> Weak<Account>,
    /// Judges activation tokens.
    pub(crate) activation: Option<&'l dyn ActivationCheck>,
    /// The cluster's name.
    pub(crate) cluster: Option<&'l str>,
}

/// Checks a whole configuration: everything that nats-server would refuse, in its words.
pub(crate) fn check(
    accounts: &BTreeMap<String, AccountSettings>,
    cluster: Option<&str>,
) -> Result<(), String> {
    let mut known: BTreeMap<&str, Arc<Exchange>> = BTreeMap::new();
    for (name, settings) in accounts {
        check_exports(settings, accounts)?;
        known.insert(name, Arc::new(exports_of(&Arc::new(settings.clone()), cluster)?));
    }
    for (name, settings) in accounts {
        let mut exchange = exports_of(&Arc::new(settings.clone()), cluster)?;
        let errors = {
            let lookup = Lookup {
                exchange: &|wanted| known.get(wanted).cloned(),
                account: &|_| Weak::new(),
                activation: None,
                cluster,
            };
            add_imports(&mut exchange, name, settings, &lookup)
        };
        if let Some(error) = errors.into_iter().next() {
            return Err(error);
        }
        known.insert(name, Arc::new(exchange));
    }
    Ok(())
}

fn check_exports(
    settings: &AccountSettings,
    accounts: &BTreeMap<String, AccountSettings>,
) -> Result<(), String> {
    for export in &settings.exports {
        let kind = kind_text(export.kind);
        let named = export.access.accounts.iter().flatten();
        if let Some(name) = named.into_iter().find(|name| !accounts.contains_key(*name)) {
            return Err(format!("{name:?} account not defined for {kind} export"));
        }
        exports::check_export(export)
            .map_err(|error| format!("Error adding {kind} export {:?}: {error}", export.subject))?;
        if let Some(latency) = &export.latency {
            let problem = if export.response_type != ResponseType::Singleton {
                Some("bad service response type")
            } else if !weir_subject::is_valid_literal(latency.subject.as_bytes())
                || exports::find(settings, ExchangeKind::Service, &latency.subject).is_some()
            {
                Some("invalid publish subject")
            } else if latency.sampling > 100 {
                Some("bad sampling percentage, should be 1-100")
            } else {
                None
            };
            if let Some(problem) = problem {
                return Err(format!(
                    "Error adding service latency sampling for {:?} on subject {:?}: {problem}",
                    export.subject, latency.subject
                ));
            }
        }
    }
    Ok(())
}

fn kind_text(kind: ExchangeKind) -> &'static str {
    match kind {
        ExchangeKind::Stream => "stream",
        ExchangeKind::Service => "service",
    }
}

/// An account's exports and mappings, without its imports.
pub(super) fn exports_of(settings: &Arc<AccountSettings>, cluster: Option<&str>) -> Result<Exchange, String> {
    let services = settings.exports.iter().filter(|export| export.kind == ExchangeKind::Service);
    Ok(Exchange {
        mappings: Mappings::new(&settings.mappings, cluster)?,
        service_exports: services
            .map(|export| {
                Arc::new(ServiceExport {
                    subject: export.subject.as_str().into(),
                    response_type: export.response_type,
                    response_threshold: export.response_threshold.unwrap_or(DEFAULT_RESPONSE_THRESHOLD),
                    latency: export.latency.clone(),
                    allow_trace: export.allow_trace,
                })
            })
            .collect(),
        settings: Arc::clone(settings),
        ..Exchange::default()
    })
}

/// The exchange that `settings` make of account `name`, and what had to be left out.
pub(crate) fn resolve(
    name: &str,
    settings: &Arc<AccountSettings>,
    lookup: &Lookup<'_>,
) -> (Exchange, Vec<String>) {
    let mut errors = Vec::new();
    let mut exchange = exports_of(settings, lookup.cluster).unwrap_or_else(|error| {
        errors.push(error);
        let without = AccountSettings { mappings: Vec::new(), ..(**settings).clone() };
        exports_of(&Arc::new(without), lookup.cluster).unwrap_or_default()
    });
    errors.extend(add_imports(&mut exchange, name, settings, lookup));
    (exchange, errors)
}

fn add_imports(
    exchange: &mut Exchange,
    name: &str,
    settings: &AccountSettings,
    lookup: &Lookup<'_>,
) -> Vec<String> {
    let mut errors = Vec::new();
    for wanted in [ExchangeKind::Stream, ExchangeKind::Service] {
        for import in settings.imports.iter().filter(|import| import.kind == wanted) {
            let kind = kind_text(wanted);
            let Some(exporter) = (lookup.exchange)(&import.account) else {
                errors.push(format!("{:?} account not defined for {kind} import", import.account));
                continue;
            };
            let added = match wanted {
                ExchangeKind::Stream => add_stream(exchange, name, import, &exporter, lookup),
                ExchangeKind::Service => add_service(exchange, name, import, &exporter, lookup),
            };
            if let Err(error) = added {
                errors.push(format!("Error adding {kind} import {:?}: {error}", import.subject));
            }
        }
    }
    errors
}

fn add_stream(
    exchange: &mut Exchange,
    name: &str,
    import: &Import,
    exporter: &Exchange,
    lookup: &Lookup<'_>,
) -> Result<(), String> {
    if !exports::is_allowed(&import.account, &exporter.settings, name, import, lookup.activation) {
        return Err("stream import not authorized".to_owned());
    }
    let from = import.subject.as_str();
    let to = match (&import.prefix, &import.to) {
        (Some(prefix), _) if !prefix.is_empty() => {
            if has_wildcards(prefix.as_bytes()) {
                return Err("stream import prefix can not contain wildcard tokens".to_owned());
            }
            format!("{}.{from}", prefix.strip_suffix('.').unwrap_or(prefix))
        }
        (_, Some(to)) if !to.is_empty() => to.clone(),
        _ => from.to_owned(),
    };
    for subject in [to.as_str(), from] {
        find_cycle(
            ExchangeKind::Stream,
            &import.account,
            subject,
            &mut BTreeSet::from([name.to_owned()]),
            lookup,
        )?;
    }
    let mut built = StreamImport {
        exporter_name: import.account.as_str().into(),
        exporter: (lookup.account)(&import.account),
        from: from.into(),
        to: to.as_str().into(),
        transform: None,
        reverse: None,
        keeps_subject: false,
        allow_trace: import.allow_trace,
    };
    if has_wildcards(from.as_bytes()) {
        if to == from {
            built.keeps_subject = true;
        } else {
            let transform = Transform::new_reversible(from, &tokenize(&to)).map_err(|error| {
                format!("failed to create mapping transform for stream import subject from {from:?} to {to:?}: {error}")
            })?;
            built.reverse = transform.reverse();
            built.transform = Some(transform);
            built.to = untokenize(&to).0.into();
        }
    }
    let is_known = |known: &Arc<StreamImport>| *known.exporter_name == import.account && *known.from == *from;
    if exchange.streams.iter().any(is_known) {
        return Err("stream import already exists".to_owned());
    }
    exchange.streams.push(Arc::new(built));
    Ok(())
}

fn add_service(
    exchange: &mut Exchange,
    name: &str,
    import: &Import,
    exporter: &Exchange,
    lookup: &Lookup<'_>,
) -> Result<(), String> {
    let to = import.subject.as_str();
    let from = import.to.as_deref().filter(|from| !from.is_empty()).unwrap_or(to);
    if !is_valid_subject(from.as_bytes()) || !is_valid_subject(to.as_bytes()) {
        return Err("invalid subject".to_owned());
    }
    if !exports::is_allowed(&import.account, &exporter.settings, name, import, lookup.activation) {
        return Err("service import not authorized".to_owned());
    }
    for subject in [from, to] {
        find_cycle(
            ExchangeKind::Service,
            &import.account,
            subject,
            &mut BTreeSet::from([name.to_owned()]),
            lookup,
        )?;
    }
    let is_known =
        |known: &&Arc<ServiceImport>| *known.exporter_name == import.account && *known.from == *from;
    if let Some(known) = exchange.services.iter().find(is_known) {
        return Err(format!(
            "duplicate service import subject {from:?}, previously used in import for account {:?}, subject {:?}",
            known.exporter_name, known.to
        ));
    }
    let export = find_export(exporter, to);
    let mut built = ServiceImport {
        exporter_name: import.account.as_str().into(),
        exporter: (lookup.account)(&import.account),
        from: from.into(),
        to: to.into(),
        transform: None,
        keeps_subject: false,
        share: import.share,
        export,
    };
    if has_wildcards(to.as_bytes()) {
        if to == from {
            built.keeps_subject = true;
        } else {
            let pattern = untokenize(to).0;
            let transform = Transform::new_reversible(&pattern, &tokenize(from)).map_err(|error| {
                format!("failed to create mapping transform for service import subject from {from:?} to {pattern:?}: {error}")
            })?;
            built.from = untokenize(from).0.into();
            built.transform = transform.reverse();
            built.to = pattern.into();
        }
    }
    exchange.services.push(Arc::new(built));
    Ok(())
}

fn find_export(exporter: &Exchange, subject: &str) -> Option<Arc<ServiceExport>> {
    let exports = &exporter.service_exports;
    exports
        .iter()
        .find(|export| *export.subject == *subject)
        .or_else(|| exports.iter().find(|export| is_subset(subject.as_bytes(), export.subject.as_bytes())))
        .cloned()
}

const CYCLE: &str = "import forms a cycle";
const TOO_DEEP: &str = "search cycle depth exhausted";

/// Looks whether what `account` offers under `subject` comes back to one of the accounts visited.
fn find_cycle(
    kind: ExchangeKind,
    account: &str,
    subject: &str,
    visited: &mut BTreeSet<String>,
    lookup: &Lookup<'_>,
) -> Result<(), String> {
    if visited.len() >= MAX_CYCLE_DEPTH {
        return Err(TOO_DEEP.to_owned());
    }
    let Some(exchange) = (lookup.exchange)(account) else { return Ok(()) };
    // A request goes on under the exporter's subject, a stream came under the local one.
    let services = exchange.services.iter().map(|import| (&import.exporter_name, &import.to, &import.from));
    let streams = exchange.streams.iter().map(|import| (&import.exporter_name, &import.to, &import.to));
    let imports: Vec<_> = match kind {
        ExchangeKind::Service => services.collect(),
        ExchangeKind::Stream => {
            let mut exports = exchange.settings.exports.iter().filter(|export| export.kind == kind);
            if !exports.any(|export| is_subset(subject.as_bytes(), export.subject.as_bytes())) {
                return Ok(());
            }
            streams.collect()
        }
    };
    for (exporter, here, next) in imports {
        if !overlaps(subject.as_bytes(), here.as_bytes()) {
            continue;
        }
        if visited.contains(&**exporter) {
            return Err(CYCLE.to_owned());
        }
        visited.insert(account.to_owned());
        let next = if is_subset(next.as_bytes(), subject.as_bytes()) { next } else { subject };
        find_cycle(kind, exporter, next, visited, lookup)?;
    }
    Ok(())
}
