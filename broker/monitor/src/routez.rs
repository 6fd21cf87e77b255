//! `/routez`: the connections to other servers.

use serde::Serialize;
use weir_jsapi::time::Time;
use weir_stdx::duration::format_duration;

use crate::{
    Source,
    connz::{Detail, SubscriptionJson, truncated},
    query::{Query, Refused},
    varz::uptime,
    view::{Route, SubjectRules},
};

#[derive(Serialize)]
pub(crate) struct Routez {
    server_id: String,
    server_name: String,
    now: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    import: Option<SubjectRules>,
    #[serde(skip_serializing_if = "Option::is_none")]
    export: Option<SubjectRules>,
    num_routes: usize,
    routes: Vec<RouteJson>,
}

#[derive(Serialize)]
struct RouteJson {
    rid: u64,
    remote_id: String,
    remote_name: String,
    did_solicit: bool,
    is_configured: bool,
    ip: String,
    port: u16,
    start: Time,
    last_activity: Time,
    rtt: String,
    uptime: String,
    idle: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    import: Option<SubjectRules>,
    #[serde(skip_serializing_if = "Option::is_none")]
    export: Option<SubjectRules>,
    pending_size: u64,
    in_msgs: u64,
    out_msgs: u64,
    in_bytes: u64,
    out_bytes: u64,
    subscriptions: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list_detail: Vec<SubscriptionJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    compression: &'static str,
}

pub(crate) fn routez(source: &dyn Source, query: &Query) -> Result<Routez, Refused> {
    let detail = Detail::of(query)?;
    let server = source.server();
    let routes = source.routes(detail != Detail::None).into_iter();
    let (import, export) = source.route_rules();
    let routes: Vec<_> = routes.map(|route| render(route, server.now, detail)).collect();
    Ok(Routez {
        server_id: server.settings.server_id,
        server_name: server.settings.server_name,
        now: server.now,
        import,
        export,
        num_routes: routes.len(),
        routes,
    })
}

fn render(mut route: Route, now: Time, detail: Detail) -> RouteJson {
    let mut list = std::mem::take(&mut route.subscriptions);
    list.sort_by(|a, b| a.subject.cmp(&b.subject));
    let (mut subjects, mut details) = (Vec::new(), Vec::new());
    match detail {
        Detail::None => {}
        Detail::Subjects => subjects = list.into_iter().map(|s| s.subject).collect(),
        Detail::Full => details = list.into_iter().map(SubscriptionJson::plain).collect(),
    }
    RouteJson {
        rid: route.rid,
        remote_id: route.remote_id,
        remote_name: route.remote_name,
        did_solicit: route.did_solicit,
        is_configured: route.is_configured,
        ip: route.ip,
        port: route.port,
        start: route.start,
        last_activity: route.last_activity,
        rtt: format_duration(truncated(route.rtt.unwrap_or_default())),
        uptime: uptime(route.start, now),
        idle: uptime(route.last_activity, now),
        import: route.import,
        export: route.export,
        pending_size: route.pending_bytes,
        in_msgs: route.in_msgs,
        out_msgs: route.out_msgs,
        in_bytes: route.in_bytes,
        out_bytes: route.out_bytes,
        subscriptions: route.subscription_count,
        subscriptions_list: subjects,
        subscriptions_list_detail: details,
        account: route.account,
        compression: route.compression,
    }
}
