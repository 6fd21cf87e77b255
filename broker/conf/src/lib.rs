//! Room weir-conf.
