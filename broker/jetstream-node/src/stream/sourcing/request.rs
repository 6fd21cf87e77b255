//! What an origin is asked for: a consumer of its own for a mirror or source, or a durable one set back to where its
//! acknowledgements end. Subjects, headers and bodies are nats-server's, which may be the origin. No I/O.

use weir_jetstream::sourcing::{consumer_hash, source_consumer_hash};
use weir_jsapi::request::CreateConsumerRequest;
use weir_jsapi::{AckPolicy, ConsumerConfig, DeliverPolicy, StreamConfig, StreamSource, Time, headers};

use super::feed::Kind;

const API_PREFIX: &str = "$JS.API";
const HEARTBEAT_NANOS: i64 = 1_000_000_000;
const INACTIVE_NANOS: i64 = 10_000_000_000;
const ACK_WAIT_NANOS: i64 = 22 * 3600 * 1_000_000_000;

/// Where the stream is with the origin.
#[derive(Debug, Clone, Default)]
pub(super) struct Start {
    /// The origin's last sequence that is here.
    pub(super) position: u64,
    /// The stream never had a message: the configured start counts.
    pub(super) is_new: bool,
    /// The origin was made anew.
    pub(super) is_recreated: bool,
    pub(super) identity: String,
    /// Of the stream's last message, when it has or had one.
    pub(super) last_time: Option<Time>,
    pub(super) first_seq: u64,
}

/// Who asks.
pub(super) struct Asker<'a> {
    pub(super) config: &'a StreamConfig,
    pub(super) account: &'a str,
    pub(super) domain: Option<&'a str>,
    /// Random letters.
    pub(super) token: &'a str,
}

/// How much of this protocol the origin knows; older servers are asked with less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Full,
    /// Without streams' identities.
    Durable,
    Plain,
}

impl Level {
    /// What to try when the origin did not understand.
    pub(super) fn lower(self) -> Option<Self> {
        match self {
            Self::Full => Some(Self::Durable),
            Self::Durable => Some(Self::Plain),
            Self::Plain => None,
        }
    }
}

/// A request ready to be sent.
pub(super) struct Request {
    pub(super) subject: String,
    pub(super) headers: String,
    pub(super) body: Vec<u8>,
}

/// `$JS.API.<rest>`, or the same in another account or domain.
pub(super) fn api_subject(source: &StreamSource, rest: &str) -> String {
    let prefix = source.external.as_ref().map_or(API_PREFIX, |external| external.api.as_str());
    format!("{prefix}.{rest}").replace("..", ".")
}

/// Where the consumer sends: a subject of its own, or the durable consumer's.
fn deliver_subject(source: &StreamSource, kind: &Kind, token: &str) -> String {
    let letter = if *kind == Kind::Mirror { "M" } else { "S" };
    match source
        .external
        .as_ref()
        .map(|external| external.deliver.as_str())
        .filter(|prefix| !prefix.is_empty())
    {
        Some(prefix) => format!("{prefix}.{letter}.{token}").replace("..", "."),
        None => format!("$JS.{letter}.{token}"),
    }
}

pub(super) fn build(
    asker: &Asker<'_>,
    kind: &Kind,
    source: &StreamSource,
    start: &Start,
    level: Level,
) -> Request {
    let headers = headers_for(kind, start, level);
    if let Some(consumer) = &source.consumer {
        let rest = format!("CONSUMER.RESET.{}.{}", source.name, consumer.name);
        return Request { subject: api_subject(source, &rest), headers, body: Vec::new() };
    }
    let config = consumer_config(asker, kind, source, start, level);
    let rest = if config.filter_subject.is_empty() {
        format!("CONSUMER.CREATE.{}", source.name)
    } else {
        format!("CONSUMER.CREATE.{}.{}.{}", source.name, config.name, config.filter_subject)
    };
    let body = CreateConsumerRequest { stream_name: source.name.clone(), config, ..Default::default() };
    Request { subject: api_subject(source, &rest), headers, body: weir_jsapi::json::encode(&body) }
}

fn headers_for(kind: &Kind, start: &Start, level: Level) -> String {
    let number = match (level, kind) {
        (Level::Plain, _) => return String::new(),
        (Level::Full, Kind::Source { .. }) => 5,
        _ => 4,
    };
    let mut block = format!("NATS/1.0\r\n{}: {number}\r\n", headers::REQUIRED_API_LEVEL);
    if number == 5 {
        block.push_str(&format!("{}: {}\r\n", headers::STREAM_IDENTITY, start.identity));
    }
    block.push_str("\r\n");
    block
}

fn consumer_config(
    asker: &Asker<'_>,
    kind: &Kind,
    source: &StreamSource,
    start: &Start,
    level: Level,
) -> ConsumerConfig {
    let stream = &asker.config.name;
    let (mut name, metadata_prefix) = match kind {
        Kind::Mirror => {
            (format!("JS_MIRROR_{}", consumer_hash(stream, asker.account, asker.domain)), "_nats.mirror")
        }
        Kind::Source { .. } => {
            let sources = &asker.config.sources;
            let hash = source_consumer_hash(stream, asker.account, asker.domain, source, sources);
            (format!("JS_SRC_{hash}"), "_nats.src")
        }
    };
    if level == Level::Plain {
        name = format!("{name}_{}", asker.token);
    }
    let mut metadata = std::collections::BTreeMap::from([
        (format!("{metadata_prefix}.stream"), stream.clone()),
        (format!("{metadata_prefix}.acc"), asker.account.to_owned()),
    ]);
    if let Some(domain) = asker.domain {
        metadata.insert(format!("{metadata_prefix}.domain"), domain.to_owned());
    }
    let mut config = ConsumerConfig {
        name,
        deliver_subject: deliver_subject(source, kind, asker.token),
        ack_policy: AckPolicy::None,
        ack_wait: ACK_WAIT_NANOS,
        max_deliver: 1,
        idle_heartbeat: HEARTBEAT_NANOS,
        flow_control: true,
        direct: true,
        sourcing: level != Level::Plain,
        inactive_threshold: INACTIVE_NANOS,
        metadata,
        filter_subject: source.filter_subject.clone(),
        ..ConsumerConfig::default()
    };
    set_start(&mut config, kind, source, start);
    let mut filters = source.subject_transforms.iter().map(|pair| pair.src.clone());
    match (source.subject_transforms.len(), config.filter_subject.is_empty()) {
        (0, _) => {}
        // The subject of the request names a single filter.
        (1, true) => config.filter_subject = filters.next().unwrap_or_default(),
        _ => config.filter_subjects = filters.collect(),
    }
    config
}

fn set_start(config: &mut ConsumerConfig, kind: &Kind, source: &StreamSource, start: &Start) {
    let resumes = match kind {
        Kind::Mirror => !start.is_new,
        Kind::Source { .. } => start.position > 0,
    };
    if resumes {
        config.deliver_policy = DeliverPolicy::ByStartSequence;
        config.opt_start_seq = start.position + 1;
    } else if source.opt_start_seq > 0 {
        config.deliver_policy = DeliverPolicy::ByStartSequence;
        config.opt_start_seq = source.opt_start_seq;
    } else if let Some(time) = start_time(kind, source, start) {
        config.deliver_policy = DeliverPolicy::ByStartTime;
        config.opt_start_time = Some(time);
    }
}

/// A source that begins in a stream which had messages before begins at the time of the last one.
fn start_time(kind: &Kind, source: &StreamSource, start: &Start) -> Option<Time> {
    if *kind == Kind::Mirror {
        return source.opt_start_time;
    }
    match (source.opt_start_time, start.last_time) {
        (Some(asked), Some(last)) if asked.unix_nanos() < last.unix_nanos() => Some(last),
        (Some(asked), _) => Some(asked),
        (None, last) => last.filter(|_| start.first_seq > 1 && !start.is_recreated),
    }
}

#[cfg(test)]
mod tests {
    use weir_jsapi::{ExternalStream, SubjectTransform};

    use super::*;

    fn asker(config: &StreamConfig) -> Asker<'_> {
        Asker { config, account: "A", domain: None, token: "TOKEN" }
    }

    fn body(request: &Request) -> serde_json::Value {
        serde_json::from_slice(&request.body).expect("JSON")
    }

    #[test]
    fn a_mirror_resumes_behind_its_last_sequence() {
        let config = StreamConfig { name: "M".to_owned(), ..StreamConfig::default() };
        let source = StreamSource { name: "O".to_owned(), opt_start_seq: 3, ..StreamSource::default() };
        let fresh = Start { is_new: true, ..Start::default() };
        let request = build(&asker(&config), &Kind::Mirror, &source, &fresh, Level::Full);
        assert_eq!(request.subject, "$JS.API.CONSUMER.CREATE.O");
        assert_eq!(body(&request)["config"]["opt_start_seq"], 3);
        assert_eq!(body(&request)["config"]["sourcing"], true);
        let resumed = Start { position: 9, ..Start::default() };
        let request = build(&asker(&config), &Kind::Mirror, &source, &resumed, Level::Full);
        assert_eq!(body(&request)["config"]["opt_start_seq"], 10);
    }

    #[test]
    fn a_source_elsewhere_is_asked_by_its_prefix_and_filter() {
        let config = StreamConfig { name: "S".to_owned(), ..StreamConfig::default() };
        let external = ExternalStream { api: "$JS.hub.API".to_owned(), deliver: "d".to_owned() };
        let pair = SubjectTransform { src: "a.>".to_owned(), dest: "b.>".to_owned() };
        let source = StreamSource {
            name: "O".to_owned(),
            external: Some(external),
            subject_transforms: vec![pair],
            ..StreamSource::default()
        };
        let kind = Kind::Source { index_name: String::new() };
        let start = Start { identity: "I".to_owned(), ..Start::default() };
        let request = build(&asker(&config), &kind, &source, &start, Level::Full);
        let name = body(&request)["config"]["name"].as_str().expect("a name").to_owned();
        assert_eq!(request.subject, format!("$JS.hub.API.CONSUMER.CREATE.O.{name}.a.>"));
        assert_eq!(body(&request)["config"]["deliver_subject"], "d.S.TOKEN");
        assert!(request.headers.contains("Nats-Stream-Identity: I\r\n"), "{}", request.headers);
        assert!(build(&asker(&config), &kind, &source, &start, Level::Plain).headers.is_empty());
    }
}
