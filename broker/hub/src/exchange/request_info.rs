//! `Nats-Request-Info`: who asks a service of another account. Not the header's way there.

use crate::account::Account;
use crate::client::ClientHandle;
use crate::options::HubOptions;
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering;

/// The header's name.
pub(crate) const REQUEST_INFO: &str = "Nats-Request-Info";

/// What is told of a client. What is empty is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ClientInfo {
    #[serde(skip_serializing_if = "String::is_empty")]
    start: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    host: String,
    #[serde(skip_serializing_if = "is_zero")]
    id: u64,
    #[serde(rename = "acc", skip_serializing_if = "String::is_empty")]
    account: String,
    #[serde(rename = "svc", skip_serializing_if = "String::is_empty")]
    pub(super) service: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    lang: String,
    #[serde(rename = "ver", skip_serializing_if = "String::is_empty")]
    version: String,
    #[serde(rename = "rtt", skip_serializing_if = "is_zero")]
    pub(super) rtt_nanos: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    server: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    cluster: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    client_type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reply: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The suffix of replies of fast batches, whose receiver has to know them.
const FAST_BATCH_SUFFIX: &[u8] = b".$FI";

impl ClientInfo {
    /// Of a client: its account and round trip, and with `share` everything else.
    pub(super) fn of_client(client: &ClientHandle, share: bool, options: &HubOptions) -> Self {
        let state = client.state.read();
        let mut info = Self {
            account: state.account.as_ref().map(|account| account.name().to_owned()).unwrap_or_default(),
            rtt_nanos: client.rtt_nanos.load(Ordering::Relaxed),
            ..Self::default()
        };
        if share {
            let said = &state.options;
            info.start = client.started.to_rfc3339();
            info.host = client.address().ip().to_string();
            info.id = client.id;
            info.name.clone_from(&said.name);
            info.user.clone_from(if said.nkey.is_empty() { &said.user } else { &said.nkey });
            info.lang.clone_from(&said.lang);
            info.version.clone_from(&said.version);
            "Client".clone_into(&mut info.kind);
            "nats".clone_into(&mut info.client_type);
            info.add_server(options);
        }
        info
    }

    fn add_server(&mut self, options: &HubOptions) {
        self.server.clone_from(&options.server_name);
        self.cluster = options.cluster_name().unwrap_or_default();
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        to_json(self)
    }
}

/// JSON as nats-server writes it: `<`, `>` and `&` as escapes.
pub(crate) fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    let text = serde_json::to_string(value).unwrap_or_default();
    if !text.contains(['<', '>', '&']) {
        return text.into_bytes();
    }
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026").into_bytes()
}

/// What a request's way so far means for its header.
pub(super) struct Step<'s> {
    /// Who sent it; nobody for what this process sends.
    pub(super) client: Option<&'s ClientHandle>,
    /// The account it comes from now.
    pub(super) importer: &'s Account,
    /// Whether it came through an import before, and whether that one shares.
    pub(super) earlier_shares: Option<bool>,
    /// Whether this import shares.
    pub(super) shares: bool,
    /// Whether it goes to the system account, which is told the server in any case.
    pub(super) to_system: bool,
    /// The request's reply subject.
    pub(super) reply: Option<&'s [u8]>,
}

impl Step<'_> {
    /// The header's value for a request with these headers.
    pub(super) fn value(&self, headers: &[u8], options: &HubOptions) -> Vec<u8> {
        let share = self.earlier_shares.unwrap_or(self.shares);
        let before = || {
            self.earlier_shares?;
            serde_json::from_slice::<ClientInfo>(super::headers::header(headers, REQUEST_INFO)?).ok()
        };
        let info = if let Some(mut info) = before() {
            self.importer.name().clone_into(&mut info.service);
            if !share && (self.shares || self.to_system) {
                info.add_server(options);
            }
            info
        } else {
            let mut info = match self.client {
                Some(client) => ClientInfo::of_client(client, share, options),
                None => ClientInfo { account: self.importer.name().to_owned(), ..ClientInfo::default() },
            };
            if let Some(reply) = self.reply.filter(|reply| reply.ends_with(FAST_BATCH_SUFFIX)) {
                info.reply = String::from_utf8_lossy(reply).into_owned();
            }
            if !share && self.to_system {
                info.add_server(options);
            }
            info
        };
        info.to_json()
    }
}
