//! Room weir-jetstream-node.
