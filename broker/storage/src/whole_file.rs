//! A small file that is replaced as a whole, durably, and survives damage to any one file: it is kept twice.
//! Both are written beside, synced, and renamed, the copy first. Not for anything that grows.

use std::path::{Path, PathBuf};

use crate::disk::Disk;
use crate::error::{IoContext, StorageError};
use crate::store::framed::{self, Label, copy_path};

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Replaces the file. After a crash it holds the old content or the new one.
pub fn write(disk: &dyn Disk, path: &Path, magic: &[u8; 8], content: &[u8]) -> Result<(), StorageError> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    disk.create_directories(folder).context("create", folder)?;
    let label = Label::new(magic, 0, path);
    // A copy is never older than its file: whichever is read, nothing goes back.
    for target in [copy_path(path), path.to_owned()] {
        let temporary = beside(&target);
        let renamed = framed::write_one(disk, &temporary, label, content)
            .and_then(|()| disk.rename(&temporary, &target).context("rename", &temporary));
        if renamed.is_err() {
            framed::discard(disk, [&*temporary]);
        }
        renamed?;
    }
    disk.sync_directory(folder).context("sync", folder)
}

/// The content, or `None` when there is no such file. A damaged file is made anew from its copy.
///
/// # Errors
/// When both are damaged, or one is of a newer format: they are left as they are.
pub fn read(disk: &dyn Disk, path: &Path, magic: &[u8; 8]) -> Result<Option<Vec<u8>>, StorageError> {
    let copy = copy_path(path);
    if !disk.exists(path) && !disk.exists(&copy) {
        return Ok(None);
    }
    let label = Label::new(magic, 0, path);
    let content = framed::read(disk, path, label)?;
    let both = [path, &copy];
    if both.iter().any(|path| framed::read_one(disk, path, label).is_err())
        && let Err(error) = write(disk, path, magic, &content)
    {
        tracing::warn!("{}: making it anew from its copy: {error}", path.display());
    }
    Ok(Some(content))
}

#[cfg(test)]
mod tests {
    use weir_stdx::rng::SeededRng;

    use super::*;
    use crate::disk::sim::{CrashExplorer, SimDisk};

    const MAGIC: &[u8; 8] = b"TESTFILE";

    #[test]
    fn a_crash_leaves_the_old_content_or_the_new() {
        let disk = SimDisk::recording();
        let path = Path::new("/store/deep/file");
        for number in 1..=5_u8 {
            write(&disk, path, MAGIC, &[number; 700]).unwrap();
            disk.mark(u64::from(number));
        }
        let mut explorer = CrashExplorer::new(disk.record());
        let mut rng = SeededRng::new(3);
        while explorer.step() {
            for _ in 0..20 {
                let crashed = explorer.crash(&mut rng);
                let number = read(&crashed, path, MAGIC).unwrap().map_or(0, |content| u64::from(content[0]));
                let acked = explorer.last_mark();
                assert!((acked..=acked + 1).contains(&number), "{number} after {acked}");
            }
        }
    }

    #[test]
    fn a_damaged_file_is_made_anew_from_its_copy() {
        let disk = SimDisk::new();
        let path = Path::new("/store/file");
        write(&disk, path, MAGIC, b"content").unwrap();
        disk.set_content(path, Vec::new());
        assert_eq!(read(&disk, path, MAGIC).unwrap().as_deref(), Some(&b"content"[..]));
        disk.set_content(&copy_path(path), Vec::new());
        assert_eq!(read(&disk, path, MAGIC).unwrap().as_deref(), Some(&b"content"[..]));
        disk.set_content(path, Vec::new());
        disk.set_content(&copy_path(path), Vec::new());
        assert!(read(&disk, path, MAGIC).unwrap_err().to_string().contains("/store/file"));
    }
}
