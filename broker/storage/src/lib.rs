//! Room weir-storage.
