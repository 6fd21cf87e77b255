//! Room weir-jsapi.
