//! A disk that says when it is slow: what waits for a write or a sync is answered late, and nobody would know why. One
//! warning a minute at most, with the path and the duration. It delays, retries and refuses nothing.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{Disk, DiskFile, OpenMode};
use crate::vault::Vault;

/// Clients give up after some seconds; a healthy disk needs milliseconds.
const SLOW_FROM: Duration = Duration::from_secs(1);
const BETWEEN_WARNINGS: Duration = Duration::from_mins(1);

/// The disk. Clones share what they found.
#[derive(Clone, Debug)]
pub struct WatchedDisk {
    inner: Arc<dyn Disk>,
    watch: Arc<Watch>,
}

#[derive(Debug)]
struct Watch {
    slow_from: Duration,
    slowness: Mutex<Slowness>,
    tell: fn(&str),
}

/// What was slow lately, and when it was told.
#[derive(Debug, Default)]
struct Slowness {
    told: Option<Instant>,
    untold: u64,
}

impl Slowness {
    /// What there is to tell of an operation that was slow.
    fn note(&mut self, now: Instant, took: Duration, what: &str, path: &Path) -> Option<String> {
        if self.told.is_some_and(|told| now.duration_since(told) < BETWEEN_WARNINGS) {
            self.untold += 1;
            return None;
        }
        self.told = Some(now);
        let others = match std::mem::take(&mut self.untold) {
            0 => String::new(),
            1 => "; so was one operation since the last warning".to_owned(),
            count => format!("; so were {count} operations since the last warning"),
        };
        Some(format!(
            "The disk is slow: to {what} {} took {:.1}s, what waits for it is answered late{others}",
            path.display(),
            took.as_secs_f64()
        ))
    }
}

impl Watch {
    fn time<T>(&self, what: &str, path: &Path, operation: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let result = operation();
        let took = began.elapsed();
        if took >= self.slow_from {
            let text = self.slowness.lock().note(began + took, took, what, path);
            text.iter().for_each(|text| (self.tell)(text));
        }
        result
    }
}

impl WatchedDisk {
    /// Watches `inner`; warnings go to the log.
    #[must_use]
    pub fn new(inner: Arc<dyn Disk>) -> Self {
        Self::with(inner, SLOW_FROM, |text| tracing::warn!("{text}"))
    }

    fn with(inner: Arc<dyn Disk>, slow_from: Duration, tell: fn(&str)) -> Self {
        Self { inner, watch: Arc::new(Watch { slow_from, slowness: Mutex::default(), tell }) }
    }
}

impl Disk for WatchedDisk {
    fn vault(&self) -> Option<&Arc<Vault>> {
        self.inner.vault()
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let inner = self.watch.time("open", path, || self.inner.open(path, mode))?;
        Ok(Arc::new(WatchedFile { inner, path: path.to_owned(), watch: Arc::clone(&self.watch) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.watch.time("rename", from, || self.inner.rename(from, to))
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.watch.time("delete", path, || self.inner.unlink(path))
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.watch.time("sync", path, || self.inner.sync_directory(path))
    }

    fn create_directories(&self, path: &Path) -> io::Result<()> {
        self.watch.time("make", path, || self.inner.create_directories(path))
    }

    fn list_files(&self, path: &Path) -> io::Result<Vec<String>> {
        self.inner.list_files(path)
    }

    fn list_directories(&self, path: &Path) -> io::Result<Vec<String>> {
        self.inner.list_directories(path)
    }

    /// Emptying the trash may take long, and nobody waits for it.
    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_tree(path)
    }

    fn exists(&self, path: &Path) -> bool {
        self.inner.exists(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Debug + Send + Sync>> {
        self.inner.lock(path)
    }
}

#[derive(Debug)]
struct WatchedFile {
    inner: Arc<dyn DiskFile>,
    path: PathBuf,
    watch: Arc<Watch>,
}

impl DiskFile for WatchedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.watch.time("write", &self.path, || self.inner.write_at(bytes, offset))
    }

    fn write_log_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.watch.time("write", &self.path, || self.inner.write_log_at(bytes, offset))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.watch.time("sync", &self.path, || self.inner.sync_data())
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.watch.time("set the length of", &self.path, || self.inner.set_length(length))
    }

    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }

    /// Journal files are made ahead of time, in the background.
    fn allocate(&self, length: u64) -> io::Result<()> {
        self.inner.allocate(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::{SimDisk, SlowDisk};
    use crate::{GroupId, Journal, JournalEntry, JournalOptions};

    static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());
    const SYNC_TIME: Duration = Duration::from_millis(30);

    #[test]
    fn a_journal_on_a_slow_disk_has_it_said_once_and_goes_on() {
        let slow = Arc::new(SlowDisk::new(SimDisk::new(), SYNC_TIME));
        let disk = WatchedDisk::with(slow, SYNC_TIME, |text| TOLD.lock().push(text.to_owned()));
        let options = JournalOptions { file_size_bytes: 16 << 10, ..JournalOptions::default() };
        let (journal, _) = Journal::open_on(Arc::new(disk), Path::new("/journal"), options).unwrap();
        for index in 1..=5 {
            let (sender, synced) = std::sync::mpsc::channel();
            let entry = JournalEntry { index, term: 1, payload: bytes::Bytes::from_static(b"x") };
            journal.append(GroupId(9), vec![entry], Box::new(move |result| drop(sender.send(result))));
            synced.recv().expect("an answer").expect("it is durable");
        }
        let told = TOLD.lock().clone();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("The disk is slow: to sync /journal/"), "{told:?}");
    }

    #[test]
    fn a_disk_that_is_quick_enough_is_not_spoken_of() {
        let quick =
            WatchedDisk::with(Arc::new(SimDisk::new()), Duration::from_secs(60), |text| panic!("{text}"));
        let file = quick.open(Path::new("/f"), OpenMode::CreateEmpty).unwrap();
        file.write_at(b"x", 0).unwrap();
        file.sync_data().unwrap();
    }

    #[test]
    fn a_warning_a_minute_counts_what_was_slow_since_the_last() {
        let (mut slowness, began) = (Slowness::default(), Instant::now());
        let mut note = |after: u64| {
            let now = began + Duration::from_secs(after);
            slowness.note(now, Duration::from_millis(5_250), "sync", Path::new("/j/1.journal"))
        };
        let first = "The disk is slow: to sync /j/1.journal took 5.2s, what waits for it is answered late";
        assert_eq!(note(0).as_deref(), Some(first));
        assert_eq!((note(1), note(59)), (None, None));
        let second = format!("{first}; so were 2 operations since the last warning");
        assert_eq!(note(60), Some(second));
        assert_eq!(note(120).as_deref(), Some(first));
    }
}
