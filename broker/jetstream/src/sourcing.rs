//! Names of mirrors' and sources' origins, and the header that says where a sourced message came from, in
//! nats-server's formats: they are stored with messages and compared by other servers. Not fetching (the node's work).

mod follower;

use sha2::{Digest, Sha256};
use weir_jsapi::{ExternalStream, StreamSource};
use weir_stdx::time::UnixNanos;

pub use follower::{Beat, Follower, Step, is_control};

/// Letters of a hash.
const HASH_LEN: usize = 8;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Eight letters that stand for a longer name.
pub fn short_hash(name: &str) -> String {
    let digest = Sha256::digest(name.as_bytes());
    digest.iter().take(HASH_LEN).map(|byte| char::from(DIGITS[usize::from(*byte) % DIGITS.len()])).collect()
}

/// What tells a stream from another one of the same name: by when it was created.
pub fn stream_identity(created: UnixNanos) -> String {
    short_hash(&created.to_rfc3339())
}

/// A name that may be of another account or domain.
fn qualified_name(source: &StreamSource) -> String {
    match &source.external {
        Some(ExternalStream { api, .. }) => format!("{}:{}", source.name, short_hash(api)),
        None => source.name.clone(),
    }
}

fn or_all(subject: &str) -> &str {
    if subject.is_empty() { ">" } else { subject }
}

/// The key of a source: stream, filters and transform destinations. No two sources of a stream share one.
pub fn index_name(source: &StreamSource) -> String {
    let mut name = qualified_name(source);
    if let Some(consumer) = &source.consumer {
        name = format!("{name}:C={}", short_hash(&consumer.name));
    }
    let transforms = &source.subject_transforms;
    if transforms.is_empty() {
        return format!("{name} {} >", or_all(&source.filter_subject));
    }
    let joined = |parts: Vec<&str>| parts.join("\x0c");
    let from = joined(transforms.iter().map(|pair| or_all(&pair.src)).collect());
    let to = joined(transforms.iter().map(|pair| or_all(&pair.dest)).collect());
    format!("{name} {from} {to}")
}

/// Origin and durable consumer: no two sources of a stream share both.
pub(crate) fn consumer_name(source: &StreamSource) -> String {
    let consumer = source.consumer.as_ref().map_or("", |consumer| consumer.name.as_str());
    format!("{} {consumer}", qualified_name(source))
}

/// The name of the consumer that a mirror asks its origin for, without its `JS_MIRROR_`.
pub fn consumer_hash(stream: &str, account: &str, domain: Option<&str>) -> String {
    match domain {
        Some(domain) => short_hash(&format!("{stream} {account} {domain}")),
        None => short_hash(&format!("{stream} {account}")),
    }
}

/// As [`consumer_hash`], for a source: without its `JS_SRC_`.
pub fn source_consumer_hash(
    stream: &str,
    account: &str,
    domain: Option<&str>,
    source: &StreamSource,
    all: &[StreamSource],
) -> String {
    // The reference hashes a hash.
    let own = consumer_hash(stream, account, domain);
    if all.iter().filter(|other| other.name == source.name).count() > 1 {
        return short_hash(&format!("{own} {}", index_name(source)));
    }
    short_hash(&own)
}

/// Where a sourced message came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin<'a> {
    /// [`index_name`] of the source.
    pub index_name: &'a str,
    pub seq: u64,
    /// The subject it had there.
    pub subject: &'a str,
    /// [`stream_identity`] of the origin, empty when it is not known.
    pub identity: &'a str,
}

impl Origin<'_> {
    /// The value of `Nats-Stream-Source`: stream, sequence, filters, destinations, subject, identity.
    pub fn to_header(&self) -> String {
        let mut parts = self.index_name.splitn(3, ' ');
        let (stream, from, to) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
        let mut header = format!("{stream} {} {from} {to} {}", self.seq, self.subject);
        if !self.identity.is_empty() {
            header.push(' ');
            header.push_str(self.identity);
        }
        header
    }
}

/// What a stored `Nats-Stream-Source` says of its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOrigin {
    pub index_name: String,
    pub seq: u64,
    /// Empty when it was not known.
    pub identity: String,
}

impl StoredOrigin {
    /// Reads the header of 2.10 and later.
    pub fn parse(header: &str) -> Option<Self> {
        let mut fields = header.split(' ');
        let (stream, seq, from, to) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let _subject = fields.next();
        Some(Self {
            index_name: format!("{stream} {from} {to}"),
            seq: seq.parse().ok()?,
            identity: fields.next().unwrap_or_default().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use weir_jsapi::SubjectTransform;

    use super::*;

    fn source(name: &str) -> StreamSource {
        StreamSource { name: name.to_owned(), ..StreamSource::default() }
    }

    #[test]
    fn index_names_tell_filters_transforms_and_externals_apart() {
        assert_eq!(index_name(&source("A")), "A > >");
        let filtered = StreamSource { filter_subject: "a.*".to_owned(), ..source("A") };
        assert_eq!(index_name(&filtered), "A a.* >");
        let pair = |src: &str, dest: &str| SubjectTransform { src: src.to_owned(), dest: dest.to_owned() };
        let mapped = StreamSource { subject_transforms: vec![pair("a", "b"), pair("c", "")], ..source("A") };
        assert_eq!(index_name(&mapped), "A a\x0cc b\x0c>");
        let external = ExternalStream { api: "X.API".to_owned(), deliver: String::new() };
        let external = StreamSource { external: Some(external), ..source("A") };
        assert_eq!(index_name(&external), format!("A:{} > >", short_hash("X.API")));
    }

    #[test]
    fn a_header_leads_back_to_its_source() {
        let origin = Origin { index_name: "A a.* >", seq: 7, subject: "a.b", identity: "I" };
        assert_eq!(origin.to_header(), "A 7 a.* > a.b I");
        let stored = StoredOrigin::parse(&origin.to_header()).expect("a header");
        let expected = StoredOrigin { index_name: "A a.* >".to_owned(), seq: 7, identity: "I".to_owned() };
        assert_eq!(stored, expected);
        assert_eq!(StoredOrigin::parse("A 7"), None);
        assert_eq!(StoredOrigin::parse("A x > > a"), None);
    }
}
