//! Room weir-monitor.
