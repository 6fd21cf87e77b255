//! Replays a local log past what cannot be read of it: as far as the entries behind tell what was counted in it. The
//! first of them that does not fit ends it: a message at a sequence that is not its own would be worse than none.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use weir_storage::{GroupId, Journal, StorageError};

use crate::replicated::{LogEntry, Replicated, StateMachine};
use crate::replicator::known::{Gap, Known};

/// An entry that cannot be read at the end of a log held at most so much.
pub(super) const COUNTED_PER_ENTRY_MAX: u64 = 4_096;
const BATCH_BYTES: usize = 4 << 20;

/// A part of the log that is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LostEntries {
    pub(super) entries: RangeInclusive<u64>,
    /// What was counted in them, or could have been.
    pub(super) counted: RangeInclusive<u64>,
    /// That much is known for certain.
    pub(super) is_exact: bool,
}

/// Applies all that can be; `skip` moves the machine's count on to a number.
pub(super) fn replay<M: StateMachine>(
    journal: &Journal,
    group: GroupId,
    replicated: &Replicated<M>,
    skip: impl Fn(&mut M, u64) -> Result<(), String>,
) -> Result<Vec<LostEntries>, String> {
    let range = journal.log_range(group);
    let mut lost: Vec<LostEntries> = Vec::new();
    let mut counts = BTreeMap::new();
    loop {
        let (applied, count) = {
            let machine = replicated.lock();
            (machine.applied().1, machine.count())
        };
        if applied >= range.last {
            return Ok(lost);
        }
        match journal.read(group, applied + 1, range.last + 1, BATCH_BYTES) {
            Ok(entries) if !entries.is_empty() => {
                for entry in entries {
                    let before = replicated.lock().count();
                    counts.insert(entry.index - 1, before);
                    let known = Known::of_term(entry.term, entry.index);
                    let fits = known.is_none_or(|known| {
                        counts.get(&known.applied).is_none_or(|count| *count == known.count)
                    });
                    if !fits {
                        return Err(format!(
                            "entry {} does not fit what was made of those before it: they cannot be put in place",
                            entry.index
                        ));
                    }
                    counts = counts.split_off(&entry.index.saturating_sub(u64::from(u16::MAX)));
                    let entry = LogEntry { term: 0, index: entry.index, payload: entry.payload };
                    replicated.apply(vec![entry]);
                    if let Some(reason) = replicated.failure() {
                        return Err(reason.to_owned());
                    }
                }
            }
            Ok(_) | Err(StorageError::Unreadable { .. }) => {
                let Some(gap) = Gap::find(journal, group, applied) else {
                    return Err(format!("entry {} is missing", applied + 1));
                };
                let found = judge(&gap, count, range.last)?;
                counts.clear();
                let mut machine = replicated.lock();
                skip(&mut machine, *found.counted.end())?;
                machine.advance(0, *found.entries.end());
                lost.push(found);
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// What is lost with a gap behind which the log ends at `last`.
fn judge(gap: &Gap, count: u64, last: u64) -> Result<LostEntries, String> {
    let entries = gap.entries.clone();
    if let Some(counted) = gap.counted(count) {
        return Ok(LostEntries { entries, counted, is_exact: true });
    }
    let behind = last - gap.entries.end();
    if let Some(known) = gap.after {
        return Err(format!(
            "entries {} to {} are lost and those up to {} were on their way with them: they cannot be put in place",
            entries.start(),
            entries.end(),
            known.applied
        ));
    }
    // Nothing behind was submitted after them: all that is left of the log was on its way together, and is given up
    // with them, since nobody can tell which sequences it had.
    let entries = *entries.start()..=last;
    let most = (gap.entries.end() - gap.entries.start() + 1 + behind) * COUNTED_PER_ENTRY_MAX;
    Ok(LostEntries { entries, counted: count + 1..=count + most, is_exact: false })
}
