//! What a table keeps of each subject, by its number: where its name is, and its value. Numbers of removed subjects are
//! given again; pages that hold none take no memory.

/// Slots of a page.
const PAGE: usize = 256;

#[derive(Debug, Clone)]
pub(super) struct Slot<V> {
    pub(super) name: u32,
    pub(super) value: V,
}

#[derive(Debug, Clone)]
struct Page<V> {
    /// One bit a slot.
    taken: [u64; PAGE / 64],
    /// It is among the pages with room. It may have none any more.
    is_listed: bool,
    slots: Vec<Slot<V>>,
}

/// All slots.
#[derive(Debug, Clone)]
pub(super) struct Slots<V> {
    pages: Vec<Option<Box<Page<V>>>>,
    /// Pages with room, those without memory among them.
    roomy: Vec<u32>,
}

fn split(number: u32) -> (usize, usize) {
    (number as usize / PAGE, number as usize % PAGE)
}

impl<V> Page<V> {
    fn is_taken(&self, at: usize) -> bool {
        self.taken[at / 64] >> (at % 64) & 1 == 1
    }

    fn vacant(&self) -> Option<usize> {
        let word = self.taken.iter().position(|word| *word != u64::MAX)?;
        Some(word * 64 + self.taken[word].trailing_ones() as usize)
    }
}

impl<V: Default> Slots<V> {
    pub(super) fn new() -> Self {
        Self { pages: Vec::new(), roomy: Vec::new() }
    }

    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        let pages = self.pages.iter().flatten();
        let bytes: usize =
            pages.map(|page| size_of::<Page<V>>() + page.slots.capacity() * size_of::<Slot<V>>()).sum();
        bytes + self.pages.capacity() * size_of::<usize>() + self.roomy.capacity() * size_of::<u32>()
    }

    /// All numbers lie below this.
    pub(super) fn end(&self) -> usize {
        self.pages.len() * PAGE
    }

    pub(super) fn get(&self, number: u32) -> Option<&Slot<V>> {
        let (page, at) = split(number);
        let page = self.pages.get(page)?.as_ref()?;
        if page.is_taken(at) { page.slots.get(at) } else { None }
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Slot<V>> {
        let (page, at) = split(number);
        let page = self.pages.get_mut(page)?.as_mut()?;
        if page.is_taken(at) { page.slots.get_mut(at) } else { None }
    }

    /// A number that is not taken.
    pub(super) fn vacant(&mut self) -> usize {
        while let Some(&number) = self.roomy.last() {
            let Some(page) = &mut self.pages[number as usize] else { return number as usize * PAGE };
            if let Some(at) = page.vacant() {
                return number as usize * PAGE + at;
            }
            page.is_listed = false;
            self.roomy.pop();
        }
        self.pages.len() * PAGE
    }

    /// Takes a number that is not taken.
    pub(super) fn take(&mut self, number: u32, slot: Slot<V>) {
        let (page_number, at) = split(number);
        while self.pages.len() <= page_number {
            self.roomy.push(self.pages.len() as u32);
            self.pages.push(None);
        }
        let page = self.pages[page_number].get_or_insert_with(|| {
            // The first one small: most tables are.
            let slots = Vec::with_capacity(if page_number == 0 { 1 } else { PAGE });
            Box::new(Page { taken: [0; PAGE / 64], is_listed: true, slots })
        });
        while page.slots.len() <= at {
            page.slots.push(Slot { name: 0, value: V::default() });
        }
        page.taken[at / 64] |= 1 << (at % 64);
        page.slots[at] = slot;
    }

    /// Gives a number back.
    pub(super) fn release(&mut self, number: u32) -> Option<V> {
        let value = std::mem::take(&mut self.get_mut(number)?.value);
        let (page_number, at) = split(number);
        let held = self.pages.get_mut(page_number)?;
        let page = held.as_mut()?;
        page.taken[at / 64] &= !(1 << (at % 64));
        if !page.is_listed {
            page.is_listed = true;
            self.roomy.push(page_number as u32);
        }
        if page.taken == [0; PAGE / 64] {
            *held = None;
        }
        Some(value)
    }
}
