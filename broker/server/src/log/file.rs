//! A log file that is put aside when it has grown: `<name>.<year>.<month>.<day>.<h>.<m>.<s>.<ns>`.

use std::{
    fmt::Write as _,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use time::OffsetDateTime;

use crate::io_reason;

/// How far a log file may grow, and how many are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rotation {
    /// Bytes; 0 is no limit.
    pub(crate) size_limit: u64,
    /// Files, the current one included; 0 keeps all.
    pub(crate) files_max: u64,
}

/// The open file.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
    rotation: Rotation,
    /// Where the next rotation is due: further off after one that failed.
    limit: u64,
}

impl LogFile {
    pub(super) fn open(path: &Path, rotation: Rotation) -> Result<Self, String> {
        let failed = |error: io::Error| {
            let reason = io_reason(&error);
            format!("error opening file: open {}: {reason}", path.display())
        };
        let file = append_to(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        Ok(Self { path: path.to_path_buf(), file, size, rotation, limit: rotation.size_limit })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file had grown beyond its limit before it was opened.
    pub(super) fn is_full(&self) -> bool {
        self.limit > 0 && self.size > self.limit
    }

    /// Writes a line; `now` is the local time, for the name a full file gets.
    pub(super) fn write(&mut self, line: &str, pid: u32, now: OffsetDateTime) {
        // A log that cannot be written has nowhere to say so.
        if self.file.write_all(line.as_bytes()).is_err() {
            return;
        }
        self.size += line.len() as u64;
        if !self.is_full() {
            return;
        }
        let aside = aside_path(&self.path, now);
        let _ = fs::rename(&self.path, &aside);
        match append_to(&self.path) {
            Ok(file) => {
                self.file = file;
                self.size = 0;
                self.limit = self.rotation.size_limit;
                let aside = aside.display().to_string();
                self.say(pid, now, "INF", &format!("Rotated log, backup saved as {aside:?}"));
                if self.rotation.files_max > 0 {
                    self.purge(pid, now);
                }
            }
            // The old file, moved or not, takes the lines until the next attempt.
            Err(error) => {
                self.limit = self.limit.saturating_mul(2);
                let (reason, limit) = (io_reason(&error), self.limit);
                let text = format!(
                    "Unable to close logfile for rotation ({reason}), will attempt next rotation at size {limit}"
                );
                self.say(pid, now, "ERR", &text);
            }
        }
    }

    /// Removes the oldest files that were put aside, beyond the number to keep.
    fn purge(&mut self, pid: u32, now: OffsetDateTime) {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
            _ => PathBuf::from("."),
        };
        let base = self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                let (folder, reason) = (folder.display().to_string(), io_reason(&error));
                let text = format!(
                    "Unable to read directory {folder:?} for log purge ({reason}), will attempt next rotation"
                );
                return self.say(pid, now, "ERR", &text);
            }
        };
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut aside: Vec<String> = names.filter(|name| is_put_aside(&base, name)).collect();
        aside.sort();
        let kept = usize::try_from(self.rotation.files_max - 1).unwrap_or(usize::MAX);
        for name in &aside[..aside.len().saturating_sub(kept)] {
            if let Err(error) = fs::remove_file(folder.join(name)) {
                let reason = io_reason(&error);
                let text = format!(
                    "Unable to remove backup log file {name:?} ({reason}), will attempt next rotation"
                );
                return self.say(pid, now, "ERR", &text);
            }
            self.say(pid, now, "INF", &format!("Purged log file {name:?}"));
        }
    }

    /// The file's own lines end with a carriage return, as in the reference.
    fn say(&mut self, pid: u32, now: OffsetDateTime, level: &str, text: &str) {
        let mut line = format!("[{pid}] ");
        super::write_time(&mut line, now);
        let _ = write!(line, "[{level}] {text}\r\n");
        let _ = self.file.write_all(line.as_bytes());
        self.size += line.len() as u64;
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

fn aside_path(path: &Path, now: OffsetDateTime) -> PathBuf {
    let (hour, minute, second, nanosecond) = now.to_hms_nano();
    let (year, month, day) = (now.year(), u8::from(now.month()), now.day());
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{year:04}.{month:02}.{day:02}.{hour:02}.{minute:02}.{second:02}.{nanosecond:09}"));
    PathBuf::from(name)
}

/// `name` is `base` with a time behind it.
fn is_put_aside(base: &str, name: &str) -> bool {
    let Some(stamp) = name.strip_prefix(base).and_then(|rest| rest.strip_prefix('.')) else {
        return false;
    };
    let fields: Vec<&str> = stamp.split('.').collect();
    let widths: Vec<usize> = fields.iter().map(|field| field.len()).collect();
    widths == [4, 2, 2, 2, 2, 2, 9] && stamp.bytes().all(|byte| byte == b'.' || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_700_000_000 + second).expect("a time")
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder").flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_full_file_is_put_aside_under_the_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.log");
        let mut file = LogFile::open(&path, Rotation { size_limit: 20, files_max: 0 }).expect("opened");
        file.write("0123456789\n", 7, at(0));
        assert_eq!(names(folder.path()), ["a.log"]);
        file.write("0123456789\n", 7, at(0));
        assert_eq!(names(folder.path()), ["a.log", "a.log.2023.11.14.22.13.20.000000000"]);
        let text = fs::read_to_string(&path).expect("read");
        assert!(text.starts_with("[7] 2023/11/14 22:13:20.000000 [INF] Rotated log, backup saved as \""));
        assert!(text.ends_with("\"\r\n"));
    }

    #[test]
    fn only_so_many_files_are_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.log");
        fs::write(folder.path().join("a.log.notes"), "").expect("written");
        let mut file = LogFile::open(&path, Rotation { size_limit: 200, files_max: 3 }).expect("opened");
        for second in 0..5 {
            file.write(&"x".repeat(201), 7, at(second));
        }
        let kept = names(folder.path());
        assert_eq!(kept.len(), 4, "{kept:?}");
        assert!(kept.contains(&"a.log.notes".to_owned()));
        assert!(kept.contains(&"a.log.2023.11.14.22.13.24.000000000".to_owned()));
    }
}
