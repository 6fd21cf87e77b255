//! The claims by which an account lets another import something private. Not the import.

use super::account::ImportType;
use super::claims::Claims;
use super::limits::check_subject;
use super::validate::Issues;
use crate::nkey::{Kind, is_public};
use serde::{Deserialize, Serialize};

/// What an activation token says; its subject is the importing account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Activation {
    /// What may be imported.
    #[serde(rename = "subject")]
    pub import_subject: String,
    /// As what.
    #[serde(rename = "kind")]
    pub import_type: Option<ImportType>,
    /// The exporting account, when one of its signing keys signed.
    pub issuer_account: String,
    /// For people.
    pub tags: Vec<String>,
    /// Always `activation`.
    #[serde(rename = "type")]
    pub kind: String,
    /// 1 or 2.
    pub version: i64,
}

impl Claims<Activation> {
    /// What is wrong with the claims; with `now`, in seconds since 1970, also their times.
    pub fn issues(&self, now: Option<i64>) -> Issues {
        let mut issues = Issues::default();
        if let Some(now) = now {
            self.check_times(now, &mut issues);
        }
        if self.nats.import_type.is_none() {
            issues.error("invalid import type: \"unknown\"".to_owned());
        }
        check_subject(&self.nats.import_subject, &mut issues);
        if !self.nats.issuer_account.is_empty() && !is_public(Kind::Account, &self.nats.issuer_account) {
            issues.error("account_id is not an account public key".to_owned());
        }
        issues
    }
}
