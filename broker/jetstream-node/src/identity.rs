//! What a store knows of its server: the peer id, drawn once, and whether it belongs to a cluster. A server that
//! lost its store is a new peer; an id never comes back.

use std::path::Path;

use serde::{Deserialize, Serialize};
use weir_raft::PeerId;

use crate::durable_file;

const FILE: &str = "identity";

/// How the meta state of this store is kept. The two logs differ, so a store stays what it began as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    Standalone,
    Cluster,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Identity {
    version: u32,
    peer_id: u64,
    pub(crate) mode: Mode,
}

/// Format of the file.
const VERSION: u32 = 1;

impl Identity {
    pub(crate) fn peer_id(&self) -> PeerId {
        PeerId(self.peer_id)
    }

    /// Reads the identity of the store, or writes a new one with `fresh_id` into an empty store.
    pub(crate) fn load_or_create(store: &Path, mode: Mode, fresh_id: u64) -> Result<Self, String> {
        refuse_foreign(store)?;
        let path = store.join(FILE);
        let Some(content) = durable_file::read(&path).map_err(|error| error.to_string())? else {
            let identity = Self { version: VERSION, peer_id: fresh_id, mode };
            let content = serde_json::to_vec(&identity).map_err(|error| error.to_string())?;
            durable_file::write(&path, &content).map_err(|error| format!("{}: {error}", path.display()))?;
            return Ok(identity);
        };
        let identity: Self = serde_json::from_slice(&content)
            .map_err(|error| format!("{}: {error}: left as it is", path.display()))?;
        if identity.version != VERSION {
            return Err(format!(
                "{} has format {}, this server reads format {VERSION}: left as it is",
                path.display(),
                identity.version
            ));
        }
        if identity.mode != mode {
            return Err(format!(
                "the store {} was written by a {} server and cannot be opened by a {} one: \
                 {} the `cluster` block, or choose another store_dir",
                store.display(),
                identity.mode.name(),
                mode.name(),
                if identity.mode == Mode::Cluster { "put back" } else { "remove" }
            ));
        }
        Ok(identity)
    }
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Standalone => "standalone",
            Self::Cluster => "clustered",
        }
    }
}

/// A store of nats-server is not ours to touch.
fn refuse_foreign(store: &Path) -> Result<(), String> {
    for folder in ["$G", "$SYS"] {
        if store.join(folder).is_dir() {
            return Err(format!(
                "{} holds streams of nats-server ({folder}), which this server cannot read: left as it is; \
                 choose another store_dir",
                store.display()
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_drawn_once_and_kept() {
        let store = tempfile::tempdir().unwrap();
        let first = Identity::load_or_create(store.path(), Mode::Cluster, 42).unwrap();
        let second = Identity::load_or_create(store.path(), Mode::Cluster, 43).unwrap();
        assert_eq!((first.peer_id(), second.peer_id()), (PeerId(42), PeerId(42)));
    }

    #[test]
    fn a_store_is_not_opened_in_another_mode() {
        let store = tempfile::tempdir().unwrap();
        Identity::load_or_create(store.path(), Mode::Standalone, 1).unwrap();
        let error = Identity::load_or_create(store.path(), Mode::Cluster, 1).unwrap_err();
        assert!(error.contains("standalone"), "{error}");
    }

    #[test]
    fn a_store_of_nats_server_is_refused_by_name() {
        let store = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(store.path().join("$G/streams")).unwrap();
        assert!(Identity::load_or_create(store.path(), Mode::Standalone, 1).unwrap_err().contains("nats-server"));
    }
}
