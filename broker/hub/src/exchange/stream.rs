//! One imported stream, and the subjects that subscriptions to it have in the exporting account. Not delivery.

use crate::account::Account;
use crate::subscription::Subscription;
use std::sync::{Arc, Weak};
use weir_subject::{Transform, has_wildcards, is_subset};

/// A stream of another account.
pub(crate) struct StreamImport {
    pub(crate) exporter_name: Box<str>,
    pub(crate) exporter: Weak<Account>,
    /// The pattern in the exporting account.
    pub(crate) from: Box<str>,
    /// The local pattern.
    pub(crate) to: Box<str>,
    pub(crate) transform: Option<Transform>,
    pub(crate) reverse: Option<Transform>,
    /// Both patterns are the same: the subject stays.
    pub(crate) keeps_subject: bool,
    pub(crate) allow_trace: bool,
}

/// What stands in the exporting account for a subscription of an importing one.
pub(crate) struct Shadow {
    pub(crate) import: Arc<StreamImport>,
    pub(crate) importer: Weak<Account>,
    pub(crate) subscription: Arc<Subscription>,
}

impl StreamImport {
    /// What a message of the exporting account appears as.
    pub(crate) fn subject_for(&self, subject: &[u8]) -> Vec<u8> {
        match &self.transform {
            Some(transform) => transform.apply(subject, || 0),
            None if self.keeps_subject => subject.to_vec(),
            None => self.to.as_bytes().to_vec(),
        }
    }

    /// The subject in the exporting account for a local subscription, if they have anything in common.
    pub(crate) fn shadow_subject(&self, subscribed: &[u8]) -> Option<Vec<u8>> {
        let to = self.to.as_bytes();
        let (narrowed, is_part) = if subscribed == to {
            (None, false)
        } else if is_subset(subscribed, to) {
            (None, true)
        } else if !has_wildcards(subscribed) {
            return None;
        } else if is_subset(to, subscribed) {
            (None, false)
        } else {
            let narrowed = narrow(subscribed, to);
            if !is_subset(&narrowed, to) {
                return None;
            }
            (Some(narrowed), true)
        };
        let wanted = narrowed.as_deref().unwrap_or(subscribed);
        Some(match &self.reverse {
            Some(reverse) if !self.keeps_subject && is_part => reverse.apply(wanted, || 0),
            _ if !self.keeps_subject || narrowed.is_some() || !is_part => match narrowed {
                Some(narrowed) => narrowed,
                None => self.from.as_bytes().to_vec(),
            },
            _ => subscribed.to_vec(),
        })
    }
}

/// The subscribed pattern with its wildcards made as narrow as the import's pattern says.
fn narrow(subscribed: &[u8], to: &[u8]) -> Vec<u8> {
    let import: Vec<&[u8]> = weir_subject::tokens(to).collect();
    let mut tokens: Vec<&[u8]> = weir_subject::tokens(subscribed).collect();
    for (token, wanted) in tokens.iter_mut().zip(&import) {
        if *token == b"*" && *wanted != b">" {
            *token = wanted;
        }
    }
    let count = tokens.len();
    if let (Some(last), true) = (tokens.last_mut(), import.len() >= count)
        && *last == b">"
    {
        *last = import[count - 1];
        tokens.extend_from_slice(&import[count..]);
    }
    tokens.join(&b'.')
}
