//! The subjects by which a JetStream domain is reached from inside: `$JS.<domain>.API.…` is the API, and keys and
//! objects have a place below it. Not what a domain is.

use weir_conf::Options;
use weir_hub::{AccountSettings, ExchangeKind, MappingConfig, MappingDestination};

/// What follows `$JS.<domain>.API.`, and what it stands for.
const API: [(&str, &str); 9] = [
    ("INFO", "$JS.API.INFO"),
    ("STREAM.>", "$JS.API.STREAM.>"),
    ("CONSUMER.>", "$JS.API.CONSUMER.>"),
    ("DIRECT.>", "$JS.API.DIRECT.>"),
    ("META.>", "$JS.API.META.>"),
    ("SERVER.>", "$JS.API.SERVER.>"),
    ("ACCOUNT.>", "$JS.API.ACCOUNT.>"),
    ("$KV.>", "$KV.>"),
    ("$OBJ.>", "$OBJ.>"),
];

/// The domain that this server's JetStream is.
pub(crate) fn of(options: &Options) -> Option<&str> {
    options.jetstream.as_ref()?.domain.as_deref()
}

/// Adds the domain's subjects to an account that does not take the API from another one.
pub(crate) fn add(settings: &mut AccountSettings, domain: Option<&str>, is_system: bool) {
    let Some(domain) = domain else { return };
    let imports_api = settings.imports.iter().any(|import| {
        let local = import.to.as_deref().unwrap_or(&import.subject);
        import.kind == ExchangeKind::Service && weir_subject::matches(local.as_bytes(), b"$JS.API.INFO")
    });
    if is_system {
        settings.mappings.push(mapping(format!("$JS.{domain}.API.>"), "$JS.API.>"));
        return;
    }
    if imports_api {
        return;
    }
    for (suffix, to) in API {
        let source = format!("$JS.{domain}.API.{suffix}");
        if settings.mappings.iter().all(|known| known.source != source) {
            settings.mappings.push(mapping(source, to));
        }
    }
}

/// Sends what an account without JetStream asks to the domain that is its default (`default_js_domain`).
pub(crate) fn add_default(settings: &mut AccountSettings, domain: Option<&str>, has_jetstream: bool) {
    let Some(domain) = domain.filter(|domain| !domain.is_empty() && !has_jetstream) else { return };
    for (suffix, from) in API {
        if settings.mappings.iter().all(|known| known.source != from) {
            let to = format!("$JS.{domain}.API.{suffix}");
            settings.mappings.push(mapping(from.to_owned(), &to));
        }
    }
}

fn mapping(source: String, to: &str) -> MappingConfig {
    let destination = MappingDestination { subject: to.to_owned(), weight: 100, cluster: None };
    MappingConfig { source, destinations: vec![destination] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_mapping_stays() {
        let own = mapping("$JS.hub.API.INFO".to_owned(), "mine");
        let mut settings = AccountSettings { mappings: vec![own.clone()], ..AccountSettings::default() };
        add(&mut settings, None, false);
        assert_eq!(settings.mappings, std::slice::from_ref(&own));
        add(&mut settings, Some("hub"), false);
        assert_eq!(settings.mappings.len(), API.len());
        assert_eq!(settings.mappings[0], own);
    }
}
