//! Why a backup cannot be read, in nats-server's words where it has some.

/// What is wrong with a backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("EOF")]
    End,
    #[error("unexpected EOF")]
    UnexpectedEnd,
    #[error("s2: corrupt input")]
    Corrupt,
    #[error("s2: corrupt input, crc mismatch")]
    Checksum,
    #[error("s2: unsupported input")]
    Unsupported,
    #[error("archive: invalid archive stream")]
    InvalidArchive,
    #[error("backups in the format of nats-server before 2.15 cannot be restored")]
    OldFormat,
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl BackupError {
    /// Behind the first bytes of an archive damage to the stream it is in is damage to the archive.
    pub(crate) fn within_archive(self) -> Self {
        match self {
            Self::Corrupt | Self::Checksum | Self::Unsupported => Self::InvalidArchive,
            other => other,
        }
    }

    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(text.into())
    }
}
