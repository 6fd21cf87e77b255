//! What opening a journal does not tell: copies of headers that are damaged while the other one is whole, and files
//! that are shorter than they were made. Changes nothing.

use std::path::Path;

use super::files::{FILE_SUFFIX, TEMPORARY_SUFFIX, read_header_area};
use super::record::{FILE_HEADER_BYTES, FileHeader, HeaderState, decode_header, decode_header_copy};
use super::recover::LOCK_FILE;
use crate::disk::{Disk, OpenMode};
use crate::error::{IoContext, StorageError};
use crate::inspect::{Finding, FindingKind};

/// Looks at the names, headers and lengths of a journal's files. What their records say is told by opening it.
///
/// # Errors
/// When the directory or a file cannot be read.
pub fn inspect_journal(disk: &dyn Disk, directory: &Path) -> Result<Vec<Finding>, StorageError> {
    let mut findings = Vec::new();
    for name in disk.list_files(directory).context("list", directory)? {
        let path = directory.join(&name);
        if name.ends_with(FILE_SUFFIX) {
            inspect_file(disk, &path, &mut findings)?;
        } else if name != LOCK_FILE && !name.ends_with(TEMPORARY_SUFFIX) {
            let reason = "it is not a file of a journal, and is left alone";
            findings.push(Finding::of_file(&path, FindingKind::Foreign, reason));
        }
    }
    Ok(findings)
}

fn inspect_file(disk: &dyn Disk, path: &Path, findings: &mut Vec<Finding>) -> Result<(), StorageError> {
    let file = disk.open(path, OpenMode::Read).context("open", path)?;
    let area = read_header_area(&*file, path)?;
    let HeaderState::Valid(header, _) = decode_header(&area) else {
        // Told by opening, or a refusal.
        return Ok(());
    };
    for copy in [0, 1] {
        let start = FileHeader::copy_offset(copy);
        let bytes = area.get(usize::try_from(start).unwrap_or(0)..).unwrap_or_default();
        let bytes = &bytes[..bytes.len().min(FileHeader::ENCODED_BYTES)];
        let unused = bytes.iter().all(|byte| *byte == 0) && bytes.len() == FileHeader::ENCODED_BYTES;
        if !unused && !matches!(decode_header_copy(bytes), HeaderState::Valid(..)) {
            findings.push(Finding {
                offset: start,
                length: FileHeader::ENCODED_BYTES as u64,
                ..Finding::of_file(
                    path,
                    FindingKind::Repairable,
                    "one copy of its header is damaged; the other is whole",
                )
            });
        }
    }
    let length = file.length().context("read", path)?;
    if length < header.file_bytes && length >= FILE_HEADER_BYTES {
        findings.push(Finding {
            offset: length,
            length: header.file_bytes - length,
            ..Finding::of_file(
                path,
                FindingKind::Repairable,
                format!("it is cut off: it was made with {} bytes", header.file_bytes),
            )
        });
    }
    Ok(())
}
