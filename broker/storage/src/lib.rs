//! Storage: the journal that every group of a server shares, and the message stores of the streams.
//! No tokio and no clock except on the journal's own thread. See design.md section 5 for the path of a
//! stored message.

pub mod disk;
pub mod error;
pub mod identity;
pub mod inspect;
pub mod journal;
#[cfg(feature = "test-util")]
pub mod probe;
pub mod store;
pub mod trash;
pub mod vault;
pub mod whole_file;

pub use error::StorageError;
pub use identity::NodeIdentity;
pub use journal::{
    Damage, Done, GroupId, Journal, JournalEntry, JournalOptions, JournalStats, Laggard, LogRange, Recovery,
    Shortage, SyncPolicy, TornTail,
};
pub use store::{
    FileStore, FileStoreOptions, Filter, Lookup, MemoryStore, MessageStore, Opened, StoreInspection,
    StorePart, StoreReport, StoreSnapshot, StoreState, StoredMessage, SubjectState, Unsynced,
    file_message_bytes, memory_message_bytes,
};
pub use trash::{Trash, TrashEntry};
pub use vault::{Cipher, EncryptionOptions, StoreKey};
