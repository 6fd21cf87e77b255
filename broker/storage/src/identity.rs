//! The identity of a server's store: a number drawn once and kept beside the data. A store that was lost
//! gets a new one, so that an empty replica never passes for the one that had the data.

use std::path::Path;

use weir_stdx::rng::SeededRng;

use crate::disk::{Disk, RealDisk};
use crate::error::{IoContext, StorageError};
use crate::whole_file;

/// What the file starts with.
pub const MAGIC: &[u8; 8] = b"WEIRNODE";
/// The file's name in the store's folder.
pub const FILE_NAME: &str = "identity";

/// Who a store belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeIdentity {
    /// Never 0.
    pub peer_id: u64,
}

impl NodeIdentity {
    /// The identity kept in a store directory, or a new one. `rng` must be seeded from real randomness. A
    /// damaged identity is refused: a new number in its place would be another server.
    pub fn load_or_create(directory: &Path, rng: &mut SeededRng) -> Result<Self, StorageError> {
        Self::load_or_create_on(&RealDisk, directory, rng)
    }

    /// `load_or_create` on a given disk.
    pub fn load_or_create_on(
        disk: &dyn Disk,
        directory: &Path,
        rng: &mut SeededRng,
    ) -> Result<Self, StorageError> {
        disk.create_directories(directory).context("create", directory)?;
        let path = directory.join(FILE_NAME);
        if let Some(content) = whole_file::read(disk, &path, MAGIC)? {
            let peer_id = content.try_into().map(u64::from_le_bytes).unwrap_or(0);
            if peer_id == 0 {
                return Err(StorageError::corrupt(&path, 0, "it does not hold an id"));
            }
            return Ok(Self { peer_id });
        }
        // 53 bits survive every JSON reader; 0 is kept for "none".
        let peer_id = (rng.next_u64() >> 11).max(1);
        whole_file::write(disk, &path, MAGIC, &peer_id.to_le_bytes())?;
        Ok(Self { peer_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::{CrashExplorer, SimDisk};

    #[test]
    fn an_identity_is_drawn_once() {
        let disk = SimDisk::new();
        let directory = Path::new("/store");
        let first = NodeIdentity::load_or_create_on(&disk, directory, &mut SeededRng::new(1)).unwrap();
        let again = NodeIdentity::load_or_create_on(&disk, directory, &mut SeededRng::new(2)).unwrap();
        assert_eq!(first, again);
        assert!(first.peer_id > 0 && first.peer_id < 1 << 53);
    }

    #[test]
    fn a_damaged_identity_is_refused() {
        let disk = SimDisk::new();
        let directory = Path::new("/store");
        let first = NodeIdentity::load_or_create_on(&disk, directory, &mut SeededRng::new(1)).unwrap();
        disk.set_content(&directory.join("identity"), vec![0; 80]);
        let kept = NodeIdentity::load_or_create_on(&disk, directory, &mut SeededRng::new(2)).unwrap();
        assert_eq!(kept, first, "its copy was not used");
        for name in ["identity", "identity-copy"] {
            disk.set_content(&directory.join(name), vec![0; 80]);
        }
        let error = NodeIdentity::load_or_create_on(&disk, directory, &mut SeededRng::new(2)).unwrap_err();
        assert!(error.to_string().contains("/store/identity"), "{error}");
    }

    #[test]
    fn a_crash_leaves_a_whole_identity_or_none() {
        let disk = SimDisk::recording();
        let directory = Path::new("/store");
        NodeIdentity::load_or_create_on(&disk, directory, &mut SeededRng::new(1)).unwrap();
        let mut explorer = CrashExplorer::new(disk.record());
        let mut rng = SeededRng::new(5);
        while explorer.step() {
            for _ in 0..20 {
                let crashed = explorer.crash(&mut rng);
                NodeIdentity::load_or_create_on(&crashed, directory, &mut rng).unwrap();
            }
        }
    }
}
