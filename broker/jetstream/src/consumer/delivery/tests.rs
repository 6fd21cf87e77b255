//! Delivery scenarios.
