//! A damaged journal is written anew: every log as far as it is not in a checkpoint, every value. The old one is set
//! aside. The new one takes its place by one rename; a crash before that is finished by the next repair.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use weir_storage::disk::Disk;
use weir_storage::{GroupId, Journal, JournalOptions};

use super::layout::{JOURNAL, NEW_JOURNAL};
use super::open::Opened;
use super::repair::{Repair, text};

const BATCH_BYTES: usize = 4 << 20;
/// A journal that holds less goes on in files of this size; the server makes larger ones later.
const SMALL_BYTES: u64 = 1 << 20;

/// Makes the new journal and puts it in the place of the old one. `repaired` are groups whose whole log is in a
/// checkpoint.
pub(super) fn rewrite(repair: &mut Repair, opened: &Opened, repaired: &BTreeSet<u64>) -> Result<(), String> {
    let made = repair.root.join(NEW_JOURNAL);
    if repair.disk.exists(&made) {
        repair.set_aside(&made)?;
    }
    let mut options = JournalOptions::default();
    if opened.recovery.bytes_read < SMALL_BYTES {
        options.file_size_bytes = SMALL_BYTES;
    }
    let (journal, _) = Journal::open_on(Arc::clone(&repair.disk), &made, options).map_err(text)?;
    for group in opened.journal.groups() {
        if repaired.contains(&group.0) {
            let last = opened.journal.log_range(group).last;
            if last == 0 {
                continue;
            }
            journal.purge_to(group, last, Box::new(|_| {}));
        } else {
            copy_group(&opened.journal, &journal, group)?;
        }
    }
    wait(&journal)?;
    drop(journal);
    repair.disk.sync_directory(&repair.root).map_err(text)?;
    repair.set_aside(&repair.root.join(JOURNAL))?;
    finish_swap(&*repair.disk, &repair.root)
}

/// The last step, also of a repair that was cut off before it.
pub(super) fn finish_swap(disk: &dyn Disk, root: &Path) -> Result<(), String> {
    let (journal, made) = (root.join(JOURNAL), root.join(NEW_JOURNAL));
    let is_there = |folder: &Path| disk.list_files(folder).is_ok_and(|names| !names.is_empty());
    if !is_there(&made) || is_there(&journal) {
        return Ok(());
    }
    disk.rename(&made, &journal).map_err(|error| format!("moving {}: {error}", made.display()))?;
    disk.sync_directory(root).map_err(text)
}

fn copy_group(from: &Journal, to: &Journal, group: GroupId) -> Result<(), String> {
    let range = from.log_range(group);
    if range.purged_to > 0 {
        to.purge_to(group, range.purged_to, Box::new(|_| {}));
    }
    let mut next = range.first;
    while next <= range.last {
        let entries = from.read(group, next, range.last + 1, BATCH_BYTES).map_err(text)?;
        let Some(last) = entries.last() else {
            return Err(format!("entry {next} of group {} cannot be read", group.0));
        };
        next = last.index + 1;
        to.append(group, entries, Box::new(|_| {}));
        wait(to)?;
    }
    for (key, value) in from.states(group) {
        to.put_state(group, key, value, Box::new(|_| {}));
    }
    Ok(())
}

/// Until everything is on the disk.
fn wait(journal: &Journal) -> Result<(), String> {
    let (sender, receiver) = std::sync::mpsc::channel();
    // Of no group that anybody has: gone with the next one.
    let nobody = GroupId(u64::MAX);
    journal.drop_group(nobody, Box::new(move |result| drop(sender.send(result))));
    receiver.recv().map_err(text)?.map_err(text)
}
