//! Who sent a message, as a service of the system account is told it that every account imports and shares its clients
//! with: the JetStream API is served inside accounts, without an import. Not the header's meaning (see `request_info`).

use super::headers::{header, set_header};
use super::request_info::{REQUEST_INFO, Step};
use super::routing::Passed;
use crate::account::Account;
use crate::client::ClientHandle;
use crate::hub::Hub;
use crate::ingress::Message;
use crate::message::{Inbound, Origin};

/// Requests whose sender is told.
const API: &[u8] = b"$JS.API.";
/// Those among them that are too many for that, and that nobody audits.
const FREQUENT: [&[u8]; 2] = [b"CONSUMER.MSG.NEXT.", b"DIRECT.GET."];
/// Whoever listens here wants to know.
const AUDIT: &[u8] = b"$JS.EVENT.ADVISORY.API";

impl Hub {
    /// The sender as JSON, as `Nats-Request-Info` would have it.
    pub fn who_asks(&self, message: &Inbound<'_>) -> Vec<u8> {
        let known = header(message.headers, REQUEST_INFO);
        if let (Some(info), Origin::Route { .. }) = (known, message.origin) {
            return info.to_vec();
        }
        let client = match message.origin {
            Origin::Client { id } => self.connection(id),
            Origin::Route { .. } | Origin::Internal => None,
        };
        let step = Step {
            client: client.as_deref(),
            importer: message.account,
            // What an import that shares has told holds when the client came.
            earlier_shares: known.map(|info| memchr::memmem::find(info, b"\"start\":").is_some()),
            shares: true,
            to_system: true,
            reply: None,
        };
        step.value(message.headers, self.options())
    }
}

/// The headers for another server, with who sent the message, where somebody wants to know it.
pub(crate) fn introduce(
    client: Option<&ClientHandle>,
    passed: Option<&Passed>,
    account: &Account,
    message: &Message<'_>,
    headers: &[u8],
) -> Option<Vec<u8>> {
    let request = message.subject.strip_prefix(API)?;
    if client.is_none()
        || FREQUENT.iter().any(|frequent| request.starts_with(frequent))
        || !account.has_interest(AUDIT)
    {
        return None;
    }
    let step = Step {
        client,
        importer: account,
        earlier_shares: passed.map(|passed| passed.share),
        shares: true,
        to_system: true,
        reply: None,
    };
    Some(set_header(headers, REQUEST_INFO, &step.value(headers, &account.exchange().options)))
}
