//! Where what lies in a store's folder.

use std::path::{Path, PathBuf};

use weir_storage::disk::Disk;

use super::report::CannotCheck;
use crate::identity;

pub(super) const JOURNAL: &str = "journal";
pub(super) const STREAMS: &str = "streams";
pub(super) const TRASH: &str = "trash";
/// Where a repair puts what it replaces.
pub(super) const QUARANTINE: &str = "quarantine";
/// A journal that a repair is making.
pub(super) const NEW_JOURNAL: &str = "journal.repaired";
/// Folders and files that belong to a store.
const KNOWN: [&str; 12] = [
    JOURNAL,
    STREAMS,
    TRASH,
    QUARANTINE,
    NEW_JOURNAL,
    "meta",
    "spool",
    "restore",
    "identity",
    "mode",
    weir_storage::vault::KEY_FILE_NAME,
    weir_storage::vault::LOCK_FILE_NAME,
];

/// The folder of the store that `directory` names: itself, or the one that a server makes in its `store_dir`.
pub(super) fn find(disk: &dyn Disk, directory: &Path) -> Result<PathBuf, CannotCheck> {
    if !disk.exists(directory) {
        return Err(CannotCheck::new(directory, "there is no such folder"));
    }
    let looks_right = |folder: &Path| {
        ["identity", "mode", JOURNAL, "identity-copy", "mode-copy"]
            .iter()
            .any(|name| disk.exists(&folder.join(name)))
    };
    let inside = directory.join("jetstream");
    let folder = match (looks_right(directory), looks_right(&inside)) {
        (true, _) => directory.to_owned(),
        (false, true) => inside,
        (false, false) => {
            for folder in [directory, &inside] {
                identity::refuse_foreign(disk, folder).map_err(|reason| CannotCheck::new(folder, reason))?;
            }
            return Err(CannotCheck::new(directory, "it is not a store of this server: it holds no journal"));
        }
    };
    identity::refuse_foreign(disk, &folder).map_err(|reason| CannotCheck::new(&folder, reason))?;
    Ok(folder)
}

/// Names in the folder that are nobody's.
pub(super) fn unknown(disk: &dyn Disk, folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names = disk.list_files(folder)?;
    names.extend(disk.list_directories(folder)?);
    names.retain(|name| {
        let plain = name.trim_end_matches(".new").trim_end_matches("-copy");
        !KNOWN.contains(&plain)
    });
    Ok(names)
}

/// The group whose stream lies in a folder of this name.
pub(super) fn group_of(name: &str) -> Option<u64> {
    (name.len() == 16).then(|| u64::from_str_radix(name, 16).ok()).flatten()
}

/// The same of a folder in the trash: when it was deleted, then its name.
pub(super) fn group_in_trash(name: &str) -> Option<u64> {
    let (_, name) = name.split_once('-')?;
    group_of(name.split('.').next().unwrap_or(name))
}
