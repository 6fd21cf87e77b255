//! What accounts give each other: imports and exports, and the mappings of subjects. Not their configuration's syntax.
//!
//! An imported service is a subscription in the importing account whose target is another account; an imported
//! stream is a subscription in the exporting account that shadows one of the importing account. Both are found
//! like any other, so that accounts without them pay nothing.

mod account;
mod exports;
mod headers;
mod latency;
mod mapping;
mod remote_latency;
mod request_info;
mod resolve;
mod responses;
mod routing;
mod sampling;
mod service;
mod stream;
#[cfg(test)]
mod tests;
mod who_asks;

use crate::account_settings::AccountSettings;
use crate::subscription::Subscription;
use std::sync::Arc;

pub(crate) use account::AccountExchange;
pub(crate) use headers::{lines as header_lines, remove_header, set_header};
pub(crate) use mapping::Mapped;
pub(crate) use remote_latency::{RemoteRequests, is_measured, report as report_latency};
pub(crate) use request_info::{REQUEST_INFO, to_json};
pub(crate) use resolve::{Lookup, check, resolve};
pub(crate) use routing::Passed;
pub(crate) use sampling::is_sampled_parent;
pub(crate) use service::ServiceImport;
pub(crate) use stream::Shadow;
pub(crate) use who_asks::introduce;

/// What an account gives to and takes from others, ready for use.
#[derive(Default)]
pub(crate) struct Exchange {
    pub(crate) settings: Arc<AccountSettings>,
    pub(crate) mappings: mapping::Mappings,
    pub(crate) service_exports: Vec<Arc<service::ServiceExport>>,
    pub(crate) streams: Vec<Arc<stream::StreamImport>>,
    pub(crate) services: Vec<Arc<ServiceImport>>,
    /// The subscriptions that stand for `services` in the account's interest.
    pub(crate) subscriptions: Vec<Arc<Subscription>>,
}
