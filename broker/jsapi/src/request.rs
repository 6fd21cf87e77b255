//! Bodies of API requests.

use serde::{Deserialize, Serialize};

use crate::config::StreamConfig;
use crate::consumer::ConsumerConfig;
use crate::json::{self, Value};
use crate::stream::StreamState;
use crate::time::Time;

/// STREAM.CREATE and STREAM.UPDATE: the configuration with one more field beside its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamConfigRequest {
    pub config: StreamConfig,
    /// Refuse values that would otherwise be corrected.
    pub pedantic: bool,
}

impl StreamConfigRequest {
    /// Reads a body strictly; the error is the text that goes into error 10025.
    pub fn decode(body: &[u8]) -> Result<Self, String> {
        Self::read(json::parse(body)?, json::decode_value)
    }

    /// Reads a body; unknown fields are ignored.
    pub fn decode_lenient(body: &[u8]) -> Result<Self, String> {
        Self::read(json::parse_lenient(body)?, json::decode_value_lenient)
    }

    fn read(
        mut value: Value,
        decode: fn(Value, &'static str) -> Result<StreamConfig, String>,
    ) -> Result<Self, String> {
        const NAME: &str = "StreamConfigRequest";
        let mut pedantic = false;
        if let Value::Object(fields) = &mut value {
            let mut refused = None;
            fields.retain(|(key, value)| {
                if !key.eq_ignore_ascii_case("pedantic") {
                    return true;
                }
                match value {
                    Value::Bool(flag) => pedantic = *flag,
                    Value::Null => {}
                    other => {
                        refused.get_or_insert_with(|| {
                            format!(
                                "json: cannot unmarshal {} into Go struct field {NAME}.pedantic of type bool",
                                other.kind()
                            )
                        });
                    }
                }
                false
            });
            if let Some(error) = refused {
                return Err(error);
            }
        }
        Ok(Self { config: decode(value, NAME)?, pedantic })
    }
}

/// STREAM.INFO.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename = "JSApiStreamInfoRequest")]
pub struct StreamInfoRequest {
    pub offset: i64,
    pub deleted_details: bool,
    pub subjects_filter: String,
}

/// STREAM.SNAPSHOT.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename = "JSApiStreamSnapshotRequest")]
pub struct StreamSnapshotRequest {
    /// Where the chunks go.
    pub deliver_subject: String,
    pub no_consumers: bool,
    /// Bytes of a chunk; 0 is the server's choice.
    pub chunk_size: i64,
    /// Bytes on their way without acknowledgement; 0 is the server's choice.
    pub window_size: i64,
    /// Checksums are looked at first; here they always are, as messages are read.
    pub jsck: bool,
}

/// STREAM.RESTORE.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename = "JSApiStreamRestoreRequest")]
pub struct StreamRestoreRequest {
    pub config: StreamConfig,
    /// What the backup is said to hold; its own word counts.
    pub state: StreamState,
}

/// STREAM.NAMES and STREAM.LIST.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename = "JSApiStreamNamesRequest")]
pub struct StreamNamesRequest {
    pub offset: i64,
    pub subject: String,
}

/// STREAM.PURGE.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename = "JSApiStreamPurgeRequest")]
pub struct StreamPurgeRequest {
    /// Purge messages below this sequence (exclusive). Not with `keep`.
    pub seq: u64,
    /// Keep this many of the newest messages.
    pub keep: u64,
    /// Only these subjects.
    pub filter: String,
}

/// STREAM.MSG.GET and DIRECT.GET.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename = "JSApiMsgGetRequest")]
pub struct MsgGetRequest {
    #[serde(skip_serializing_if = "json::is_zero_u64")]
    pub seq: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub last_by_subj: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub next_by_subj: String,
    #[serde(skip_serializing_if = "json::is_zero_i64")]
    pub batch: i64,
    #[serde(skip_serializing_if = "json::is_zero_i64")]
    pub max_bytes: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub multi_last: Vec<String>,
    #[serde(skip_serializing_if = "json::is_zero_u64")]
    pub up_to_seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up_to_time: Option<Time>,
    #[serde(skip_serializing_if = "json::is_false")]
    pub no_hdr: bool,
}

/// STREAM.MSG.DELETE.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename = "JSApiMsgDeleteRequest")]
pub struct MsgDeleteRequest {
    pub seq: u64,
    /// Do not overwrite the deleted bytes.
    pub no_erase: bool,
}

/// CONSUMER.CREATE's `action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ConsumerAction {
    #[default]
    #[serde(rename = "")]
    CreateOrUpdate,
    #[serde(rename = "create")]
    Create,
    #[serde(rename = "update")]
    Update,
}

/// CONSUMER.CREATE and CONSUMER.DURABLE.CREATE.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename = "CreateConsumerRequest")]
pub struct CreateConsumerRequest {
    pub stream_name: String,
    pub config: ConsumerConfig,
    pub action: ConsumerAction,
    pub pedantic: bool,
}

/// CONSUMER.NAMES and CONSUMER.LIST.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename = "JSApiConsumersRequest")]
pub struct ConsumersRequest {
    pub offset: i64,
}

/// CONSUMER.MSG.NEXT.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename = "JSApiConsumerGetNextRequest")]
pub struct NextRequest {
    /// Nanoseconds.
    pub expires: i64,
    pub batch: i64,
    pub max_bytes: i64,
    pub no_wait: bool,
    /// Nanoseconds.
    pub idle_heartbeat: i64,
    pub group: String,
    pub min_pending: i64,
    pub min_ack_pending: i64,
    pub id: String,
    pub priority: i64,
}

/// CONSUMER.PAUSE.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename = "JSApiConsumerPauseRequest")]
pub struct ConsumerPauseRequest {
    pub pause_until: Option<Time>,
}

/// CONSUMER.UNPIN.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename = "JSApiConsumerUnpinRequest")]
pub struct ConsumerUnpinRequest {
    pub group: String,
}

/// CONSUMER.RESET.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename = "JSApiConsumerResetRequest")]
pub struct ConsumerResetRequest {
    /// 0 goes back to what is not acknowledged.
    pub seq: u64,
}

/// The `*.LEADER.STEPDOWN` requests.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename = "JSApiLeaderStepdownRequest")]
pub struct LeaderStepDownRequest {
    pub placement: Option<crate::config::Placement>,
}

/// STREAM.PEER.REMOVE.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename = "JSApiStreamRemovePeerRequest")]
pub struct PeerRemoveRequest {
    pub peer: String,
}

/// STREAM.PEER.EVACUATE.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename = "JSApiStreamEvacuatePeerRequest")]
pub struct PeerEvacuateRequest {
    pub peer: String,
}

/// CONSUMER.PEER.REMOVE.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename = "JSApiConsumerRemovePeerRequest")]
pub struct ConsumerPeerRemoveRequest {
    pub peer: String,
}

/// CONSUMER.PEER.EVACUATE.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename = "JSApiConsumerEvacuatePeerRequest")]
pub struct ConsumerPeerEvacuateRequest {
    pub peer: String,
}

/// META.RESCUE.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename = "JSApiMetaRescueRequest")]
pub struct MetaRescueRequest {
    pub quorum_needed: i64,
}

/// SERVER.EVACUATE.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename = "JSApiMetaServerEvacuateRequest")]
pub struct ServerEvacuateRequest {
    /// The server's name.
    pub peer: String,
    /// The server's id, which goes before the name.
    pub peer_id: String,
}

/// SERVER.REMOVE.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename = "JSApiMetaServerRemoveRequest")]
pub struct ServerRemoveRequest {
    /// The server's name.
    pub peer: String,
    /// The server's id, which goes before the name.
    pub peer_id: String,
}

/// ACCOUNT.STREAM.MOVE.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename = "JSApiMetaServerStreamMoveRequest")]
pub struct StreamMoveRequest {
    /// The server that the stream is to leave.
    pub server: String,
    pub cluster: String,
    pub domain: String,
    pub tags: Vec<String>,
}

/// Reads a request body strictly, as nats-server does; the error is the text that goes into error 10025.
pub fn decode<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    json::decode(body)
}
