//! `/subsz`: counts of the subscriptions, and their list.

use serde::Serialize;
use weir_jsapi::time::Time;

use crate::{
    Source,
    connz::SubscriptionJson,
    query::{Query, Refused},
    view::Account,
};

#[derive(Serialize)]
pub(crate) struct Subsz {
    server_id: String,
    now: Time,
    #[serde(flatten)]
    stats: SublistStats,
    total: usize,
    offset: usize,
    limit: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list: Vec<SubscriptionJson>,
}

/// Counts of the subscriptions of one account or of all. Caches belong to connections here and are not counted.
#[derive(Serialize, Default)]
pub(crate) struct SublistStats {
    num_subscriptions: u64,
    num_cache: u64,
    num_inserts: u64,
    num_removes: u64,
    num_matches: u64,
    cache_hit_rate: u64,
    max_fanout: u64,
    avg_fanout: u64,
}

impl SublistStats {
    pub(crate) fn of(account: &Account) -> Self {
        let mut stats = Self::default();
        stats.add(account);
        stats
    }

    fn add(&mut self, account: &Account) {
        self.num_subscriptions += account.subscriptions;
        self.num_inserts += account.subscription_inserts;
        self.num_removes += account.subscription_removes;
    }
}

pub(crate) fn subsz(source: &dyn Source, query: &Query) -> Result<Subsz, Refused> {
    let with_list = query.boolean("subs")?;
    let page = query.page()?;
    let test = query.text("test");
    if let Some(subject) = test.filter(|subject| !weir_subject::is_valid_literal(subject.as_bytes())) {
        return Err(format!("invalid test subject, must be valid publish subject: {subject}"));
    }
    let account = query.text("acc");
    let mut stats = SublistStats::default();
    for known in source.accounts() {
        if account.is_none_or(|account| known.name == account) {
            stats.add(&known);
        }
    }
    let mut list = if with_list { source.subscriptions(account) } else { Vec::new() };
    list.retain(|subscription| {
        test.is_none_or(|subject| weir_subject::matches(subscription.subject.as_bytes(), subject.as_bytes()))
    });
    list.sort_by(|a, b| (&a.account, &a.subject, a.cid).cmp(&(&b.account, &b.subject, b.cid)));
    let server = source.server();
    let total = list.len();
    Ok(Subsz {
        server_id: server.settings.server_id,
        now: server.now,
        stats,
        total,
        offset: page.offset,
        limit: page.limit,
        subscriptions_list: page.of(list).into_iter().map(SubscriptionJson::with_account).collect(),
    })
}
