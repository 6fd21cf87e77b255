//! What a check says, for people (`Display`) and for programs (serde).

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::Serialize;
use weir_storage::inspect::{self, FindingKind};

/// Ranges that are named in one line.
const NAMED_MAX: usize = 50;

/// Why a store could not be looked at, or a repair could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct CannotCheck {
    pub path: PathBuf,
    pub reason: String,
}

impl CannotCheck {
    pub(super) fn new(path: &Path, reason: impl Into<String>) -> Self {
        Self { path: path.to_owned(), reason: reason.into() }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub path: PathBuf,
    /// `lost`, `repairable`, `newer format`, `foreign` or `harmless`.
    pub kind: &'static str,
    pub offset: u64,
    /// Bytes; 0 where that is not known.
    pub length: u64,
    pub reason: String,
    /// First and last, both included.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sequences: Vec<(u64, u64)>,
    /// The file's twin is whole.
    #[serde(skip)]
    pub(super) has_twin: bool,
}

impl From<inspect::Finding> for Finding {
    fn from(found: inspect::Finding) -> Self {
        let kind = match found.kind {
            FindingKind::Lost => "lost",
            FindingKind::Twin | FindingKind::Repairable => "repairable",
            FindingKind::NewerFormat => "newer format",
            FindingKind::Foreign => "foreign",
            FindingKind::Harmless => "harmless",
        };
        let sequences = found.sequences.iter().map(|range| (*range.start(), *range.end())).collect();
        let has_twin = found.kind == FindingKind::Twin;
        let inspect::Finding { path, offset, length, reason, .. } = found;
        Self { path, kind, offset, length, reason, sequences, has_twin }
    }
}

impl Finding {
    /// Of a whole file or folder.
    pub(super) fn of(path: &Path, kind: FindingKind, reason: impl Into<String>) -> Self {
        inspect::Finding::of_file(path, kind, reason).into()
    }

    /// Whether something must be done about it.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self.kind, "lost" | "repairable")
    }

    fn is_refusal(&self) -> bool {
        self.kind == "newer format"
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.kind, self.path.display())?;
        match (self.offset, self.length) {
            (0, 0) => {}
            (offset, 0) => write!(f, " at byte {offset}")?,
            (offset, length) => write!(f, " at byte {offset}, {length} bytes")?,
        }
        write!(f, ": {}", self.reason)?;
        if !self.sequences.is_empty() {
            write!(f, " (messages {})", name(&self.sequences))?;
        }
        Ok(())
    }
}

/// One stream.
#[derive(Debug, Clone, Default, Serialize)]
pub struct StreamReport {
    /// Empty where no stream is known for the folder.
    pub account: String,
    pub name: String,
    /// Its log's number, and its folder's name.
    pub group: u64,
    pub folder: PathBuf,
    /// `file` or `memory`.
    pub storage: &'static str,
    /// Kept by a group of servers rather than by this one alone.
    pub is_replicated: bool,
    pub messages: u64,
    /// As nats-server counts them.
    pub bytes: u64,
    pub first_seq: u64,
    pub last_seq: u64,
    pub consumers: u64,
    /// Messages that cannot be read: first and last, both included.
    pub lost: Vec<(u64, u64)>,
    /// Why the stream goes no further than this, if it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    pub findings: Vec<Finding>,
}

impl StreamReport {
    fn is_damaged(&self) -> bool {
        self.stopped.is_some() || !self.lost.is_empty() || self.findings.iter().any(Finding::is_damage)
    }
}

/// A whole store.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CheckReport {
    pub path: PathBuf,
    /// `standalone` or `clustered`; empty where that cannot be read.
    pub mode: String,
    pub streams: Vec<StreamReport>,
    /// What concerns no stream in particular.
    pub findings: Vec<Finding>,
    pub files: u64,
    pub bytes_read: u64,
}

impl CheckReport {
    /// Whether anything must be done about the store.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.findings.iter().any(Finding::is_damage) || self.streams.iter().any(StreamReport::is_damaged)
    }

    /// Whether something could not be looked at.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.all_findings().any(Finding::is_refusal)
    }

    pub(super) fn all_findings(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().chain(self.streams.iter().flat_map(|stream| &stream.findings))
    }

    fn count(&self, kind: &str) -> usize {
        self.all_findings().filter(|finding| finding.kind == kind).count()
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = if self.mode.is_empty() { "of an unknown mode" } else { &self.mode };
        writeln!(f, "Store {} ({mode})", self.path.display())?;
        for finding in &self.findings {
            writeln!(f, "  {finding}")?;
        }
        for stream in &self.streams {
            write!(f, "{stream}")?;
        }
        let messages: u64 = self.streams.iter().map(|stream| stream.messages).sum();
        let lost: u64 =
            self.streams.iter().flat_map(|stream| &stream.lost).map(|(first, last)| last - first + 1).sum();
        writeln!(
            f,
            "{} streams, {messages} messages; {} files read, {} bytes",
            self.streams.len(),
            self.files,
            self.bytes_read
        )?;
        if self.is_damaged() {
            let stopped = self.streams.iter().filter(|stream| stream.stopped.is_some()).count();
            writeln!(
                f,
                "DAMAGED: {lost} messages cannot be read, {stopped} streams stop before their end, {} findings of \
                 what is lost, {} of what can be made anew",
                self.count("lost"),
                self.count("repairable")
            )
        } else if self.is_refused() {
            writeln!(f, "NOT CHECKED: parts of the store are not for this program")
        } else {
            writeln!(f, "SOUND")
        }
    }
}

impl fmt::Display for StreamReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() {
            writeln!(f, "Folder {} (no stream is known for it)", self.folder.display())?;
        } else {
            writeln!(f, "Stream '{} > {}' in {}", self.account, self.name, self.folder.display())?;
        }
        let kept = if self.is_replicated { "one replica of a group" } else { "kept by this server alone" };
        writeln!(
            f,
            "  {}, {kept}: {} messages, {} bytes, sequences {} to {}, {} consumers",
            self.storage, self.messages, self.bytes, self.first_seq, self.last_seq, self.consumers
        )?;
        if !self.lost.is_empty() {
            writeln!(f, "  cannot be read: messages {}", name(&self.lost))?;
        }
        if let Some(reason) = &self.stopped {
            writeln!(f, "  stops: {reason}")?;
        }
        self.findings.iter().try_for_each(|finding| writeln!(f, "  {finding}"))
    }
}

/// For people: `5, 7 to 9`.
pub(super) fn name(ranges: &[(u64, u64)]) -> String {
    let mut names: Vec<String> = ranges
        .iter()
        .take(NAMED_MAX)
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first} to {last}") })
        .collect();
    if ranges.len() > NAMED_MAX {
        names.push(format!("and {} more ranges", ranges.len() - NAMED_MAX));
    }
    names.join(", ")
}

/// As the report keeps them.
pub(super) fn pairs(ranges: &[RangeInclusive<u64>]) -> Vec<(u64, u64)> {
    ranges.iter().map(|range| (*range.start(), *range.end())).collect()
}
