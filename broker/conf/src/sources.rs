//! Where a configuration comes from: files and environment variables, behind a seam for tests.

use std::{collections::BTreeMap, io, path::Path};

/// Reads configuration files and variables.
pub trait Sources {
    /// The whole text of a file.
    fn read(&self, path: &Path) -> io::Result<String>;
    /// The value of an environment variable, if it is set.
    fn variable(&self, name: &str) -> Option<String>;
}

/// The real file system and the real environment.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemSources;

impl Sources for SystemSources {
    fn read(&self, path: &Path) -> io::Result<String> {
        // Invalid UTF-8 is taken as nats-server takes it: replaced, not refused.
        Ok(String::from_utf8_lossy(&std::fs::read(path)?).into_owned())
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

/// Files and variables kept in memory.
#[derive(Debug, Clone, Default)]
pub struct MemorySources {
    pub files: BTreeMap<String, String>,
    pub variables: BTreeMap<String, String>,
}

impl Sources for MemorySources {
    fn read(&self, path: &Path) -> io::Result<String> {
        self.files
            .get(path.to_string_lossy().as_ref())
            .cloned()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }
}
