//! Activation tokens: whether one lets an account import now. Not the import.

use std::sync::{Arc, Weak};

use tracing::error;
use weir_auth::{
    jwt::{self, Account, Claims, ImportType},
    operator::signer,
};
use weir_hub::{ActivationCheck, ActivationRequest, ExchangeKind};

use super::{Accounts, now};

/// Judges tokens by the accounts that are known.
pub(super) struct Check {
    accounts: Weak<Accounts>,
}

impl Check {
    pub(super) fn new(accounts: &Arc<Accounts>) -> Self {
        Self { accounts: Arc::downgrade(accounts) }
    }
}

impl ActivationCheck for Check {
    fn is_valid(&self, request: &ActivationRequest<'_>) -> bool {
        let Some(accounts) = self.accounts.upgrade() else { return false };
        let Ok(token) = jwt::decode_activation(request.token) else { return false };
        let kind = match request.kind {
            ExchangeKind::Stream => ImportType::Stream,
            ExchangeKind::Service => ImportType::Service,
        };
        let fits = token.subject == request.importer
            && token.nats.import_type == Some(kind)
            && weir_subject::is_subset(request.subject.as_bytes(), token.nats.import_subject.as_bytes())
            && (token.issuer == request.exporter || token.nats.issuer_account == request.exporter);
        let now = now();
        let is_over = token.expires > 0 && token.expires <= now;
        if !fits || is_over || token.issues(Some(now)).is_blocking(true) {
            return false;
        }
        if !token.nats.issuer_account.is_empty() && !is_signer(&accounts, request, &token) {
            return false;
        }
        !jwt::is_revoked(request.revocations, &token.subject, token.issued_at)
    }
}

/// Whether one of the exporter's signing keys signed the token.
fn is_signer(accounts: &Accounts, request: &ActivationRequest<'_>, token: &Claims<jwt::Activation>) -> bool {
    let issuer = &token.nats.issuer_account;
    if issuer != request.exporter {
        error!(
            "Invalid issuer account {issuer:?} in activation claim (subject: {:?} - type: {:?}) for account {:?}",
            token.nats.import_subject,
            token.nats.import_type.map_or("unknown", ImportType::name),
            request.exporter
        );
        return false;
    }
    let exporter = accounts.claims_of(request.exporter);
    exporter.is_some_and(|claims| signer(&claims, accounts.is_strict(&claims), &token.issuer).is_some())
}

/// When the activations of the account's imports end, in seconds since 1970.
pub(super) fn expiries(claims: &Claims<Account>) -> impl Iterator<Item = i64> {
    let tokens = claims.nats.imports.iter().filter(|import| !import.token.is_empty());
    let ends = tokens.filter_map(|import| jwt::decode_activation(&import.token).ok());
    ends.map(|token| token.expires).filter(|expires| *expires > 0)
}
