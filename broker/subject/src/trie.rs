//! A trie of subscriptions by subject, wildcards included, with plain and queue entries.
//! It is not synchronised: its owner decides how readers and writers meet.

use crate::tokens::tokens;
use rustc_hash::FxHashMap;

/// The entries of one subscribed subject, as handed to a visitor.
#[derive(Debug, Clone, Copy)]
pub enum Entries<'a, T> {
    /// Subscriptions that each get every message.
    Plain(&'a [T]),
    /// Members of one queue group, of which one gets the message.
    Queue(&'a [u8], &'a [T]),
}

/// Subscriptions by subject.
#[derive(Debug, Clone)]
pub struct Trie<T> {
    root: Level<T>,
    len: usize,
}

#[derive(Debug, Clone)]
struct Level<T> {
    literals: FxHashMap<Box<[u8]>, Self>,
    star: Option<Box<Self>>,
    /// Entries of patterns that end here with `>`.
    tail: Leaf<T>,
    /// Entries of patterns that end here.
    here: Leaf<T>,
}

#[derive(Debug, Clone)]
struct Leaf<T> {
    plain: Vec<T>,
    queues: Vec<(Box<[u8]>, Vec<T>)>,
}

impl<T> Default for Leaf<T> {
    fn default() -> Self {
        Self { plain: Vec::new(), queues: Vec::new() }
    }
}

impl<T> Default for Level<T> {
    fn default() -> Self {
        Self { literals: FxHashMap::default(), star: None, tail: Leaf::default(), here: Leaf::default() }
    }
}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Trie<T> {
    /// An empty trie.
    pub fn new() -> Self {
        Self { root: Level::default(), len: 0 }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an entry. The subject must be valid (see `is_valid_subject`); the trie does not check.
    pub fn insert(&mut self, subject: &[u8], queue: Option<&[u8]>, entry: T) {
        let mut level = &mut self.root;
        let mut rest = tokens(subject);
        let leaf = loop {
            match rest.next() {
                None => break &mut level.here,
                Some(b">") if rest.rest().is_none() => break &mut level.tail,
                Some(b"*") => level = level.star.get_or_insert_with(Box::default),
                Some(token) => {
                    if !level.literals.contains_key(token) {
                        level.literals.insert(token.into(), Level::default());
                    }
                    let Some(next) = level.literals.get_mut(token) else { return };
                    level = next;
                }
            }
        };
        leaf.insert(queue, entry);
        self.len += 1;
    }

    /// Removes the first entry of that subject and queue for which `is_it` holds.
    pub fn remove(
        &mut self,
        subject: &[u8],
        queue: Option<&[u8]>,
        is_it: impl FnMut(&T) -> bool,
    ) -> Option<T> {
        let removed = self.root.remove(subject, queue, is_it)?;
        self.len -= 1;
        Some(removed)
    }

    /// Visits the entries whose subject covers `literal`. A literal with an empty token matches nothing.
    pub fn for_each_match<'a>(&'a self, literal: &[u8], mut visit: impl FnMut(Entries<'a, T>)) {
        if !literal.is_empty() && !has_empty_token(literal) {
            self.root.for_each_match(Some(literal), &mut visit);
        }
    }

    /// Visits every entry with its subject and queue, in no particular order.
    pub fn for_each(&self, mut visit: impl FnMut(&[u8], Option<&[u8]>, &T)) {
        let mut subject = Vec::new();
        self.root.for_each(&mut subject, &mut visit);
    }
}

fn has_empty_token(literal: &[u8]) -> bool {
    literal.first() == Some(&b'.')
        || literal.last() == Some(&b'.')
        || memchr::memchr_iter(b'.', literal).any(|at| literal.get(at + 1) == Some(&b'.'))
}

impl<T> Leaf<T> {
    fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.queues.is_empty()
    }

    fn insert(&mut self, queue: Option<&[u8]>, entry: T) {
        let Some(queue) = queue else {
            self.plain.push(entry);
            return;
        };
        match self.queues.iter_mut().find(|(name, _)| &**name == queue) {
            Some((_, members)) => members.push(entry),
            None => self.queues.push((queue.into(), vec![entry])),
        }
    }

    fn remove(&mut self, queue: Option<&[u8]>, is_it: impl FnMut(&T) -> bool) -> Option<T> {
        let Some(queue) = queue else {
            let at = self.plain.iter().position(is_it)?;
            return Some(self.plain.swap_remove(at));
        };
        let group = self.queues.iter().position(|(name, _)| &**name == queue)?;
        let members = &mut self.queues[group].1;
        let at = members.iter().position(is_it)?;
        let removed = members.swap_remove(at);
        if members.is_empty() {
            self.queues.swap_remove(group);
        }
        Some(removed)
    }

    fn visit<'a>(&'a self, visit: &mut impl FnMut(Entries<'a, T>)) {
        if !self.plain.is_empty() {
            visit(Entries::Plain(&self.plain));
        }
        for (name, members) in &self.queues {
            visit(Entries::Queue(name, members));
        }
    }

    fn for_each(&self, subject: &[u8], visit: &mut impl FnMut(&[u8], Option<&[u8]>, &T)) {
        for entry in &self.plain {
            visit(subject, None, entry);
        }
        for (name, members) in &self.queues {
            for entry in members {
                visit(subject, Some(name), entry);
            }
        }
    }
}

impl<T> Level<T> {
    fn is_empty(&self) -> bool {
        self.literals.is_empty() && self.star.is_none() && self.tail.is_empty() && self.here.is_empty()
    }

    /// Levels that become empty are removed on the way back.
    fn remove(&mut self, rest: &[u8], queue: Option<&[u8]>, is_it: impl FnMut(&T) -> bool) -> Option<T> {
        let (token, next) = split(rest);
        if token == b">" && next.is_none() {
            return self.tail.remove(queue, is_it);
        }
        let level = if token == b"*" { self.star.as_deref_mut()? } else { self.literals.get_mut(token)? };
        let removed = match next {
            Some(next) => level.remove(next, queue, is_it)?,
            None => level.here.remove(queue, is_it)?,
        };
        if level.is_empty() {
            if token == b"*" {
                self.star = None;
            } else {
                self.literals.remove(token);
            }
        }
        Some(removed)
    }

    fn for_each_match<'a>(&'a self, rest: Option<&[u8]>, visit: &mut impl FnMut(Entries<'a, T>)) {
        let Some(rest) = rest else {
            self.here.visit(visit);
            return;
        };
        self.tail.visit(visit);
        let (token, next) = split(rest);
        if let Some(level) = &self.star {
            level.for_each_match(next, visit);
        }
        if let Some(level) = self.literals.get(token) {
            level.for_each_match(next, visit);
        }
    }

    fn for_each(&self, subject: &mut Vec<u8>, visit: &mut impl FnMut(&[u8], Option<&[u8]>, &T)) {
        self.here.for_each(subject, visit);
        let length = subject.len();
        let extend = |subject: &mut Vec<u8>, token: &[u8]| {
            subject.truncate(length);
            if length > 0 {
                subject.push(b'.');
            }
            subject.extend_from_slice(token);
        };
        if !self.tail.is_empty() {
            extend(subject, b">");
            self.tail.for_each(subject, visit);
        }
        if let Some(level) = &self.star {
            extend(subject, b"*");
            level.for_each(subject, visit);
        }
        for (token, level) in &self.literals {
            extend(subject, token);
            level.for_each(subject, visit);
        }
        subject.truncate(length);
    }
}

fn split(rest: &[u8]) -> (&[u8], Option<&[u8]>) {
    memchr::memchr(b'.', rest).map_or((rest, None), |at| (&rest[..at], Some(&rest[at + 1..])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matched(trie: &Trie<u32>, literal: &str) -> Vec<u32> {
        let mut found = Vec::new();
        trie.for_each_match(literal.as_bytes(), |entries| match entries {
            Entries::Plain(entries) | Entries::Queue(_, entries) => found.extend_from_slice(entries),
        });
        found.sort_unstable();
        found
    }

    #[test]
    fn wildcards_and_literals_are_found_together() {
        let mut trie = Trie::new();
        for (id, subject) in ["a.b", "a.*", "a.>", ">", "*.b", "a", "a.b.c"].iter().enumerate() {
            trie.insert(subject.as_bytes(), None, u32::try_from(id).unwrap_or(0));
        }
        assert_eq!(matched(&trie, "a.b"), [0, 1, 2, 3, 4]);
        assert_eq!(matched(&trie, "a"), [3, 5]);
        assert_eq!(matched(&trie, "a.b.c"), [2, 3, 6]);
        assert_eq!(matched(&trie, "a..b"), [] as [u32; 0]);
        assert_eq!(matched(&trie, "a."), [] as [u32; 0]);
        assert_eq!(matched(&trie, ""), [] as [u32; 0]);
    }

    #[test]
    fn removing_the_last_entry_prunes_its_levels() {
        let mut trie = Trie::new();
        trie.insert(b"a.*.c.>", Some(b"q"), 1);
        trie.insert(b"a.*.c.>", Some(b"q"), 2);
        assert_eq!(trie.remove(b"a.*.c.>", None, |id| *id == 1), None);
        assert_eq!(trie.remove(b"a.*.c.>", Some(b"q"), |id| *id == 1), Some(1));
        assert_eq!(matched(&trie, "a.b.c.d"), [2]);
        assert_eq!(trie.remove(b"a.*.c.>", Some(b"q"), |id| *id == 2), Some(2));
        assert!(trie.is_empty() && trie.root.is_empty());
    }

    fn subject_strategy() -> impl Strategy<Value = String> {
        proptest::collection::vec(prop_oneof!["a", "b", "c", Just("*".to_owned())], 1..4).prop_flat_map(
            |tokens| {
                let joined = tokens.join(".");
                prop_oneof![Just(joined.clone()), Just(format!("{joined}.>"))]
            },
        )
    }

    proptest! {
        #[test]
        fn the_trie_agrees_with_matching_one_by_one(
            subjects in proptest::collection::vec(subject_strategy(), 0..12),
            literal in "[abc](\\.[abc]){0,3}",
            removed in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
        ) {
            let mut trie = Trie::new();
            let mut model: Vec<(String, u32)> = Vec::new();
            for (id, subject) in subjects.iter().enumerate() {
                let id = u32::try_from(id).unwrap_or(0);
                trie.insert(subject.as_bytes(), None, id);
                model.push((subject.clone(), id));
            }
            for index in removed {
                if model.is_empty() { break }
                let (subject, id) = model.remove(index.index(model.len()));
                prop_assert_eq!(trie.remove(subject.as_bytes(), None, |other| *other == id), Some(id));
            }
            let mut expected: Vec<u32> = model.iter()
                .filter(|(subject, _)| crate::matches(subject.as_bytes(), literal.as_bytes()))
                .map(|(_, id)| *id).collect();
            expected.sort_unstable();
            prop_assert_eq!(matched(&trie, &literal), expected);
            let mut all = 0;
            trie.for_each(|subject, _, id| {
                all += 1;
                assert!(model.contains(&(String::from_utf8_lossy(subject).into_owned(), *id)));
            });
            prop_assert_eq!(all, model.len());
        }
    }
}
