//! What other servers tell of themselves: which there are, and which have connections of an account.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;
use serde::Deserialize;

/// So many servers are remembered; a cluster is far smaller.
const SERVERS_MAX: usize = 4096;

#[derive(Default)]
pub(super) struct RemoteServers {
    /// Accounts with connections, by the server's id.
    accounts: Mutex<HashMap<String, HashSet<String>>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Told {
    server: Named,
    acc: String,
    conns: i64,
    leafnodes: i64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Named {
    id: String,
}

impl RemoteServers {
    /// Notes how many connections of an account another server has; bodies that say nothing change nothing.
    pub(super) fn note_connections(&self, own_id: &str, body: &[u8], is_known: impl Fn(&str) -> bool) {
        let Ok(told) = serde_json::from_slice::<Told>(body) else { return };
        if told.server.id.is_empty() || told.server.id == own_id || !is_known(&told.acc) {
            return;
        }
        let mut servers = self.accounts.lock();
        if told.conns + told.leafnodes <= 0 {
            if let Some(accounts) = servers.get_mut(&told.server.id) {
                accounts.remove(&told.acc);
            }
        } else if servers.len() < SERVERS_MAX || servers.contains_key(&told.server.id) {
            servers.entry(told.server.id).or_default().insert(told.acc);
        }
    }

    /// Notes that a server is there; true when it was not known.
    pub(super) fn note_server(&self, own_id: &str, body: &[u8]) -> bool {
        let Ok(told) = serde_json::from_slice::<Told>(body) else { return false };
        if told.server.id.is_empty() || told.server.id == own_id {
            return false;
        }
        let mut servers = self.accounts.lock();
        if servers.contains_key(&told.server.id) || servers.len() >= SERVERS_MAX {
            return false;
        }
        servers.insert(told.server.id, HashSet::new());
        true
    }

    /// A server is gone.
    pub(super) fn forget(&self, id: &str) {
        self.accounts.lock().remove(id);
    }

    /// How many other servers have connections of an account.
    pub(super) fn with_connections(&self, account: &str) -> usize {
        self.accounts.lock().values().filter(|accounts| accounts.contains(account)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_with_connections_are_counted_until_they_have_none() {
        let remote = RemoteServers::default();
        let told = |id: &str, conns: u32| {
            let body = format!(r#"{{"server":{{"id":"{id}"}},"acc":"A","conns":{conns},"leafnodes":0}}"#);
            remote.note_connections("own", body.as_bytes(), |name| name == "A");
        };
        told("x", 2);
        told("y", 1);
        told("own", 1);
        assert_eq!(remote.with_connections("A"), 2);
        told("x", 0);
        assert_eq!(remote.with_connections("A"), 1);
        remote.forget("y");
        assert_eq!(remote.with_connections("A"), 0);
        remote.note_connections("own", b"nonsense", |_| true);
        assert!(remote.note_server("own", br#"{"server":{"id":"x2"}}"#));
        assert!(!remote.note_server("own", br#"{"server":{"id":"x2"}}"#));
    }
}
