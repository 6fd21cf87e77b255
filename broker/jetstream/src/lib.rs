//! Room weir-jetstream.
