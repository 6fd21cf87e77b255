//! `/connz`: the clients' connections, filtered, sorted and paged.

use std::{cmp::Reverse, time::Duration};

use serde::Serialize;
use weir_jsapi::time::Time;
use weir_stdx::duration::format_duration;

use crate::{
    Source, Wanted,
    json::{is_false, is_zero},
    query::{Page, Query, Refused},
    varz::uptime,
    view::{Connection, PeerCertificate, Subscription},
};

#[derive(Serialize)]
pub(crate) struct Connz {
    server_id: String,
    now: Time,
    num_connections: usize,
    total: usize,
    offset: usize,
    limit: usize,
    connections: Option<Vec<ConnectionJson>>,
}

#[derive(Serialize)]
struct ConnectionJson {
    cid: u64,
    kind: &'static str,
    #[serde(rename = "type")]
    client_type: &'static str,
    ip: String,
    port: u16,
    start: Time,
    last_activity: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<Time>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    rtt: String,
    uptime: String,
    idle: String,
    pending_bytes: u64,
    in_msgs: u64,
    out_msgs: u64,
    in_bytes: u64,
    out_bytes: u64,
    #[serde(skip_serializing_if = "is_zero")]
    stalls: u64,
    subscriptions: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    lang: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    tls_version: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    tls_cipher_suite: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tls_peer_certs: Vec<PeerCertificate>,
    #[serde(skip_serializing_if = "is_false")]
    tls_first: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    authorized_user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    account: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list_detail: Vec<SubscriptionJson>,
    #[serde(skip_serializing_if = "String::is_empty")]
    jwt: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    issuer_key: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name_tag: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy: Option<Proxy>,
}

#[derive(Serialize)]
struct Proxy {
    key: String,
}

/// A subscription in a detailed list; also in `/routez` and `/subsz`.
#[derive(Serialize)]
pub(crate) struct SubscriptionJson {
    #[serde(skip_serializing_if = "String::is_empty")]
    account: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    account_tag: String,
    subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    qgroup: Option<String>,
    sid: String,
    msgs: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max: u64,
    cid: u64,
}

impl SubscriptionJson {
    /// Without the account, which the surroundings name.
    pub(crate) fn plain(subscription: Subscription) -> Self {
        let Subscription { subject, queue, sid, msgs, max, cid, .. } = subscription;
        let (account, account_tag) = (String::new(), String::new());
        Self { account, account_tag, subject, qgroup: queue, sid, msgs, max, cid }
    }

    pub(crate) fn with_account(subscription: Subscription) -> Self {
        let (account, account_tag) = (subscription.account.clone(), subscription.account_tag.clone());
        Self { account, account_tag, ..Self::plain(subscription) }
    }
}

/// How much of the subscriptions to show.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    None,
    Subjects,
    Full,
}

impl Detail {
    /// From `subs=true|detail`.
    pub(crate) fn of(query: &Query) -> Result<Self, Refused> {
        let is_detail = |word: &str| word.eq_ignore_ascii_case("detail");
        if query.text("subs").is_some_and(is_detail) || query.boolean("subs-detail")? {
            return Ok(Self::Full);
        }
        Ok(if query.boolean("subs")? { Self::Subjects } else { Self::None })
    }
}

struct Filter<'a> {
    user: Option<&'a str>,
    account: Option<&'a str>,
    subject: Option<&'a str>,
    /// We serve no MQTT: the filter matches nothing.
    mqtt: bool,
}

impl Filter<'_> {
    fn in_account(&self, connection: &Connection) -> bool {
        // Of closed connections the global account is not remembered, as in the reference.
        let is_forgotten = connection.stop.is_some() && connection.account == "$G";
        self.account.is_none_or(|account| connection.account == account && !is_forgotten)
    }

    fn matches(&self, connection: &Connection) -> bool {
        let subject = |subscription: &Subscription| {
            self.subject.is_none_or(|filter| {
                weir_subject::overlaps(subscription.subject.as_bytes(), filter.as_bytes())
            })
        };
        self.user.is_none_or(|user| connection.authorized_user == user)
            && (self.subject.is_none()
                || connection.stop.is_some()
                || connection.subscriptions.iter().any(subject))
            && !self.mqtt
    }
}

/// Which connections: open ones, closed ones.
#[derive(Clone, Copy, PartialEq, Eq)]
struct States {
    open: bool,
    closed: bool,
}

impl States {
    const OPEN: Self = Self { open: true, closed: false };
    const CLOSED: Self = Self { open: false, closed: true };
    const ALL: Self = Self { open: true, closed: true };

    /// As a word over HTTP, as a number in a request: of which an unknown one means neither.
    fn of(query: &Query) -> Result<Self, Refused> {
        if let Some(number) = query.text("state-number") {
            return Ok(match number {
                "0" => Self::OPEN,
                "1" => Self::CLOSED,
                "2" => Self::ALL,
                _ => Self { open: false, closed: false },
            });
        }
        let word = query.text("state");
        match word.map(str::to_lowercase).as_deref() {
            None | Some("open") => Ok(Self::OPEN),
            Some("closed") => Ok(Self::CLOSED),
            Some("any" | "all") => Ok(Self::ALL),
            Some(_) => Err(format!("Error decoding state for {}", word.unwrap_or_default())),
        }
    }
}

pub(crate) fn connz(source: &dyn Source, query: &Query) -> Result<Connz, Refused> {
    let with_user = query.boolean("auth")?;
    let detail = Detail::of(query)?;
    let page = query.page()?;
    let cid = query.unsigned("cid")?;
    let page = if cid > 0 { Page { limit: 1, ..page } } else { page };
    let states = States::of(query)?;
    let sort = query.text("sort").unwrap_or("cid");
    check_sort(sort, states)?;
    let filter = Filter {
        user: query.text("user"),
        account: query.text("acc"),
        subject: query.text("filter_subject").filter(|subject| *subject != ">"),
        mqtt: query.text("mqtt_client").is_some(),
    };
    if filter.subject.is_some() && filter.account.is_none() {
        return Err("filter by subject only valid with account filtering".to_owned());
    }
    let server = source.server();
    let Page { offset, limit } = page;
    let now = server.now;
    let empty = Connz {
        server_id: String::new(),
        now,
        num_connections: 0,
        total: 0,
        offset,
        limit,
        connections: None,
    };
    let is_known = |name: &str| source.accounts().iter().any(|account| account.name == name);
    if filter.account.is_some_and(|name| !is_known(name)) {
        return Ok(empty);
    }
    let subscriptions = detail != Detail::None || filter.subject.is_some();
    let wanted = Wanted { open: states.open, closed: states.closed, subscriptions };
    let mut found = source.connections(wanted);
    found.retain(|connection| filter.in_account(connection));
    let total = found.len();
    found.retain(|connection| (cid == 0 || connection.cid == cid) && filter.matches(connection));
    sort_by(&mut found, sort, now);
    let shown = page.of(found).into_iter();
    let connections: Vec<_> = shown.map(|connection| render(connection, now, detail, with_user)).collect();
    Ok(Connz {
        server_id: server.settings.server_id,
        num_connections: connections.len(),
        total,
        connections: Some(connections),
        ..empty
    })
}

fn check_sort(sort: &str, states: States) -> Result<(), Refused> {
    const KNOWN: &[&str] = &[
        "cid",
        "start",
        "subs",
        "pending",
        "msgs_to",
        "msgs_from",
        "bytes_to",
        "bytes_from",
        "last",
        "idle",
        "uptime",
        "stop",
        "reason",
        "rtt",
    ];
    if !KNOWN.contains(&sort) {
        return Err(format!("invalid sorting option: {sort}"));
    }
    match sort {
        "stop" | "reason" if states != States::CLOSED => {
            Err(format!("sort by {sort} only valid on closed connections"))
        }
        _ => Ok(()),
    }
}

/// The largest first, but for ids, starts, uptimes and reasons.
fn sort_by(connections: &mut [Connection], sort: &str, now: Time) {
    let since = |time: Time| now.unix_nanos().unwrap_or(0) - time.unix_nanos().unwrap_or(0);
    connections.sort_by_key(|connection| connection.cid);
    match sort {
        "start" => connections.sort_by_key(|c| c.start),
        "subs" => connections.sort_by_key(|c| Reverse(c.subscription_count)),
        "pending" => connections.sort_by_key(|c| Reverse(c.pending_bytes)),
        "msgs_to" => connections.sort_by_key(|c| Reverse(c.out_msgs)),
        "msgs_from" => connections.sort_by_key(|c| Reverse(c.in_msgs)),
        "bytes_to" => connections.sort_by_key(|c| Reverse(c.out_bytes)),
        "bytes_from" => connections.sort_by_key(|c| Reverse(c.in_bytes)),
        "last" => connections.sort_by_key(|c| Reverse(c.last_activity)),
        "idle" => connections.sort_by_key(|c| Reverse(since(c.last_activity))),
        "uptime" => connections.sort_by_key(|c| since(c.start) - c.stop.map_or(0, since)),
        "stop" => connections.sort_by_key(|c| Reverse(c.stop)),
        "reason" => connections.sort_by(|a, b| a.reason.cmp(&b.reason)),
        "rtt" => connections.sort_by_key(|c| Reverse(c.rtt)),
        _ => {}
    }
}

fn render(mut connection: Connection, now: Time, detail: Detail, with_user: bool) -> ConnectionJson {
    let end = connection.stop.unwrap_or(now);
    let mut list = std::mem::take(&mut connection.subscriptions);
    list.sort_by(|a, b| (&a.subject, &a.sid).cmp(&(&b.subject, &b.sid)));
    let (mut subjects, mut details) = (Vec::new(), Vec::new());
    match detail {
        Detail::None => {}
        Detail::Subjects => subjects = list.into_iter().map(|s| s.subject).collect(),
        Detail::Full if connection.stop.is_some() => {
            details = list.into_iter().map(SubscriptionJson::with_account).collect();
        }
        Detail::Full => details = list.into_iter().map(SubscriptionJson::plain).collect(),
    }
    let shown = |text: String| if with_user { text } else { String::new() };
    ConnectionJson {
        cid: connection.cid,
        kind: "Client",
        client_type: connection.client_type,
        ip: connection.ip,
        port: connection.port,
        start: connection.start,
        last_activity: connection.last_activity,
        stop: connection.stop,
        reason: connection.reason,
        rtt: format_duration(truncated(connection.rtt.unwrap_or_default())),
        uptime: uptime(connection.start, end),
        idle: uptime(connection.last_activity, end),
        pending_bytes: connection.pending_bytes,
        in_msgs: connection.in_msgs,
        out_msgs: connection.out_msgs,
        in_bytes: connection.in_bytes,
        out_bytes: connection.out_bytes,
        stalls: connection.stalls,
        subscriptions: connection.subscription_count,
        name: connection.name,
        lang: connection.lang,
        version: connection.version,
        tls_version: connection.tls_version,
        tls_cipher_suite: connection.tls_cipher_suite,
        tls_peer_certs: if with_user { connection.tls_peer_certs } else { Vec::new() },
        tls_first: connection.tls_first,
        name_tag: if connection.stop.is_some() && matches!(connection.account.as_str(), "" | "$G") {
            String::new()
        } else {
            shown(connection.account_tag)
        },
        authorized_user: shown(connection.authorized_user),
        // The global account is not named, as in the reference.
        account: shown(connection.account).replace("$G", ""),
        subscriptions_list: subjects,
        subscriptions_list_detail: details,
        jwt: shown(connection.jwt),
        issuer_key: shown(connection.issuer_key),
        tags: if with_user { connection.tags } else { Vec::new() },
        proxy: (!connection.proxy_key.is_empty()).then_some(Proxy { key: connection.proxy_key }),
    }
}

/// Round trips below a millisecond are shown in whole microseconds.
pub(crate) fn truncated(rtt: Duration) -> Duration {
    if rtt > Duration::from_micros(1) && rtt < Duration::from_millis(1) {
        Duration::from_micros(u64::try_from(rtt.as_micros()).unwrap_or(0))
    } else {
        rtt
    }
}
