//! What changes between two sets of options, and whether a running server can take it over.
//!
//! Pure: it compares and words; [`crate::lifecycle`] applies. Options that cannot change while
//! running are refused as a whole with nats-server's texts, so that the old ones stay in force.

use std::fmt::{self, Display};

use weir_conf::{ClusterOptions, JetStreamOptions, Options, format_duration};

/// One difference that a running server takes over; its text is what the log says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    text: String,
}

impl Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The changes from `old` to `new` in the order they are logged, or why they are refused.
pub(crate) fn plan(old: &Options, new: &Options) -> Result<Vec<Change>, String> {
    refuse_fixed(old, new)?;
    refuse_cluster(old.cluster.as_ref(), new.cluster.as_ref())?;
    refuse_jetstream(old.jetstream.as_ref(), new.jetstream.as_ref())?;
    if old.weir != new.weir {
        return Err("config reload not supported for the weir block".to_owned());
    }
    let mut changes = Changes::default();
    changes.value("debug", &old.debug, &new.debug);
    changes.value("trace", &old.trace, &new.trace);
    changes.value("logtime", &old.logtime, &new.logtime);
    changes.value("logtime_utc", &old.logtime_utc, &new.logtime_utc);
    changes.path("log_file", old.log_file.as_deref(), new.log_file.as_deref());
    changes.value("max_connections", &old.max_connections, &new.max_connections);
    changes.path("pid_file", old.pid_file.as_deref(), new.pid_file.as_deref());
    changes.path("ports_file_dir", old.ports_file_dir.as_deref(), new.ports_file_dir.as_deref());
    changes.named("authorization token", old.auth_token != new.auth_token);
    changes.named("authorization timeout", old.auth_timeout != new.auth_timeout);
    changes.named("authorization users", old.users != new.users);
    changes.named("no_auth_user", old.no_auth_user != new.no_auth_user);
    changes.named("accounts", old.accounts != new.accounts);
    changes.value("max_control_line", &old.max_control_line, &new.max_control_line);
    changes.duration("ping_interval", old.ping_interval, new.ping_interval);
    changes.value("ping_max", &old.ping_max, &new.ping_max);
    changes.value("max_payload", &old.max_payload, &new.max_payload);
    changes.duration("write_deadline", old.write_deadline, new.write_deadline);
    let (old_advertised, new_advertised) = (&old.client_advertise, &new.client_advertise);
    changes.value("client_advertise", &text(old_advertised), &text(new_advertised));
    let lame_duck = |o: &Options| (o.lame_duck_duration, o.lame_duck_grace_period);
    changes.named("lame_duck", lame_duck(old) != lame_duck(new));
    changes.value("max_traced_msg_len", &old.max_traced_msg_len, &new.max_traced_msg_len);
    changes.named("tags", old.server_tags != new.server_tags);
    changes.named("metadata", old.server_metadata != new.server_metadata);
    Ok(changes.list)
}

fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or_default()
}

fn refuse<T: PartialEq + Display>(name: &str, old: T, new: T) -> Result<(), String> {
    if old == new {
        return Ok(());
    }
    Err(format!("config reload not supported for {name}: old={old}, new={new}"))
}

fn refuse_fixed(old: &Options, new: &Options) -> Result<(), String> {
    refuse("Host", &old.host, &new.host)?;
    refuse("Port", old.port, new.port)?;
    refuse("ServerName", &old.server_name, &new.server_name)?;
    refuse("HTTPHost", &old.http_host, &new.http_host)?;
    refuse("HTTPPort", old.http_port.unwrap_or(0), new.http_port.unwrap_or(0))?;
    let path = |options: &Options| options.http_base_path.trim_start_matches('/').to_owned();
    refuse("HTTPBasePath", path(old), path(new))?;
    refuse("MaxSubs", old.max_subscriptions, new.max_subscriptions)?;
    refuse("MaxPending", old.max_pending, new.max_pending)?;
    refuse("MaxClosedClients", old.max_closed_clients, new.max_closed_clients)?;
    refuse("SystemAccount", text(&old.system_account), text(&new.system_account))?;
    refuse("NoSystemAccount", old.no_system_account, new.no_system_account)
}

fn refuse_cluster(old: Option<&ClusterOptions>, new: Option<&ClusterOptions>) -> Result<(), String> {
    let none = ClusterOptions { host: String::new(), ..ClusterOptions::default() };
    let (old, new) = (old.unwrap_or(&none), new.unwrap_or(&none));
    refuse("cluster host", &old.host, &new.host)?;
    refuse("cluster port", old.port, new.port)?;
    if old != new {
        return Err("config reload not supported for Cluster".to_owned());
    }
    Ok(())
}

fn refuse_jetstream(old: Option<&JetStreamOptions>, new: Option<&JetStreamOptions>) -> Result<(), String> {
    let (old, new) = match (old, new) {
        (None, None) => return Ok(()),
        (Some(old), Some(new)) => (old, new),
        _ => return Err("config reload not supported for JetStream".to_owned()),
    };
    if old.store_dir != new.store_dir {
        return Err("config reload not supported for jetstream storage directory".to_owned());
    }
    let less = |old: Option<u64>, new: Option<u64>| matches!((old, new), (Some(o), Some(n)) if n < o);
    if less(old.max_memory, new.max_memory) || less(old.max_file, new.max_file) {
        let message = "config reload not supported for decreasing jetstream max memory and store";
        return Err(message.to_owned());
    }
    if old != new {
        return Err("config reload not supported for JetStream".to_owned());
    }
    Ok(())
}

#[derive(Default)]
struct Changes {
    list: Vec<Change>,
}

impl Changes {
    fn named(&mut self, name: &str, changed: bool) {
        if changed {
            self.list.push(Change { text: name.to_owned() });
        }
    }

    fn value<T: PartialEq + Display + ?Sized>(&mut self, name: &str, old: &T, new: &T) {
        self.named(&format!("{name} = {new}"), old != new);
    }

    fn duration(&mut self, name: &str, old: std::time::Duration, new: std::time::Duration) {
        self.value(name, &format_duration(old), &format_duration(new));
    }

    fn path(&mut self, name: &str, old: Option<&std::path::Path>, new: Option<&std::path::Path>) {
        let show = |path: Option<&std::path::Path>| path.map_or(String::new(), |p| p.display().to_string());
        self.value(name, &show(old), &show(new));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn texts(new: &Options) -> Vec<String> {
        let changes = plan(&Options::default(), new).expect("taken over");
        changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn equal_options_change_nothing() {
        assert!(texts(&Options::default()).is_empty());
    }

    #[test]
    fn what_can_change_is_named_with_its_new_value() {
        let new = Options {
            debug: true,
            max_payload: 2000,
            ping_interval: Duration::from_secs(3),
            auth_token: Some("t".to_owned()),
            ..Options::default()
        };
        assert_eq!(
            texts(&new),
            ["debug = true", "authorization token", "ping_interval = 3s", "max_payload = 2000"]
        );
    }

    #[test]
    fn what_cannot_change_is_refused_in_the_words_of_nats_server() {
        let refused = |new: Options| plan(&Options::default(), &new).expect_err("refused");
        let port = refused(Options { port: 5, ..Options::default() });
        assert_eq!(port, "config reload not supported for Port: old=4222, new=5");
        let cluster = ClusterOptions { port: 6222, host: String::new(), ..ClusterOptions::default() };
        let cluster = refused(Options { cluster: Some(cluster), ..Options::default() });
        assert_eq!(cluster, "config reload not supported for cluster port: old=0, new=6222");
        let less = |bytes| Options {
            jetstream: Some(JetStreamOptions { max_file: Some(bytes), ..JetStreamOptions::default() }),
            ..Options::default()
        };
        assert_eq!(
            plan(&less(2), &less(1)),
            Err("config reload not supported for decreasing jetstream max memory and store".to_owned())
        );
    }
}
