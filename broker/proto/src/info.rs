//! The JSON of INFO, in nats-server's order of fields. Not when it is sent.

use serde::{Deserialize, Serialize};

/// What a server says about itself to clients and to other servers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Info {
    /// 56 characters that begin with `N`.
    pub server_id: String,
    /// The configured name, else the id.
    pub server_name: String,
    /// The version of nats-server whose behaviour clients may expect.
    pub version: String,
    /// 1: INFO may come at any time.
    pub proto: i64,
    /// The commit of the build.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub git_commit: String,
    /// The language's version; clients read it as a string and nothing more.
    pub go: String,
    /// The host it listens on.
    pub host: String,
    /// The port it listens on.
    pub port: u16,
    /// Whether headers are served.
    pub headers: bool,
    /// Whether credentials are needed.
    #[serde(skip_serializing_if = "is_false")]
    pub auth_required: bool,
    /// Whether TLS is needed.
    #[serde(skip_serializing_if = "is_false")]
    pub tls_required: bool,
    /// Whether clients' certificates are verified.
    #[serde(skip_serializing_if = "is_false")]
    pub tls_verify: bool,
    /// Whether TLS may be used.
    #[serde(skip_serializing_if = "is_false")]
    pub tls_available: bool,
    /// The largest message in bytes.
    pub max_payload: i64,
    /// Whether JetStream is served.
    #[serde(skip_serializing_if = "is_false")]
    pub jetstream: bool,
    /// The address other servers shall use.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ip: String,
    /// The connection's id.
    #[serde(skip_serializing_if = "is_zero")]
    pub client_id: u64,
    /// The client's address as the server sees it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client_ip: String,
    /// What an nkey has to sign.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub nonce: String,
    /// The cluster's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// Whether the cluster's name was made up.
    #[serde(skip_serializing_if = "is_false")]
    pub cluster_dynamic: bool,
    /// The JetStream domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// `host:port` of every server of the cluster, for clients.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub connect_urls: Vec<String>,
    /// The same for WebSocket.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ws_connect_urls: Vec<String>,
    /// Whether it is about to stop.
    #[serde(skip_serializing_if = "is_false")]
    pub ldm: bool,
    /// The compression it wants on routes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub compression: String,
    /// Whether this INFO answers CONNECT.
    #[serde(skip_serializing_if = "is_false")]
    pub connect_info: bool,
    /// The account the client is in.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remote_account: String,
    /// Whether that is the system account.
    #[serde(skip_serializing_if = "is_false")]
    pub acc_is_sys: bool,
    /// The level of the JetStream API.
    #[serde(skip_serializing_if = "is_zero_signed")]
    pub api_lvl: i64,
    /// Routes: what is imported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub import: Option<ImportExport>,
    /// Routes: what is exported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export: Option<ImportExport>,
    /// Routes: whether origins of leaf nodes' interest and messages are understood.
    #[serde(skip_serializing_if = "is_false")]
    pub lnoc: bool,
    /// Routes: the same for the end of such interest.
    #[serde(skip_serializing_if = "is_false")]
    pub lnocu: bool,
    /// Routes: whether leaf nodes' interest without an origin is understood; implies the two above.
    #[serde(skip_serializing_if = "is_false")]
    pub ln: bool,
    /// Routes: whether INFO may be sent before CONNECT was read.
    #[serde(skip_serializing_if = "is_false")]
    pub info_on_connect: bool,
    /// Routes: how many connections make up a route.
    #[serde(skip_serializing_if = "is_zero_signed")]
    pub route_pool_size: i64,
    /// Routes: which of them this is.
    #[serde(skip_serializing_if = "is_zero_signed")]
    pub route_pool_idx: i64,
    /// Routes: the account the connection is dedicated to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub route_account: String,
    /// Routes: names the request to give an account a connection of its own, and the answer to it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub route_acc_add_reqid: String,
    /// Routes: how the receiver of gossip shall treat it: 0 as usual, 1 tell nobody, 2 tell all.
    #[serde(skip_serializing_if = "is_zero_signed")]
    pub gossip_mode: i64,
    /// The public curve key for encrypted auth callouts.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub xkey: String,
    /// Routes: Weir's own; what its servers tell each other. nats-server ignores it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weir: Option<serde_json::Value>,
}

/// The permissions of a route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImportExport {
    /// Allowed subjects.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Denied subjects.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

impl Info {
    /// Reads the JSON of INFO.
    pub fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// `INFO {...} \r\n`, with the blank that nats-server puts before the line's end.
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = b"INFO ".to_vec();
        // Serialising plain data into memory cannot fail.
        let _ = serde_json::to_writer(&mut line, self);
        line.extend_from_slice(b" \r\n");
        line
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes references")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes references")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes references")]
fn is_zero_signed(value: &i64) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_set_is_told() {
        let info = Info { server_id: "N1".into(), client_id: 5, max_payload: 1, ..Info::default() };
        assert_eq!(
            String::from_utf8_lossy(&info.to_line()),
            "INFO {\"server_id\":\"N1\",\"server_name\":\"\",\"version\":\"\",\"proto\":0,\"go\":\"\",\"host\":\"\",\
             \"port\":0,\"headers\":false,\"max_payload\":1,\"client_id\":5} \r\n"
        );
    }

    #[test]
    fn fields_of_other_servers_are_ignored() {
        let info = Info::from_json(br#"{"server_id":"N1","lnoc":true,"route_pool_size":3,"weir":{"a":1}}"#)
            .expect("valid");
        assert_eq!((info.server_id.as_str(), info.route_pool_size), ("N1", 3));
        assert_eq!(info.weir, Some(serde_json::json!({"a": 1})));
    }
}
