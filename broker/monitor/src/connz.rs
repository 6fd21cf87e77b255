//! `/connz`: the clients' connections, filtered, sorted and paged.

use std::cmp::Reverse;

use serde::Serialize;
use weir_jsapi::time::Time;
use weir_stdx::duration::format_duration;

use crate::{
    Source, Wanted,
    json::is_zero,
    query::{Page, Query, Refused},
    varz::uptime,
    view::{Connection, Subscription},
};

#[derive(Serialize)]
pub(crate) struct Connz {
    server_id: String,
    now: Time,
    num_connections: usize,
    total: usize,
    offset: usize,
    limit: usize,
    connections: Vec<ConnectionJson>,
}

#[derive(Serialize)]
struct ConnectionJson {
    cid: u64,
    kind: &'static str,
    #[serde(rename = "type")]
    protocol: &'static str,
    ip: String,
    port: u16,
    start: Time,
    last_activity: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<Time>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt: Option<String>,
    uptime: String,
    idle: String,
    pending_bytes: u64,
    in_msgs: u64,
    out_msgs: u64,
    in_bytes: u64,
    out_bytes: u64,
    subscriptions: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    lang: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    authorized_user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    account: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list_detail: Vec<SubscriptionJson>,
    #[serde(skip_serializing_if = "String::is_empty")]
    name_tag: String,
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
        let account = subscription.account.clone();
        Self { account: account.clone(), account_tag: account, ..Self::plain(subscription) }
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
        if query.text("subs").is_some_and(|word| word.eq_ignore_ascii_case("detail")) {
            return Ok(Self::Full);
        }
        Ok(if query.boolean("subs")? { Self::Subjects } else { Self::None })
    }
}

struct Filter<'a> {
    cid: u64,
    user: Option<&'a str>,
    account: Option<&'a str>,
    subject: Option<&'a str>,
    /// We serve no MQTT: the filter matches nothing.
    mqtt: bool,
}

impl Filter<'_> {
    fn matches(&self, connection: &Connection) -> bool {
        let subject = |subscription: &Subscription| {
            self.subject.is_none_or(|filter| {
                weir_subject::matches(subscription.subject.as_bytes(), filter.as_bytes())
            })
        };
        (self.cid == 0 || connection.cid == self.cid)
            && self.user.is_none_or(|user| connection.authorized_user == user)
            && self.account.is_none_or(|account| connection.account == account)
            && (self.subject.is_none() || connection.subscriptions.iter().any(subject))
            && !self.mqtt
    }
}

pub(crate) fn connz(source: &dyn Source, query: &Query) -> Result<Connz, Refused> {
    let detail = Detail::of(query)?;
    let with_user = query.boolean("auth")?;
    let mut page = query.page()?;
    let filter = Filter {
        cid: query.unsigned("cid")?,
        user: query.text("user"),
        account: query.text("acc"),
        subject: query.text("filter_subject"),
        mqtt: query.text("mqtt_client").is_some(),
    };
    if filter.cid > 0 {
        page = Page { offset: 0, limit: 1 };
    }
    let (open, closed) = state(query.text("state"))?;
    let sort = query.text("sort").unwrap_or("cid");
    check_sort(sort, open, closed)?;
    let subscriptions = detail != Detail::None || filter.subject.is_some();
    let mut found = source.connections(Wanted { open, closed, subscriptions });
    found.retain(|connection| filter.matches(connection));
    let server = source.server();
    sort_by(&mut found, sort, server.now);
    let total = found.len();
    let shown = page.of(found).into_iter();
    let connections: Vec<_> =
        shown.map(|connection| render(connection, server.now, detail, with_user)).collect();
    Ok(Connz {
        server_id: server.settings.server_id,
        now: server.now,
        num_connections: connections.len(),
        total,
        offset: page.offset,
        limit: page.limit,
        connections,
    })
}

fn state(word: Option<&str>) -> Result<(bool, bool), Refused> {
    match word.map(str::to_lowercase).as_deref() {
        None | Some("open") => Ok((true, false)),
        Some("closed") => Ok((false, true)),
        Some("any" | "all") => Ok((true, true)),
        Some(_) => Err(format!("Error decoding state for {}", word.unwrap_or_default())),
    }
}

fn check_sort(sort: &str, open: bool, closed: bool) -> Result<(), Refused> {
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
        "stop" | "reason" if open || !closed => {
            Err(format!("sort by {sort} only valid on closed connections"))
        }
        _ => Ok(()),
    }
}

/// The largest first, but for ids, starts and reasons.
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
        "uptime" => connections.sort_by_key(|c| Reverse(since(c.start))),
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
        Detail::Full => details = list.into_iter().map(SubscriptionJson::plain).collect(),
    }
    let shown = |text: String| if with_user { text } else { String::new() };
    ConnectionJson {
        cid: connection.cid,
        kind: "Client",
        protocol: "nats",
        ip: connection.ip,
        port: connection.port,
        start: connection.start,
        last_activity: connection.last_activity,
        stop: connection.stop,
        reason: connection.reason,
        rtt: connection.rtt.map(format_duration),
        uptime: uptime(connection.start, end),
        idle: uptime(connection.last_activity, end),
        pending_bytes: connection.pending_bytes,
        in_msgs: connection.in_msgs,
        out_msgs: connection.out_msgs,
        in_bytes: connection.in_bytes,
        out_bytes: connection.out_bytes,
        subscriptions: connection.subscription_count,
        name: connection.name,
        lang: connection.lang,
        version: connection.version,
        name_tag: shown(connection.account.clone()),
        authorized_user: shown(connection.authorized_user),
        // The global account is not named, as in the reference.
        account: shown(connection.account).replace("$G", ""),
        subscriptions_list: subjects,
        subscriptions_list_detail: details,
    }
}
