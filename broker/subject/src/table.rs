//! A table of literal subjects, each with a number and a value, that answers wildcard queries in byte order. Each
//! subject's bytes are kept once; the tree above them knows only where they differ, so that a subject costs its bytes,
//! its value and some 20 bytes, and nothing of its own is allocated. It is not a trie of subscriptions (see `Trie`).

mod names;
mod nodes;
mod slots;
#[cfg(test)]
mod tests;
mod walk;

use names::{NAME_BYTES_MAX, Names};
use nodes::{Link, Nodes, Place, Target};
use slots::{Slot, Slots};

/// Why a subject found no place in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It is longer than this many bytes.
    TooLong { limit: usize },
    /// There are too many subjects, or too many bytes of them: some hundred million.
    Full,
    /// It is there already, or another one has the number.
    Taken,
}

/// A table of subjects with a `V` each.
#[derive(Debug, Clone)]
pub struct SubjectTable<V> {
    root: Link,
    len: usize,
    slots: Slots<V>,
    names: Names,
    nodes: Nodes,
}

/// Where a link of the tree is.
#[derive(Debug, Clone, Copy)]
enum Edge {
    Root,
    /// In the node of this address.
    In(u32, Place),
}

impl<V: Default> Default for SubjectTable<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: Default> SubjectTable<V> {
    /// Numbers lie below this.
    pub const NUMBERS: u32 = Link::NUMBERS;

    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self {
            root: Link::NOTHING,
            len: 0,
            slots: Slots::new(),
            names: Names::default(),
            nodes: Nodes::new(),
        }
    }

    /// How many subjects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no subject.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All numbers in use lie below this.
    #[must_use]
    pub fn numbers_end(&self) -> usize {
        self.slots.end()
    }

    /// Bytes of memory that the table has taken.
    #[cfg(test)]
    fn heap_bytes(&self) -> usize {
        self.slots.heap_bytes() + self.names.heap_bytes() + self.nodes.heap_bytes()
    }

    /// The number of a subject.
    #[must_use]
    pub fn find(&self, subject: &[u8]) -> Option<u32> {
        let mut link = self.root;
        loop {
            match link.target() {
                Target::Nothing => return None,
                Target::Subject(number) => return (self.name(number)? == subject).then_some(number),
                Target::Node(address) => {
                    let node = self.nodes.get(address);
                    let depth = node.depth();
                    link = match subject.get(depth) {
                        Some(key) => node.child_at(node.find(*key)?),
                        None if subject.len() == depth => node.end(),
                        None => return None,
                    };
                }
            }
        }
    }

    /// The number and the value of a subject.
    #[must_use]
    pub fn get(&self, subject: &[u8]) -> Option<(u32, &V)> {
        let number = self.find(subject)?;
        Some((number, self.value(number)?))
    }

    /// The subject of a number that is in use.
    #[must_use]
    pub fn name(&self, number: u32) -> Option<&[u8]> {
        Some(self.names.get(self.slots.get(number)?.name))
    }

    /// The value of a number that is in use.
    #[must_use]
    pub fn value(&self, number: u32) -> Option<&V> {
        Some(&self.slots.get(number)?.value)
    }

    /// Adds a subject that is not there; returns its number.
    ///
    /// # Errors
    /// `Refused`; nothing has changed then.
    pub fn insert(&mut self, subject: &[u8], value: V) -> Result<u32, Refused> {
        let number = u32::try_from(self.slots.vacant()).unwrap_or(u32::MAX);
        self.insert_as(number, subject, value)?;
        Ok(number)
    }

    /// Adds a subject that is not there, with a number that is not in use.
    ///
    /// # Errors
    /// `Refused`; nothing has changed then.
    pub fn insert_as(&mut self, number: u32, subject: &[u8], value: V) -> Result<(), Refused> {
        if subject.len() > NAME_BYTES_MAX {
            return Err(Refused::TooLong { limit: NAME_BYTES_MAX });
        }
        if number >= Self::NUMBERS || !self.names.has_room() || !self.nodes.has_room() {
            return Err(Refused::Full);
        }
        if self.slots.get(number).is_some() {
            return Err(Refused::Taken);
        }
        self.link_subject(number, subject)?;
        let name = self.names.add(number, subject);
        self.slots.take(number, Slot { name, value });
        self.len += 1;
        self.tidy_names();
        Ok(())
    }

    /// Puts a subject into the tree.
    fn link_subject(&mut self, number: u32, subject: &[u8]) -> Result<(), Refused> {
        let link = Link::subject(number);
        let Some(other) = self.similar(subject).and_then(|other| self.name(other)) else {
            self.root = link;
            return Ok(());
        };
        let common = common_length(other, subject);
        if common == other.len() && common == subject.len() {
            return Err(Refused::Taken);
        }
        let other_key = other.get(common).copied();
        let (edge, place) = self.descend(subject, common);
        let node = match place.target() {
            Target::Node(address) if self.nodes.get(address).depth() == common => address,
            _ => {
                let node = self.nodes.make(common);
                self.add_to(node, other_key, place)
            }
        };
        let node = self.add_to(node, subject.get(common).copied(), link);
        self.set_link(edge, Nodes::link_of(node));
        Ok(())
    }

    /// A subject that shares as much of its beginning as any does.
    fn similar(&self, subject: &[u8]) -> Option<u32> {
        let mut link = self.root;
        while let Target::Node(address) = link.target() {
            let node = self.nodes.get(address);
            let next = subject.get(node.depth()).and_then(|key| node.find(*key));
            let Some(position) = next else { return self.first_below(link) };
            link = node.child_at(position);
        }
        self.first_below(link)
    }

    /// The first subject in byte order that a link leads to.
    fn first_below(&self, mut link: Link) -> Option<u32> {
        loop {
            match link.target() {
                Target::Nothing => return None,
                Target::Subject(number) => return Some(number),
                Target::Node(address) => {
                    let node = self.nodes.get(address);
                    let end = node.end();
                    link = if end == Link::NOTHING { node.child_at(0) } else { end };
                }
            }
        }
    }

    /// Where the first `common` bytes of a subject, which some subject has, lead.
    fn descend(&self, subject: &[u8], common: usize) -> (Edge, Link) {
        let (mut edge, mut link) = (Edge::Root, self.root);
        while let Target::Node(address) = link.target() {
            let node = self.nodes.get(address);
            let depth = node.depth();
            if depth >= common {
                break;
            }
            let Some(position) = subject.get(depth).and_then(|key| node.find(*key)) else { break };
            edge = Edge::In(address, Place::Child(position));
            link = node.child_at(position);
        }
        (edge, link)
    }

    /// Adds a link to a node, by its key or as the subject that ends there; returns where the node is now.
    fn add_to(&mut self, node: u32, key: Option<u8>, link: Link) -> u32 {
        if let Some(key) = key {
            return self.nodes.add_child(node, key, link);
        }
        self.nodes.set_link(node, Place::End, link);
        node
    }

    fn set_link(&mut self, edge: Edge, link: Link) {
        match edge {
            Edge::Root => self.root = link,
            Edge::In(address, place) => self.nodes.set_link(address, place, link),
        }
    }

    /// Takes a subject out by its number; returns its value.
    pub fn remove(&mut self, number: u32) -> Option<V> {
        let name = self.slots.get(number)?.name;
        let (above, edge) = self.way_to(self.names.get(name));
        match edge {
            Edge::Root => self.root = Link::NOTHING,
            Edge::In(address, place) => self.unlink(above, address, place),
        }
        self.names.remove(name);
        let value = self.slots.release(number);
        self.len -= 1;
        if self.len == 0 {
            *self = Self::new();
            return value;
        }
        self.tidy_names();
        if self.nodes.is_sparse() {
            (self.nodes, self.root) = self.nodes.compacted(self.root);
        }
        value
    }

    /// The edge to the node that holds the link to a subject that is there, and where in it.
    fn way_to(&self, subject: &[u8]) -> (Edge, Edge) {
        let (mut above, mut edge, mut link) = (Edge::Root, Edge::Root, self.root);
        while let Target::Node(address) = link.target() {
            let node = self.nodes.get(address);
            let place = match subject.get(node.depth()).and_then(|key| node.find(*key)) {
                Some(position) => Place::Child(position),
                None => Place::End,
            };
            (above, edge) = (edge, Edge::In(address, place));
            link = self.nodes.link(address, place);
        }
        (above, edge)
    }

    /// Takes a link out of a node. One that has a single link left then goes as well.
    fn unlink(&mut self, above: Edge, address: u32, place: Place) {
        let address = match place {
            Place::End => {
                self.nodes.set_link(address, Place::End, Link::NOTHING);
                address
            }
            Place::Child(position) => self.nodes.remove_child(address, position),
        };
        let node = self.nodes.get(address);
        let (end, count) = (node.end(), node.count());
        let left = match (end, count) {
            (Link::NOTHING, 1) => node.child_at(0),
            (_, 0) => end,
            _ => return self.set_link(above, Nodes::link_of(address)),
        };
        self.nodes.release(address);
        self.set_link(above, left);
    }

    fn tidy_names(&mut self) {
        let slots = &mut self.slots;
        self.names.tidy(|number, address| {
            if let Some(slot) = slots.get_mut(number) {
                slot.name = address;
            }
        });
    }
}

fn common_length(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}
