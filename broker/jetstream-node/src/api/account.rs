//! `$JS.API.INFO`: what an account uses and may use.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use weir_jsapi::{AccountInfo, AccountLimits, ApiError, ApiStats, StorageType, response};

use super::{Answer, Request, stream_list};
use crate::context::Context;

pub(crate) async fn info(context: &Arc<Context>, request: &Request) -> Result<Answer, ApiError> {
    let infos = stream_list::gather(context, &request.account, "").await;
    let mut info = AccountInfo {
        limits: AccountLimits::default(),
        domain: context.domain.as_deref().unwrap_or_default().to_owned(),
        api: ApiStats {
            level: weir_jsapi::API_LEVEL,
            total: context.api.total.load(Ordering::Relaxed),
            errors: context.api.errors.load(Ordering::Relaxed),
        },
        streams: infos.assigned as u64,
        ..AccountInfo::default()
    };
    for stream in &infos.found {
        let replicas = u64::try_from(stream.config.num_replicas).unwrap_or(1);
        let reserved = u64::try_from(stream.config.max_bytes).unwrap_or(0) * replicas;
        info.consumers += stream.state.consumer_count;
        match stream.config.storage {
            StorageType::File => {
                info.storage += stream.state.bytes * replicas;
                info.reserved_storage += reserved;
            }
            StorageType::Memory => {
                info.memory += stream.state.bytes * replicas;
                info.reserved_memory += reserved;
            }
        }
    }
    Ok(Some(response::account_info(&info)))
}
