//! Who may import what. Not the imports themselves.

use crate::account_settings::{
    AccountSettings, ActivationCheck, ActivationRequest, ExchangeKind, Export, Import,
};
use weir_subject::is_subset;

/// An export has to be like this, in nats-server's words.
pub(super) fn check_export(export: &Export) -> Result<(), String> {
    if export.subject.is_empty() || !weir_subject::is_valid_subject(export.subject.as_bytes()) {
        return Err("invalid subject".to_owned());
    }
    let position = export.access.account_token_position;
    if position > 0 && export.subject.split('.').nth(position - 1) != Some("*") {
        return Err("invalid subject".to_owned());
    }
    Ok(())
}

/// The export that covers `subject`: the one of that subject, else the first that is wider.
pub(super) fn find<'s>(
    exporter: &'s AccountSettings,
    kind: ExchangeKind,
    subject: &str,
) -> Option<&'s Export> {
    let of_kind = || exporter.exports.iter().filter(|export| export.kind == kind);
    of_kind()
        .find(|export| export.subject == subject)
        .or_else(|| of_kind().find(|export| is_subset(subject.as_bytes(), export.subject.as_bytes())))
}

/// Whether `importer` may take `subject`, the import's subject in the exporting account with `$1` as `*`.
pub(super) fn is_allowed(
    exporter_name: &str,
    exporter: &AccountSettings,
    importer_name: &str,
    import: &Import,
    check: Option<&dyn ActivationCheck>,
) -> bool {
    let subject = import.subject.as_str();
    if !weir_subject::is_valid_subject(subject.as_bytes()) {
        return false;
    }
    let Some(export) = find(exporter, import.kind, subject) else { return false };
    let access = &export.access;
    if access.account_token_position > 0 {
        // The very subject of the export names nobody.
        return export.subject != subject
            && subject.split('.').nth(access.account_token_position - 1) == Some(importer_name);
    }
    if access.token_required {
        return match (&import.activation, check) {
            (Some(token), Some(check)) => check.is_valid(&ActivationRequest {
                token,
                importer: importer_name,
                exporter: exporter_name,
                kind: import.kind,
                subject,
                revocations: &access.revocations,
            }),
            _ => false,
        };
    }
    access.accounts.as_ref().is_none_or(|accounts| accounts.contains(importer_name))
}
