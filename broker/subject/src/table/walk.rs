//! Which subjects of a table a pattern covers: one walk over the part of the tree that can hold them.

use std::ops::ControlFlow;

use super::SubjectTable;
use super::nodes::{Link, Target};

impl<V: Default> SubjectTable<V> {
    /// Visits, in byte order, the subjects that `pattern` (literal or with wildcards) covers, with their numbers, until
    /// `visit` breaks.
    pub fn for_each_match<B>(
        &self,
        pattern: &[u8],
        mut visit: impl FnMut(&[u8], u32, &V) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        if !has_wildcard_byte(pattern) {
            let found = self.get(pattern);
            return found.map_or(ControlFlow::Continue(()), |(number, value)| visit(pattern, number, value));
        }
        // Depth first with an explicit stack: subjects are the user's, and so would be the recursion's depth.
        let mut stack = vec![(self.root, 0, State { at: 0, inside: Inside::Literal })];
        while let Some((link, matched, mut state)) = stack.pop() {
            match link.target() {
                Target::Nothing => {}
                Target::Subject(number) => {
                    let Some(slot) = self.slots.get(number) else { continue };
                    let name = self.names.get(slot.name);
                    let rest = name.get(matched..).unwrap_or_default();
                    if state.advance_all(pattern, rest) && state.accepts(pattern) {
                        visit(name, number, &slot.value)?;
                    }
                }
                Target::Node(address) => {
                    let node = self.nodes.get(address);
                    let depth = node.depth();
                    if !self.advance_to(link, matched..depth, &mut state, pattern) {
                        continue;
                    }
                    // Behind the others, so that it comes first.
                    if let Some(byte) = state.only_next_byte(pattern) {
                        let child = node.find(byte).map(|position| node.child_at(position));
                        stack.extend(child.map(|child| (child, depth, state)));
                    } else {
                        stack.extend(node.children().rev().map(|child| (child, depth, state)));
                    }
                    stack.push((node.end(), depth, state));
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Matches the bytes that all subjects below a link have in common.
    fn advance_to(
        &self,
        link: Link,
        bytes: std::ops::Range<usize>,
        state: &mut State,
        pattern: &[u8],
    ) -> bool {
        if state.inside == Inside::Tail || bytes.is_empty() {
            return true;
        }
        let name = self.first_below(link).and_then(|number| self.name(number));
        name.and_then(|name| name.get(bytes)).is_some_and(|bytes| state.advance_all(pattern, bytes))
    }

    /// Visits every subject in byte order.
    pub fn for_each(&self, mut visit: impl FnMut(&[u8], u32, &V)) {
        let done: ControlFlow<()> = self.for_each_match(b">", |subject, number, value| {
            visit(subject, number, value);
            ControlFlow::Continue(())
        });
        debug_assert!(done.is_continue());
    }
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
        self.inside == Inside::Tail || bytes.iter().all(|byte| self.advance(pattern, *byte))
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
