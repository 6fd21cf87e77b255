//! The claims of a user. Not the decision to let it in.

use super::claims::Claims;
use super::limits::UserPermissionLimits;
use super::validate::Issues;
use crate::nkey::{Kind, is_public};
use serde::{Deserialize, Serialize};

/// What a user's JWT says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct User {
    /// Permissions and limits; all empty when a scope decides.
    #[serde(flatten)]
    pub limits: UserPermissionLimits,
    /// The account, when one of its signing keys signed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub issuer_account: String,
    /// For people and templates, `key:value` or words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Always `user`.
    #[serde(rename = "type")]
    pub kind: String,
    /// 1 or 2.
    pub version: i64,
}

impl Claims<User> {
    /// What is wrong with the claims at `now`, in seconds since 1970.
    pub fn issues(&self, now: i64) -> Issues {
        let mut issues = Issues::default();
        self.check_times(now, &mut issues);
        self.nats.limits.check(&mut issues);
        if !self.nats.issuer_account.is_empty() && !is_public(Kind::Account, &self.nats.issuer_account) {
            issues.error("account_id is not an account public key".to_owned());
        }
        issues
    }

    /// The account the user is in.
    pub fn account(&self) -> &str {
        if self.nats.issuer_account.is_empty() { &self.issuer } else { &self.nats.issuer_account }
    }

    /// Whether a scope has to say everything.
    pub fn has_empty_permissions(&self) -> bool {
        self.nats.limits == UserPermissionLimits::default()
    }
}
