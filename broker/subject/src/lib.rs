//! Room weir-subject.
