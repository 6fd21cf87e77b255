//! openraft's own storage test suite, against the log store in memory and on the journal.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use weir_storage::{GroupId, Journal, JournalOptions};

use super::counter::Counter;
use super::memory_log::MemoryLog;
use crate::log_store::LogStore;
use crate::raft_types::TypeConfig;
use crate::state_machine::{MachineState, StateMachine};

fn parts(log: Arc<dyn crate::GroupLog>) -> (LogStore, StateMachine) {
    let store = LogStore::open(log, GroupId(7)).expect("an empty log opens");
    let machine = Arc::new(Counter::lax());
    let state = MachineState::new(machine, store.clone()).expect("an empty machine opens");
    state.applied_is_durable.store(true, Ordering::Relaxed);
    (store, StateMachine { state })
}

struct InMemory;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, ()> for InMemory {
    async fn build(&self) -> Result<((), LogStore, StateMachine), StorageError<TypeConfig>> {
        let (store, machine) = parts(Arc::new(MemoryLog::default()));
        Ok(((), store, machine))
    }
}

struct OnJournal;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, tempfile::TempDir> for OnJournal {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let options = JournalOptions { file_size_bytes: 256 * 1024, ..JournalOptions::default() };
        let (journal, _) = Journal::open(folder.path(), options).expect("a new journal opens");
        let (store, machine) = parts(Arc::new(journal));
        Ok((folder, store, machine))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_store_in_memory_passes_openrafts_suite() {
    Suite::test_all(InMemory).await.expect("the suite passes");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_store_on_the_journal_passes_openrafts_suite() {
    Suite::test_all(OnJournal).await.expect("the suite passes");
}
