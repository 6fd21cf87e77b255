//! Room weir-server.
