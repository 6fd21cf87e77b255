//! Whether a store belongs to this kind of server: not to nats-server, and not to a clustered server when this one
//! is on its own, or the other way round, since their meta logs differ. The peer id is `weir_storage`'s business.

use std::path::Path;

use weir_storage::disk::Disk;
use weir_storage::whole_file;

pub(crate) const FILE: &str = "mode";
pub(crate) const MAGIC: &[u8; 8] = b"WEIRMODE";

/// How the meta state of a store is kept. A store stays what it began as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Standalone,
    Cluster,
}

impl Mode {
    const fn name(self) -> &'static str {
        match self {
            Self::Standalone => "standalone",
            Self::Cluster => "clustered",
        }
    }
}

/// Refuses a store that is not for this mode; marks a new one.
pub(crate) fn claim(disk: &dyn Disk, store: &Path, mode: Mode) -> Result<(), String> {
    refuse_foreign(disk, store)?;
    let path = store.join(FILE);
    let content = whole_file::read(disk, &path, MAGIC).map_err(|error| error.to_string())?;
    let Some(content) = content else {
        let content = mode.name().as_bytes();
        return whole_file::write(disk, &path, MAGIC, content).map_err(|error| error.to_string());
    };
    if content == mode.name().as_bytes() {
        return Ok(());
    }
    let advice = if mode == Mode::Standalone { "put back" } else { "remove" };
    Err(format!(
        "the store {} was written by a {} server and cannot be opened by a {} one: {advice} the `cluster` block, \
         or choose another store_dir",
        store.display(),
        String::from_utf8_lossy(&content),
        mode.name(),
    ))
}

/// A store of nats-server is not ours to touch.
pub(crate) fn refuse_foreign(disk: &dyn Disk, store: &Path) -> Result<(), String> {
    for folder in ["$G", "$SYS"] {
        if disk.exists(&store.join(folder)) {
            return Err(format!(
                "{} holds streams of nats-server ({folder}), which this server cannot read: left as it is; choose \
                 another store_dir",
                store.display()
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use weir_storage::disk::RealDisk;

    use super::*;

    #[test]
    fn a_store_is_not_opened_in_another_mode() {
        let store = tempfile::tempdir().unwrap();
        claim(&RealDisk, store.path(), Mode::Standalone).unwrap();
        claim(&RealDisk, store.path(), Mode::Standalone).unwrap();
        let error = claim(&RealDisk, store.path(), Mode::Cluster).unwrap_err();
        assert!(error.contains("standalone"), "{error}");
    }

    #[test]
    fn a_store_of_nats_server_is_refused_by_name() {
        let store = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(store.path().join("$G/streams")).unwrap();
        assert!(claim(&RealDisk, store.path(), Mode::Standalone).unwrap_err().contains("nats-server"));
    }
}
