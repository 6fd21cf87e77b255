//! Who somebody is: nkeys, curve keys, JWTs, the rules of operator mode, auth callout, certificates.
//!
//! Pure: it holds no connection and reads no clock; time and randomness are arguments. It is not what users may
//! do once they are in (weir-hub), nor where claims come from (weir-server's resolvers).

pub mod callout;
pub mod certificate;
pub mod distinguished_name;
pub mod jwt;
pub mod nkey;
pub mod operator;
pub mod schedule;
pub mod source;
pub mod template;
pub mod xkey;
