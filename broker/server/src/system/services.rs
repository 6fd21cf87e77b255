//! What the system account's services subscribe to. Not the answers.

use std::sync::Arc;

use weir_hub::{Account, Inbound, InternalHandler, InternalSubscription};

use super::System;

/// What can be asked of a server by its id, or of all with `PING`.
const SERVER_SERVICES: [&str; 15] = [
    "IDZ",
    "STATSZ",
    "VARZ",
    "SUBSZ",
    "CONNZ",
    "ROUTEZ",
    "GATEWAYZ",
    "LEAFZ",
    "ACCOUNTZ",
    "JSZ",
    "HEALTHZ",
    "PROFILEZ",
    "EXPVARZ",
    "IPQUEUESZ",
    "RAFTZ",
];
/// What can be asked of one server only.
const SERVER_COMMANDS: [&str; 3] = ["RELOAD", "KICK", "LDM"];
/// What can be asked about an account.
const ACCOUNT_SERVICES: [&str; 7] = ["SUBSZ", "CONNZ", "LEAFZ", "JSZ", "INFO", "STATZ", "CONNS"];

impl System {
    /// A handler that queues what comes. Weak: the hub may keep it for a while after its subscription ended.
    fn queueing(&self, is_ping: bool) -> InternalHandler {
        let system = self.weak();
        Arc::new(move |inbound: &Inbound<'_>| {
            if let Some(system) = system.upgrade() {
                system.push_request(inbound, is_ping);
            }
        })
    }

    pub(super) fn subscribe_services(&self) {
        let (requests, pings) = (self.queueing(false), self.queueing(true));
        let id = &self.identity.id;
        let mut subjects = vec![
            self.inbox.pattern(),
            "$SYS.SERVER.ACCOUNT.*.CONNS".to_owned(),
            format!("$SYS._INBOX_.{id}"),
            "$SYS.REQ.ACCOUNT.NSUBS".to_owned(),
            "$SYS.SERVER.*.STATSZ".to_owned(),
            "$SYS.SERVER.*.SHUTDOWN".to_owned(),
            "$SYS.SERVER.*.LAMEDUCK".to_owned(),
            "$SYS.REQ.SERVER.PING".to_owned(),
            format!("$SYS.LATENCY.M2.{}", self.hub.options().node),
        ];
        for name in SERVER_SERVICES {
            subjects.push(format!("$SYS.REQ.SERVER.{id}.{name}"));
            subjects.push(format!("$SYS.REQ.SERVER.PING.{name}"));
        }
        subjects.extend(SERVER_COMMANDS.iter().map(|name| format!("$SYS.REQ.SERVER.{id}.{name}")));
        subjects.extend(ACCOUNT_SERVICES.iter().map(|name| format!("$SYS.REQ.ACCOUNT.*.{name}")));
        let mut held: Vec<InternalSubscription> = Vec::with_capacity(subjects.len() + 3);
        for subject in subjects {
            let is_ping = subject.ends_with("STATSZ") || subject.ends_with(".PING");
            let handler = if is_ping { &pings } else { &requests };
            held.push(self.account.subscribe_internal(&subject, None, Arc::clone(handler)));
        }
        // What concerns this server's clients only is not told to other servers.
        for subject in ["$SYS.REQ.USER.*.INFO", "$SYS.DEBUG.SUBSCRIBERS"] {
            held.push(self.account.subscribe_local(subject, Arc::clone(&requests)));
        }
        self.subscriptions.lock().extend(held);
    }

    /// Offers an account what every account may ask of the system account.
    pub(super) fn serve_account(&self, account: &Arc<Account>) {
        let mut held = Vec::new();
        if account.name() != self.account.name() {
            for (subject, service) in super::account_services::FORWARDED {
                held.push(account.subscribe_local(subject, self.forwarding(account, service)));
            }
        }
        held.push(account.subscribe_local("$SYS.REQ.USER.INFO", self.user_information(account)));
        self.subscriptions.lock().extend(held);
    }
}
