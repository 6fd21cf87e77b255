//! Events about connections: connected, gone, refused, and how many an account has. Not who subscribes to them.

use std::sync::Arc;

use serde::Serialize;
use weir_hub::{Account, CloseReason, ConnectionKind, ConnectionSnapshot, GLOBAL_ACCOUNT, Observer};
use weir_jsapi::time::Time;
use weir_monitor::{AccountStat, Traffic, compact};
use weir_stdx::time::UnixNanos;

use super::{Job, System, ocsp::OcspEvent};
use crate::monitoring::{self, time_of};
use crate::server_block::ServerBlock;

/// Something that happened, as it was then.
pub(super) enum Event {
    Connected(ConnectionSnapshot, Time),
    Gone(ConnectionSnapshot, Time),
    Refused {
        connection: ConnectionSnapshot,
        reason: CloseReason,
        account: Option<Arc<Account>>,
        at: Time,
    },
    /// The number of an account's connections at that time.
    Connections {
        account: Arc<Account>,
        connections: u64,
        at: Time,
    },
    /// A client's certificates are not good.
    Ocsp(Box<OcspEvent>),
}

const CONNECT: &str = "io.nats.server.advisory.v1.client_connect";
const DISCONNECT: &str = "io.nats.server.advisory.v1.client_disconnect";
const CONNECTIONS: &str = "io.nats.server.advisory.v1.account_connections";

#[derive(Serialize)]
struct ConnectEvent<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: String,
    timestamp: Time,
    server: ServerBlock,
    client: ClientInfo<'a>,
}

#[derive(Serialize)]
struct DisconnectEvent<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: String,
    timestamp: Time,
    server: ServerBlock,
    client: ClientInfo<'a>,
    sent: Traffic,
    received: Traffic,
    reason: &'static str,
}

#[derive(Serialize)]
struct ConnectionsEvent {
    #[serde(rename = "type")]
    kind: &'static str,
    id: String,
    timestamp: Time,
    server: ServerBlock,
    #[serde(flatten)]
    stat: AccountStat,
}

#[derive(Serialize)]
struct ClientInfo<'a> {
    start: Time,
    host: String,
    id: u64,
    acc: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    user: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    lang: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    ver: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    rtt: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<Time>,
    #[serde(skip_serializing_if = "str::is_empty")]
    jwt: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    issuer_key: &'a str,
    name_tag: String,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    tags: &'a [String],
    kind: &'static str,
    client_type: &'static str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Round trips from a microsecond to a millisecond are told in whole microseconds.
fn shown_rtt(nanos: u64) -> u64 {
    if (1_001..1_000_000).contains(&nanos) { nanos / 1000 * 1000 } else { nanos }
}

/// How a connection speaks, in monitoring's words.
pub(crate) fn client_type(connection: &ConnectionSnapshot) -> &'static str {
    match connection.transport.as_ref().map(|transport| transport.kind) {
        Some(ConnectionKind::WebSocket) => "websocket",
        Some(ConnectionKind::Mqtt | ConnectionKind::MqttWs) => "mqtt",
        _ => "nats",
    }
}

/// A client that never got into an account belongs to the global one.
fn account_of(connection: &ConnectionSnapshot) -> &str {
    if connection.is_connected { &connection.account } else { GLOBAL_ACCOUNT }
}

impl System {
    fn client_info<'a>(
        &self,
        connection: &'a ConnectionSnapshot,
        acc: &'a str,
        stop: Option<Time>,
    ) -> ClientInfo<'a> {
        ClientInfo {
            start: time_of(connection.start.as_nanos()),
            host: connection.address.ip().to_string(),
            id: connection.id,
            acc,
            user: &connection.authorized_user,
            name: &connection.name,
            lang: &connection.lang,
            ver: &connection.version,
            rtt: if stop.is_some() { shown_rtt(connection.rtt_nanos) } else { 0 },
            stop,
            jwt: &connection.jwt,
            issuer_key: &connection.issuer_key,
            name_tag: self.source.account_tag(account_of(connection)),
            tags: &connection.tags,
            kind: "Client",
            client_type: client_type(connection),
        }
    }

    fn disconnect_event<'a>(
        &'a self,
        connection: &'a ConnectionSnapshot,
        acc: &'a str,
        reason: CloseReason,
        at: Time,
    ) -> DisconnectEvent<'a> {
        DisconnectEvent {
            kind: DISCONNECT,
            id: self.next_id(),
            timestamp: at,
            server: self.server_info(),
            client: self.client_info(connection, acc, Some(at)),
            sent: Traffic { msgs: connection.in_messages, bytes: connection.in_bytes },
            received: Traffic { msgs: connection.out_messages, bytes: connection.out_bytes },
            reason: reason.text(),
        }
    }

    /// Publishes what happened, if anybody listens.
    pub(super) fn tell(&self, event: Event) {
        match event {
            Event::Connected(connection, at) => {
                let subject = format!("$SYS.ACCOUNT.{}.CONNECT", account_of(&connection));
                self.tell_on(&[&subject], || {
                    compact(&ConnectEvent {
                        kind: CONNECT,
                        id: self.next_id(),
                        timestamp: at,
                        server: self.server_info(),
                        client: self.client_info(&connection, account_of(&connection), None),
                    })
                });
            }
            Event::Gone(connection, at) => {
                let subject = format!("$SYS.ACCOUNT.{}.DISCONNECT", account_of(&connection));
                let reason = connection.reason.unwrap_or(CloseReason::ClientClosed);
                let acc = account_of(&connection);
                self.tell_on(&[&subject], || compact(&self.disconnect_event(&connection, acc, reason, at)));
            }
            Event::Refused { connection, reason, account, at } => {
                let subject = format!("$SYS.SERVER.{}.CLIENT.AUTH.ERR", self.identity.id);
                let acc = account_of(&connection);
                self.tell_on(&[&subject], || compact(&self.disconnect_event(&connection, acc, reason, at)));
                if let Some(account) = account {
                    let body = compact(&self.disconnect_event(&connection, account.name(), reason, at));
                    account.publish(b"$SYS.ACCOUNT.CLIENT.AUTH.ERR", None, b"", body.as_bytes());
                }
            }
            Event::Connections { account, connections, at } => {
                let name = account.name();
                let old = format!("$SYS.SERVER.ACCOUNT.{name}.CONNS");
                let new = format!("$SYS.ACCOUNT.{name}.SERVER.CONNS");
                self.tell_on(&[&old, &new], || self.connections_event(&account, connections, at));
            }
            Event::Ocsp(event) => {
                let subject = format!("$SYS.SERVER.{}.OCSP.PEER.{}", self.identity.id, event.subject());
                self.tell_on(&[&subject], || self.ocsp_event(&event));
            }
        }
    }

    /// The event about an account's connections.
    pub(super) fn connections_event(&self, account: &Account, connections: u64, at: Time) -> String {
        let mut view = self.source.account(account.name()).unwrap_or_default();
        view.connections = connections;
        compact(&ConnectionsEvent {
            kind: CONNECTIONS,
            id: self.next_id(),
            timestamp: at,
            server: self.server_info(),
            stat: AccountStat::of(view),
        })
    }

    fn tell_on(&self, subjects: &[&str], body: impl FnOnce() -> String) {
        if !subjects.iter().any(|subject| self.account.has_interest(subject.as_bytes())) {
            return;
        }
        let body = body();
        for subject in subjects {
            self.publish(subject, b"", body.as_bytes());
        }
    }

    pub(super) fn push_event(&self, event: Event) {
        self.push(&self.jobs, Job::Event(Box::new(event)));
    }
}

impl Observer for System {
    fn connected(&self, connection: &ConnectionSnapshot) {
        self.push_event(Event::Connected(connection.clone(), monitoring::now()));
    }

    fn disconnected(&self, connection: &ConnectionSnapshot) {
        let stop = connection.stop.map(UnixNanos::as_nanos).map_or_else(monitoring::now, time_of);
        self.push_event(Event::Gone(connection.clone(), stop));
    }

    fn authentication_failed(
        &self,
        connection: &ConnectionSnapshot,
        reason: CloseReason,
        account: Option<&Arc<Account>>,
    ) {
        let account = account.cloned();
        let at = monitoring::now();
        self.push_event(Event::Refused { connection: connection.clone(), reason, account, at });
    }

    fn account_added(&self, account: &Arc<Account>) {
        self.serve_account(account);
    }

    fn account_changed(&self, account: &Arc<Account>) {
        // Everybody's account would be told about all the time.
        if account.name() == GLOBAL_ACCOUNT {
            return;
        }
        self.told.lock().insert(account.name().to_owned(), tokio::time::Instant::now());
        self.push_event(Event::Connections {
            account: Arc::clone(account),
            connections: account.connection_count() as u64,
            at: monitoring::now(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::shown_rtt;

    #[test]
    fn a_round_trip_is_told_in_whole_microseconds_below_a_millisecond() {
        assert_eq!(shown_rtt(999), 999);
        assert_eq!(shown_rtt(1_999), 1_000);
        assert_eq!(shown_rtt(999_999), 999_000);
        assert_eq!(shown_rtt(1_000_001), 1_000_001);
    }
}
