//! Who still needs a message, asked for every message and acknowledgement of a stream that keeps messages by interest.
//! What is here are shortcuts: without them every consumer would be looked at each time. They follow from the
//! consumers' states and are in no checkpoint.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;

use weir_subject::Trie;

use super::StreamMachine;
use crate::store::{Lookup, Store, StoreFailure};

/// Messages in flight for which is known who was found to need them.
const WITNESSES_MAX: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Interest {
    filters: OnceCell<Filters>,
    /// Message -> the first consumer, by name, that may still need it: those before it are through with it, and stay so.
    witnesses: HashMap<u64, Arc<str>>,
}

/// The filters of all consumers in one.
#[derive(Debug)]
enum Filters {
    /// Some consumer takes every subject.
    All,
    Some(Trie<()>),
}

impl Interest {
    /// Consumers came, went or changed: nothing known of them holds.
    pub(super) fn forget(&mut self) {
        self.filters.take();
        self.witnesses.clear();
    }

    fn note(&mut self, seq: u64, name: &Arc<str>) {
        if self.witnesses.len() >= WITNESSES_MAX {
            self.witnesses.clear();
        }
        self.witnesses.insert(seq, Arc::clone(name));
    }
}

impl<S: Store> StreamMachine<S> {
    /// True when some consumer takes messages of this subject.
    pub(super) fn has_interest(&self, subject: &[u8]) -> bool {
        let consumers = &self.consumers;
        let filters = self.interest.filters.get_or_init(|| {
            if consumers.values().any(|consumer| consumer.filter.is_all()) {
                return Filters::All;
            }
            let mut trie = Trie::new();
            for pattern in consumers.values().flat_map(|consumer| consumer.filter.patterns()) {
                trie.insert(pattern, None, ());
            }
            Filters::Some(trie)
        });
        match filters {
            Filters::All => true,
            Filters::Some(trie) => {
                let mut found = false;
                trie.for_each_match(subject, |_| found = true);
                found
            }
        }
    }

    /// True when some consumer has to see or acknowledge this message. Its subject is read only when a filter decides.
    pub(super) fn is_needed(&mut self, seq: u64, subject: Option<&[u8]>) -> Result<bool, StoreFailure> {
        let mut read = None;
        let from = self.interest.witnesses.get(&seq).map_or(Bound::Unbounded, Bound::Included);
        let mut witness = None;
        for (name, consumer) in self.consumers.range::<Arc<str>, _>((from, Bound::Unbounded)) {
            if !consumer.state.needs(seq) {
                continue;
            }
            if !consumer.filter.is_all() {
                if subject.is_none() && read.is_none() {
                    match self.store.get(seq)? {
                        Lookup::Found(message) => read = Some(message.subject),
                        // What cannot be read may be repaired, and needed then.
                        Lookup::Missing | Lookup::Unreadable => return Ok(true),
                    }
                }
                if !subject.or(read.as_deref()).is_some_and(|subject| consumer.filter.matches(subject)) {
                    continue;
                }
            }
            witness = Some(Arc::clone(name));
            break;
        }
        match witness {
            Some(name) => {
                self.interest.note(seq, &name);
                Ok(true)
            }
            None => {
                self.interest.witnesses.remove(&seq);
                Ok(false)
            }
        }
    }
}
