//! One exported and one imported service. Not the way of a request through it (see `routing`).

use crate::account::Account;
use crate::account_settings::{LatencyConfig, ResponseType};
use std::sync::{Arc, Weak};
use std::time::Duration;
use weir_subject::Transform;

/// How long a service may be silent unless its export says otherwise, as in nats-server.
pub(crate) const DEFAULT_RESPONSE_THRESHOLD: Duration = Duration::from_secs(120);

/// A service that others may import.
#[derive(Debug)]
pub(crate) struct ServiceExport {
    pub(crate) subject: Box<str>,
    pub(crate) response_type: ResponseType,
    pub(crate) response_threshold: Duration,
    pub(crate) latency: Option<LatencyConfig>,
    pub(crate) allow_trace: bool,
}

/// A service of another account.
pub(crate) struct ServiceImport {
    pub(crate) exporter_name: Box<str>,
    pub(crate) exporter: Weak<Account>,
    /// The local pattern that requests are sent to.
    pub(crate) from: Box<str>,
    /// The pattern in the exporting account.
    pub(crate) to: Box<str>,
    /// From the local subject to the exporting account's; `None` when `to` is literal or the same pattern.
    pub(crate) transform: Option<Transform>,
    /// Both patterns are the same: the subject stays.
    pub(crate) keeps_subject: bool,
    pub(crate) share: bool,
    /// The export it was made from, if there is one.
    pub(crate) export: Option<Arc<ServiceExport>>,
}

impl ServiceImport {
    pub(crate) fn subject_for(&self, subject: &[u8], random: impl FnMut() -> u32) -> Vec<u8> {
        match &self.transform {
            Some(transform) => transform.apply(subject, random),
            None if self.keeps_subject => subject.to_vec(),
            None => self.to.as_bytes().to_vec(),
        }
    }

    pub(crate) fn response_type(&self) -> ResponseType {
        self.export.as_ref().map_or(ResponseType::Singleton, |export| export.response_type)
    }

    pub(crate) fn latency(&self) -> Option<&LatencyConfig> {
        self.export.as_ref().and_then(|export| export.latency.as_ref())
    }

    pub(crate) fn allow_trace(&self) -> bool {
        self.export.as_ref().is_some_and(|export| export.allow_trace)
    }
}

/// Whether both stand for the same export: a message goes through none twice.
pub(crate) fn is_same_export(one: Option<&Arc<ServiceExport>>, other: Option<&Arc<ServiceExport>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}
