//! What accounts may use of JetStream, from the configuration and from claims. Not who may use it now (see
//! jetstream-node), nor the claims themselves.

use std::collections::BTreeMap;

use weir_auth::jwt::{JetStreamLimits, OperatorLimits};
use weir_conf::{AccountJetStream, Options};
use weir_hub::GLOBAL_ACCOUNT;
use weir_jetstream_node::AccountShare;
use weir_jsapi::AccountLimits;

use crate::settings::system_account;

/// Every configured account but the system's, with its share; `None` for one without JetStream. The global account has
/// JetStream where it is alone.
pub(crate) fn configured(options: &Options) -> BTreeMap<String, Option<AccountShare>> {
    if crate::authenticator::is_operator_mode(options) {
        return BTreeMap::new();
    }
    let system = system_account(options);
    let others = options.accounts.values().filter(|account| account.name != system);
    let mut shares: BTreeMap<String, Option<AccountShare>> =
        others.map(|account| (account.name.clone(), account.jetstream.as_ref().map(of_config))).collect();
    let alone = shares.is_empty();
    shares.entry(GLOBAL_ACCOUNT.to_owned()).or_insert_with(|| alone.then(AccountShare::default));
    shares
}

fn of_config(share: &AccountJetStream) -> AccountShare {
    let limits = AccountLimits {
        max_memory: share.max_memory,
        max_storage: share.max_store,
        max_streams: share.max_streams,
        max_consumers: share.max_consumers,
        max_ack_pending: share.max_ack_pending,
        memory_max_stream_bytes: positive(share.memory_max_stream_bytes),
        storage_max_stream_bytes: positive(share.store_max_stream_bytes),
        max_bytes_required: share.max_bytes_required,
    };
    AccountShare(BTreeMap::from([(String::new(), limits)]))
}

/// What claims grant; `None` when they grant nothing.
pub(crate) fn of_claims(limits: &OperatorLimits) -> Option<AccountShare> {
    if !limits.is_jetstream_enabled() {
        return None;
    }
    let flat = &limits.jetstream;
    if flat.disk_storage != 0 || flat.mem_storage != 0 {
        return Some(AccountShare(BTreeMap::from([(String::new(), of_tier(flat))])));
    }
    let tiers = limits.tiered_limits.iter().map(|(tier, limits)| (tier.clone(), of_tier(limits)));
    Some(AccountShare(tiers.collect()))
}

fn of_tier(limits: &JetStreamLimits) -> AccountLimits {
    AccountLimits {
        max_memory: limits.mem_storage,
        max_storage: limits.disk_storage,
        max_streams: limits.streams,
        max_consumers: limits.consumer,
        max_ack_pending: positive(limits.max_ack_pending),
        memory_max_stream_bytes: positive(limits.mem_max_stream_bytes),
        storage_max_stream_bytes: positive(limits.disk_max_stream_bytes),
        max_bytes_required: limits.max_bytes_required,
    }
}

/// 0 and below are no limit.
fn positive(limit: i64) -> i64 {
    if limit > 0 { limit } else { -1 }
}

#[cfg(test)]
mod tests {
    use weir_conf::AccountConfig;

    use super::*;

    fn with_accounts(list: &[(&str, bool)]) -> Vec<(String, bool)> {
        let mut options = Options::default();
        for (name, jetstream) in list {
            let account = AccountConfig {
                name: (*name).to_owned(),
                jetstream: jetstream.then(AccountJetStream::default),
                ..AccountConfig::default()
            };
            options.accounts.insert((*name).to_owned(), account);
        }
        configured(&options).into_iter().map(|(name, share)| (name, share.is_some())).collect()
    }

    #[test]
    fn the_global_account_has_jetstream_when_it_is_alone() {
        let named = |list: &[(&str, bool)]| -> Vec<(String, bool)> {
            list.iter().map(|(name, served)| ((*name).to_owned(), *served)).collect()
        };
        assert_eq!(with_accounts(&[]), named(&[("$G", true)]));
        assert_eq!(with_accounts(&[("$SYS", false)]), named(&[("$G", true)]));
        assert_eq!(
            with_accounts(&[("A", true), ("B", false)]),
            named(&[("$G", false), ("A", true), ("B", false)])
        );
    }

    #[test]
    fn tiers_count_where_there_is_no_flat_limit() {
        let tier = JetStreamLimits { disk_storage: 5, streams: -1, ..JetStreamLimits::default() };
        let limits = OperatorLimits {
            tiered_limits: BTreeMap::from([("R1".to_owned(), tier)]),
            ..OperatorLimits::default()
        };
        let share = of_claims(&limits).expect("enabled");
        assert_eq!(share.0.keys().collect::<Vec<_>>(), ["R1"]);
        assert_eq!(share.0["R1"].max_storage, 5);
        assert_eq!(share.0["R1"].storage_max_stream_bytes, -1);
        assert_eq!(of_claims(&OperatorLimits::default()), None);
    }
}
