//! From an account's claims to what the hub is told. Not the checking of claims.

use std::{sync::Arc, time::Duration};

use weir_auth::jwt::{self, Account, Claims, ImportType, SamplingRate};
use weir_hub::{
    AccountLimits, AccountSettings, ExchangeKind, Export, ExportAccess, Import, LatencyConfig, MappingConfig,
    MappingDestination, MessageTraceSettings, Permissions, ResponseType,
};

use crate::authenticator::jwt_permissions;

/// The permissions of users that have none of their own.
pub(crate) fn default_permissions(claims: &Claims<Account>) -> Option<Arc<Permissions>> {
    let granted = &claims.nats.default_permissions;
    (*granted != jwt::Permissions::default()).then(|| Arc::new(jwt_permissions(granted)))
}

pub(super) fn settings(claims: &Claims<Account>) -> AccountSettings {
    let account = &claims.nats;
    let limit = |value: i64| usize::try_from(value).ok();
    AccountSettings {
        exports: account.exports.iter().filter_map(export).collect(),
        imports: account.imports.iter().filter_map(import).collect(),
        mappings: account
            .mappings
            .iter()
            .map(|(source, destinations)| MappingConfig {
                source: source.clone(),
                destinations: destinations.iter().map(destination).collect(),
            })
            .collect(),
        limits: AccountLimits {
            max_connections: limit(account.limits.connections),
            max_subscriptions: limit(account.limits.subscriptions),
            max_payload: limit(account.limits.payload),
            max_leafnodes: limit(account.limits.leaf_nodes),
        },
        default_permissions: default_permissions(claims),
        message_trace: account.trace.as_ref().and_then(trace),
        display_name: claims.name.clone(),
    }
}

pub(super) fn kind(kind: ImportType) -> ExchangeKind {
    match kind {
        ImportType::Stream => ExchangeKind::Stream,
        ImportType::Service => ExchangeKind::Service,
    }
}

fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn destination(destination: &jwt::WeightedMapping) -> MappingDestination {
    MappingDestination {
        subject: destination.subject.clone(),
        weight: destination.percent(),
        cluster: text(&destination.cluster),
    }
}

fn trace(trace: &jwt::MessageTrace) -> Option<MessageTraceSettings> {
    let is_literal = weir_subject::is_valid_literal(trace.destination.as_bytes());
    let sampling = u8::try_from(trace.sampling).ok().filter(|percent| (1..=100).contains(percent));
    is_literal.then(|| MessageTraceSettings {
        destination: trace.destination.clone(),
        sampling: sampling.unwrap_or(100),
    })
}

fn export(export: &jwt::Export) -> Option<Export> {
    Some(Export {
        kind: kind(export.kind?),
        subject: export.subject.clone(),
        access: ExportAccess {
            accounts: None,
            account_token_position: usize::try_from(export.account_token_position).unwrap_or(0),
            token_required: export.token_req,
            revocations: export.revocations.clone(),
        },
        response_type: match export.response_type.as_str() {
            "Stream" => ResponseType::Stream,
            "Chunked" => ResponseType::Chunked,
            _ => ResponseType::Singleton,
        },
        response_threshold: u64::try_from(export.response_threshold)
            .ok()
            .filter(|nanos| *nanos > 0)
            .map(Duration::from_nanos),
        latency: export.latency.as_ref().map(|latency| LatencyConfig {
            sampling: match latency.sampling {
                SamplingRate::Headers => 0,
                SamplingRate::Percent(percent) => u8::try_from(percent).unwrap_or(100),
            },
            subject: latency.results.clone(),
        }),
        allow_trace: export.allow_trace,
    })
}

fn import(import: &jwt::Import) -> Option<Import> {
    let kind = import.kind?;
    let is_service = kind == ImportType::Service;
    // The older field is the exporter's subject of a service, and a prefix of a stream.
    let (subject, to, prefix) = if !import.local_subject.is_empty() {
        (import.subject.clone(), text(&import.local_subject), None)
    } else if is_service && !import.to.is_empty() {
        (import.to.clone(), text(&import.subject), None)
    } else {
        (import.subject.clone(), None, text(&import.to).filter(|_| !is_service))
    };
    Some(Import {
        kind: self::kind(kind),
        account: import.account.clone(),
        subject,
        to,
        prefix,
        share: import.share,
        allow_trace: import.allow_trace,
        activation: text(&import.token),
    })
}
