//! The fields all claims have. Not those of one kind.

use super::validate::Issues;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A JWT's content: the registered fields, and those of its kind under `nats`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Claims<T: Default> {
    /// Who it is meant for.
    #[serde(rename = "aud", skip_serializing_if = "String::is_empty")]
    pub audience: String,
    /// When it ends, in seconds since 1970; 0 for never.
    #[serde(rename = "exp", skip_serializing_if = "is_zero")]
    pub expires: i64,
    /// A hash of the registered fields.
    #[serde(rename = "jti", skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// When it was signed, in seconds since 1970.
    #[serde(rename = "iat", skip_serializing_if = "is_zero")]
    pub issued_at: i64,
    /// The public key that signed it.
    #[serde(rename = "iss", skip_serializing_if = "String::is_empty")]
    pub issuer: String,
    /// A name for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// When it begins, in seconds since 1970.
    #[serde(rename = "nbf", skip_serializing_if = "is_zero")]
    pub not_before: i64,
    /// The public key it speaks of.
    #[serde(rename = "sub", skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// What its kind has.
    pub nats: T,
}

impl<T: Default> Claims<T> {
    /// Notes when the time is not right; `now` in seconds since 1970.
    pub(super) fn check_times(&self, now: i64, issues: &mut Issues) {
        if self.expires > 0 && now > self.expires {
            issues.time("claim is expired");
        }
        if self.not_before > now {
            issues.time("claim is not yet valid");
        }
    }
}

/// Whether what was issued to `key` at `issued_at` was revoked, for it or for all (`*`).
pub fn is_revoked(revocations: &BTreeMap<String, i64>, key: &str, issued_at: i64) -> bool {
    let covers = |key: &str| revocations.get(key).is_some_and(|revoked| *revoked >= issued_at);
    covers("*") || covers(key)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes references")]
pub(super) fn is_zero(value: &i64) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revocations_cover_what_was_issued_before_them() {
        let revocations = BTreeMap::from([("U1".to_owned(), 10), ("U2".to_owned(), 5)]);
        assert!(is_revoked(&revocations, "U1", 10) && is_revoked(&revocations, "U1", 9));
        assert!(!is_revoked(&revocations, "U1", 11) && !is_revoked(&revocations, "U3", 1));
        let all = BTreeMap::from([("*".to_owned(), 7)]);
        assert!(is_revoked(&all, "U3", 7) && !is_revoked(&all, "U3", 8));
    }
}
