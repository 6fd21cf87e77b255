//! API responses. Every one prints its `type` first, then an `error` if there is one, then its own fields.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::account::AccountInfo;
use crate::config::StreamConfig;
use crate::consumer::ConsumerInfo;
use crate::error::ApiError;
use crate::json::is_false;
use crate::stream::{StreamInfo, StreamState};
use crate::time::Time;

/// Response types: the last part of `io.nats.jetstream.api.v1.<kind>`.
pub mod kind {
    pub const ACCOUNT_INFO: &str = "account_info_response";
    pub const STREAM_CREATE: &str = "stream_create_response";
    pub const STREAM_UPDATE: &str = "stream_update_response";
    pub const STREAM_INFO: &str = "stream_info_response";
    pub const STREAM_DELETE: &str = "stream_delete_response";
    pub const STREAM_NAMES: &str = "stream_names_response";
    pub const STREAM_LIST: &str = "stream_list_response";
    pub const STREAM_PURGE: &str = "stream_purge_response";
    pub const STREAM_MSG_GET: &str = "stream_msg_get_response";
    pub const STREAM_MSG_DELETE: &str = "stream_msg_delete_response";
    pub const STREAM_LEADER_STEPDOWN: &str = "stream_leader_stepdown_response";
    pub const STREAM_REMOVE_PEER: &str = "stream_remove_peer_response";
    pub const STREAM_EVACUATE_PEER: &str = "stream_evacuate_peer_response";
    pub const STREAM_CANCEL_MOVE: &str = "stream_cancel_move_response";
    pub const STREAM_SNAPSHOT: &str = "stream_snapshot_response";
    pub const STREAM_RESTORE: &str = "stream_restore_response";
    pub const CONSUMER_CREATE: &str = "consumer_create_response";
    pub const CONSUMER_INFO: &str = "consumer_info_response";
    pub const CONSUMER_DELETE: &str = "consumer_delete_response";
    pub const CONSUMER_NAMES: &str = "consumer_names_response";
    pub const CONSUMER_LIST: &str = "consumer_list_response";
    pub const CONSUMER_PAUSE: &str = "consumer_pause_response";
    pub const CONSUMER_UNPIN: &str = "consumer_unpin_response";
    pub const CONSUMER_RESET: &str = "consumer_reset_response";
    pub const CONSUMER_LEADER_STEPDOWN: &str = "consumer_leader_stepdown_response";
    pub const CONSUMER_REMOVE_PEER: &str = "consumer_remove_peer_response";
    pub const CONSUMER_EVACUATE_PEER: &str = "consumer_evacuate_peer_response";
    pub const META_LEADER_STEPDOWN: &str = "meta_leader_stepdown_response";
    pub const META_SERVER_REMOVE: &str = "meta_server_remove_response";
    pub const META_SERVER_EVACUATE: &str = "meta_server_evacuate_response";
    pub const META_RESCUE: &str = "meta_rescue_response";
    pub const ACCOUNT_PURGE: &str = "account_purge_response";
    pub const SYSTEM_RESPONSE: &str = "system_response";
}

/// The envelope of every response. `body` is flattened after `type` and `error`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Response<T> {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ApiError>,
    #[serde(flatten)]
    pub body: T,
}

impl<T: Serialize> Response<T> {
    /// A response of a [`kind`]; also for errors of kinds that print their (empty) fields.
    pub fn new(kind: &str, error: Option<ApiError>, body: T) -> Self {
        Self { kind: format!("io.nats.jetstream.api.v1.{kind}"), error, body }
    }

    /// The JSON to send.
    pub fn to_json(&self) -> Vec<u8> {
        crate::json::encode(self)
    }
}

/// A successful response as JSON.
pub fn success<T: Serialize>(kind: &str, body: T) -> Vec<u8> {
    Response::new(kind, None, body).to_json()
}

/// A refusal as JSON, printing the empty fields that nats-server prints for this kind (`total`, `purged`, ...).
pub fn failure(kind: &str, error: ApiError) -> Vec<u8> {
    let error = Some(error);
    match kind {
        kind::STREAM_INFO => Response::new(kind, error, Paging::default()).to_json(),
        kind::STREAM_NAMES => Response::new(kind, error, StreamNames::default()).to_json(),
        kind::STREAM_LIST => Response::new(kind, error, StreamList::default()).to_json(),
        kind::CONSUMER_NAMES => Response::new(kind, error, ConsumerNames::default()).to_json(),
        kind::CONSUMER_LIST => Response::new(kind, error, ConsumerList::default()).to_json(),
        kind::STREAM_PURGE => Response::new(kind, error, Purged::default()).to_json(),
        kind::CONSUMER_PAUSE => Response::new(kind, error, ConsumerPaused::default()).to_json(),
        kind::STREAM_RESTORE => Response::new(kind, error, StreamRestore::default()).to_json(),
        kind::CONSUMER_RESET => Response::new(kind, error, ResetSequence::default()).to_json(),
        _ => Response::new(kind, error, Empty {}).to_json(),
    }
}

/// STREAM.SNAPSHOT: what follows in chunks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamSnapshot {
    pub config: StreamConfig,
    pub state: StreamState,
}

/// STREAM.RESTORE: where the chunks are to be sent; empty in a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct StreamRestore {
    pub deliver_subject: String,
}

/// No fields of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Empty {}

/// `success: true`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Success {
    #[serde(skip_serializing_if = "is_false")]
    pub success: bool,
}

/// ACCOUNT.PURGE.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AccountPurged {
    #[serde(skip_serializing_if = "is_false")]
    pub initiated: bool,
}

/// STREAM.PURGE.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Purged {
    #[serde(skip_serializing_if = "is_false")]
    pub success: bool,
    pub purged: u64,
}

/// What an unsuccessful CONSUMER.RESET prints.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ResetSequence {
    pub reset_seq: u64,
}

/// CONSUMER.RESET.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsumerReset {
    #[serde(flatten)]
    pub info: ConsumerInfo,
    /// Where the consumer goes on.
    pub reset_seq: u64,
}

/// The page of a paged response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Paging {
    pub total: u64,
    pub offset: u64,
    pub limit: u64,
}

/// STREAM.CREATE (and STREAM.UPDATE, with `did_create` unset).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamCreated {
    #[serde(flatten)]
    pub info: StreamInfo,
    #[serde(skip_serializing_if = "is_false")]
    pub did_create: bool,
}

/// STREAM.INFO: the page describes `state.subjects`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamInfoPage {
    #[serde(flatten)]
    pub page: Paging,
    #[serde(flatten)]
    pub info: StreamInfo,
}

/// STREAM.NAMES; no names print as `null`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamNames {
    #[serde(flatten)]
    pub page: Paging,
    #[serde(serialize_with = "crate::json::null_if_empty")]
    pub streams: Vec<String>,
}

/// STREAM.LIST.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamList {
    #[serde(flatten)]
    pub page: Paging,
    pub streams: Vec<StreamInfo>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Those that need a newer server, and why.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub offline: BTreeMap<String, String>,
}

/// CONSUMER.NAMES.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsumerNames {
    #[serde(flatten)]
    pub page: Paging,
    pub consumers: Vec<String>,
}

/// CONSUMER.LIST.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsumerList {
    #[serde(flatten)]
    pub page: Paging,
    pub consumers: Vec<ConsumerInfo>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Those that need a newer server, and why.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub offline: BTreeMap<String, String>,
}

/// The message of STREAM.MSG.GET; headers and data are base64.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredMessageJson {
    pub subject: String,
    pub seq: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hdrs: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub data: String,
    pub time: Time,
}

/// STREAM.MSG.GET.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MessageFound {
    pub message: StoredMessageJson,
}

/// CONSUMER.PAUSE.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsumerPaused {
    pub paused: bool,
    pub pause_until: Time,
    #[serde(skip_serializing_if = "crate::json::is_zero_i64")]
    pub pause_remaining: i64,
}

/// `$JS.API.INFO`.
pub fn account_info(info: &AccountInfo) -> Vec<u8> {
    success(kind::ACCOUNT_INFO, info)
}
