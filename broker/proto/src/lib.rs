//! Room weir-proto.
