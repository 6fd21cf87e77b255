//! The JSON of CONNECT, read as leniently as Go reads it. Not what its fields lead to.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a client says in CONNECT.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ConnectOptions {
    /// Whether it wants to receive what it publishes itself.
    pub echo: bool,
    /// Whether each operation is to be answered with `+OK`.
    pub verbose: bool,
    /// Whether subjects of publishes are to be checked.
    pub pedantic: bool,
    /// Whether it insists on TLS.
    pub tls_required: bool,
    /// Its public nkey.
    pub nkey: String,
    /// Its JWT.
    pub jwt: String,
    /// The signature of the nonce.
    pub sig: String,
    /// A token.
    pub auth_token: String,
    /// The user's name.
    pub user: String,
    /// The password.
    pub pass: String,
    /// The connection's name, for people.
    pub name: String,
    /// The client library's language.
    pub lang: String,
    /// The client library's version.
    pub version: String,
    /// 0, or 1 when INFO may come at any time.
    pub protocol: i64,
    /// Account to use (old servers' dynamic accounts; refused).
    pub account: String,
    /// Whether that account must be new.
    pub new_account: bool,
    /// Whether it understands HMSG.
    pub headers: bool,
    /// Whether it wants a 503 when nobody listens.
    pub no_responders: bool,
    /// The signature of the nonce by the proxy in between.
    pub proxy_sig: String,
}

impl Default for ConnectOptions {
    /// What nats-server assumes when a field is absent.
    fn default() -> Self {
        Self {
            echo: true,
            verbose: true,
            pedantic: true,
            tls_required: false,
            nkey: String::new(),
            jwt: String::new(),
            sig: String::new(),
            auth_token: String::new(),
            user: String::new(),
            pass: String::new(),
            name: String::new(),
            lang: String::new(),
            version: String::new(),
            protocol: 0,
            account: String::new(),
            new_account: false,
            headers: false,
            no_responders: false,
            proxy_sig: String::new(),
        }
    }
}

impl ConnectOptions {
    /// Reads the JSON of a client's CONNECT. Unknown fields are ignored, `null` counts as absent, keys match in any case.
    pub fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_value(lenient(json)?)
    }
}

/// What a server says in CONNECT on a route.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteConnect {
    /// Always true between servers.
    pub echo: bool,
    /// Always false between servers.
    pub verbose: bool,
    /// Always false between servers.
    pub pedantic: bool,
    /// The cluster's user.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// The cluster's password.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pass: String,
    /// Whether it insists on TLS.
    pub tls_required: bool,
    /// Whether it understands headers.
    pub headers: bool,
    /// The server's id.
    pub name: String,
    /// The cluster's name.
    pub cluster: String,
    /// Whether the cluster's name was made up.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cluster_dynamic: bool,
    /// Whether it understands origins of leaf nodes' interest and messages.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub lnoc: bool,
    /// Whether it understands them at the end of such interest.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub lnocu: bool,
    /// Whether it understands leaf nodes' interest without an origin; implies the two above.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ln: bool,
    /// Only set by gateways, which have no business here.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// Only set by clients, which have no business here.
    #[serde(skip_serializing)]
    pub lang: String,
    /// Only set by clients.
    #[serde(skip_serializing)]
    pub account: String,
    /// Only set by clients.
    #[serde(skip_serializing)]
    pub new_account: bool,
}

impl RouteConnect {
    /// Reads the JSON of a server's CONNECT.
    pub fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_value(lenient(json)?)
    }
}

/// As Go's decoder sees it: the last of equal keys wins, `null` changes nothing, keys match in any case.
fn lenient(json: &[u8]) -> Result<Value, serde_json::Error> {
    let fields: Option<serde_json::Map<String, Value>> = serde_json::from_slice(json)?;
    let fields = fields.unwrap_or_default().into_iter().filter(|(_, value)| !value.is_null());
    Ok(Value::Object(fields.map(|(key, value)| (key.to_ascii_lowercase(), value)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_fields_have_the_defaults_of_nats_server() {
        let options = ConnectOptions::from_json(b"{}").expect("valid");
        assert!(options.echo && options.verbose && options.pedantic && !options.headers);
    }

    #[test]
    fn json_is_read_as_go_reads_it() {
        let json = br#"{"verbose":true,"verbose":false,"user":null,"unknown":[1],"Protocol":1}"#;
        let options = ConnectOptions::from_json(json).expect("valid");
        assert!(!options.verbose);
        assert_eq!((options.protocol, options.user.as_str()), (1, ""));
        assert!(ConnectOptions::from_json(b"{bad").is_err());
        assert!(ConnectOptions::from_json(br#"{"verbose":"yes"}"#).is_err());
        assert!(ConnectOptions::from_json(b"").is_err());
        assert!(ConnectOptions::from_json(b"[]").is_err());
        assert!(ConnectOptions::from_json(b"null").is_ok());
    }
}
