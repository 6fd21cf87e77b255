//! What leaves a stream: by count, bytes, age, a subject's share, delete and purge.

use std::ops::ControlFlow;

use weir_jsapi::{DiscardPolicy, errors};
use weir_stdx::time::UnixNanos;

use super::StreamMachine;
use crate::command::{Outcome, Purge};
use crate::store::{Filter, Store, StoreFailure};

/// A positive limit; zero and negative are unlimited.
fn limit(value: i64) -> Option<u64> {
    u64::try_from(value).ok().filter(|&value| value > 0)
}

impl<S: Store> StreamMachine<S> {
    /// Removes one message and notes it for the consumers.
    pub(super) fn remove_one(&mut self, seq: u64, erase: bool) -> Result<bool, StoreFailure> {
        let removed = self.store.remove(seq, erase)?;
        if removed {
            self.removals.push(seq);
        }
        Ok(removed)
    }

    /// Removes everything below a sequence; returns how many messages went.
    pub(super) fn compact_below(&mut self, below: u64) -> Result<u64, StoreFailure> {
        let removed = self.store.compact(below)?;
        if removed > 0 {
            self.removals.forget_all();
        }
        Ok(removed)
    }

    /// Leaves the newest `keep` messages of a subject.
    pub(super) fn trim_subject(&mut self, subject: &[u8], keep: u64) -> Result<(), StoreFailure> {
        while let Some(state) = self.store.subject_state(subject).filter(|state| state.count > keep) {
            if !self.remove_one(state.first, false)? {
                return Err(StoreFailure::Failed(format!(
                    "message {} of its subject index is not there",
                    state.first
                )));
            }
        }
        Ok(())
    }

    /// Count and bytes of the whole stream; oldest go first.
    pub(super) fn enforce_size_limits(&mut self) -> Result<(), StoreFailure> {
        if self.config.discard == DiscardPolicy::New {
            return Ok(());
        }
        let (max_messages, max_bytes) = (limit(self.config.max_msgs), limit(self.config.max_bytes));
        loop {
            let state = self.store.state();
            let over = max_messages.is_some_and(|limit| state.messages > limit)
                || max_bytes.is_some_and(|limit| state.bytes > limit);
            if !over || state.messages == 0 {
                return Ok(());
            }
            if !self.remove_one(state.first_seq, false)? {
                return Err(StoreFailure::Failed(format!("first message {} is not there", state.first_seq)));
            }
        }
    }

    /// After a change of configuration: also the subjects' shares.
    pub(super) fn enforce_all_limits(&mut self) -> Result<(), StoreFailure> {
        if let Some(keep) = limit(self.config.max_msgs_per_subject) {
            let mut over = Vec::new();
            self.store.for_each_subject(b">", &mut |subject, state| {
                if state.count > keep {
                    over.push(subject.to_vec());
                }
                ControlFlow::Continue(())
            });
            for subject in over {
                self.trim_subject(&subject, keep)?;
            }
        }
        self.enforce_size_limits()
    }

    pub(super) fn expire(&mut self, now: UnixNanos) -> Result<Outcome, StoreFailure> {
        self.dedupe.expire(now, limit(self.config.duplicate_window).unwrap_or(0));
        let mut count = self.expire_lifetimes(now)?;
        // A message is too old once `timestamp + max_age <= now`.
        let oldest_kept = limit(self.config.max_age).and_then(|max_age| now.0.checked_sub(max_age));
        if let Some(oldest_kept) = oldest_kept.map(|cut| UnixNanos(cut + 1)) {
            count += if self.ages_one_by_one() {
                self.expire_aged(oldest_kept, now)?
            } else {
                self.expire_range(oldest_kept)?
            };
        }
        Ok(Outcome::Removed { count })
    }

    fn expire_range(&mut self, oldest_kept: UnixNanos) -> Result<u64, StoreFailure> {
        let state = self.store.state();
        if state.messages == 0 || state.first_timestamp >= oldest_kept {
            return Ok(0);
        }
        let below = self.store.seq_at_or_after(oldest_kept).min(state.last_seq + 1);
        self.remove_range_below(below)
    }

    /// Few messages go one by one, so that consumers keep their counts; many at once.
    fn remove_range_below(&mut self, below: u64) -> Result<u64, StoreFailure> {
        const ONE_BY_ONE_MAX: u64 = 64;
        let first = self.store.state().first_seq;
        if below.saturating_sub(first) > ONE_BY_ONE_MAX {
            return self.compact_below(below);
        }
        let mut count = 0;
        for seq in first..below {
            count += u64::from(self.remove_one(seq, false)?);
        }
        self.store.compact(below)?;
        Ok(count)
    }

    pub(super) fn delete_message(&mut self, seq: u64, erase: bool) -> Result<Outcome, StoreFailure> {
        if self.config.sealed || self.config.deny_delete {
            let error = if self.config.sealed {
                errors::STREAM_SEALED.error()
            } else {
                errors::STREAM_MSG_DELETE_FAILED.with("message delete not permitted")
            };
            return Ok(Outcome::Refused(error));
        }
        if self.remove_one(seq, erase)? {
            self.drop_from_consumers(seq);
            return Ok(Outcome::Removed { count: 1 });
        }
        let state = self.store.state();
        let error = if seq > state.last_seq || state.messages == 0 {
            errors::STREAM_MSG_DELETE_FAILED.with("stream store EOF")
        } else if seq < state.first_seq {
            errors::STREAM_MSG_DELETE_FAILED.with("no message found")
        } else {
            errors::SEQUENCE_NOT_FOUND.with(seq)
        };
        Ok(Outcome::Refused(error))
    }

    /// Takes a message out that cannot be read any more, whatever the configuration says of deleting.
    pub fn drop_unreadable(&mut self, seq: u64) -> Result<bool, StoreFailure> {
        let removed = self.remove_one(seq, false)?;
        if removed {
            self.drop_from_consumers(seq);
        }
        Ok(removed)
    }

    pub(super) fn purge(&mut self, purge: &Purge) -> Result<Outcome, StoreFailure> {
        if self.config.sealed || self.config.deny_purge {
            let error = if self.config.sealed {
                errors::STREAM_SEALED.error()
            } else {
                errors::STREAM_PURGE_FAILED.with("stream purge not permitted")
            };
            return Ok(Outcome::Refused(error));
        }
        let filter = purge.filter.as_deref().filter(|filter| !filter.is_empty() && *filter != ">");
        let count = match filter {
            None => {
                let state = self.store.state();
                let below = match (purge.below_seq, purge.keep) {
                    (1.., _) => purge.below_seq,
                    (0, 1..) => self.nth_newest(&Filter::default(), purge.keep)?.unwrap_or(0),
                    (0, 0) => state.last_seq + 1,
                };
                let count = self.compact_below(below)?;
                // Also when it found nothing: consumers move on.
                self.removals.forget_all();
                count
            }
            Some(pattern) => self.purge_filtered(&Filter::new([pattern]), purge)?,
        };
        let first_seq = self.store.state().first_seq;
        for consumer in self.consumers.values_mut() {
            if filter.is_none() {
                consumer.state.purged_below(first_seq);
            } else {
                consumer.state.prune(first_seq);
            }
        }
        Ok(Outcome::Removed { count })
    }

    pub(super) fn purge_filtered(&mut self, filter: &Filter, purge: &Purge) -> Result<u64, StoreFailure> {
        let below = match (purge.below_seq, purge.keep) {
            (1.., _) => purge.below_seq,
            (0, 1..) => match self.nth_newest(filter, purge.keep)? {
                Some(seq) => seq,
                None => return Ok(0),
            },
            (0, 0) => u64::MAX,
        };
        let mut count = 0;
        let mut from = 1;
        while let Some(message) = self.store.next_match(filter, from)? {
            if message.seq >= below {
                break;
            }
            if self.store.remove(message.seq, false)? {
                count += 1;
                self.drop_from_consumers(message.seq);
            }
            from = message.seq + 1;
        }
        if count > 0 {
            self.removals.forget_all();
        }
        Ok(count)
    }

    /// The sequence of the oldest of the newest `keep` messages; `None` when there are no more than `keep`.
    fn nth_newest(&self, filter: &Filter, keep: u64) -> Result<Option<u64>, StoreFailure> {
        let total = self.store.num_pending(filter, 0);
        if total <= keep {
            return Ok(None);
        }
        let (mut low, mut high) = (self.store.state().first_seq, self.store.state().last_seq);
        // The largest sequence from which at least `keep` messages remain.
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if self.store.num_pending(filter, middle) >= keep {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        Ok(Some(low))
    }
}
