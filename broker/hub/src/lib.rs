//! Room weir-hub.
