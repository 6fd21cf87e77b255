//! Who is interested in what: sharded tries, what a subject matches, and caches of that.
//!
//! Each shard has an epoch that grows with every change, so that churn of one kind of subject
//! (`_INBOX.…`) does not invalidate what is known of another. It is not: delivery.

use crate::peer::Peer;
use crate::subscription::{Subscription, Target};
use parking_lot::RwLock;
use rustc_hash::FxHasher;
use smallvec::SmallVec;
use std::hash::Hasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use weir_subject::{Entries, Trie, first_token};

/// Shards of an account's interest, by the first token. A power of two.
const SHARDS: usize = 64;
/// The first and the largest number of slots of a cache. Powers of two.
const FIRST_SLOTS: usize = 64;
const MAX_SLOTS: usize = 1024;
/// A cache grows when this many entries were overwritten by others since it last grew.
const GROW_AFTER: usize = 256;
/// A cache is emptied when its results name this many receivers: wide subjects must not pile up in every connection.
const MAX_WEIGHT: usize = 64 * 1024;

/// Epochs that never are: theirs begin at 1.
const NEVER: (u64, u64) = (0, 0);

/// What one subject matches.
#[derive(Default)]
pub(crate) struct Matched {
    pub(crate) plain: SmallVec<[Arc<Subscription>; 4]>,
    pub(crate) queues: SmallVec<[QueueGroup; 1]>,
    /// Other servers with plain interest, each once.
    pub(crate) peers: SmallVec<[Arc<dyn Peer>; 2]>,
}

pub(crate) struct QueueGroup {
    pub(crate) name: Box<[u8]>,
    pub(crate) local: Vec<Arc<Subscription>>,
    pub(crate) remote: Vec<Arc<Subscription>>,
}

impl Matched {
    pub(crate) fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.queues.is_empty() && self.peers.is_empty()
    }

    fn add(&mut self, entries: Entries<'_, Arc<Subscription>>) {
        match entries {
            Entries::Plain(subscriptions) => {
                for subscription in subscriptions {
                    match &subscription.target {
                        Target::Peer { peer, .. } => self.add_peer(peer),
                        _ => self.plain.push(Arc::clone(subscription)),
                    }
                }
            }
            Entries::Queue(name, members) => {
                let at = self.queues.iter().position(|group| *group.name == *name).unwrap_or_else(|| {
                    self.queues.push(QueueGroup { name: name.into(), local: Vec::new(), remote: Vec::new() });
                    self.queues.len() - 1
                });
                let group = &mut self.queues[at];
                for member in members {
                    let side = if matches!(member.target, Target::Peer { .. }) {
                        &mut group.remote
                    } else {
                        &mut group.local
                    };
                    side.push(Arc::clone(member));
                }
            }
        }
    }

    fn add_peer(&mut self, peer: &Arc<dyn Peer>) {
        if !self.peers.iter().any(|known| known.id() == peer.id()) {
            self.peers.push(Arc::clone(peer));
        }
    }
}

struct Shard {
    trie: RwLock<Trie<Arc<Subscription>>>,
    epoch: AtomicU64,
}

/// An account's interest.
pub(crate) struct Interest {
    shards: Box<[Shard]>,
    /// Patterns whose first token is a wildcard.
    wild: Shard,
    /// Whether results may be remembered.
    is_cached: bool,
}

impl Shard {
    fn new() -> Self {
        Self { trie: RwLock::new(Trie::new()), epoch: AtomicU64::new(1) }
    }
}

impl Interest {
    pub(crate) fn new(is_cached: bool) -> Self {
        Self { shards: (0..SHARDS).map(|_| Shard::new()).collect(), wild: Shard::new(), is_cached }
    }

    fn shard_index(subject: &[u8]) -> usize {
        // The high bits of this hash are the good ones.
        (hash(first_token(subject)) >> 32) as usize & (SHARDS - 1)
    }

    fn shard_of_pattern(&self, subject: &[u8]) -> &Shard {
        if matches!(first_token(subject), b"*" | b">") {
            &self.wild
        } else {
            &self.shards[Self::shard_index(subject)]
        }
    }

    pub(crate) fn insert(&self, subscription: Arc<Subscription>) {
        let shard = self.shard_of_pattern(&subscription.subject);
        let mut trie = shard.trie.write();
        let keep = Arc::clone(&subscription);
        trie.insert(&keep.subject, keep.queue.as_deref(), subscription);
        shard.epoch.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn remove(&self, subscription: &Arc<Subscription>) -> bool {
        let shard = self.shard_of_pattern(&subscription.subject);
        let mut trie = shard.trie.write();
        let removed = trie.remove(&subscription.subject, subscription.queue.as_deref(), |other| {
            Arc::ptr_eq(other, subscription)
        });
        shard.epoch.fetch_add(1, Ordering::Release);
        removed.is_some()
    }

    /// What `subject` matches now.
    pub(crate) fn find(&self, subject: &[u8]) -> Matched {
        let mut matched = Matched::default();
        let shard = &self.shards[Self::shard_index(subject)];
        shard.trie.read().for_each_match(subject, |entries| matched.add(entries));
        let wild = self.wild.trie.read();
        if !wild.is_empty() {
            wild.for_each_match(subject, |entries| matched.add(entries));
        }
        matched
    }

    /// Whether `subject` matches anything.
    pub(crate) fn has_any(&self, subject: &[u8]) -> bool {
        let mut any = false;
        let shard = &self.shards[Self::shard_index(subject)];
        shard.trie.read().for_each_match(subject, |_| any = true);
        if !any {
            self.wild.trie.read().for_each_match(subject, |_| any = true);
        }
        any
    }

    /// Whether somebody subscribes to just this literal subject, in the queue group if one is given, else in none.
    pub(crate) fn has_exactly(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        let mut found = false;
        let shard = &self.shards[Self::shard_index(subject)];
        shard.trie.read().for_each_match(subject, |entries| {
            let (group, entries) = match entries {
                Entries::Plain(entries) => (None, entries),
                Entries::Queue(group, entries) => (Some(group), entries),
            };
            found |= group == queue && entries.iter().any(|subscription| *subscription.subject == *subject);
        });
        found
    }

    pub(crate) fn for_each(&self, mut visit: impl FnMut(&Arc<Subscription>)) {
        for shard in self.shards.iter().chain([&self.wild]) {
            shard.trie.read().for_each(|_, _, subscription| visit(subscription));
        }
    }

    fn epochs(&self, shard: usize) -> (u64, u64) {
        (self.shards[shard].epoch.load(Ordering::Acquire), self.wild.epoch.load(Ordering::Acquire))
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(bytes);
    hasher.finish()
}

struct Slot {
    account: u64,
    shard: usize,
    epochs: (u64, u64),
    subject: Vec<u8>,
    matched: Arc<Matched>,
}

/// What one publisher knows of what subjects match: a table in which a subject has one place.
pub(crate) struct MatchCache {
    slots: Vec<Option<Slot>>,
    overwritten: usize,
    /// Receivers named by results since it was last emptied.
    weight: usize,
}

impl MatchCache {
    pub(crate) fn new() -> Self {
        Self { slots: Vec::new(), overwritten: 0, weight: 0 }
    }

    /// What `subject` matches in the account with that number.
    pub(crate) fn find(&mut self, account: u64, interest: &Interest, subject: &[u8]) -> &Arc<Matched> {
        if self.slots.is_empty() {
            self.slots.resize_with(FIRST_SLOTS, || None);
        }
        let place = self.place(account, subject);
        let is_current = self.slots[place].as_ref().is_some_and(|slot| {
            slot.account == account && slot.subject == subject && slot.epochs == interest.epochs(slot.shard)
        });
        if !is_current {
            self.fill(place, account, interest, subject);
        }
        match &self.slots[place] {
            Some(slot) => &slot.matched,
            None => unreachable!("it was filled above"),
        }
    }

    fn place(&self, account: u64, subject: &[u8]) -> usize {
        (hash(subject).wrapping_add(account) >> 20) as usize & (self.slots.len() - 1)
    }

    fn fill(&mut self, place: usize, account: u64, interest: &Interest, subject: &[u8]) {
        let shard = Interest::shard_index(subject);
        // The epochs are read first: a change in between makes the entry look old, never new.
        let epochs = if interest.is_cached { interest.epochs(shard) } else { NEVER };
        let matched = Arc::new(interest.find(subject));
        self.weight += if interest.is_cached {
            matched.plain.len() + matched.queues.iter().map(|group| group.local.len()).sum::<usize>()
        } else {
            // Emptied after this read.
            MAX_WEIGHT + 1
        };
        match &mut self.slots[place] {
            Some(slot) => {
                if slot.subject != subject {
                    self.overwritten += 1;
                }
                slot.subject.clear();
                slot.subject.extend_from_slice(subject);
                slot.account = account;
                slot.shard = shard;
                slot.epochs = epochs;
                slot.matched = matched;
            }
            empty => *empty = Some(Slot { account, shard, epochs, subject: subject.to_vec(), matched }),
        }
    }

    /// Grows when too many subjects contend for places. Not while a result is in use.
    pub(crate) fn tidy(&mut self) {
        if self.weight > MAX_WEIGHT {
            self.weight = 0;
            self.slots.clear();
        }
        if self.overwritten > GROW_AFTER {
            self.overwritten = 0;
            if (1..MAX_SLOTS).contains(&self.slots.len()) {
                let size = self.slots.len() * 4;
                self.slots.clear();
                self.slots.resize_with(size.min(MAX_SLOTS), || None);
            }
        }
    }
}
