//! Where the files of deleted streams wait before they are really removed, so that a delete by mistake can be undone
//! by hand. Only a committed deletion brings anything here.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use weir_stdx::time::UnixNanos;

/// How long deleted files stay.
pub(crate) const GRACE: Duration = Duration::from_secs(60 * 60);
const FOLDER: &str = "trash";

/// Moves a stream's folder into the trash. A stream without files has none.
pub(crate) fn discard(store_dir: &Path, folder: &Path, now: UnixNanos) -> Result<(), String> {
    if !folder.exists() {
        return Ok(());
    }
    let trash = store_dir.join(FOLDER);
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let target = trash.join(format!("{name}-{}", now.0));
    fs::create_dir_all(&trash)
        .and_then(|()| fs::rename(folder, &target))
        .map_err(|error| format!("moving {} to {}: {error}", folder.display(), target.display()))
}

/// Removes what has waited for longer than the grace time; returns how many folders.
pub(crate) fn empty(store_dir: &Path, now: SystemTime) -> usize {
    let Ok(entries) = fs::read_dir(store_dir.join(FOLDER)) else { return 0 };
    let expired = entries.filter_map(Result::ok).filter(|entry| {
        let name = entry.file_name();
        let discarded = name.to_string_lossy().rsplit_once('-').and_then(|(_, nanos)| nanos.parse().ok());
        discarded.is_some_and(|nanos| {
            let since = now.duration_since(SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos));
            since.is_ok_and(|since| since > GRACE)
        })
    });
    expired.filter(|entry| fs::remove_dir_all(entry.path()).is_ok()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discarded_files_stay_for_the_grace_time() {
        let store = tempfile::tempdir().unwrap();
        let folder = store.path().join("streams/0010");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("1.seg"), b"x").unwrap();
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        discard(store.path(), &folder, UnixNanos(1_000_000_000_000)).unwrap();
        assert!(!folder.exists());
        assert_eq!(empty(store.path(), then + GRACE), 0);
        assert_eq!(empty(store.path(), then + GRACE + Duration::from_secs(1)), 1);
    }
}
