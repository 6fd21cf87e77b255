//! The files a server leaves for other programs: its process id, and the addresses it listens on.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::io_reason;

/// Writes the bare process id, without a line feed.
pub(crate) fn write_pid_file(path: &Path) -> Result<(), String> {
    write_private(path, std::process::id().to_string().as_bytes())
        .map_err(|e| format!("open {}: {}", path.display(), io_reason(&e)))
}

/// Readable by its owner alone: the reference does so too.
fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o660).open(path)?;
    file.write_all(content)
}

/// The addresses that a server listens on, as URLs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Ports {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) nats: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) monitoring: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) cluster: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) websocket: Vec<String>,
}

/// The file `<executable>_<pid>.ports`; removed when dropped.
pub(crate) struct PortsFile {
    path: PathBuf,
}

impl PortsFile {
    /// Writes the file into `directory`, under the name this program was started as.
    pub(crate) fn write(directory: &Path, program: &str, ports: &Ports) -> Result<Self, String> {
        let name = format!("{program}_{}.ports", std::process::id());
        let path = directory.join(name);
        let content = serde_json::to_vec(ports).unwrap_or_default();
        write_private(&path, &content).map_err(|error| {
            format!("Error writing ports file ({}): {}", path.display(), io_reason(&error))
        })?;
        Ok(Self { path })
    }
}

impl Drop for PortsFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            let (path, reason) = (self.path.display(), io_reason(&error));
            tracing::error!("Error cleaning up ports file {path}: remove {path}: {reason}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_file_holds_the_bare_number() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pid");
        write_pid_file(&path).expect("written");
        assert_eq!(fs::read_to_string(&path).expect("read"), std::process::id().to_string());
        let missing = write_pid_file(Path::new("/nonexistent/pid")).expect_err("refused");
        assert_eq!(missing, "open /nonexistent/pid: no such file or directory");
    }

    #[test]
    fn the_ports_file_goes_with_the_server() {
        let directory = tempfile::tempdir().expect("a directory");
        let ports = Ports { nats: vec!["nats://127.0.0.1:1".to_owned()], ..Ports::default() };
        let file = PortsFile::write(directory.path(), "weir", &ports).expect("written");
        let content = fs::read_to_string(&file.path).expect("read");
        assert_eq!(content, r#"{"nats":["nats://127.0.0.1:1"]}"#);
        let path = file.path.clone();
        drop(file);
        assert!(!path.exists());
    }
}
