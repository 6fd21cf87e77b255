//! Requests in the system account: which service one is for, and the answer around its data. Not the data.

use serde::Serialize;
use serde_json::{json, value::RawValue};
use tokio::sync::oneshot;
use tracing::{error, warn};
use weir_hub::{CloseReason, Inbound, Origin};
use weir_monitor::{Answer, Endpoint, FilterSubject, Request, answer, compact};

use super::{Command, Job, System};
use crate::monitoring;
use crate::server_block::ServerBlock;

/// A message as it came.
pub(super) struct Message {
    pub(super) subject: String,
    pub(super) reply: String,
    pub(super) headers: Vec<u8>,
    pub(super) body: Vec<u8>,
    pub(super) origin: Origin,
}

impl Message {
    /// Copies what a subscription was handed; `None` for subjects that are no text.
    pub(super) fn of(inbound: &Inbound<'_>) -> Option<Self> {
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
        Some(Self {
            subject: text(inbound.subject)?,
            reply: inbound.reply.and_then(text).unwrap_or_default(),
            headers: inbound.headers.to_vec(),
            body: inbound.payload.to_vec(),
            origin: inbound.origin,
        })
    }
}

#[derive(Serialize)]
struct Envelope {
    server: ServerBlock,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    statsz: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
}

#[derive(Serialize)]
struct Failure {
    code: u16,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
}

const BAD_REQUEST: u16 = 400;
const INTERNAL_ERROR: u16 = 500;

fn raw(json: String) -> Option<Box<RawValue>> {
    RawValue::from_string(json).ok()
}

/// The service that the last token of a request for a server names.
pub(super) fn server_endpoint(name: &str) -> Option<Endpoint> {
    Some(match name {
        "VARZ" => Endpoint::Varz,
        "SUBSZ" => Endpoint::Subsz,
        "CONNZ" => Endpoint::Connz,
        "ROUTEZ" => Endpoint::Routez,
        "GATEWAYZ" => Endpoint::Gatewayz,
        "LEAFZ" => Endpoint::Leafz,
        "ACCOUNTZ" => Endpoint::Accountz,
        "JSZ" => Endpoint::Jsz,
        "HEALTHZ" => Endpoint::Healthz,
        "PROFILEZ" => Endpoint::Profilez,
        "EXPVARZ" => Endpoint::Expvarz,
        "IPQUEUESZ" => Endpoint::Ipqueuesz,
        "RAFTZ" => Endpoint::Raftz,
        _ => return None,
    })
}

/// The same for a request about an account.
fn account_endpoint(name: &str) -> Option<Endpoint> {
    Some(match name {
        "SUBSZ" => Endpoint::Subsz,
        "CONNZ" => Endpoint::Connz,
        "LEAFZ" => Endpoint::Leafz,
        "JSZ" => Endpoint::AccountJsz,
        "INFO" => Endpoint::AccountInfo,
        "STATZ" => Endpoint::AccountStatz,
        _ => return None,
    })
}

impl System {
    /// Answers one request.
    pub(super) fn answer(&self, message: Message) {
        let tokens: Vec<&str> = message.subject.split('.').collect();
        match tokens.as_slice() {
            ["$SYS", "REQ", "SERVER", "PING"] | ["$SYS", "REQ", "SERVER", _, "STATSZ"] => {
                self.answer_statsz(&message);
            }
            ["$SYS", "REQ", "SERVER", _, "IDZ"] => self.answer_id(&message),
            ["$SYS", "REQ", "SERVER", _, "RELOAD"] => self.reload(message),
            ["$SYS", "REQ", "SERVER", _, "KICK"] => self.kick(&message),
            ["$SYS", "REQ", "SERVER", _, "LDM"] => self.lame_duck_client(&message),
            ["$SYS", "REQ", "SERVER", _, name] => {
                if let Some(endpoint) = server_endpoint(name) {
                    self.answer_with(&message, endpoint, |request| request);
                }
            }
            ["$SYS", "REQ", "ACCOUNT", "NSUBS"] => self.answer_subscriber_count(&message),
            ["$SYS", "REQ", "ACCOUNT", account, "CONNS"] => self.answer_connections(&message, account),
            ["$SYS", "REQ", "ACCOUNT", "PING", "STATZ"] => {
                self.answer_with(&message, Endpoint::AccountStatz, |request| request);
            }
            ["$SYS", "REQ", "ACCOUNT", account, name] => {
                if let Some(endpoint) = account_endpoint(name) {
                    self.answer_with(&message, endpoint, |request| {
                        let request = request.with_account(account);
                        if endpoint == Endpoint::Subsz { request.with_subscriptions() } else { request }
                    });
                }
            }
            ["$SYS", "REQ", "USER", _, "INFO"] => self.answer_nobody(&message),
            ["$SYS", "DEBUG", "SUBSCRIBERS"] => self.count_subscribers(message),
            ["$SYS", "SERVER", "ACCOUNT", _, "CONNS"] | ["$SYS", "_INBOX_", _] => {
                self.note_connections(&message);
            }
            ["$SYS", "SERVER", id, "STATSZ"] => self.note_server(id, &message),
            ["$SYS", "LATENCY", "M2", _] => {
                if let Err(problem) = self.hub.take_remote_latency(&message.body) {
                    warn!("{problem}");
                }
            }
            ["$SYS", "SERVER", id, "SHUTDOWN" | "LAMEDUCK"] => self.remote.forget(id),
            ["$SYS", "_INBOX", ..] => self.pass_on(&message),
            _ => {}
        }
    }

    fn is_meant(&self, request: &Request) -> bool {
        let settings = self.source.settings();
        request.filter.covers(FilterSubject {
            server_name: &self.identity.name,
            cluster: &self.hub.cluster_name(),
            host: &self.identity.host,
            domain: self.identity.domain(),
            tags: &settings.tags,
        })
    }

    fn answer_with(&self, message: &Message, endpoint: Endpoint, complete: impl FnOnce(Request) -> Request) {
        self.respond(message, endpoint, |request| answer(&*self.source, endpoint, &complete(request)));
    }

    /// Reads the options, leaves requests for other servers alone, and answers with what `work` gives.
    fn respond(&self, message: &Message, endpoint: Endpoint, work: impl FnOnce(Request) -> Answer) {
        if message.reply.is_empty() {
            return;
        }
        let request = match Request::parse(endpoint, &message.body) {
            Ok(request) if self.is_meant(&request) => request,
            Ok(_) => return,
            Err(description) => return self.send_failure(&message.reply, BAD_REQUEST, description, false),
        };
        match work(request) {
            Answer::Silence => {}
            Answer::Refused(description) => {
                let has_data = endpoint != Endpoint::Command;
                self.send_failure(&message.reply, INTERNAL_ERROR, description, has_data);
            }
            Answer::Data(json) => {
                let data = if json.is_empty() { None } else { raw(json) };
                let envelope = Envelope { server: self.server_info(), data, statsz: None, error: None };
                let (headers, body) = weir_hub::encoded(&message.headers, compact(&envelope).into_bytes());
                self.publish(&message.reply, &headers, &body);
            }
        }
    }

    /// `has_data`: nats-server answers with `data: null` when an endpoint failed.
    fn send_failure(&self, reply: &str, code: u16, description: String, has_data: bool) {
        let envelope = Envelope {
            server: self.server_info(),
            data: if has_data { raw("null".to_owned()) } else { None },
            statsz: None,
            error: Some(Failure { code, description }),
        };
        self.publish(reply, b"", compact(&envelope).as_bytes());
    }

    fn answer_statsz(&self, message: &Message) {
        if !message.body.is_empty() {
            match Request::parse(Endpoint::Statsz, &message.body) {
                Ok(request) if self.is_meant(&request) => {}
                Ok(_) => return,
                Err(description) => {
                    return self.send_failure(&message.reply, BAD_REQUEST, description, false);
                }
            }
        }
        if message.reply.is_empty() {
            // Without a reply subject it asks for a broadcast.
            *self.last_statsz.lock() = None;
            self.send_own_statsz();
        } else {
            self.send_statsz(&message.reply);
        }
    }

    pub(super) fn send_statsz(&self, subject: &str) {
        let Answer::Data(json) = answer(&*self.source, Endpoint::Statsz, &Request::default()) else { return };
        let envelope = Envelope { server: self.server_info(), data: None, statsz: raw(json), error: None };
        self.publish(subject, b"", compact(&envelope).as_bytes());
    }

    fn answer_id(&self, message: &Message) {
        #[derive(Serialize)]
        struct Id<'a> {
            name: &'a str,
            host: &'a str,
            id: &'a str,
        }
        if message.reply.is_empty() {
            return;
        }
        let identity = &self.identity;
        let id = Id { name: &identity.name, host: &identity.host, id: &identity.id };
        self.publish(&message.reply, b"", compact(&id).as_bytes());
    }

    fn reload(&self, message: Message) {
        let Some(system) = self.weak().upgrade() else { return };
        let parsed = Request::parse(Endpoint::Command, &message.body);
        if message.reply.is_empty() {
            return;
        }
        if !parsed.as_ref().is_ok_and(|request| self.is_meant(request)) {
            return self.respond(&message, Endpoint::Command, |_| Answer::Silence);
        }
        let commands = self.commands.clone();
        // Reading the configuration takes its time.
        tokio::spawn(async move {
            let (done, outcome) = oneshot::channel();
            if commands.send(Command::Reload(done)).await.is_err() {
                return;
            }
            let outcome = outcome.await.unwrap_or_else(|_| Err("server is shutting down".to_owned()));
            system.respond(&message, Endpoint::Command, |_| match outcome {
                Ok(()) => Answer::Data(String::new()),
                Err(reason) => Answer::Refused(reason),
            });
        });
    }

    fn kick(&self, message: &Message) {
        let Some(cid) = connection_of(message, "kick") else { return };
        self.respond(message, Endpoint::Command, |_| {
            if self.hub.disconnect(cid, CloseReason::Kicked) {
                Answer::Data(String::new())
            } else {
                Answer::Refused("no such client or leafnode id".to_owned())
            }
        });
    }

    fn lame_duck_client(&self, message: &Message) {
        let Some(cid) = connection_of(message, "lame duck") else { return };
        self.respond(message, Endpoint::Command, |_| match self.hub.announce_lame_duck_to(cid) {
            Ok(()) => Answer::Data(String::new()),
            Err(reason) => Answer::Refused(reason.to_owned()),
        });
    }

    fn answer_connections(&self, message: &Message, name: &str) {
        if message.reply.is_empty() || !asks_about(message, name) {
            return;
        }
        let Some(account) = self.hub.account(name) else { return };
        let connections = account.connection_count() as u64;
        if connections > 0 {
            let body = self.connections_event(&account, connections, monitoring::now());
            self.publish(&message.reply, b"", body.as_bytes());
        }
    }

    /// Only requests through an import say whom they are about.
    fn answer_nobody(&self, message: &Message) {
        if !message.reply.is_empty() {
            let data = raw(json!({ "account": "", "user": "" }).to_string());
            let envelope = Envelope { server: self.server_info(), data, statsz: None, error: None };
            self.publish(&message.reply, b"", compact(&envelope).as_bytes());
        }
    }

    fn note_connections(&self, message: &Message) {
        let is_known = |name: &str| self.hub.account(name).is_some();
        self.remote.note_connections(&self.identity.id, &message.body, is_known);
    }

    /// A server that appears is asked for the connections of the accounts here.
    fn note_server(&self, id: &str, message: &Message) {
        if id == self.identity.id || !self.remote.note_server(&self.identity.id, &message.body) {
            return;
        }
        let reply = format!("$SYS._INBOX_.{}", self.identity.id);
        for account in self.hub.accounts() {
            let subject = format!("$SYS.REQ.ACCOUNT.{}.CONNS", account.name());
            let body = json!({ "acc": account.name() }).to_string();
            self.account.publish(subject.as_bytes(), Some(reply.as_bytes()), b"", body.as_bytes());
        }
    }

    pub(super) fn push_request(&self, inbound: &Inbound<'_>, is_ping: bool) {
        if let Some(message) = Message::of(inbound) {
            let queue = if is_ping { &self.pings } else { &self.jobs };
            self.push(queue, Job::Request(message));
        }
    }
}

/// The body of a request about an account may name it; then it has to be the subject's.
fn asks_about(message: &Message, name: &str) -> bool {
    if message.body.is_empty() {
        return true;
    }
    serde_json::from_slice::<serde_json::Value>(&message.body)
        .is_ok_and(|body| body.get("acc").is_none_or(|account| account == name))
}

/// The connection that a request names; an unreadable request is not answered, as by nats-server.
fn connection_of(message: &Message, what: &str) -> Option<u64> {
    let read = || -> Result<u64, String> {
        let fields: Option<serde_json::Map<String, serde_json::Value>> =
            serde_json::from_slice(&message.body).map_err(|problem| problem.to_string())?;
        let fields = fields.unwrap_or_default();
        match fields.iter().find(|(key, _)| key.eq_ignore_ascii_case("cid")) {
            None => Ok(0),
            Some((_, cid)) if cid.is_null() => Ok(0),
            Some((_, cid)) => cid.as_u64().ok_or_else(|| "cid is no connection's number".to_owned()),
        }
    };
    read().inspect_err(|problem| error!("Error unmarshalling {what} client request: {problem}")).ok()
}
