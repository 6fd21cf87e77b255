//! The number of messages a consumer has yet to see, kept up to date lazily: counted once, then corrected by what was
//! stored, removed and delivered since.

use crate::consumer::{Candidate, ConsumerState};
use crate::store::{Filter, Store};
use crate::stream::StreamMachine;

#[derive(Debug, Default, Clone, Copy)]
pub(super) struct PendingCounter {
    known: Option<Known>,
}

/// `count` messages that pass the filter are in `[next, counted_to]`, as of removal number `removals`.
#[derive(Debug, Clone, Copy)]
struct Known {
    count: u64,
    counted_to: u64,
    removals: u64,
}

impl PendingCounter {
    pub(super) fn value<S: Store>(
        &mut self,
        machine: &StreamMachine<S>,
        filter: &Filter,
        state: &ConsumerState,
        cursor: u64,
    ) -> u64 {
        let removals = machine.removals().position();
        let last_seq = machine.store().last_seq();
        if let Some(known) = &mut self.known
            && known.removals == removals
            && known.counted_to == last_seq
        {
            return known.count;
        }
        let known = self.correct(machine, filter, state, cursor).unwrap_or_else(|| Known {
            count: count_all(machine, filter, state, cursor),
            counted_to: last_seq,
            removals,
        });
        self.known = Some(known);
        known.count
    }

    /// One message, new to the consumer, is on its way.
    pub(super) fn delivered(&mut self, seq: u64) {
        match &mut self.known {
            Some(known) if seq <= known.counted_to => known.count = known.count.saturating_sub(1),
            _ => self.known = None,
        }
    }

    fn correct<S: Store>(
        &self,
        machine: &StreamMachine<S>,
        filter: &Filter,
        state: &ConsumerState,
        cursor: u64,
    ) -> Option<Known> {
        let mut known = self.known?;
        // With a skip list what is pending is not a range.
        let Candidate::From(next) = state.candidate(cursor) else { return None };
        for seq in machine.removals().since(known.removals)? {
            if seq < next || seq > known.counted_to {
                continue;
            }
            if !filter.is_all() {
                // Whether it passed the filter is not known any more: count anew. Rare, as consumers are mostly past
                // what is removed.
                return None;
            }
            known.count = known.count.saturating_sub(1);
        }
        known.removals = machine.removals().position();
        let last_seq = machine.store().last_seq();
        if last_seq > known.counted_to {
            known.count += machine.store().num_pending(filter, next.max(known.counted_to + 1));
            known.counted_to = last_seq;
        }
        Some(known)
    }
}

fn count_all<S: Store>(
    machine: &StreamMachine<S>,
    filter: &Filter,
    state: &ConsumerState,
    cursor: u64,
) -> u64 {
    match state.candidate(cursor) {
        Candidate::From(from) => machine.store().num_pending(filter, from),
        Candidate::Exactly(seq) => {
            let listed = state.skip_list.len() - state.skip_list.partition_point(|&entry| entry < seq);
            listed as u64 + machine.store().num_pending(filter, state.resume_at)
        }
    }
}
