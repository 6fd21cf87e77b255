//! A disk that reads another one and keeps what is written in memory: what a program would do to a store can be
//! tried and looked at without touching it. Bounded: beyond its limit it is full. Not for anything that must last.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::{Disk, DiskFile, OpenMode};
use crate::vault::Vault;

const PAGE_BYTES: usize = 4096;

/// The disk. Clones share what was written.
#[derive(Clone, Debug)]
pub struct OverlayDisk {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    base: Arc<dyn Disk>,
    names: Mutex<Names>,
    bytes_held: AtomicU64,
    bytes_max: u64,
}

#[derive(Debug, Default)]
struct Names {
    /// Open files that were not changed.
    opened: BTreeMap<PathBuf, Weak<File>>,
    /// Files that differ from the disk below; nothing where the name is gone.
    changed: BTreeMap<PathBuf, Option<Arc<File>>>,
}

#[derive(Debug)]
struct File {
    content: Mutex<Content>,
}

#[derive(Debug)]
struct Content {
    base: Option<Arc<dyn DiskFile>>,
    /// Bytes of the base that show.
    base_bytes: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
    length: u64,
    is_changed: bool,
}

impl OverlayDisk {
    /// Over a disk; holds at most `bytes_max` of changes.
    #[must_use]
    pub fn new(base: Arc<dyn Disk>, bytes_max: u64) -> Self {
        let names = Mutex::default();
        Self { shared: Arc::new(Shared { base, names, bytes_held: AtomicU64::new(0), bytes_max }) }
    }

    /// Names of files that were written, renamed or removed.
    #[must_use]
    pub fn changes(&self) -> Vec<PathBuf> {
        self.shared.names.lock().changed.keys().cloned().collect()
    }

    fn find(&self, path: &Path) -> io::Result<Option<Arc<File>>> {
        let mut names = self.shared.names.lock();
        if let Some(changed) = names.changed.get(path) {
            return Ok(changed.clone());
        }
        if let Some(file) = names.opened.get(path).and_then(Weak::upgrade) {
            return Ok(Some(file));
        }
        let base = match self.shared.base.open(path, OpenMode::Read) {
            Ok(base) => base,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let length = base.length()?;
        let content = Content {
            base: Some(base),
            base_bytes: length,
            pages: BTreeMap::new(),
            length,
            is_changed: false,
        };
        let file = Arc::new(File { content: Mutex::new(content) });
        names.opened.retain(|_, file| file.strong_count() > 0);
        names.opened.insert(path.to_owned(), Arc::downgrade(&file));
        Ok(Some(file))
    }

    fn rename_folder(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (files, folders) = (self.list_files(from)?, self.list_directories(from)?);
        if files.is_empty() && folders.is_empty() && !self.exists(from) {
            return Err(not_found());
        }
        files.iter().chain(&folders).try_for_each(|name| self.rename(&from.join(name), &to.join(name)))
    }

    fn handle(&self, path: &Path, file: Arc<File>) -> Arc<dyn DiskFile> {
        Arc::new(Handle { shared: Arc::clone(&self.shared), path: path.to_owned(), file })
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk for OverlayDisk {
    fn vault(&self) -> Option<&Arc<Vault>> {
        self.shared.base.vault()
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        if mode != OpenMode::CreateEmpty {
            return self.find(path)?.map(|file| self.handle(path, file)).ok_or_else(not_found);
        }
        let file = match self.find(path)? {
            Some(file) => {
                self.handle(path, Arc::clone(&file)).set_length(0)?;
                file
            }
            None => {
                let content = Content {
                    base: None,
                    base_bytes: 0,
                    pages: BTreeMap::new(),
                    length: 0,
                    is_changed: true,
                };
                let file = Arc::new(File { content: Mutex::new(content) });
                self.shared.names.lock().changed.insert(path.to_owned(), Some(Arc::clone(&file)));
                file
            }
        };
        Ok(self.handle(path, file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let Some(file) = self.find(from).ok().flatten() else { return self.rename_folder(from, to) };
        file.content.lock().is_changed = true;
        let mut names = self.shared.names.lock();
        names.changed.insert(from.to_owned(), None);
        names.changed.insert(to.to_owned(), Some(file));
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.find(path)?.ok_or_else(not_found)?;
        self.shared.names.lock().changed.insert(path.to_owned(), None);
        Ok(())
    }

    fn sync_directory(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn create_directories(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list_files(&self, path: &Path) -> io::Result<Vec<String>> {
        let below = match self.shared.base.list_files(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            below => below?,
        };
        let names = self.shared.names.lock();
        let mut listed: Vec<String> =
            below.into_iter().filter(|name| !names.changed.contains_key(&path.join(name))).collect();
        let added = names.changed.iter().filter(|(name, file)| file.is_some() && name.parent() == Some(path));
        listed.extend(added.filter_map(|(name, _)| Some(name.file_name()?.to_string_lossy().into_owned())));
        listed.sort_unstable();
        Ok(listed)
    }

    fn list_directories(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut listed = match self.shared.base.list_directories(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            below => below?,
        };
        let names = self.shared.names.lock();
        let added = names.changed.iter().filter(|(_, file)| file.is_some());
        let inside = added.filter_map(|(name, _)| name.strip_prefix(path).ok());
        let folders = inside.filter(|rest| rest.components().count() > 1);
        listed.extend(folders.filter_map(|rest| Some(rest.iter().next()?.to_string_lossy().into_owned())));
        listed.sort_unstable();
        listed.dedup();
        Ok(listed)
    }

    fn remove_tree(&self, _path: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn exists(&self, path: &Path) -> bool {
        let names = self.shared.names.lock();
        if let Some(changed) = names.changed.get(path) {
            return changed.is_some();
        }
        self.shared.base.exists(path)
            || names.changed.iter().any(|(name, file)| file.is_some() && name.starts_with(path))
    }

    /// Another process is kept out as far as there is a lock file below; none is made.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Debug + Send + Sync>> {
        if self.shared.base.exists(path) { self.shared.base.lock(path) } else { Ok(Box::new(())) }
    }
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    path: PathBuf,
    file: Arc<File>,
}

impl Handle {
    /// Keeps the file: it is not what lies below any more.
    fn pin(&self, content: &mut Content) {
        if !content.is_changed {
            content.is_changed = true;
            self.shared.names.lock().changed.insert(self.path.clone(), Some(Arc::clone(&self.file)));
        }
    }
}

impl Content {
    /// Fills `buffer`, which lies within one page, with what shows at `offset`.
    fn read_piece(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let within = usize::try_from(offset % PAGE_BYTES as u64).unwrap_or(0);
        if let Some(page) = self.pages.get(&(offset / PAGE_BYTES as u64)) {
            buffer.copy_from_slice(&page[within..within + buffer.len()]);
            return Ok(());
        }
        buffer.fill(0);
        let shown = usize::try_from(self.base_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = buffer.len().min(shown);
        if let (Some(base), 1..) = (&self.base, count) {
            base.read_at(&mut buffer[..count], offset)?;
        }
        Ok(())
    }

    fn is_untouched(&self, offset: u64, length: usize) -> bool {
        let first = offset / PAGE_BYTES as u64;
        let last = (offset + length as u64) / PAGE_BYTES as u64;
        self.pages.range(first..=last).next().is_none() && offset + length as u64 <= self.base_bytes
    }
}

/// The pieces of `offset..offset + length` that lie within one page each: (start in the range, length).
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let within = usize::try_from((offset + start as u64) % PAGE_BYTES as u64).unwrap_or(0);
        let count = (PAGE_BYTES - within).min(length - start);
        let piece = (start, count);
        start += count;
        (count > 0).then_some(piece)
    })
}

impl DiskFile for Handle {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.file.content.lock();
        let available = usize::try_from(content.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = buffer.len().min(available);
        if let Some(base) = content.base.as_ref().filter(|_| content.is_untouched(offset, count)) {
            return base.read_at(&mut buffer[..count], offset);
        }
        for (start, length) in pieces(offset, count) {
            content.read_piece(&mut buffer[start..start + length], offset + start as u64)?;
        }
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut content = self.file.content.lock();
        self.pin(&mut content);
        for (start, length) in pieces(offset, bytes.len()) {
            let (at, piece) = (offset + start as u64, &bytes[start..start + length]);
            let number = at / PAGE_BYTES as u64;
            if !content.pages.contains_key(&number) {
                // What reads as zeros anyway needs no memory: new files are filled with them.
                if at >= content.base_bytes && piece.iter().all(|&byte| byte == 0) {
                    continue;
                }
                let held = self.shared.bytes_held.fetch_add(PAGE_BYTES as u64, Ordering::Relaxed);
                if held >= self.shared.bytes_max {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                let mut page = vec![0; PAGE_BYTES].into_boxed_slice();
                content.read_piece(&mut page, number * PAGE_BYTES as u64)?;
                content.pages.insert(number, page);
            }
            let within = usize::try_from(at % PAGE_BYTES as u64).unwrap_or(0);
            if let Some(page) = content.pages.get_mut(&number) {
                page[within..within + length].copy_from_slice(piece);
            }
        }
        content.length = content.length.max(offset + bytes.len() as u64);
        Ok(())
    }

    fn write_log_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        let mut content = self.file.content.lock();
        self.pin(&mut content);
        content.length = length;
        content.base_bytes = content.base_bytes.min(length);
        // Nothing behind the end may come back when the file grows again.
        let first_gone = length.div_ceil(PAGE_BYTES as u64);
        let gone = content.pages.split_off(&first_gone);
        self.shared.bytes_held.fetch_sub((gone.len() * PAGE_BYTES) as u64, Ordering::Relaxed);
        let within = usize::try_from(length % PAGE_BYTES as u64).unwrap_or(0);
        if let Some(page) = content.pages.get_mut(&(length / PAGE_BYTES as u64)) {
            page[within..].fill(0);
        }
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.file.content.lock().length)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let mut content = self.file.content.lock();
        self.pin(&mut content);
        content.length = content.length.max(length);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use weir_stdx::rng::SeededRng;

    use super::*;
    use crate::disk::sim::SimDisk;

    #[test]
    fn it_answers_like_the_disk_would_and_leaves_that_one_as_it_was() {
        let base = SimDisk::new();
        let paths = [Path::new("/d/a"), Path::new("/d/b"), Path::new("/d/deep/c")];
        for path in paths {
            base.set_content(path, (0..20_000_u32).map(|number| number.to_le_bytes()[0]).collect());
        }
        let (before, twin) = (base.fork(), base.fork());
        let overlay = OverlayDisk::new(Arc::new(base.clone()), 1 << 20);
        let mut rng = SeededRng::new(5);
        for _ in 0..3000 {
            let path = paths[usize::try_from(rng.below(3)).unwrap()];
            let both = |act: &dyn Fn(&dyn Disk) -> io::Result<Vec<u8>>| {
                let (one, other) = (act(&overlay), act(&twin));
                assert_eq!(one.as_ref().ok(), other.as_ref().ok());
            };
            let (offset, length) = (rng.below(30_000), usize::try_from(rng.below(9000)).unwrap());
            let fill = u8::try_from(rng.below(2)).unwrap() * 7;
            match rng.below(12) {
                0 => both(&|disk| disk.rename(path, Path::new("/d/new")).map(|()| Vec::new())),
                1 => both(&|disk| disk.rename(Path::new("/d/new"), path).map(|()| Vec::new())),
                2 => both(&|disk| disk.unlink(path).map(|()| Vec::new())),
                3 => both(&|disk| disk.open(path, OpenMode::CreateEmpty).map(|_| Vec::new())),
                4 => both(&|disk| {
                    disk.open(path, OpenMode::ReadWrite)?.set_length(offset).map(|()| Vec::new())
                }),
                5..8 => both(&|disk| {
                    disk.open(path, OpenMode::ReadWrite)?
                        .write_at(&vec![fill; length], offset)
                        .map(|()| Vec::new())
                }),
                _ => both(&|disk| {
                    let mut buffer = vec![0; length];
                    let file = disk.open(path, OpenMode::Read)?;
                    let count = file.read_at(&mut buffer, offset)?;
                    buffer.truncate(count);
                    buffer.extend(file.length()?.to_le_bytes());
                    Ok(buffer)
                }),
            }
            assert_eq!(
                overlay.list_files(Path::new("/d")).unwrap(),
                twin.list_files(Path::new("/d")).unwrap()
            );
        }
        assert!(paths.iter().all(|path| base.content(path) == before.content(path)));
    }

    #[test]
    fn it_is_full_beyond_its_limit() {
        let overlay = OverlayDisk::new(Arc::new(SimDisk::new()), 64 << 10);
        let file = overlay.open(Path::new("/f"), OpenMode::CreateEmpty).unwrap();
        file.write_at(&vec![0; 1 << 20], 0).unwrap();
        let error = file.write_at(&vec![1; 1 << 20], 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
