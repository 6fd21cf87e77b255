//! The claims of an operator. Not the trust in it.

use super::claims::Claims;
use super::validate::Issues;
use crate::nkey::{Kind, is_public};
use serde::{Deserialize, Serialize};

/// What an operator's JWT says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Operator {
    /// Other keys that sign for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signing_keys: Vec<String>,
    /// Where accounts can be fetched.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub account_server_url: String,
    /// Where tools find the servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub operator_service_urls: Vec<String>,
    /// The system account's public key.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub system_account: String,
    /// The oldest server allowed, `major.minor.update`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub assert_server_version: String,
    /// Whether its own key may sign nothing but itself.
    pub strict_signing_key_usage: bool,
    /// For people.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Always `operator`.
    #[serde(rename = "type")]
    pub kind: String,
    /// 1 or 2.
    pub version: i64,
}

impl Operator {
    /// The asserted version's parts; all 0 without one.
    ///
    /// # Errors
    /// What is wrong with its form.
    pub fn asserted_version(&self) -> Result<[u64; 3], String> {
        let text = &self.assert_server_version;
        if text.is_empty() {
            return Ok([0; 3]);
        }
        let parts: Vec<&str> = text.split('.').collect();
        let [major, minor, update] = parts.as_slice() else {
            return Err("asserted server version must be of the form <major>.<minor>.<update>".to_owned());
        };
        let number = |part: &str| {
            let parsed = part.parse::<i64>();
            parsed.map_err(|_| format!("asserted server version cant parse {part} to int"))
        };
        let numbers = [number(major)?, number(minor)?, number(update)?];
        if numbers.iter().any(|number| *number < 0) {
            return Err(format!("asserted server version can'b contain negative values: {text}"));
        }
        Ok(numbers.map(|number| u64::try_from(number).unwrap_or(0)))
    }
}

impl Claims<Operator> {
    /// The keys that may sign accounts.
    pub fn trusted_keys(&self) -> Vec<String> {
        let own = (!self.nats.strict_signing_key_usage).then(|| self.subject.clone());
        own.into_iter().chain(self.nats.signing_keys.iter().cloned()).collect()
    }

    /// What is wrong with the claims at `now`, in seconds since 1970.
    pub fn issues(&self, now: i64) -> Issues {
        let mut issues = Issues::default();
        self.check_times(now, &mut issues);
        for key in &self.nats.signing_keys {
            if !is_public(Kind::Operator, key) {
                issues.error(format!("{key} is not an operator public key"));
            }
        }
        let system = &self.nats.system_account;
        if !system.is_empty() && !is_public(Kind::Account, system) {
            issues.error(format!("{system} is not an account public key"));
        }
        if let Err(reason) = self.nats.asserted_version() {
            issues.error(format!("assert server version error: {reason}"));
        }
        issues
    }
}
