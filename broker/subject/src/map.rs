//! A map keyed by literal subjects that answers wildcard queries: a radix tree over bytes, in byte order.
//! Common prefixes are stored once. It is not a trie of subscriptions (see `Trie`).

use std::ops::ControlFlow;

/// A map from literal subjects to `V`.
#[derive(Debug, Clone)]
pub struct SubjectMap<V> {
    root: Node<V>,
    len: usize,
}

#[derive(Debug, Clone)]
struct Node<V> {
    /// The bytes between the parent and this node; only the root's is empty.
    prefix: Box<[u8]>,
    value: Option<V>,
    /// Ordered by the first byte of their prefixes, which differ.
    children: Vec<Self>,
}

impl<V> Default for SubjectMap<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> SubjectMap<V> {
    /// An empty map.
    pub fn new() -> Self {
        Self { root: Node::new(&[], None), len: 0 }
    }

    /// How many subjects there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no subject.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// The value of `subject`.
    pub fn get(&self, subject: &[u8]) -> Option<&V> {
        let mut node = &self.root;
        let mut rest = subject;
        while !rest.is_empty() {
            node = node.child(rest[0])?;
            rest = rest.strip_prefix(&*node.prefix)?;
        }
        node.value.as_ref()
    }

    /// The value of `subject`, to be changed.
    pub fn get_mut(&mut self, subject: &[u8]) -> Option<&mut V> {
        let mut node = &mut self.root;
        let mut rest = subject;
        while !rest.is_empty() {
            node = node.child_mut(rest[0])?;
            rest = rest.strip_prefix(&*node.prefix)?;
        }
        node.value.as_mut()
    }

    /// Sets the value of `subject`; returns the one it had.
    pub fn insert(&mut self, subject: &[u8], value: V) -> Option<V> {
        let mut value = Some(value);
        self.entry(subject, |slot| std::mem::replace(slot, value.take()))
    }

    /// The value of `subject`, made by `make` when it is not there.
    pub fn get_or_insert_with(&mut self, subject: &[u8], make: impl FnOnce() -> V) -> &mut V {
        if self.get(subject).is_none() {
            self.insert(subject, make());
        }
        match self.get_mut(subject) {
            Some(value) => value,
            None => unreachable!("it was inserted above"),
        }
    }

    fn entry<R>(&mut self, subject: &[u8], change: impl FnOnce(&mut Option<V>) -> R) -> R {
        let mut node = &mut self.root;
        let mut rest = subject;
        while !rest.is_empty() {
            let at = match node.children.binary_search_by_key(&rest[0], |child| child.prefix[0]) {
                Ok(at) => {
                    let child = &mut node.children[at];
                    let common = common_length(&child.prefix, rest);
                    if common < child.prefix.len() {
                        child.split(common);
                    }
                    rest = &rest[common..];
                    at
                }
                Err(at) => {
                    node.children.insert(at, Node::new(rest, None));
                    rest = &[];
                    at
                }
            };
            node = &mut node.children[at];
        }
        let had = node.value.is_some();
        let result = change(&mut node.value);
        match (had, node.value.is_some()) {
            (false, true) => self.len += 1,
            (true, false) => self.len -= 1,
            _ => {}
        }
        result
    }

    /// Removes `subject`; returns its value.
    pub fn remove(&mut self, subject: &[u8]) -> Option<V> {
        let removed = self.root.remove(subject)?;
        self.len -= 1;
        Some(removed)
    }

    /// Visits, in byte order, the subjects that `pattern` (literal or with wildcards) covers, until `visit` breaks.
    pub fn for_each_match<B>(
        &self,
        pattern: &[u8],
        mut visit: impl FnMut(&[u8], &V) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        if !has_wildcard_byte(pattern) {
            return self.get(pattern).map_or(ControlFlow::Continue(()), |value| visit(pattern, value));
        }
        let mut key = Vec::new();
        // Depth first with an explicit stack: keys are the user's, and so would be the recursion's depth.
        let mut stack = vec![(&self.root, 0, State { at: 0, inside: Inside::Literal })];
        while let Some((node, depth, mut state)) = stack.pop() {
            key.truncate(depth);
            if !state.advance_all(pattern, &node.prefix) {
                continue;
            }
            key.extend_from_slice(&node.prefix);
            if let Some(value) = &node.value
                && state.accepts(pattern)
            {
                visit(&key, value)?;
            }
            if let Some(byte) = state.only_next_byte(pattern) {
                if let Some(child) = node.child(byte) {
                    stack.push((child, key.len(), state));
                }
            } else {
                stack.extend(node.children.iter().rev().map(|child| (child, key.len(), state)));
            }
        }
        ControlFlow::Continue(())
    }

    /// Visits every subject in byte order.
    pub fn for_each(&self, mut visit: impl FnMut(&[u8], &V)) {
        let done: ControlFlow<()> = self.for_each_match(b">", |subject, value| {
            visit(subject, value);
            ControlFlow::Continue(())
        });
        debug_assert!(done.is_continue());
    }
}

impl<V> Node<V> {
    fn new(prefix: &[u8], value: Option<V>) -> Self {
        Self { prefix: prefix.into(), value, children: Vec::new() }
    }

    fn child(&self, first: u8) -> Option<&Self> {
        let at = self.children.binary_search_by_key(&first, |child| child.prefix[0]).ok()?;
        self.children.get(at)
    }

    fn child_mut(&mut self, first: u8) -> Option<&mut Self> {
        let at = self.children.binary_search_by_key(&first, |child| child.prefix[0]).ok()?;
        self.children.get_mut(at)
    }

    /// Makes this node's prefix `common` bytes long, with one child that has the rest.
    fn split(&mut self, common: usize) {
        let upper: Box<[u8]> = self.prefix[..common].into();
        let lower: Box<[u8]> = self.prefix[common..].into();
        let child =
            Self { prefix: lower, value: self.value.take(), children: std::mem::take(&mut self.children) };
        self.prefix = upper;
        self.children.push(child);
    }

    fn remove(&mut self, rest: &[u8]) -> Option<V> {
        // Walk down remembering the indexes, then tidy up on the way back without recursion.
        let mut path = Vec::new();
        let mut node = &mut *self;
        let mut rest = rest;
        while !rest.is_empty() {
            let at = node.children.binary_search_by_key(&rest[0], |child| child.prefix[0]).ok()?;
            path.push(at);
            node = &mut node.children[at];
            rest = rest.strip_prefix(&*node.prefix)?;
        }
        let removed = node.value.take()?;
        // Only the node itself and its parent can have become superfluous.
        let Some(last) = path.pop() else { return Some(removed) };
        let mut parent = &mut *self;
        let mut is_root = true;
        for at in path {
            parent = &mut parent.children[at];
            is_root = false;
        }
        let node = &mut parent.children[last];
        if node.children.is_empty() {
            parent.children.remove(last);
            if parent.children.is_empty() {
                parent.children = Vec::new();
            }
        } else {
            node.merge_with_only_child();
        }
        if !is_root {
            parent.merge_with_only_child();
        }
        Some(removed)
    }

    fn merge_with_only_child(&mut self) {
        if self.value.is_some() || self.children.len() != 1 {
            return;
        }
        if let Some(child) = self.children.pop() {
            let mut prefix = Vec::with_capacity(self.prefix.len() + child.prefix.len());
            prefix.extend_from_slice(&self.prefix);
            prefix.extend_from_slice(&child.prefix);
            self.prefix = prefix.into();
            self.value = child.value;
            self.children = child.children;
        }
    }
}

fn common_length(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

fn has_wildcard_byte(pattern: &[u8]) -> bool {
    memchr::memchr2(b'*', b'>', pattern).is_some()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    Literal,
    /// In a token that `*` covers, past its first byte.
    Star,
    /// In what `>` covers.
    Tail,
}

/// How far a key has been matched against a pattern, byte by byte.
#[derive(Debug, Clone, Copy)]
struct State {
    at: usize,
    inside: Inside,
}

impl State {
    fn advance_all(&mut self, pattern: &[u8], bytes: &[u8]) -> bool {
        bytes.iter().all(|byte| self.advance(pattern, *byte))
    }

    fn advance(&mut self, pattern: &[u8], byte: u8) -> bool {
        match self.inside {
            Inside::Tail => true,
            Inside::Star if byte != b'.' => true,
            Inside::Star => {
                self.inside = Inside::Literal;
                self.take(pattern, byte)
            }
            Inside::Literal => match wildcard_at(pattern, self.at) {
                Some(_) if byte == b'.' => false,
                Some(inside) => {
                    self.inside = inside;
                    self.at += 1;
                    true
                }
                None => self.take(pattern, byte),
            },
        }
    }

    fn take(&mut self, pattern: &[u8], byte: u8) -> bool {
        let fits = pattern.get(self.at) == Some(&byte);
        self.at += 1;
        fits
    }

    fn accepts(self, pattern: &[u8]) -> bool {
        self.inside == Inside::Tail || self.at == pattern.len()
    }

    /// The only byte that can follow, when there is only one.
    fn only_next_byte(self, pattern: &[u8]) -> Option<u8> {
        if self.inside != Inside::Literal || wildcard_at(pattern, self.at).is_some() {
            return None;
        }
        // At the pattern's end no byte can follow; NUL will not be found in practice, and would be refused if it were.
        Some(pattern.get(self.at).copied().unwrap_or(0))
    }
}

/// What a wildcard token that starts at `at` covers.
fn wildcard_at(pattern: &[u8], at: usize) -> Option<Inside> {
    if at > 0 && pattern[at - 1] != b'.' {
        return None;
    }
    match (pattern.get(at)?, pattern.get(at + 1)) {
        (b'*', None | Some(b'.')) => Some(Inside::Star),
        (b'>', None) => Some(Inside::Tail),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn found(map: &SubjectMap<u32>, pattern: &str) -> Vec<String> {
        let mut subjects = Vec::new();
        let _: ControlFlow<()> = map.for_each_match(pattern.as_bytes(), |subject, _| {
            subjects.push(String::from_utf8_lossy(subject).into_owned());
            ControlFlow::Continue(())
        });
        subjects
    }

    #[test]
    fn wildcard_queries_visit_in_byte_order() {
        let mut map = SubjectMap::new();
        for (id, subject) in
            ["orders.new", "orders.old", "orders", "orders.new.eu", "other.new"].iter().enumerate()
        {
            map.insert(subject.as_bytes(), u32::try_from(id).unwrap_or(0));
        }
        assert_eq!(found(&map, "orders.*"), ["orders.new", "orders.old"]);
        assert_eq!(found(&map, "orders.>"), ["orders.new", "orders.new.eu", "orders.old"]);
        assert_eq!(found(&map, "*.new"), ["orders.new", "other.new"]);
        assert_eq!(found(&map, "orders"), ["orders"]);
        assert_eq!(found(&map, ">").len(), 5);
        assert_eq!(found(&map, "*"), ["orders"]);
    }

    #[test]
    fn a_visitor_can_stop() {
        let mut map = SubjectMap::new();
        map.insert(b"a.1", 1);
        map.insert(b"a.2", 2);
        let stopped = map.for_each_match(b"a.*", |_, value| ControlFlow::Break(*value));
        assert_eq!(stopped, ControlFlow::Break(1));
    }

    proptest! {
        #[test]
        fn the_map_agrees_with_a_btree_map(
            steps in proptest::collection::vec(("[ab]{1,3}(\\.[ab]{1,2}){0,2}", any::<bool>(), 0u32..9), 0..60),
            pattern in "([ab]{1,3}|\\*)(\\.([ab]{1,2}|\\*)){0,2}(\\.>)?",
        ) {
            let mut map = SubjectMap::new();
            let mut model = BTreeMap::new();
            for (subject, insert, value) in steps {
                if insert {
                    prop_assert_eq!(map.insert(subject.as_bytes(), value), model.insert(subject.clone(), value));
                } else {
                    prop_assert_eq!(map.remove(subject.as_bytes()), model.remove(&subject));
                }
                prop_assert_eq!(map.get(subject.as_bytes()), model.get(&subject));
                prop_assert_eq!(map.len(), model.len());
            }
            let expected: Vec<String> = model.keys()
                .filter(|subject| crate::matches(pattern.as_bytes(), subject.as_bytes()))
                .cloned().collect();
            prop_assert_eq!(found(&map, &pattern), expected);
            let mut all = Vec::new();
            map.for_each(|subject, value| all.push((String::from_utf8_lossy(subject).into_owned(), *value)));
            prop_assert_eq!(all, model.into_iter().collect::<Vec<_>>());
        }
    }
}
