//! A hub's identity and limits. Not where they are configured.

use arc_swap::ArcSwapOption;
use std::sync::Arc;
use std::time::Duration;
use weir_proto::limits;

/// Who a server is; does not change while it runs.
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// 56 characters that begin with `N` (see `new_server_id`).
    pub server_id: String,
    /// The configured name, else the id.
    pub server_name: String,
    /// The version of nats-server whose behaviour clients may expect.
    pub version: String,
    /// The commit of the build.
    pub git_commit: String,
    /// What INFO says in `go`.
    pub language: String,
    /// The host clients connect to, as INFO shows it.
    pub host: String,
    /// The port, until `serve` knows the real one.
    pub port: u16,
    /// Whether JetStream is served.
    pub jetstream: bool,
    /// The JetStream domain.
    pub domain: Option<String>,
    /// The cluster's name at the start; `cluster_name` is the one it has now.
    pub cluster: Option<String>,
    /// The name that another server brought.
    pub adopted_cluster: Arc<ArcSwapOption<String>>,
    /// The level of the JetStream API.
    pub api_level: i64,
    /// The public curve key; empty leaves it out.
    pub xkey: String,
    /// The name of the account that events and requests of the system are in.
    pub system_account: String,
    /// The short hash of the server's name, by which other servers send it measurements; empty for none.
    pub node: String,
    /// Whether connections remember what subjects match.
    pub caches_interest: bool,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            server_id: String::new(),
            server_name: String::new(),
            version: "2.15.1".to_owned(),
            git_commit: String::new(),
            language: String::new(),
            host: "0.0.0.0".to_owned(),
            port: 4222,
            jetstream: false,
            domain: None,
            cluster: None,
            adopted_cluster: Arc::default(),
            api_level: 5,
            xkey: String::new(),
            system_account: crate::SYSTEM_ACCOUNT.to_owned(),
            node: String::new(),
            caches_interest: true,
        }
    }
}

impl HubOptions {
    /// The cluster's name now; `None` without a cluster.
    pub fn cluster_name(&self) -> Option<String> {
        match &*self.adopted_cluster.load() {
            Some(name) => Some(name.to_string()),
            None => self.cluster.clone(),
        }
    }
}

/// What a reload may change: limits, and where clients are told to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The largest message in bytes.
    pub max_payload: usize,
    /// The longest argument line in bytes.
    pub max_control_line: usize,
    /// How many bytes may wait for one connection.
    pub max_pending: usize,
    /// How many client connections there may be; 0 for any number.
    pub max_connections: usize,
    /// How many subscriptions one connection may have; 0 for any number.
    pub max_subscriptions: usize,
    /// How many tokens the subject of a subscription may have; 0 for any number.
    pub max_sub_tokens: usize,
    /// Whether messages may have headers.
    pub headers: bool,
    /// The host, and the port where it is another one, that INFO shows in place of the server's own.
    pub advertised: Option<(String, Option<u16>)>,
    /// How long a connection may be quiet before it is pinged.
    pub ping_interval: Duration,
    /// How many PINGs may be unanswered.
    pub ping_max: u32,
    /// How long writes may take.
    pub write_deadline: Duration,
    /// Whether a client whose writes take longer is cut even when some of them make progress.
    pub closes_slow_writers: bool,
    /// Whether publishers wait for subscribers that are nearly full; else such a subscriber misses the message.
    pub holds_publishers: bool,
    /// How many connections that are gone are remembered for monitoring.
    pub max_closed_clients: usize,
    /// How long CONNECT may take when credentials are needed.
    pub auth_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_payload: limits::DEFAULT_MAX_PAYLOAD_BYTES,
            max_control_line: limits::DEFAULT_MAX_CONTROL_LINE_BYTES,
            max_pending: limits::DEFAULT_MAX_PENDING_BYTES,
            max_connections: limits::DEFAULT_MAX_CONNECTIONS,
            max_subscriptions: 0,
            max_sub_tokens: 0,
            headers: true,
            advertised: None,
            ping_interval: Duration::from_secs(120),
            ping_max: 2,
            write_deadline: Duration::from_secs(10),
            closes_slow_writers: true,
            holds_publishers: true,
            max_closed_clients: 10_000,
            auth_timeout: Duration::from_secs(2),
        }
    }
}

/// A server id as nats-server makes them: an nkey's public form (`N…`, base32 with a checksum) of 32 random bytes.
pub fn new_server_id(random: [u8; 32]) -> String {
    const SERVER_PREFIX: u8 = 13 << 3;
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut raw = vec![SERVER_PREFIX];
    raw.extend_from_slice(&random);
    raw.extend_from_slice(&crc16(&raw).to_le_bytes());
    let mut text = String::with_capacity(56);
    let (mut bits, mut count) = (0u32, 0);
    for byte in raw {
        bits = (bits << 8) | u32::from(byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            text.push(char::from(ALPHABET[(bits >> count) as usize & 31]));
        }
    }
    text
}

/// CRC-16/XMODEM, as nkeys use it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_ids_look_like_nkeys() {
        let id = new_server_id([7; 32]);
        assert_eq!(id.len(), 56);
        assert!(
            id.starts_with('N') && id.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
        );
        assert_ne!(id, new_server_id([8; 32]));
        assert_eq!(crc16(b"123456789"), 0x31C3);
    }
}
