//! What clients of any account may ask: about their user, and about their own account on all servers.
//! Not what the system account's own clients ask.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use serde::Serialize;
use serde_json::{Value, json};
use weir_hub::{Account, Inbound, InternalHandler, Origin, Permissions, Rule, RuleSet};
use weir_monitor::compact;

use super::{System, reply_inbox::Waiting, requests::Message};
use crate::server_block::ServerBlock;

/// Subjects of any account, and the service of the system account that answers for the account.
pub(super) const FORWARDED: [(&str, &str); 3] = [
    ("$SYS.REQ.ACCOUNT.PING.CONNZ", "CONNZ"),
    ("$SYS.REQ.SERVER.PING.CONNZ", "CONNZ"),
    ("$SYS.REQ.ACCOUNT.PING.STATZ", "STATZ"),
];

#[derive(Serialize)]
struct UserAnswer {
    server: ServerBlock,
    data: UserInfo,
}

#[derive(Serialize)]
struct UserInfo {
    user: String,
    account: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    account_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    user_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    permissions: Option<Value>,
    /// Nanoseconds until the credentials expire.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
}

fn rules(set: &RuleSet) -> Value {
    let text = |rule: &Rule| {
        let subject = String::from_utf8_lossy(&rule.subject).into_owned();
        match &rule.queue {
            Some(queue) => format!("{subject} {}", String::from_utf8_lossy(queue)),
            None => subject,
        }
    };
    let mut shown = serde_json::Map::new();
    let allow = set.allow.as_deref().unwrap_or_default();
    for (key, list) in [("allow", allow), ("deny", &set.deny)] {
        if !list.is_empty() {
            shown.insert(key.to_owned(), list.iter().map(text).collect());
        }
    }
    Value::Object(shown)
}

fn shown_permissions(permissions: &Permissions) -> Value {
    let mut shown =
        json!({ "publish": rules(&permissions.publish), "subscribe": rules(&permissions.subscribe) });
    if let (Some(responses), Some(fields)) = (&permissions.allow_responses, shown.as_object_mut()) {
        let nanos = |ttl: Duration| i64::try_from(ttl.as_nanos()).unwrap_or(i64::MAX);
        let ttl = responses.expires.map_or(-1, nanos);
        fields.insert("responses".to_owned(), json!({ "max": responses.max_messages.map_or(-1, |max| i64::try_from(max).unwrap_or(i64::MAX)), "ttl": ttl }));
    }
    shown
}

impl System {
    /// Hands a request over to the system account, and its answers back.
    pub(super) fn forwarding(&self, account: &Arc<Account>, service: &str) -> InternalHandler {
        let (system, account) = (self.weak(), Arc::downgrade(account));
        let service = service.to_owned();
        Arc::new(move |inbound: &Inbound<'_>| {
            let (Some(system), Some(account)) = (Weak::upgrade(&system), Weak::upgrade(&account)) else {
                return;
            };
            let Some(reply) = inbound.reply.and_then(|reply| std::str::from_utf8(reply).ok()) else { return };
            let subject = format!("$SYS.REQ.ACCOUNT.{}.{service}", account.name());
            let inbox = system.inbox.expect(Waiting::Client { account, reply: reply.into() });
            let inbox = Some(inbox.as_bytes());
            system.account.publish(subject.as_bytes(), inbox, inbound.headers, inbound.payload);
        })
    }

    /// Passes an answer on to whoever asked.
    pub(super) fn pass_on(&self, message: &Message) {
        match self.inbox.find(&message.subject) {
            Some(Waiting::Client { account, reply }) => {
                account.publish(reply.as_bytes(), None, &message.headers, &message.body);
            }
            Some(Waiting::Count(sender)) => {
                let count = std::str::from_utf8(&message.body).ok().and_then(|text| text.trim().parse().ok());
                // Who counts may have given up.
                let _ = sender.try_send(count.unwrap_or(0));
            }
            None => {}
        }
    }

    /// Tells a client who it is.
    pub(super) fn user_information(&self, account: &Arc<Account>) -> InternalHandler {
        let (system, account) = (self.weak(), Arc::downgrade(account));
        Arc::new(move |inbound: &Inbound<'_>| {
            let (Some(system), Some(account)) = (Weak::upgrade(&system), Weak::upgrade(&account)) else {
                return;
            };
            let (Some(reply), Origin::Client { id }) = (inbound.reply, inbound.origin) else { return };
            if let Some(data) = system.user_info(id) {
                let answer = UserAnswer { server: system.server_info(), data };
                account.publish(reply, None, b"", compact(&answer).as_bytes());
            }
        })
    }

    fn user_info(&self, cid: u64) -> Option<UserInfo> {
        let connection = self.hub.connection_snapshot(cid, false)?;
        let rights = self.hub.connection_rights(cid)?;
        let now = u64::try_from(crate::monitoring::now().unix_nanos().unwrap_or(0)).unwrap_or(0);
        Some(UserInfo {
            user: connection.authorized_user,
            account_name: self.source.account_tag(&connection.account),
            account: connection.account,
            user_name: connection.name_tag,
            permissions: rights.permissions.as_deref().map(shown_permissions),
            expires: rights.expires.map(|at| at.as_nanos().saturating_sub(now)),
        })
    }
}
