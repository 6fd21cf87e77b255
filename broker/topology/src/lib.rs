//! Room weir-topology.
