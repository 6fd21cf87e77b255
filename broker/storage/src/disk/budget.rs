//! A disk that keeps a bounded number of files open, however many are in use: the one not used for longest is closed,
//! and opened again when it is wanted. Bytes that are not durable are synced before their file is closed, so that an
//! error of the system is never lost with a handle; it comes back at the next sync. Not for files that are renamed or
//! deleted while they are in use by their owner: nothing finds them again.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::{Mutex, RwLock};

use super::{Disk, DiskFile, OpenMode};
use crate::vault::Vault;

/// Share of the files a process may have open, which connections need as well, and its bounds.
const SHARE: usize = 8;
const FILES_MIN: usize = 32;
const FILES_MAX: usize = 4096;
/// Where the limit is not known.
const PROCESS_LIMIT_OTHERWISE: usize = 1024;
/// What Linux answers when the process, or the system, has too many files open.
const TOO_MANY: [i32; 2] = [24, 23];

/// The disk. Clones share the budget.
#[derive(Clone, Debug)]
pub struct BudgetDisk {
    inner: Arc<dyn Disk>,
    budget: Arc<Budget>,
}

#[derive(Debug)]
struct Budget {
    files_max: usize,
    open: AtomicUsize,
    ticks: AtomicU64,
    files: Mutex<Vec<Weak<BudgetFile>>>,
}

impl BudgetDisk {
    /// At most so many files of `inner` are open at a time, but for those that are read by several at once.
    #[must_use]
    pub fn new(inner: Arc<dyn Disk>, files_max: usize) -> Self {
        let budget = Budget {
            files_max: files_max.max(1),
            open: AtomicUsize::new(0),
            ticks: AtomicU64::new(0),
            files: Mutex::default(),
        };
        Self { inner, budget: Arc::new(budget) }
    }

    /// An eighth of what the process may have open (`RLIMIT_NOFILE`), at least 32 and at most 4,096.
    #[must_use]
    pub fn for_process(inner: Arc<dyn Disk>) -> Self {
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let limit = soft_limit(&limits).unwrap_or(PROCESS_LIMIT_OTHERWISE);
        Self::new(inner, (limit / SHARE).clamp(FILES_MIN, FILES_MAX))
    }

    /// Files that are open now.
    #[must_use]
    pub fn open_files(&self) -> usize {
        self.budget.open.load(Ordering::Relaxed)
    }
}

fn soft_limit(limits: &str) -> Option<usize> {
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

impl Budget {
    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::Relaxed)
    }

    /// Closes files until one more may be open; `sooner` closes as many again.
    fn make_room(&self, sooner: bool) {
        let excess = (self.open.load(Ordering::Relaxed) + 1).saturating_sub(self.files_max);
        let wanted = if sooner { self.files_max / 2 } else { 0 }.max(excess);
        if wanted == 0 {
            return;
        }
        // Several at once: looking at all of them takes time.
        let wanted = wanted.max(self.files_max / 8).max(1);
        let mut files: Vec<Arc<BudgetFile>> = {
            let mut known = self.files.lock();
            known.retain(|file| file.strong_count() > 0);
            known.iter().filter_map(Weak::upgrade).collect()
        };
        // What several hold may be gone by name.
        files.retain(|file| Arc::strong_count(file) == 2 && file.handle.read().is_some());
        files.sort_unstable_by_key(|file| file.last_used.load(Ordering::Relaxed));
        for file in files.into_iter().take(wanted) {
            file.close();
        }
    }
}

#[derive(Debug)]
struct BudgetFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    mode: OpenMode,
    budget: Arc<Budget>,
    handle: RwLock<Option<Arc<dyn DiskFile>>>,
    last_used: AtomicU64,
    has_unsynced: AtomicBool,
    /// Why a sync failed when nobody asked for it.
    failed: OnceLock<(io::ErrorKind, String)>,
}

impl BudgetFile {
    fn with<T>(&self, mut operation: impl FnMut(&dyn DiskFile) -> io::Result<T>) -> io::Result<T> {
        self.last_used.store(self.budget.tick(), Ordering::Relaxed);
        loop {
            if let Some(handle) = &*self.handle.read() {
                return operation(&**handle);
            }
            self.open_again()?;
        }
    }

    /// `with`, for what has to be synced.
    fn change<T>(&self, operation: impl Fn(&dyn DiskFile) -> io::Result<T>) -> io::Result<T> {
        self.check()?;
        self.with(|handle| {
            self.has_unsynced.store(true, Ordering::Relaxed);
            operation(handle)
        })
    }

    fn check(&self) -> io::Result<()> {
        self.failed.get().map_or(Ok(()), |(kind, text)| Err(io::Error::new(*kind, text.clone())))
    }

    fn open_again(&self) -> io::Result<()> {
        let opened = open(&*self.disk, &self.budget, &self.path, self.mode)?;
        let mut handle = self.handle.write();
        if handle.is_none() {
            *handle = Some(opened);
            self.budget.open.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Unless it is in use.
    fn close(&self) {
        let Some(mut handle) = self.handle.try_write() else { return };
        let Some(open) = handle.as_ref() else { return };
        if self.has_unsynced.swap(false, Ordering::Relaxed)
            && let Err(error) = open.sync_data()
        {
            tracing::error!("sync {}: {error}", self.path.display());
            let _ = self.failed.set((error.kind(), error.to_string()));
        }
        *handle = None;
        self.budget.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for BudgetFile {
    fn drop(&mut self) {
        if self.handle.get_mut().is_some() {
            self.budget.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Opens a file once there is room for it.
fn open(disk: &dyn Disk, budget: &Budget, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
    budget.make_room(false);
    match disk.open(path, mode) {
        Err(error) if error.raw_os_error().is_some_and(|number| TOO_MANY.contains(&number)) => {
            budget.make_room(true);
            disk.open(path, mode)
        }
        result => result,
    }
}

impl DiskFile for BudgetFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|handle| handle.read_at(buffer, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.change(|handle| handle.write_at(bytes, offset))
    }

    fn write_log_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.change(|handle| handle.write_log_at(bytes, offset))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check()?;
        // A closed file was synced; its names are its owner's business.
        let Some(handle) = self.handle.read().clone() else { return Ok(()) };
        let had_unsynced = self.has_unsynced.swap(false, Ordering::Relaxed);
        handle.sync_data().inspect_err(|_| self.has_unsynced.store(had_unsynced, Ordering::Relaxed))
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.change(|handle| handle.set_length(length))
    }

    fn length(&self) -> io::Result<u64> {
        self.with(|handle| handle.length())
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.change(|handle| handle.allocate(length))
    }
}

impl Disk for BudgetDisk {
    fn vault(&self) -> Option<&Arc<Vault>> {
        self.inner.vault()
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let handle = open(&*self.inner, &self.budget, path, mode)?;
        self.budget.open.fetch_add(1, Ordering::Relaxed);
        let again = if mode == OpenMode::Read { OpenMode::Read } else { OpenMode::ReadWrite };
        let file = Arc::new(BudgetFile {
            disk: Arc::clone(&self.inner),
            path: path.to_owned(),
            mode: again,
            budget: Arc::clone(&self.budget),
            handle: RwLock::new(Some(handle)),
            last_used: AtomicU64::new(self.budget.tick()),
            has_unsynced: AtomicBool::new(mode == OpenMode::CreateEmpty),
            failed: OnceLock::new(),
        });
        let mut files = self.budget.files.lock();
        if files.len() == files.capacity() {
            files.retain(|file| file.strong_count() > 0);
        }
        files.push(Arc::downgrade(&file));
        Ok(file)
    }

    super::pass_names_on!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::{Fault, SimDisk};

    fn files(disk: &BudgetDisk, count: usize) -> Vec<Arc<dyn DiskFile>> {
        let open = |number| disk.open(Path::new(&format!("/f{number}")), OpenMode::CreateEmpty).unwrap();
        (0..count).map(open).collect()
    }

    #[test]
    fn many_files_are_in_use_and_few_are_open() {
        let disk = BudgetDisk::new(Arc::new(SimDisk::new()), 16);
        let files = files(&disk, 200);
        for round in 0..3_u8 {
            for (number, file) in files.iter().enumerate() {
                let content = [round, u8::try_from(number).unwrap()];
                file.write_at(&content, u64::from(round) * 2).unwrap();
                assert!(disk.open_files() <= 16, "{} are open", disk.open_files());
            }
        }
        for (number, file) in files.iter().enumerate() {
            let number = u8::try_from(number).unwrap();
            let mut content = [0; 6];
            assert_eq!(file.read_at(&mut content, 0).unwrap(), 6);
            assert_eq!(content, [0, number, 1, number, 2, number]);
            file.sync_data().unwrap();
        }
        drop(files);
        assert_eq!(disk.open_files(), 0);
    }

    #[test]
    fn a_sync_that_fails_when_a_file_is_closed_fails_the_next_one_of_that_file() {
        let sim = SimDisk::new();
        let disk = BudgetDisk::new(Arc::new(sim.clone()), 1);
        let files = files(&disk, 1);
        files[0].write_at(b"x", 0).unwrap();
        sim.fail_at(0, Fault::Io);
        drop(disk.open(Path::new("/other"), OpenMode::CreateEmpty).unwrap());
        assert!(files[0].sync_data().is_err());
        assert!(files[0].sync_data().is_err() && files[0].write_at(b"y", 0).is_err(), "it was trusted again");
    }

    #[test]
    fn what_several_hold_stays_open() {
        let disk = BudgetDisk::new(Arc::new(SimDisk::new()), 1);
        let held = files(&disk, 1);
        held[0].write_at(b"x", 0).unwrap();
        let reader = Arc::clone(&held[0]);
        let _others: Vec<_> =
            (0..5).map(|n| disk.open(Path::new(&format!("/o{n}")), OpenMode::CreateEmpty)).collect();
        disk.unlink(Path::new("/f0")).unwrap();
        assert_eq!(reader.read_at(&mut [0], 0).unwrap(), 1);
    }

    #[test]
    fn the_limit_of_the_process_is_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            20000                30000                files     \n";
        assert_eq!(soft_limit(limits), Some(20_000));
        assert_eq!(
            soft_limit("Max open files            unlimited            unlimited            files"),
            None
        );
        let disk = BudgetDisk::for_process(Arc::new(SimDisk::new()));
        assert!((FILES_MIN..=FILES_MAX).contains(&disk.budget.files_max));
    }
}
