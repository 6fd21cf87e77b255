//! The inner nodes of a table's tree: blocks of 32-bit words in pages. A node knows how long the beginning is that
//! all subjects below it share, and by which byte they differ behind it; it does not hold the bytes in between.
//! ```text
//! depth u16, class u4, count u12 | subject that ends at the depth | keys, four a word, sorted | a link for each key
//! ```

/// Words of a page; smaller while there are few nodes.
const PAGE_WORDS: usize = 1 << PAGE_BITS;
const PAGE_BITS: u32 = 14;
const PAGE_WORDS_MIN: usize = 32;
/// Addresses have 31 bits.
const PAGES_MAX: usize = 1 << (31 - PAGE_BITS);
/// How many children the classes of blocks have room for.
const CAPACITIES: [usize; 13] = [2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256];
const NO_BLOCK: u32 = u32::MAX;
const FIXED_WORDS: usize = 2;

/// Leads to a node, to a subject, or nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link(u32);

/// What a link leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Nothing,
    /// By its address.
    Node(u32),
    /// By its number.
    Subject(u32),
}

impl Link {
    pub(super) const NOTHING: Self = Self(u32::MAX);
    const SUBJECT: u32 = 1 << 31;
    /// Numbers of subjects lie below this.
    pub(super) const NUMBERS: u32 = Self::SUBJECT - 1;

    fn node(address: u32) -> Self {
        Self(address)
    }

    pub(super) fn subject(number: u32) -> Self {
        Self(number | Self::SUBJECT)
    }

    pub(super) fn target(self) -> Target {
        if self.0 & Self::SUBJECT == 0 {
            Target::Node(self.0)
        } else if self == Self::NOTHING {
            Target::Nothing
        } else {
            Target::Subject(self.0 & !Self::SUBJECT)
        }
    }
}

/// A place in a node that holds a link.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// For the subject that ends at the node's depth.
    End,
    /// For those that go on, by the position of their next byte.
    Child(usize),
}

/// A node to be read.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    /// From its first word to the end of the page.
    words: &'a [u32],
}

impl<'a> Node<'a> {
    /// Bytes that all subjects below share.
    pub(super) fn depth(self) -> usize {
        (self.words[0] >> 16) as usize
    }

    fn class(self) -> usize {
        ((self.words[0] >> 12) & 0xF) as usize
    }

    /// How many children there are.
    pub(super) fn count(self) -> usize {
        (self.words[0] & 0xFFF) as usize
    }

    /// The subject that ends here.
    pub(super) fn end(self) -> Link {
        Link(self.words[1])
    }

    /// Children in the order of their keys.
    pub(super) fn children(self) -> impl DoubleEndedIterator<Item = Link> + use<'a> {
        let start = links_at(self.class());
        self.words[start..start + self.count()].iter().map(|word| Link(*word))
    }

    pub(super) fn child_at(self, position: usize) -> Link {
        Link(self.words[links_at(self.class()) + position])
    }

    fn key(self, position: usize) -> u8 {
        self.words[FIXED_WORDS + position / 4].to_le_bytes()[position % 4]
    }

    /// Where the child of a key is, four keys at a time.
    pub(super) fn find(self, key: u8) -> Option<usize> {
        const ONES: u32 = 0x0101_0101;
        let (wanted, count) = (ONES * u32::from(key), self.count());
        for (at, word) in self.words[FIXED_WORDS..].iter().take(count.div_ceil(4)).enumerate() {
            let differs = word ^ wanted;
            // The lowest byte that is zero shows in its highest bit; what lies above it may show as well.
            let zero = differs.wrapping_sub(ONES) & !differs & (ONES << 7);
            if zero != 0 {
                let position = at * 4 + (zero.trailing_zeros() / 8) as usize;
                return (position < count).then_some(position);
            }
        }
        None
    }

    /// Where the child of a key belongs.
    fn position(self, key: u8) -> usize {
        (0..self.count()).position(|at| self.key(at) >= key).unwrap_or(self.count())
    }
}

fn links_at(class: usize) -> usize {
    FIXED_WORDS + CAPACITIES[class].div_ceil(4)
}

fn block_words(class: usize) -> usize {
    links_at(class) + CAPACITIES[class]
}

fn class_for(count: usize) -> usize {
    CAPACITIES.partition_point(|capacity| *capacity < count)
}

fn split(address: u32) -> (usize, usize) {
    ((address >> PAGE_BITS) as usize, address as usize & (PAGE_WORDS - 1))
}

/// All nodes.
#[derive(Debug, Clone)]
pub(super) struct Nodes {
    /// None of them ever grows beyond the room it was made with.
    pages: Vec<Vec<u32>>,
    /// The first free block of each class; each leads to the next by its second word.
    free: [u32; CAPACITIES.len()],
    used_words: usize,
    free_words: usize,
}

impl Nodes {
    pub(super) fn new() -> Self {
        Self { pages: Vec::new(), free: [NO_BLOCK; CAPACITIES.len()], used_words: 0, free_words: 0 }
    }

    /// Whether one more subject certainly finds room: it takes two blocks at most.
    pub(super) fn has_room(&self) -> bool {
        self.pages.len() + 2 <= PAGES_MAX
    }

    /// More is free than used, by more than is worth a thought.
    pub(super) fn is_sparse(&self) -> bool {
        self.free_words > self.used_words + PAGE_WORDS / 2
    }

    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        let words: usize = self.pages.iter().map(Vec::capacity).sum();
        words * size_of::<u32>() + self.pages.capacity() * size_of::<Vec<u32>>()
    }

    pub(super) fn get(&self, address: u32) -> Node<'_> {
        let (page, at) = split(address);
        Node { words: &self.pages[page][at..] }
    }

    fn words_mut(&mut self, address: u32) -> &mut [u32] {
        let (page, at) = split(address);
        &mut self.pages[page][at..]
    }

    pub(super) fn link(&self, address: u32, place: Place) -> Link {
        match place {
            Place::End => self.get(address).end(),
            Place::Child(position) => self.get(address).child_at(position),
        }
    }

    pub(super) fn set_link(&mut self, address: u32, place: Place, link: Link) {
        let at = match place {
            Place::End => 1,
            Place::Child(position) => links_at(self.get(address).class()) + position,
        };
        self.words_mut(address)[at] = link.0;
    }

    /// A node without children.
    pub(super) fn make(&mut self, depth: usize) -> u32 {
        self.make_of_class(depth, 0)
    }

    pub(super) fn link_of(address: u32) -> Link {
        Link::node(address)
    }

    fn make_of_class(&mut self, depth: usize, class: usize) -> u32 {
        let address = self.allocate(class);
        let header = ((depth as u32) << 16) | ((class as u32) << 12);
        let words = &mut self.words_mut(address)[..block_words(class)];
        words.fill(0);
        (words[0], words[1]) = (header, Link::NOTHING.0);
        address
    }

    fn allocate(&mut self, class: usize) -> u32 {
        let size = block_words(class);
        let reused = self.free[class];
        if reused != NO_BLOCK {
            self.free[class] = self.words_mut(reused)[1];
            self.free_words -= size;
            self.used_words += size;
            return reused;
        }
        if self.pages.last().is_none_or(|page| page.capacity().min(PAGE_WORDS) < page.len() + size) {
            let room = (self.used_words + size).next_power_of_two().clamp(PAGE_WORDS_MIN, PAGE_WORDS);
            self.pages.push(Vec::with_capacity(room));
        }
        let page = self.pages.len() - 1;
        let words = &mut self.pages[page];
        let at = words.len();
        words.resize(at + size, 0);
        self.used_words += size;
        ((page << PAGE_BITS) | at) as u32
    }

    /// Gives a node's room back.
    pub(super) fn release(&mut self, address: u32) {
        let class = self.get(address).class();
        let next = self.free[class];
        self.words_mut(address)[1] = next;
        self.free[class] = address;
        self.free_words += block_words(class);
        self.used_words -= block_words(class);
    }

    /// Adds a child whose key is not there; returns where the node is now.
    pub(super) fn add_child(&mut self, address: u32, key: u8, link: Link) -> u32 {
        let node = self.get(address);
        let (class, count, position) = (node.class(), node.count(), node.position(key));
        let address = if count == CAPACITIES[class] { self.resize(address, class + 1) } else { address };
        let class = self.get(address).class();
        let words = self.words_mut(address);
        for at in (position..count).rev() {
            set_key(words, at + 1, key_in(words, at));
        }
        set_key(words, position, key);
        let links = links_at(class);
        words.copy_within(links + position..links + count, links + position + 1);
        words[links + position] = link.0;
        words[0] += 1;
        address
    }

    /// Takes a child out; returns where the node is now.
    pub(super) fn remove_child(&mut self, address: u32, position: usize) -> u32 {
        let node = self.get(address);
        let (class, count) = (node.class(), node.count());
        let words = self.words_mut(address);
        for at in position + 1..count {
            set_key(words, at - 1, key_in(words, at));
        }
        let links = links_at(class);
        words.copy_within(links + position + 1..links + count, links + position);
        words[0] -= 1;
        // Not at once, so that a child that comes and goes does not move its node each time.
        if class > 0 && count < CAPACITIES[class - 1] {
            return self.resize(address, class - 1);
        }
        address
    }

    /// Moves a node into a block of another class that has room for its children.
    fn resize(&mut self, address: u32, class: usize) -> u32 {
        let depth = self.get(address).depth();
        let target = self.make_of_class(depth, class);
        let node = self.get(address);
        let (count, from, end) = (node.count(), links_at(node.class()), node.end().0);
        let key_words = count.div_ceil(4);
        for at in 0..key_words {
            let keys = self.get(address).words[FIXED_WORDS + at];
            self.words_mut(target)[FIXED_WORDS + at] = keys;
        }
        for at in 0..count {
            let link = self.get(address).words[from + at];
            self.words_mut(target)[links_at(class) + at] = link;
        }
        let words = self.words_mut(target);
        (words[0], words[1]) = (words[0] | count as u32, end);
        self.release(address);
        target
    }

    /// The nodes below `root` in pages of their own, and where it is there.
    pub(super) fn compacted(&self, root: Link) -> (Self, Link) {
        let mut new = Self::new();
        let copied = match root.target() {
            Target::Node(address) => {
                let top = new.copy(self.get(address));
                let mut open = vec![top];
                while let Some(parent) = open.pop() {
                    for position in 0..new.get(parent).count() {
                        let Target::Node(old) = new.get(parent).child_at(position).target() else { continue };
                        let child = new.copy(self.get(old));
                        new.set_link(parent, Place::Child(position), Link::node(child));
                        open.push(child);
                    }
                }
                Link::node(top)
            }
            _ => root,
        };
        (new, copied)
    }

    fn copy(&mut self, node: Node<'_>) -> u32 {
        let class = class_for(node.count());
        let address = self.make_of_class(node.depth(), class);
        let words = self.words_mut(address);
        (words[0], words[1]) = (words[0] | node.count() as u32, node.end().0);
        for at in 0..node.count() {
            set_key(words, at, node.key(at));
            words[links_at(class) + at] = node.child_at(at).0;
        }
        address
    }
}

fn key_in(words: &[u32], position: usize) -> u8 {
    words[FIXED_WORDS + position / 4].to_le_bytes()[position % 4]
}

fn set_key(words: &mut [u32], position: usize, key: u8) {
    let word = &mut words[FIXED_WORDS + position / 4];
    let mut keys = word.to_le_bytes();
    keys[position % 4] = key;
    *word = u32::from_le_bytes(keys);
}
