//! Flags over the options of the file.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::flags::Flags;
use crate::{
    interpret,
    options::{ClusterOptions, JetStreamOptions, Options, TlsOptions, UserConfig},
    read::split_listen,
    sources::Sources,
    url::Url,
};

pub(super) fn apply(flags: &Flags, options: &mut Options, sources: &dyn Sources) -> Result<(), String> {
    addresses(flags, options)?;
    logging(flags, options);
    authorization(flags, options);
    jetstream(flags, options);
    cluster(flags, options)?;
    tls(flags, options, sources)?;
    weir(flags, options, sources)
}

/// `-tls=false` switches TLS off whatever the file says; any other TLS flag replaces the file's block.
fn tls(flags: &Flags, options: &mut Options, sources: &dyn Sources) -> Result<(), String> {
    if flags.switch("tls") == Some(false) {
        options.tls = None;
        return Ok(());
    }
    let names = ["tls", "tlsverify", "tlscert", "tlskey", "tlscacert"];
    if names.iter().all(|name| flags.text(name).is_none()) {
        return Ok(());
    }
    let path = |name: &str| flags.text(name).filter(|text| !text.is_empty()).map(PathBuf::from);
    let (cert_file, key_file) = (path("tlscert"), path("tlskey"));
    if cert_file.is_none() {
        return Err("TLS Server certificate must be present and valid".to_owned());
    }
    if key_file.is_none() {
        return Err("TLS Server private key must be present and valid".to_owned());
    }
    let tls = TlsOptions {
        cert_file,
        key_file,
        ca_file: path("tlscacert"),
        verify: flags.is_set("tlsverify"),
        ..TlsOptions::default()
    };
    interpret::check_tls_files(sources, &tls)?;
    if options.auth_timeout == Options::default().auth_timeout {
        options.auth_timeout = tls.timeout + Duration::from_secs(1);
    }
    options.tls = Some(tls);
    Ok(())
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
    if let Some(port) = port(flags, "ms")? {
        options.https_port = (port != 0).then_some(port);
    }
    if let Some(port) = port(flags, "profile")? {
        options.prof_port = port;
        if port != 0 {
            let key = "-profile".to_owned();
            options.unserved.push(crate::Unserved { key, place: "command line".to_owned() });
        }
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
        options.client_advertise = Some(address.to_owned()).filter(|text| !text.is_empty());
    }
    Ok(())
}

fn logging(flags: &Flags, options: &mut Options) {
    for (name, place) in [("D", &mut options.debug), ("V", &mut options.trace)] {
        if let Some(on) = flags.switch(name) {
            *place = on;
        }
    }
    // Each of these says of all its levels whether they are on.
    if let Some(on) = flags.switch("DV") {
        (options.debug, options.trace) = (on, on);
    }
    if let Some(on) = flags.switch("DVV") {
        (options.debug, options.trace, options.trace_verbose) = (on, on, on);
    }
    if let Some(on) = flags.switch("VV") {
        (options.trace, options.trace_verbose) = (on, on);
    }
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
    if let Some(limit) = flags.number("log_size_limit") {
        options.log_size_limit = u64::try_from(limit).unwrap_or(0);
    }
    if let Some(on) = flags.switch("s") {
        options.syslog = on;
    }
    if let Some(address) = flags.text("r").filter(|text| !text.is_empty()) {
        options.remote_syslog = Some(address.to_owned());
    }
    if let Some(length) = flags.number("max_traced_msg_len") {
        options.max_traced_msg_len = u64::try_from(length).unwrap_or(0);
    }
}

/// Users of the file are not touched by these flags: they are asked first.
fn authorization(flags: &Flags, options: &mut Options) {
    let single = options.single_user.clone();
    let listed = options.users.iter().any(|user| Some(&user.user) != single.as_ref());
    if listed {
        return;
    }
    let given = |name: &str| flags.text(name).filter(|text| !text.is_empty());
    if let Some(token) = given("auth") {
        options.auth_token = Some(token.to_owned());
    }
    // A token is asked for before a user.
    if options.auth_token.is_some() {
        options.users.clear();
        options.single_user = None;
        return;
    }
    if given("user").is_none() && options.users.is_empty() {
        return;
    }
    let mut user = options
        .users
        .pop()
        .unwrap_or_else(|| UserConfig { account: "$G".to_owned(), ..UserConfig::default() });
    if let Some(name) = given("user") {
        name.clone_into(&mut user.user);
    }
    if let Some(password) = given("pass") {
        password.clone_into(&mut user.password);
    }
    options.single_user = Some(user.user.clone());
    options.users.push(user);
}

fn jetstream(flags: &Flags, options: &mut Options) {
    match flags.switch("js") {
        Some(true) => {
            options.jetstream.get_or_insert_with(JetStreamOptions::default);
        }
        Some(false) => options.jetstream = None,
        None => {}
    }
    if let Some(directory) = flags.text("sd").map(PathBuf::from) {
        if let Some(jetstream) = &mut options.jetstream {
            jetstream.store_dir = Some(directory.clone());
        }
        options.store_dir = Some(directory);
    }
}

fn cluster(flags: &Flags, options: &mut Options) -> Result<(), String> {
    let listen = flags.text("cluster");
    match listen {
        // Nothing to listen on: no routes. The name is left.
        Some("") => options.cluster.iter_mut().for_each(|cluster| cluster.port = 0),
        Some(text) => listen_on(options.cluster.get_or_insert_with(ClusterOptions::default), text)?,
        None => {}
    }
    let routes = flags.text("routes").filter(|list| !list.is_empty());
    let Some(cluster) = options.cluster.as_mut() else {
        return match routes {
            Some(_) => Err("solicited routes require cluster capabilities, e.g. --cluster".to_owned()),
            None => Ok(()),
        };
    };
    match (routes, flags.text("routes")) {
        (Some(list), _) => {
            cluster.routes = list
                .split(',')
                .map(|text| Url::parse(text).ok_or(format!("error parsing route url [{text:?}]")))
                .collect::<Result<_, _>>()?;
        }
        (None, Some(_)) => cluster.routes.clear(),
        (None, None) => {}
    }
    if let Some(name) = flags.text("cluster_name") {
        if name.contains(' ') {
            return Err("cluster name cannot contain spaces".to_owned());
        }
        if name == "_" {
            return Err("cluster name is reserved".to_owned());
        }
        name.clone_into(&mut cluster.name);
    }
    if let Some(address) = flags.text("cluster_advertise") {
        cluster.advertise = Some(address.to_owned()).filter(|text| !text.is_empty());
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
    // nats-server's texts show this in place of a port that no URL can have.
    let any_port = text.strip_suffix(":-1").map(|start| format!("{start}:0"));
    let text = any_port.as_deref().unwrap_or(text);
    let rest = match text.split_once("://") {
        Some((_, rest)) => rest,
        // Without a scheme the first colon has to end one.
        None if text.contains(':') && !text.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            return Err(format!("parse {text:?}: first path segment in URL cannot contain colon"));
        }
        None => return Err("missing port in address".to_owned()),
    };
    let (credentials, address) = match rest.rsplit_once('@') {
        Some((credentials, address)) => (Some(credentials), address),
        None => (None, rest),
    };
    let address = address.split(['/', '?', '#']).next().unwrap_or_default();
    if !address.contains(':') {
        return Err(format!("address {address}: missing port in address"));
    }
    if let Some((_, port)) =
        address.rsplit_once(':').filter(|(_, port)| !port.bytes().all(|b| b.is_ascii_digit()))
    {
        return Err(format!("parse {text:?}: invalid port \":{port}\" after host"));
    }
    let (host, port) = split_listen(address)?;
    cluster.host = if host.is_empty() { "0.0.0.0".to_owned() } else { host };
    cluster.port = if any_port.is_some() { -1 } else { port };
    (cluster.user, cluster.password) = (None, None);
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
