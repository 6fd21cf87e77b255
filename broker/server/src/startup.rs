//! The lines a server logs when it starts, in nats-server's order: tools wait for some of them.

use std::path::Path;

use tracing::{info, warn};
use weir_conf::{Options, Persona, friendly_bytes};
use weir_storage::EncryptionOptions;

use crate::{
    COMPATIBLE_VERSION, VERSION, app::Program, authenticator::has_plain_secrets, identity::short_hash,
    resolver, served, settings::FEATURE_FLAGS,
};

/// Above this a configured `max_payload` is warned of, as by nats-server.
const DISCOURAGED_PAYLOAD_BYTES: u32 = 8 * 1024 * 1024;

/// Who the server is and which configuration it uses.
pub(crate) fn greeting(
    program: &Program,
    options: &Options,
    server_id: &str,
    name: &str,
    cluster_name: Option<&str>,
) {
    let program_name = program.persona.name();
    info!("Starting {program_name}");
    match program.persona {
        Persona::NatsServer => info!("  Version:  {COMPATIBLE_VERSION}"),
        Persona::Weir => info!("  Version:  {VERSION} (compatible with {COMPATIBLE_VERSION})"),
    }
    info!("  Git:      [{}]", git_commit());
    if let Some(cluster_name) = cluster_name {
        info!("  Cluster:  {cluster_name}");
    }
    info!("  Name:     {name}");
    if options.jetstream.is_some() {
        info!("  Node:     {}", short_hash(name));
    }
    info!("  ID:       {server_id}");
    feature_flags(options);
    if has_plain_secrets(options) {
        warn!("Plaintext passwords detected, use nkeys or bcrypt");
    }
    if let Some(file) = &options.config_file {
        info!("Using configuration file: {} ({})", file.display(), options.config_digest);
    }
    if program.persona == Persona::Weir {
        for warning in &options.warnings {
            warn!("{warning}");
        }
    }
    for option in &options.unserved {
        let reason = served::why_never(&option.key).unwrap_or("it is not served yet");
        warn!("{}: {:?} has no effect: {reason}", option.place, option.key);
    }
    for (name, reason) in served::without_effect(options) {
        warn!("{name:?} has no effect: {reason}");
    }
}

/// What the configuration says of nats-server's feature flags, as that program lists it.
fn feature_flags(options: &Options) {
    if options.feature_flags.is_empty() {
        return;
    }
    let (mut configured, mut unsupported) = (Vec::new(), Vec::new());
    for (name, value) in &options.feature_flags {
        let Some((_, usual)) = FEATURE_FLAGS.iter().find(|(known, _)| known == name) else {
            unsupported.push(name.as_str());
            continue;
        };
        let state = match (usual, value) {
            (true, true) => "enabled",
            (true, false) => "opt-out",
            (false, true) => "opt-in",
            (false, false) => "disabled",
        };
        configured.push(format!("{name} ({state})"));
    }
    info!("  Feature flags:");
    let shown = if configured.is_empty() { "none".to_owned() } else { configured.join(", ") };
    info!("    Configured:    {shown}");
    if !unsupported.is_empty() {
        info!("    Unsupported:   {}", unsupported.join(", "));
    }
}

/// What the operators and the JetStream domains are.
pub(crate) fn modes(options: &Options) {
    resolver::announce(options);
    if options.max_payload > DISCOURAGED_PAYLOAD_BYTES {
        let limit = friendly_bytes(u64::from(DISCOURAGED_PAYLOAD_BYTES));
        warn!("Maximum payloads over {limit} are generally discouraged and could lead to poor performance");
    }
    if !options.default_js_domain.is_empty() {
        warn!(
            "The option `default_js_domain` is a temporary backwards compatibility measure and will be removed"
        );
    }
}

/// The commit this program was built from, when the build was told.
pub(crate) fn git_commit() -> &'static str {
    option_env!("WEIR_GIT_COMMIT").unwrap_or("not set")
}

/// How JetStream is set up.
pub(crate) fn jetstream(
    domain: Option<&str>,
    strict: bool,
    max_memory: u64,
    max_file: u64,
    directory: &Path,
    encryption: Option<&EncryptionOptions>,
) {
    info!("---------------- JETSTREAM ----------------");
    if strict {
        info!("  Strict:          {strict}");
    }
    info!("  Max Memory:      {}", friendly_bytes(max_memory));
    info!("  Max Storage:     {}", friendly_bytes(max_file));
    info!("  Store Directory: \"{}\"", directory.display());
    if let Some(domain) = domain {
        info!("  Domain:          {domain}");
    }
    if let Some(encryption) = encryption {
        info!("  Encryption:      {}", encryption.cipher);
    }
    info!("  API Level:       5");
    info!("-------------------------------------------");
}
