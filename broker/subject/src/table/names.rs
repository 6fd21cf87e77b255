//! The bytes of a table's subjects, each once, behind each other in pages. A page that is mostly dead is emptied: what
//! lives in it moves on, so that no more than about half of all pages is ever dead.
//! ```text
//! number u32 (all ones: removed) | length u16 | bytes, to an even address
//! ```

/// Bytes of a page; smaller while there are few subjects, larger for a single subject that needs it.
const PAGE_BYTES: usize = 1 << 16;
const PAGE_BYTES_MIN: usize = 64;
/// An address counts pairs of bytes.
const OFFSET_BITS: u32 = 15;
const PAGES_MAX: usize = 1 << (32 - OFFSET_BITS);
const HEADER_BYTES: usize = 6;
const REMOVED: u32 = u32::MAX;

/// The longest name there is room for.
pub(super) const NAME_BYTES_MAX: usize = u16::MAX as usize;

#[derive(Debug, Clone, Default)]
struct Page {
    bytes: Vec<u8>,
    /// How many of them belong to names that are not removed.
    live: usize,
}

/// All names.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    pages: Vec<Page>,
    /// Pages that hold nothing and have no memory.
    empty: Vec<u32>,
    /// Where names are added.
    current: usize,
    live: usize,
    /// Pages that are to be emptied.
    sparse: Vec<usize>,
}

fn record_bytes(name: usize) -> usize {
    (HEADER_BYTES + name).next_multiple_of(2)
}

fn split(address: u32) -> (usize, usize) {
    ((address >> OFFSET_BITS) as usize, (address as usize & ((1 << OFFSET_BITS) - 1)) * 2)
}

impl Names {
    /// Whether one more name certainly finds room.
    pub(super) fn has_room(&self) -> bool {
        self.pages.len() < PAGES_MAX || !self.empty.is_empty()
    }

    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        let bytes: usize = self.pages.iter().map(|page| page.bytes.capacity()).sum();
        bytes + self.pages.capacity() * size_of::<Page>() + self.empty.capacity() * size_of::<u32>()
    }

    pub(super) fn get(&self, address: u32) -> &[u8] {
        let (page, at) = split(address);
        let bytes = &self.pages[page].bytes[at..];
        let length = usize::from(u16::from_le_bytes([bytes[4], bytes[5]]));
        &bytes[HEADER_BYTES..HEADER_BYTES + length]
    }

    /// Adds a name of `NAME_BYTES_MAX` at most; there is room for it.
    pub(super) fn add(&mut self, number: u32, name: &[u8]) -> u32 {
        let size = record_bytes(name.len());
        let current = self.pages.get(self.current);
        if current.is_none_or(|page| page.bytes.capacity().min(PAGE_BYTES) < page.bytes.len() + size) {
            self.open_page(size);
        }
        let page = &mut self.pages[self.current];
        let at = page.bytes.len();
        page.bytes.extend_from_slice(&number.to_le_bytes());
        page.bytes.extend_from_slice(&(name.len() as u16).to_le_bytes());
        page.bytes.extend_from_slice(name);
        page.bytes.resize(at + size, 0);
        page.live += size;
        self.live += size;
        ((self.current << OFFSET_BITS) | (at / 2)) as u32
    }

    fn open_page(&mut self, size: usize) {
        let closed = self.current;
        let room = (self.live + size).next_power_of_two().clamp(PAGE_BYTES_MIN, PAGE_BYTES).max(size);
        self.current = match self.empty.pop() {
            Some(page) => page as usize,
            None => {
                self.pages.push(Page::default());
                self.pages.len() - 1
            }
        };
        self.pages[self.current].bytes = Vec::with_capacity(room);
        if closed != self.current {
            self.review(closed);
        }
    }

    /// Takes a name out.
    pub(super) fn remove(&mut self, address: u32) {
        let size = record_bytes(self.get(address).len());
        let (page, at) = split(address);
        self.pages[page].bytes[at..at + 4].copy_from_slice(&REMOVED.to_le_bytes());
        self.pages[page].live -= size;
        self.live -= size;
        if page != self.current {
            self.review(page);
        }
    }

    /// Frees a page that nothing lives in, notes one that little lives in.
    fn review(&mut self, at: usize) {
        let Some(page) = self.pages.get_mut(at).filter(|page| page.bytes.capacity() > 0) else { return };
        if page.live == 0 {
            *page = Page::default();
            self.empty.push(at as u32);
        } else if page.live * 2 < page.bytes.len() && !self.sparse.contains(&at) {
            self.sparse.push(at);
        }
    }

    /// Empties the pages that little lives in; tells the new address of each subject.
    pub(super) fn tidy(&mut self, mut moved: impl FnMut(u32, u32)) {
        while let Some(at) = self.sparse.pop() {
            let page = std::mem::take(&mut self.pages[at]);
            self.live -= page.live;
            self.empty.push(at as u32);
            let mut rest = &page.bytes[..];
            while let Some((header, after)) = rest.split_at_checked(HEADER_BYTES) {
                let number = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
                let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
                if number != REMOVED {
                    moved(number, self.add(number, &after[..length]));
                }
                rest = &rest[record_bytes(length)..];
            }
        }
    }
}
