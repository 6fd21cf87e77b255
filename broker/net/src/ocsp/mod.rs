//! OCSP (RFC 6960): requests, responses and what their signatures are worth. Not the asking, and not what
//! follows from an answer.

mod certificate;
mod lengths;
mod request;
mod response;
mod signed;

pub use certificate::Certificate;
pub use request::request;
pub use response::{NotCurrent, Response, ResponseError, Status};
