//! Requests for the endpoints as JSON, as they come over the system account: the options of each endpoint,
//! which servers are meant, and Go's complaints about bad input. Not their transport.

use weir_jsapi::json::{Value, parse};

use crate::query::Query;

/// Everything that can be asked for over the system account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    Varz,
    Subsz,
    Connz,
    Routez,
    Gatewayz,
    Leafz,
    Accountz,
    AccountStatz,
    /// One account's JetStream.
    AccountJsz,
    /// One account.
    AccountInfo,
    Statsz,
    Jsz,
    Healthz,
    Profilez,
    Expvarz,
    Ipqueuesz,
    Raftz,
    /// No options of its own: reload, kick, lame duck.
    Command,
}

/// Which servers a request is for: the fields that are not empty have to fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerFilter {
    pub server_name: String,
    pub cluster: String,
    pub host: String,
    pub domain: String,
    pub tags: Vec<String>,
    /// The names have to be equal rather than contained.
    pub exact_match: bool,
}

/// What a filter is compared with.
#[derive(Debug, Clone, Copy)]
pub struct FilterSubject<'a> {
    pub server_name: &'a str,
    pub cluster: &'a str,
    pub host: &'a str,
    pub domain: &'a str,
    pub tags: &'a [String],
}

impl ServerFilter {
    /// Whether the request is for this server.
    pub fn covers(&self, server: FilterSubject<'_>) -> bool {
        let fits = |wanted: &str, is: &str| {
            wanted.is_empty() || if self.exact_match { wanted == is } else { is.contains(wanted) }
        };
        fits(&self.server_name, server.server_name)
            && fits(&self.host, server.host)
            && fits(&self.cluster, server.cluster)
            && self.tags.iter().all(|tag| server.tags.iter().any(|own| own.eq_ignore_ascii_case(tag.trim())))
            && (self.domain.is_empty() || self.domain == server.domain)
    }
}

/// A request that was understood.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub filter: ServerFilter,
    pub(crate) query: Query,
    /// Accounts by name; only [`Endpoint::AccountStatz`] has them.
    pub(crate) accounts: Vec<String>,
}

impl Request {
    /// Reads a body; an empty one asks for the defaults. The error is Go's text for it.
    pub fn parse(endpoint: Endpoint, body: &[u8]) -> Result<Self, String> {
        let mut request = Self::default();
        if body.is_empty() {
            return Ok(request);
        }
        let value =
            parse(body).map_err(|error| match (after_value(body), error.split_once(" at offset ")) {
                (Some(text), _) => text,
                (None, Some((text, _))) => text.to_owned(),
                (None, None) => error.replace("unexpected EOF", "unexpected end of JSON input"),
            })?;
        let name = endpoint.struct_name();
        let fields = match value {
            Value::Object(fields) => fields,
            Value::Null => return Ok(request),
            other => {
                let kind = other.kind();
                return Err(format!("json: cannot unmarshal {kind} into Go value of type server.{name}"));
            }
        };
        // Go reads on after a value of the wrong type, and then names the first one.
        let mut complaint = None;
        for (key, value) in fields {
            let fields = FILTER.iter().chain(endpoint.fields());
            let Some(field) = fields.into_iter().find(|field| field.name.eq_ignore_ascii_case(&key)) else {
                continue;
            };
            if let Err(found) = request.take(field, &value) {
                let kind = field.kind.go_name();
                let text = match found {
                    Found::Value(found) => format!(
                        "json: cannot unmarshal {found} into Go struct field {name}.{key} of type {kind}"
                    ),
                    Found::Item(at, found) => {
                        format!("json: cannot unmarshal {found} into {name}.{key}.{at} of type string")
                    }
                };
                complaint.get_or_insert(text);
            }
        }
        complaint.map_or(Ok(request), Err)
    }

    /// The error is what was found instead.
    fn take(&mut self, field: &Field, value: &Value) -> Result<(), Found> {
        if *value == Value::Null {
            return Ok(());
        }
        let text = match (field.kind, value) {
            (Kind::Text | Kind::Sort, Value::String(text)) => text.clone(),
            (Kind::Flag, Value::Bool(flag)) => flag.to_string(),
            (Kind::Int | Kind::State | Kind::Duration, Value::Number(number)) => {
                match number.parse::<i64>() {
                    Ok(_) => number.clone(),
                    Err(_) => return Err(Found::Value(format!("number {number}"))),
                }
            }
            (Kind::Unsigned, Value::Number(number)) => match number.parse::<u64>() {
                Ok(_) => number.clone(),
                Err(_) => return Err(Found::Value(format!("number {number}"))),
            },
            (Kind::List, Value::Array(items)) => return self.take_list(field, items),
            (_, other) => return Err(Found::Value(other.kind().to_owned())),
        };
        let filter = &mut self.filter;
        match field.name {
            "server_name" => filter.server_name = text,
            "cluster" => filter.cluster = text,
            "host" => filter.host = text,
            "domain" => filter.domain = text,
            "exact_match" => filter.exact_match = text == "true",
            _ => self.query.set(field.key, text),
        }
        Ok(())
    }

    fn take_list(&mut self, field: &Field, items: &[Value]) -> Result<(), Found> {
        let mut list = Vec::new();
        for (at, item) in items.iter().enumerate() {
            match item {
                Value::String(text) => list.push(text.clone()),
                Value::Null => list.push(String::new()),
                other => return Err(Found::Item(at, other.kind().to_owned())),
            }
        }
        if field.name == "tags" {
            self.filter.tags = list;
        } else {
            self.accounts = list;
        }
        Ok(())
    }

    /// One of the endpoint's options, by its HTTP name.
    pub fn option(&self, key: &str) -> Option<&str> {
        self.query.text(key)
    }

    /// Asks about one account only.
    pub fn with_account(mut self, name: &str) -> Self {
        self.query.set("acc", name.to_owned());
        self.accounts = vec![name.to_owned()];
        self
    }

    /// Asks for the list of subscriptions.
    pub fn with_subscriptions(mut self) -> Self {
        self.query.set("subs", "true".to_owned());
        self
    }
}

/// What stands where something else belongs: in place of a field, or in its list.
enum Found {
    Value(String),
    Item(usize, String),
}

/// Go's complaint about what follows a complete document; `None` when nothing does, or the document is not complete.
fn after_value(body: &[u8]) -> Option<String> {
    let mut documents = serde_json::Deserializer::from_slice(body).into_iter::<serde::de::IgnoredAny>();
    documents.next()?.ok()?;
    let rest = body.get(documents.byte_offset()..)?.trim_ascii_start();
    let next = std::str::from_utf8(rest).ok()?.chars().next()?;
    Some(format!("invalid character {next:?} after top-level value"))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Sort,
    Flag,
    Int,
    Unsigned,
    State,
    Duration,
    List,
}

impl Kind {
    fn go_name(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Sort => "server.SortOpt",
            Self::Flag => "bool",
            Self::Int => "int",
            Self::Unsigned => "uint64",
            Self::State => "server.ConnState",
            Self::Duration => "time.Duration",
            Self::List => "[]string",
        }
    }
}

/// A field of a request: its name, what it holds, and the HTTP parameter it stands for.
struct Field {
    name: &'static str,
    kind: Kind,
    key: &'static str,
}

const fn field(name: &'static str, kind: Kind, key: &'static str) -> Field {
    Field { name, kind, key }
}

const FILTER: &[Field] = &[
    field("server_name", Kind::Text, ""),
    field("cluster", Kind::Text, ""),
    field("host", Kind::Text, ""),
    field("exact_match", Kind::Flag, ""),
    field("tags", Kind::List, ""),
    field("domain", Kind::Text, ""),
];

const CONNZ: &[Field] = &[
    field("sort", Kind::Sort, "sort"),
    field("auth", Kind::Flag, "auth"),
    field("subscriptions", Kind::Flag, "subs"),
    field("subscriptions_detail", Kind::Flag, "subs-detail"),
    field("offset", Kind::Int, "offset"),
    field("limit", Kind::Int, "limit"),
    field("cid", Kind::Unsigned, "cid"),
    field("mqtt_client", Kind::Text, "mqtt_client"),
    field("state", Kind::State, "state-number"),
    field("user", Kind::Text, "user"),
    field("acc", Kind::Text, "acc"),
    field("filter_subject", Kind::Text, "filter_subject"),
];
const SUBSZ: &[Field] = &[
    field("offset", Kind::Int, "offset"),
    field("limit", Kind::Int, "limit"),
    field("subscriptions", Kind::Flag, "subs"),
    field("account", Kind::Text, "acc"),
    field("test", Kind::Text, "test"),
];
const ROUTEZ: &[Field] =
    &[field("subscriptions", Kind::Flag, "subs"), field("subscriptions_detail", Kind::Flag, "subs-detail")];
const GATEWAYZ: &[Field] = &[
    field("name", Kind::Text, "gw_name"),
    field("accounts", Kind::Flag, "accs"),
    field("account_name", Kind::Text, "acc_name"),
    field("subscriptions", Kind::Flag, "subs"),
    field("subscriptions_detail", Kind::Flag, "subs-detail"),
];
const LEAFZ: &[Field] = &[field("subscriptions", Kind::Flag, "subs"), field("account", Kind::Text, "acc")];
const ACCOUNTZ: &[Field] = &[field("account", Kind::Text, "acc")];
const ACCOUNT_STATZ: &[Field] =
    &[field("accounts", Kind::List, ""), field("include_unused", Kind::Flag, "unused")];
const JSZ: &[Field] = &[
    field("account", Kind::Text, "acc"),
    field("accounts", Kind::Flag, "accounts"),
    field("streams", Kind::Flag, "streams"),
    field("consumer", Kind::Flag, "consumers"),
    field("direct_consumer", Kind::Flag, "direct-consumers"),
    field("config", Kind::Flag, "config"),
    field("leader_only", Kind::Flag, "leader-only"),
    field("offset", Kind::Int, "offset"),
    field("limit", Kind::Int, "limit"),
    field("raft", Kind::Flag, "raft"),
    field("stream_leader_only", Kind::Flag, "stream-leader-only"),
];
const HEALTHZ: &[Field] = &[
    field("js-enabled", Kind::Flag, "js-enabled"),
    field("js-enabled-only", Kind::Flag, "js-enabled-only"),
    field("js-server-only", Kind::Flag, "js-server-only"),
    field("js-meta-only", Kind::Flag, "js-meta-only"),
    field("account", Kind::Text, "account"),
    field("stream", Kind::Text, "stream"),
    field("consumer", Kind::Text, "consumer"),
    field("details", Kind::Flag, "details"),
];
const PROFILEZ: &[Field] = &[
    field("name", Kind::Text, "name"),
    field("debug", Kind::Int, "debug"),
    field("duration", Kind::Duration, "duration"),
];
const IPQUEUESZ: &[Field] = &[field("all", Kind::Flag, "all"), field("filter", Kind::Text, "queues")];
const RAFTZ: &[Field] = &[field("account", Kind::Text, "acc"), field("group", Kind::Text, "group")];

impl Endpoint {
    /// The name of nats-server's type, which its error texts hold.
    fn struct_name(self) -> &'static str {
        match self {
            Self::Varz => "VarzEventOptions",
            Self::Subsz => "SubszEventOptions",
            Self::Connz => "ConnzEventOptions",
            Self::Routez => "RoutezEventOptions",
            Self::Gatewayz => "GatewayzEventOptions",
            Self::Leafz => "LeafzEventOptions",
            Self::Accountz => "AccountzEventOptions",
            Self::AccountStatz => "AccountStatzEventOptions",
            Self::AccountInfo => "AccInfoEventOptions",
            Self::Statsz => "StatszEventOptions",
            Self::Jsz | Self::AccountJsz => "JszEventOptions",
            Self::Healthz => "HealthzEventOptions",
            Self::Profilez => "ProfilezEventOptions",
            Self::Expvarz => "ExpvarzEventOptions",
            Self::Ipqueuesz => "IpqueueszEventOptions",
            Self::Raftz => "RaftzEventOptions",
            Self::Command => "EventFilterOptions",
        }
    }

    fn fields(self) -> &'static [Field] {
        match self {
            Self::Connz => CONNZ,
            Self::Subsz => SUBSZ,
            Self::Routez => ROUTEZ,
            Self::Gatewayz => GATEWAYZ,
            Self::Leafz => LEAFZ,
            Self::Accountz => ACCOUNTZ,
            Self::AccountStatz => ACCOUNT_STATZ,
            Self::Jsz | Self::AccountJsz => JSZ,
            Self::Healthz => HEALTHZ,
            Self::Profilez => PROFILEZ,
            Self::Ipqueuesz => IPQUEUESZ,
            Self::Raftz => RAFTZ,
            Self::Varz | Self::AccountInfo | Self::Statsz | Self::Expvarz | Self::Command => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(endpoint: Endpoint, body: &str) -> String {
        Request::parse(endpoint, body.as_bytes()).expect_err(body)
    }

    #[test]
    fn complaints_are_gos() {
        assert_eq!(complaint(Endpoint::Varz, "xx"), "invalid character 'x' looking for beginning of value");
        assert_eq!(
            complaint(Endpoint::Connz, "[]"),
            "json: cannot unmarshal array into Go value of type server.ConnzEventOptions"
        );
        assert_eq!(
            complaint(Endpoint::Connz, r#"{"cid":-1}"#),
            "json: cannot unmarshal number -1 into Go struct field ConnzEventOptions.cid of type uint64"
        );
        assert_eq!(
            complaint(Endpoint::Raftz, r#"{"tags":"x"}"#),
            "json: cannot unmarshal string into Go struct field RaftzEventOptions.tags of type []string"
        );
    }

    #[test]
    fn a_filter_covers_by_part_or_exactly() {
        let tags = ["a:1".to_owned(), "b".to_owned()];
        let server = FilterSubject {
            server_name: "one-2",
            cluster: "east",
            host: "0.0.0.0",
            domain: "hub",
            tags: &tags,
        };
        for (body, covered) in [
            (r#"{}"#, true),
            (r#"{"server_name":"one"}"#, true),
            (r#"{"server_name":"one","exact_match":true}"#, false),
            (r#"{"SERVER_NAME":"one-2","exact_match":true}"#, true),
            (r#"{"cluster":"west"}"#, false),
            (r#"{"domain":"hub","tags":["b","A:1"]}"#, true),
            (r#"{"tags":["c"]}"#, false),
            (r#"{"domain":"h"}"#, false),
        ] {
            let request = Request::parse(Endpoint::Varz, body.as_bytes()).expect(body);
            assert_eq!(request.filter.covers(server), covered, "{body}");
        }
    }
}
