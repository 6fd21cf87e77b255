//! `$JS.API.INFO`: what an account uses and may use.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use weir_jsapi::{
    AccountInfo, AccountLimits, ApiError, ApiStats, StorageType, StreamInfo, Tier, errors, response,
};

use super::{Answer, Request, stream_list};
use crate::accounts::tier_name;
use crate::context::Context;

/// What is printed where no limits apply.
const NO_LIMITS: AccountLimits = AccountLimits {
    max_memory: 0,
    max_storage: 0,
    max_streams: 0,
    max_consumers: 0,
    max_ack_pending: 0,
    memory_max_stream_bytes: 0,
    storage_max_stream_bytes: 0,
    max_bytes_required: false,
};

pub(crate) async fn info(context: &Arc<Context>, request: &Request) -> Result<Answer, ApiError> {
    let served = context
        .accounts
        .get(request.account.name())
        .ok_or_else(|| errors::NOT_ENABLED_FOR_ACCOUNT.error())?;
    let share = served.share();
    let infos = stream_list::gather(context, &request.account, "").await;
    let mut all = Tier { limits: NO_LIMITS, ..Tier::default() };
    let mut tiers: BTreeMap<String, Tier> = BTreeMap::new();
    if share.is_tiered() {
        let limits = share.0.iter();
        tiers.extend(
            limits.map(|(tier, limits)| (tier.clone(), Tier { limits: limits.clone(), ..Tier::default() })),
        );
    } else if let Some((_, limits)) = share.select(1) {
        all.limits = limits.clone();
    }
    for stream in &infos.found {
        add(&mut all, stream);
        if share.is_tiered() {
            let unlimited = || Tier { limits: NO_LIMITS, ..Tier::default() };
            let tier = tiers.entry(tier_name(stream.config.num_replicas)).or_insert_with(unlimited);
            add(tier, stream);
        }
    }
    let info = AccountInfo {
        memory: all.memory,
        storage: all.storage,
        reserved_memory: all.reserved_memory,
        reserved_storage: all.reserved_storage,
        streams: infos.assigned as u64,
        consumers: all.consumers,
        limits: all.limits,
        domain: context.domain.as_deref().unwrap_or_default().to_owned(),
        api: ApiStats {
            level: weir_jsapi::API_LEVEL,
            total: served.api.total.load(Ordering::Relaxed),
            errors: served.api.errors.load(Ordering::Relaxed),
        },
        tiers,
    };
    Ok(Some(response::account_info(&info)))
}

/// What is stored counts with every replica, what is reserved once.
fn add(tier: &mut Tier, stream: &StreamInfo) {
    let replicas = u64::try_from(stream.config.num_replicas).unwrap_or(1).max(1);
    let reserved = u64::try_from(stream.config.max_bytes).unwrap_or(0);
    tier.streams += 1;
    tier.consumers += stream.state.consumer_count;
    let (used, set_aside) = match stream.config.storage {
        StorageType::File => (&mut tier.storage, &mut tier.reserved_storage),
        StorageType::Memory => (&mut tier.memory, &mut tier.reserved_memory),
    };
    *used += stream.state.bytes * replicas;
    *set_aside += reserved;
}
