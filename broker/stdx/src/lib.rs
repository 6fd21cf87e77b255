//! Room weir-stdx.
