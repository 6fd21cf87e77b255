//! The cluster secret as a bearer token, and the headers by which two brokers make sure they mean each
//! other.

use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::types::PeerId;

/// Who asks, who is meant, and for which purpose.
const HEADER_FROM: &str = "weir-from";
const HEADER_TO: &str = "weir-to";
/// Version of what the lanes carry.
const HEADER_VERSION: &str = "weir-raft-version";
const VERSION: u64 = 1;

/// Checks the bearer token of every call, when there is a secret.
#[derive(Clone)]
pub(crate) struct Gate {
    expected: Option<AsciiMetadataValue>,
}

/// The `authorization` value for a secret; `None` when it cannot be a header.
pub(crate) fn bearer(secret: &str) -> Option<AsciiMetadataValue> {
    let mut value = AsciiMetadataValue::try_from(format!("Bearer {secret}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Compares without telling by its duration where two values differ; their length may be told.
fn equal_in_constant_time(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let difference = a.iter().zip(b).fold(0_u8, |sum, (x, y)| sum | (x ^ y));
    std::hint::black_box(difference) == 0
}

impl Gate {
    pub(crate) fn new(expected: Option<AsciiMetadataValue>) -> Self {
        Self { expected }
    }
}

impl Interceptor for Gate {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let Some(expected) = &self.expected else {
            return Ok(request);
        };
        match request.metadata().get("authorization") {
            Some(given) if equal_in_constant_time(given.as_bytes(), expected.as_bytes()) => Ok(request),
            _ => Err(Status::unauthenticated("the cluster's secret is missing or wrong")),
        }
    }
}

/// Puts the headers of a call between brokers.
pub(crate) fn stamp(
    metadata: &mut MetadataMap,
    from: PeerId,
    to: PeerId,
    token: Option<&AsciiMetadataValue>,
) {
    metadata.insert(HEADER_FROM, from.0.into());
    metadata.insert(HEADER_TO, to.0.into());
    metadata.insert(HEADER_VERSION, VERSION.into());
    if let Some(token) = token {
        metadata.insert("authorization", token.clone());
    }
}

fn number(metadata: &MetadataMap, name: &str) -> Result<u64, Status> {
    metadata
        .get(name)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| Status::invalid_argument(format!("header {name} is missing or no number")))
}

/// Checks that a call is meant for this broker and speaks its version; says who asks.
pub(crate) fn check_stamp(metadata: &MetadataMap, this: PeerId) -> Result<PeerId, Status> {
    let version = number(metadata, HEADER_VERSION)?;
    if version != VERSION {
        let text = format!("version {version} of the Raft protocol is not spoken here");
        return Err(Status::failed_precondition(text));
    }
    let to = number(metadata, HEADER_TO)?;
    if to != this.0 {
        let text = format!("this is server {this}, not {to}");
        return Err(Status::failed_precondition(text));
    }
    Ok(PeerId(number(metadata, HEADER_FROM)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(gate: &mut Gate, token: Option<&str>) -> bool {
        let mut request = Request::new(());
        if let Some(token) = token.and_then(bearer) {
            request.metadata_mut().insert("authorization", token);
        }
        gate.call(request).is_ok()
    }

    #[test]
    fn only_the_secret_opens_the_gate() {
        let mut gate = Gate::new(bearer("s3cret"));
        assert!(call(&mut gate, Some("s3cret")));
        assert!(!call(&mut gate, Some("s3creT")));
        assert!(!call(&mut gate, Some("s3cre")));
        assert!(!call(&mut gate, None));
        let mut open = Gate::new(None);
        assert!(call(&mut open, None));
    }

    #[test]
    fn a_call_for_another_server_is_refused() {
        let mut metadata = MetadataMap::new();
        stamp(&mut metadata, PeerId(1), PeerId(2), None);
        assert_eq!(check_stamp(&metadata, PeerId(2)).ok(), Some(PeerId(1)));
        assert!(check_stamp(&metadata, PeerId(3)).is_err());
        assert!(check_stamp(&MetadataMap::new(), PeerId(3)).is_err());
    }
}
