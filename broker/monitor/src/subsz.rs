//! `/subsz`: counts of the subscriptions, and their list.

use serde::Serialize;
use weir_jsapi::time::Time;

use crate::{
    Source,
    connz::SubscriptionJson,
    query::{Query, Refused},
};

#[derive(Serialize)]
pub(crate) struct Subsz {
    server_id: String,
    now: Time,
    num_subscriptions: u64,
    num_cache: u64,
    num_inserts: u64,
    num_removes: u64,
    num_matches: u64,
    cache_hit_rate: f64,
    max_fanout: u64,
    avg_fanout: u64,
    total: usize,
    offset: usize,
    limit: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list: Vec<SubscriptionJson>,
}

pub(crate) fn subsz(source: &dyn Source, query: &Query) -> Result<Subsz, Refused> {
    let with_list = query.boolean("subs")?;
    let page = query.page()?;
    let test = query.text("test");
    if let Some(subject) = test.filter(|subject| !weir_subject::is_valid_literal(subject.as_bytes())) {
        return Err(format!("invalid test subject, must be valid publish subject: {subject}"));
    }
    let account = query.text("acc");
    let (counts, mut list) = source.subscriptions(with_list);
    list.retain(|subscription| {
        account.is_none_or(|account| subscription.account == account)
            && test.is_none_or(|subject| {
                weir_subject::matches(subscription.subject.as_bytes(), subject.as_bytes())
            })
    });
    list.sort_by(|a, b| (&a.account, &a.subject, a.cid).cmp(&(&b.account, &b.subject, b.cid)));
    let server = source.server();
    let total = list.len();
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let cache_hit_rate = match counts.num_matches {
        0 => 0.0,
        matches => counts.cache_hits as f64 / matches as f64,
    };
    Ok(Subsz {
        server_id: server.settings.server_id,
        now: server.now,
        num_subscriptions: counts.num_subscriptions,
        num_cache: counts.num_cache,
        num_inserts: counts.num_inserts,
        num_removes: counts.num_removes,
        num_matches: counts.num_matches,
        cache_hit_rate,
        max_fanout: 0,
        avg_fanout: 0,
        total,
        offset: page.offset,
        limit: page.limit,
        subscriptions_list: page.of(list).into_iter().map(SubscriptionJson::with_account).collect(),
    })
}
