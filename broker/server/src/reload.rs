//! What changes between two sets of options, and whether a running server can take it over.
//!
//! Pure: it compares and words; [`crate::lifecycle`] applies. One option that cannot change while
//! running refuses the whole, with nats-server's text, so that the old ones stay in force. The order
//! is that of nats-server's options: it decides which of several refusals is told.

mod jetstream;

use std::{
    fmt::{self, Debug, Display},
    path::PathBuf,
    time::Duration,
};

use weir_conf::{
    ClusterOptions, HandshakeFirst, Options, TlsOptions, UserConfig, advertised, format_duration,
};

/// One difference that a running server takes over; its text is what the log says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    text: String,
}

impl Change {
    /// Whether the statistics of the server tell of it, so that whoever watches them is told at once.
    pub(crate) fn is_in_statistics(&self) -> bool {
        let told = ["Reloaded: tags", "Reloaded: metadata"];
        told.contains(&self.text.as_str()) || self.text.starts_with("Reloaded: JetStream max_")
    }

    /// Whether it is a new value of that option.
    pub(crate) fn is_of(&self, name: &str) -> bool {
        self.text.strip_prefix("Reloaded: ").is_some_and(|rest| rest.starts_with(&format!("{name} = ")))
    }
}

impl Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The changes from `old` to `new` in the order they are logged, or why they are refused.
pub(crate) fn plan(old: &Options, new: &Options) -> Result<Vec<Change>, String> {
    let mut diff = Diff { old, new, changes: Vec::new() };
    identity(&mut diff)?;
    limits_of_connections(&mut diff)?;
    users(&mut diff)?;
    pace(&mut diff)?;
    monitoring(&mut diff)?;
    sizes(&mut diff)?;
    servers(&mut diff)?;
    jetstream::compare(&mut diff)?;
    other_doors(&mut diff)?;
    files(&mut diff)?;
    tls(&mut diff)?;
    rest(&mut diff)?;
    jetstream::compare_last(&diff)?;
    if old.weir != new.weir {
        return Err("config reload not supported for the weir block".to_owned());
    }
    Ok(diff.changes)
}

struct Diff<'a> {
    old: &'a Options,
    new: &'a Options,
    changes: Vec<Change>,
}

impl Diff<'_> {
    /// Refuses a difference, with both values.
    fn fixed<T: PartialEq + Display>(&self, name: &str, value: impl Fn(&Options) -> T) -> Result<(), String> {
        let (old, new) = (value(self.old), value(self.new));
        if old == new {
            return Ok(());
        }
        Err(format!("config reload not supported for {name}: old={old}, new={new}"))
    }

    /// Refuses a difference of what is better not shown.
    fn opaque<T: PartialEq>(&self, name: &str, value: impl Fn(&Options) -> T) -> Result<(), String> {
        if value(self.old) == value(self.new) {
            return Ok(());
        }
        Err(format!("config reload not supported for {name}"))
    }

    fn say(&mut self, text: impl Into<String>) {
        self.changes.push(Change { text: format!("Reloaded: {}", text.into()) });
    }

    /// Takes a difference over, with the new value.
    fn shown<T: PartialEq + Display>(&mut self, name: &str, value: impl Fn(&Options) -> T) {
        let (old, new) = (value(self.old), value(self.new));
        if old != new {
            self.say(format!("{name} = {new}"));
        }
    }

    /// Takes a difference over without showing it.
    fn named<T: PartialEq>(&mut self, name: &str, value: impl Fn(&Options) -> T) {
        if value(self.old) != value(self.new) {
            self.say(name);
        }
    }
}

fn text(value: &Option<String>) -> String {
    value.clone().unwrap_or_default()
}

fn path(value: &Option<PathBuf>) -> String {
    value.as_ref().map_or_else(String::new, |path| path.display().to_string())
}

/// As Go prints a list.
fn list<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    let shown: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    format!("[{}]", shown.join(" "))
}

fn seconds(duration: Duration) -> String {
    duration.as_secs_f64().to_string()
}

fn identity(diff: &mut Diff<'_>) -> Result<(), String> {
    diff.fixed("ServerName", |o| o.server_name.clone())?;
    diff.fixed("Host", |o| o.host.clone())?;
    // A port that is to be any stays the one it is.
    if diff.new.port != -1 {
        diff.fixed("Port", |o| o.port)?;
    }
    if diff.old.client_advertise != diff.new.client_advertise {
        if let Some(text) = &diff.new.client_advertise {
            advertised(text)
                .map_err(|reason| format!("invalid ClientAdvertise value of {text}, err={reason}"))?;
        }
        let text = format!("Reload: client_advertise = {}", text(&diff.new.client_advertise));
        diff.changes.push(Change { text });
    }
    diff.shown("trace", |o| o.trace);
    diff.shown("debug", |o| o.debug);
    diff.shown("trace_verbose", |o| o.trace_verbose);
    diff.shown("trace_headers", |o| o.trace_headers);
    diff.fixed("NoSublistCache", |o| o.disable_sublist_cache)?;
    diff.fixed("NoHeaderSupport", |o| o.no_header_support)?;
    diff.shown("logtime", |o| o.logtime);
    diff.shown("logtime_utc", |o| o.logtime_utc);
    Ok(())
}

fn limits_of_connections(diff: &mut Diff<'_>) -> Result<(), String> {
    // No limit is -1 in the reference's words.
    diff.shown("max_connections", |o| if o.max_connections == 0 { -1 } else { o.max_connections });
    diff.fixed("MaxSubs", |o| o.max_subscriptions)?;
    diff.fixed("MaxSubTokens", |o| o.max_sub_tokens)
}

fn users(diff: &mut Diff<'_>) -> Result<(), String> {
    let nkeys = |o: &Options| -> Vec<UserConfig> {
        o.users.iter().filter(|user| user.nkey.is_some()).cloned().collect()
    };
    diff.named("authorization nkey users", nkeys);
    // The reference does not compare these and says so at every reload.
    diff.say("authorization users");
    diff.say("accounts");
    let removed = diff.old.no_auth_user.is_some() && diff.new.no_auth_user.is_none();
    let still_there = diff.new.users.iter().any(|user| Some(&user.user) == diff.old.no_auth_user.as_ref());
    if !removed || still_there {
        diff.fixed("NoAuthUser", |o| text(&o.no_auth_user))?;
    }
    diff.shown("default_sentinel", |o| text(&o.operator.default_sentinel));
    let usual = |name: &Option<String>| name.as_deref().is_none_or(|name| name == weir_hub::SYSTEM_ACCOUNT);
    if !usual(&diff.old.system_account) || diff.new.system_account.is_some() {
        diff.fixed("SystemAccount", |o| {
            o.system_account.clone().unwrap_or_else(|| weir_hub::SYSTEM_ACCOUNT.to_owned())
        })?;
    }
    diff.fixed("NoSystemAccount", |o| o.no_system_account)?;
    let single =
        |o: &Options| o.users.iter().find(|user| Some(&user.user) == o.single_user.as_ref()).cloned();
    diff.named("authorization username", |o| o.single_user.clone());
    diff.named("authorization password", |o| single(o).map(|user| user.password));
    diff.fixed("ProxyRequired", |o| o.proxy_required)?;
    diff.fixed("ProxyProtocol", |o| o.proxy_protocol)?;
    diff.named("authorization token", |o| o.auth_token.clone());
    diff.opaque("AuthCallout", |o| o.auth_callout.clone())
}

fn pace(diff: &mut Diff<'_>) -> Result<(), String> {
    diff.shown("ping_interval", |o| format_duration(o.ping_interval));
    diff.shown("ping_max", |o| o.ping_max);
    Ok(())
}

fn monitoring(diff: &mut Diff<'_>) -> Result<(), String> {
    diff.fixed("HTTPHost", |o| if o.http_host.is_empty() { o.host.clone() } else { o.http_host.clone() })?;
    diff.fixed("HTTPPort", |o| o.http_port.unwrap_or(0))?;
    diff.fixed("HTTPBasePath", |o| o.http_base_path.clone())?;
    diff.fixed("HTTPSPort", |o| o.https_port.unwrap_or(0))
}

fn sizes(diff: &mut Diff<'_>) -> Result<(), String> {
    diff.shown("authorization timeout", |o| seconds(o.auth_timeout));
    diff.shown("max_control_line", |o| o.max_control_line);
    diff.shown("max_payload", |o| o.max_payload);
    diff.fixed("MaxPending", |o| o.max_pending)?;
    if diff.old.no_fast_producer_stall != diff.new.no_fast_producer_stall {
        let not = if diff.new.no_fast_producer_stall { "not " } else { "" };
        diff.say(format!("fast producers will {not}be stalled"));
    }
    Ok(())
}

/// Routes, gateways and leaf nodes.
fn servers(diff: &mut Diff<'_>) -> Result<(), String> {
    let usual = ClusterOptions { host: String::new(), ..ClusterOptions::default() };
    let old = diff.old.cluster.as_ref().unwrap_or(&usual);
    let new = diff.new.cluster.as_ref().unwrap_or(&usual);
    let refuse = |what: &str, old: &dyn Display, new: &dyn Display| {
        Err(format!("config reload not supported for cluster {what}: old={old}, new={new}"))
    };
    if old.host != new.host {
        return refuse("host", &old.host, &new.host);
    }
    if old.port != new.port && new.port != -1 {
        return refuse("port", &old.port, &new.port);
    }
    if let Some(text) = &new.advertise {
        advertised(text)
            .map_err(|reason| format!("invalid Cluster.Advertise value of {text}, err={reason}"))?;
    }
    if old.port == 0 && new.port == 0 {
        return Ok(());
    }
    // A free port that was taken, and the seeds, which are a change of their own.
    let rest = |cluster: &ClusterOptions| ClusterOptions { port: 0, routes: Vec::new(), ..cluster.clone() };
    // The files of certificates may have changed under the same names.
    if rest(old) != rest(new) || new.tls.is_some() {
        diff.say("cluster");
    }
    Ok(())
}

fn other_doors(diff: &mut Diff<'_>) -> Result<(), String> {
    let domains = |o: &Options| {
        let shown: Vec<String> =
            o.default_js_domain.iter().map(|(account, domain)| format!("{account}:{domain}")).collect();
        format!("map[{}]", shown.join(" "))
    };
    diff.fixed("JsAccDefaultDomain", domains)?;
    // Certificates may change; the rest of the door may not.
    diff.opaque("Websocket", |o| {
        o.websocket.clone().map(|websocket| {
            (websocket.tls.is_some(), weir_conf::WebSocketOptions { tls: None, ..websocket })
        })
    })
}

fn files(diff: &mut Diff<'_>) -> Result<(), String> {
    diff.fixed("ProfPort", |o| o.prof_port)?;
    diff.shown("pid_file", |o| path(&o.pid_file));
    diff.shown("ports_file_dir", |o| path(&o.ports_file_dir));
    diff.shown("log_file", |o| path(&o.log_file));
    diff.fixed("LogSizeLimit", |o| o.log_size_limit)?;
    diff.fixed("LogMaxFiles", |o| o.log_max_num)?;
    diff.shown("syslog", |o| o.syslog);
    diff.shown("remote_syslog", |o| text(&o.remote_syslog));
    diff.named("cluster routes", |o| o.cluster.as_ref().map(|cluster| cluster.routes.clone()));
    Ok(())
}

fn tls(diff: &mut Diff<'_>) -> Result<(), String> {
    let usual = TlsOptions::default();
    let of = |o: &Options| o.tls.clone().unwrap_or_else(|| usual.clone());
    diff.shown("tls timeout", |o| seconds(of(o).timeout));
    diff.fixed("TLSMap", |o| of(o).verify_and_map)?;
    // The files may have changed under the same names.
    if diff.old.tls.is_some() || diff.new.tls.is_some() {
        diff.say(format!("tls = {}", if diff.new.tls.is_some() { "enabled" } else { "disabled" }));
    }
    if of(diff.old).pinned_certs != of(diff.new).pinned_certs {
        diff.say(format!("{} pinned_certs", of(diff.new).pinned_certs.len()));
    }
    diff.fixed("TLSRateLimit", |o| of(o).connection_rate_limit)?;
    let first = |o: &Options| of(o).handshake_first;
    let fallback = |first: HandshakeFirst| match first {
        HandshakeFirst::Auto(delay) => delay,
        HandshakeFirst::Never | HandshakeFirst::Always => Duration::ZERO,
    };
    let (old, new) = (first(diff.old), first(diff.new));
    if (old == HandshakeFirst::Never) != (new == HandshakeFirst::Never) {
        diff.say(format!("Client TLS handshake first: {}", new != HandshakeFirst::Never));
    }
    if fallback(old) != fallback(new) {
        let delay = format_duration(fallback(new));
        diff.say(format!("Client TLS handshake first fallback delay: {delay}"));
    }
    diff.fixed("AllowNonTLS", |o| o.allow_non_tls)
}

fn rest(diff: &mut Diff<'_>) -> Result<(), String> {
    diff.shown("write_deadline", |o| format_duration(o.write_deadline));
    diff.fixed("WriteTimeout", |o| o.write_timeout.name())?;
    diff.fixed("MaxClosedClients", |o| o.max_closed_clients)?;
    diff.fixed("LameDuckDuration", |o| format_duration(o.lame_duck_duration))?;
    diff.fixed("LameDuckGracePeriod", |o| format_duration(o.lame_duck_grace_period))?;
    diff.shown("max_traced_msg_len", |o| o.max_traced_msg_len);
    diff.fixed("TrustedKeys", |o| list(&o.operator.trusted_keys))?;
    diff.opaque("TrustedOperators", |o| o.operator.jwts.clone())?;
    if diff.old.operator.resolver.is_some() != diff.new.operator.resolver.is_some() {
        return Err("config reload does not support moving to or from an account resolver".to_owned());
    }
    diff.shown("connect_error_reports", |o| o.connect_error_reports);
    diff.shown("reconnect_error_reports", |o| o.reconnect_error_reports);
    diff.named("tags", |o| o.server_tags.clone());
    diff.named("metadata", |o| o.server_metadata.clone());
    diff.fixed("FeatureFlags", |o| {
        let shown: Vec<String> = o.feature_flags.iter().map(|(flag, on)| format!("{flag}:{on}")).collect();
        format!("map[{}]", shown.join(" "))
    })?;
    diff.named("OCSP", |o| o.ocsp.clone());
    let keys = |o: &Options| o.proxies.iter().map(|proxy| proxy.key.clone()).collect::<Vec<_>>();
    let (old, new) = (keys(diff.old), keys(diff.new));
    for (from, to, what) in [(&old, &new, "removed"), (&new, &old, "added")] {
        let only: Vec<String> = from.iter().filter(|key| !to.contains(key)).map(quoted).collect();
        if !only.is_empty() {
            diff.say(format!("proxies trusted keys {} were {what}", list(only)));
        }
    }
    if diff.old.ocsp_cache != diff.new.ocsp_cache {
        diff.changes.push(Change { text: "Reloaded OCSP peer cache".to_owned() });
    }
    Ok(())
}

fn quoted(value: &impl Debug) -> String {
    format!("{value:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(new: &Options) -> Vec<String> {
        let changes = plan(&Options::default(), new).expect("taken over");
        changes.iter().map(ToString::to_string).collect()
    }

    const ALWAYS: [&str; 2] = ["Reloaded: authorization users", "Reloaded: accounts"];

    #[test]
    fn equal_options_change_nothing() {
        assert_eq!(texts(&Options::default()), ALWAYS);
    }

    #[test]
    fn what_can_change_is_named_with_its_new_value() {
        let new = Options {
            debug: true,
            max_payload: 2000,
            ping_interval: Duration::from_secs(3),
            auth_token: Some("t".to_owned()),
            client_advertise: Some("a:1".to_owned()),
            ..Options::default()
        };
        assert_eq!(
            texts(&new),
            [
                "Reload: client_advertise = a:1",
                "Reloaded: debug = true",
                ALWAYS[0],
                ALWAYS[1],
                "Reloaded: authorization token",
                "Reloaded: ping_interval = 3s",
                "Reloaded: max_payload = 2000"
            ]
        );
    }

    #[test]
    fn what_cannot_change_is_refused_in_the_words_of_nats_server() {
        let refused = |new: Options| plan(&Options::default(), &new).expect_err("refused");
        let port = refused(Options { port: 5, ..Options::default() });
        assert_eq!(port, "config reload not supported for Port: old=4222, new=5");
        let duck = refused(Options { lame_duck_duration: Duration::from_secs(40), ..Options::default() });
        assert_eq!(duck, "config reload not supported for LameDuckDuration: old=2m0s, new=40s");
        let cluster = ClusterOptions { port: 6222, host: String::new(), ..ClusterOptions::default() };
        let cluster = refused(Options { cluster: Some(cluster), ..Options::default() });
        assert_eq!(cluster, "config reload not supported for cluster port: old=0, new=6222");
    }
}
