//! The claims of auth callout: what a server asks, what a service answers. Not the asking.

use super::claims::Claims;
use super::validate::Issues;
use crate::nkey::{Kind, is_public};
use serde::{Deserialize, Serialize};

/// The server that asks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerIdentity {
    /// Its name.
    pub name: String,
    /// The host it listens on.
    pub host: String,
    /// Its public key.
    pub id: String,
    /// Its version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Its cluster's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// Its configured tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Its public curve key, when the answer may be encrypted.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub xkey: String,
}

/// The client that wants in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientInformation {
    /// Its address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Its connection's id.
    #[serde(skip_serializing_if = "is_zero_unsigned")]
    pub id: u64,
    /// What it calls itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Its connection's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The tags of its JWT.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The name of its JWT.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name_tag: String,
    /// `Client` or `Leafnode`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// `nats`, `mqtt` or `websocket`.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    /// MQTT's client id.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mqtt_id: String,
    /// What it signed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub nonce: String,
}

/// What the client said in CONNECT.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConnectInformation {
    /// Its JWT.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub jwt: String,
    /// Its public nkey.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub nkey: String,
    /// Its signature of the nonce.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sig: String,
    /// Its token.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth_token: String,
    /// Its user name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Its password.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pass: String,
    /// Its connection's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its library's language.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub lang: String,
    /// Its library's version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Its protocol level.
    pub protocol: i64,
}

/// The client's TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientTls {
    /// `1.2` or `1.3`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The cipher suite's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cipher: String,
    /// Its certificates as PEM, when they were not verified.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certs: Vec<String>,
    /// Its certificates as PEM, when they were verified.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub verified_chains: Vec<Vec<String>>,
}

/// What a server asks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthorizationRequest {
    /// Who asks.
    #[serde(rename = "server_id")]
    pub server: ServerIdentity,
    /// The public key that the answer's user must have.
    pub user_nkey: String,
    /// Who wants in.
    pub client_info: ClientInformation,
    /// What it said.
    pub connect_opts: ConnectInformation,
    /// Its TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_tls: Option<ClientTls>,
    /// Always `authorization_request`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Always 2.
    pub version: i64,
}

/// What a service answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthorizationResponse {
    /// The JWT of the user the client becomes.
    pub jwt: String,
    /// Why it does not get in.
    pub error: String,
    /// The account, when one of its signing keys signed.
    pub issuer_account: String,
    /// Always `authorization_response`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Always 2.
    pub version: i64,
}

impl Claims<AuthorizationResponse> {
    /// What is wrong with the claims at `now`, in seconds since 1970.
    pub fn issues(&self, now: i64) -> Issues {
        let mut issues = Issues::default();
        if !is_public(Kind::User, &self.subject) {
            issues.error("Subject must be a user public key".to_owned());
        }
        if !is_public(Kind::Server, &self.audience) {
            issues.error("Audience must be a server public key".to_owned());
        }
        match (self.nats.error.is_empty(), self.nats.jwt.is_empty()) {
            (true, true) => issues.error("Error or Jwt is required".to_owned()),
            (false, false) => issues.error("Only Error or Jwt can be set".to_owned()),
            _ => {}
        }
        let account = &self.nats.issuer_account;
        if !account.is_empty() && !is_public(Kind::Account, account) {
            issues.error("issuer_account is not an account public key".to_owned());
        }
        self.check_times(now, &mut issues);
        issues
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes references")]
fn is_zero_unsigned(value: &u64) -> bool {
    *value == 0
}
