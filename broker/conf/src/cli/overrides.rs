//! Flags over the options of the file.

use std::path::{Path, PathBuf};

use super::flags::Flags;
use crate::{
    options::{ClusterOptions, JetStreamOptions, Options, UserConfig},
    read::split_listen,
    sources::Sources,
    url::Url,
};

/// Flags that nats-server serves, and that would protect less if they were left out here.
const REFUSED: &[&str] = &["tls", "tlsverify", "tlscert", "tlskey", "tlscacert", "ms"];

/// Flags that have no effect yet.
const UNSERVED: &[&str] = &["s", "r", "profile", "log_size_limit"];

pub(super) fn apply(flags: &Flags, options: &mut Options, sources: &dyn Sources) -> Result<(), String> {
    for name in REFUSED {
        if flags.text(name).is_some_and(|value| value != "false" && value != "0") {
            return Err(format!(
                "flag -{name} is not supported yet, and starting without it would protect less than asked for"
            ));
        }
    }
    for name in UNSERVED {
        if flags.text(name).is_some_and(|value| value != "false") {
            let key = format!("-{name}");
            options.unserved.push(crate::Unserved { key, place: "command line".to_owned() });
        }
    }
    addresses(flags, options)?;
    logging(flags, options);
    authorization(flags, options);
    jetstream(flags, options);
    cluster(flags, options)?;
    weir(flags, options, sources)
}

fn port(flags: &Flags, name: &str) -> Result<Option<i32>, String> {
    match flags.number(name) {
        None => Ok(None),
        Some(number) => i32::try_from(number)
            .map(Some)
            .map_err(|_| format!("port {number} of flag -{name} is out of range")),
    }
}

fn addresses(flags: &Flags, options: &mut Options) -> Result<(), String> {
    if let Some(port) = port(flags, "p")?.filter(|port| *port != 0) {
        options.port = port;
    }
    if let Some(port) = port(flags, "m")? {
        options.http_port = (port != 0).then_some(port);
    }
    if let Some(host) = flags.text("a") {
        options.host = host.to_owned();
    }
    if let Some(name) = flags.text("n") {
        if name.contains(' ') {
            return Err("server name cannot contain spaces".to_owned());
        }
        options.server_name = name.to_owned();
    }
    if let Some(address) = flags.text("client_advertise") {
        options.client_advertise = Some(address.to_owned());
    }
    Ok(())
}

fn logging(flags: &Flags, options: &mut Options) {
    for (name, place) in [("D", &mut options.debug), ("V", &mut options.trace)] {
        if let Some(on) = flags.switch(name) {
            *place = on;
        }
    }
    options.debug |= flags.is_set("DV") || flags.is_set("DVV");
    options.trace |= flags.is_set("DV") || flags.is_set("DVV") || flags.is_set("VV");
    options.trace_verbose |= flags.is_set("DVV") || flags.is_set("VV");
    if let Some(on) = flags.switch("T") {
        options.logtime = on;
    }
    if let Some(on) = flags.switch("logtime_utc") {
        options.logtime_utc = on;
    }
    let path = |name: &str| flags.text(name).filter(|text| !text.is_empty()).map(PathBuf::from);
    options.log_file = path("l").or(options.log_file.take());
    options.pid_file = path("P").or(options.pid_file.take());
    options.ports_file_dir = path("ports_file_dir").or(options.ports_file_dir.take());
    if let Some(length) = flags.number("max_traced_msg_len") {
        options.max_traced_msg_len = u64::try_from(length).unwrap_or(0);
    }
}

fn authorization(flags: &Flags, options: &mut Options) {
    if let Some(token) = flags.text("auth") {
        options.auth_token = Some(token.to_owned());
    }
    if let Some(user) = flags.text("user") {
        options.users.retain(|known| known.user != user);
        options.users.push(UserConfig {
            account: "$G".to_owned(),
            user: user.to_owned(),
            password: flags.text("pass").unwrap_or_default().to_owned(),
            ..UserConfig::default()
        });
    }
}

fn jetstream(flags: &Flags, options: &mut Options) {
    match flags.switch("js") {
        Some(true) => {
            options.jetstream.get_or_insert_with(JetStreamOptions::default);
        }
        Some(false) => options.jetstream = None,
        None => {}
    }
    if let (Some(directory), Some(jetstream)) = (flags.text("sd"), &mut options.jetstream) {
        jetstream.store_dir = Some(PathBuf::from(directory));
    }
}

fn cluster(flags: &Flags, options: &mut Options) -> Result<(), String> {
    let listen = flags.text("cluster_listen").or_else(|| flags.text("cluster"));
    if let Some(text) = listen.filter(|text| !text.is_empty()) {
        let cluster = options.cluster.get_or_insert_with(ClusterOptions::default);
        listen_on(cluster, text)?;
    }
    let any = ["routes", "cluster_name", "cluster_advertise", "connect_retries", "no_advertise"];
    if any.iter().all(|name| flags.text(name).is_none()) {
        return Ok(());
    }
    let cluster = options.cluster.get_or_insert_with(ClusterOptions::default);
    if let Some(list) = flags.text("routes") {
        cluster.routes = list
            .split(',')
            .map(|text| Url::parse(text).ok_or(format!("error parsing route url [{text:?}]")))
            .collect::<Result<_, _>>()
            .map_err(|message| {
                if cluster.port == 0 {
                    "solicited routes require cluster capabilities, e.g. --cluster".to_owned()
                } else {
                    message
                }
            })?;
    }
    if let Some(name) = flags.text("cluster_name") {
        if name.contains(' ') {
            return Err("cluster name cannot contain spaces".to_owned());
        }
        cluster.name = name.to_owned();
    }
    if let Some(address) = flags.text("cluster_advertise") {
        cluster.advertise = Some(address.to_owned());
    }
    if let Some(retries) = flags.number("connect_retries") {
        cluster.connect_retries = u32::try_from(retries).unwrap_or(0);
    }
    if let Some(on) = flags.switch("no_advertise") {
        cluster.no_advertise = on;
    }
    Ok(())
}

/// `nats://[user:password@]host:port`; `-1` as the port takes a free one.
fn listen_on(cluster: &mut ClusterOptions, text: &str) -> Result<(), String> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let (credentials, address) = match rest.rsplit_once('@') {
        Some((credentials, address)) => (Some(credentials), address),
        None => (None, rest),
    };
    let address = address.trim_end_matches('/');
    if !address.contains(':') {
        return Err("missing port in address".to_owned());
    }
    let (host, port) = split_listen(address)?;
    if !host.is_empty() {
        cluster.host = host;
    }
    cluster.port = port;
    if let Some(credentials) = credentials {
        let Some((user, password)) = credentials.split_once(':') else {
            return Err("expected cluster password to be set".to_owned());
        };
        cluster.user = Some(user.to_owned());
        cluster.password = Some(password.to_owned());
    }
    Ok(())
}

fn weir(flags: &Flags, options: &mut Options, sources: &dyn Sources) -> Result<(), String> {
    if let Some(text) = flags.text("weir_grpc") {
        let (host, port) = split_listen(text)?;
        if !host.is_empty() {
            options.weir.grpc_host = host;
        }
        options.weir.grpc_port = port;
        options.weir.grpc_configured = true;
    }
    if let Some(file) = flags.text("cluster_secret_file") {
        let text = sources
            .read(Path::new(file))
            .map_err(|error| format!("could not read cluster secret file {file}: {error}"))?;
        let secret = text.trim();
        if secret.is_empty() {
            return Err(format!("cluster secret file {file} is empty"));
        }
        options.weir.cluster_secret = Some(secret.to_owned());
    }
    Ok(())
}
