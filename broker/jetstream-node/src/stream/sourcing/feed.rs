//! One origin of a stream: sessions with it, one after the other, with a growing pause between those that came to
//! nothing. What a session does is in `session`.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use weir_jsapi::{ApiError, StreamConfig, StreamSource, StreamSourceInfo, SubjectTransform};
use weir_subject::Transform;

use super::super::leader::StreamLeader;
use super::request;
use super::session::{self, End};

/// The shortest time between two requests for a consumer, as nats-server's.
const REQUEST_INTERVAL: Duration = Duration::from_secs(2);
/// The pause after the first failure; it doubles with each further one.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Spread, so that many feeds do not ask at the same moment.
const JITTER_MAX_MILLIS: u64 = 100;
/// How long the origin may take to delete a consumer that is not needed any more.
const DELETE_TIMEOUT: Duration = Duration::from_secs(10);

/// What the origin is to the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Mirror,
    Source {
        /// See `weir_jetstream::sourcing::index_name`.
        index_name: String,
    },
}

/// What is told of a feed.
#[derive(Debug, Default)]
pub(super) struct Status {
    pub(super) lag: u64,
    pub(super) heard: Option<Instant>,
    /// The origin was asked for a consumer; nats-server tells a mirror's filter from then on.
    pub(super) is_asked: bool,
    pub(super) error: Option<ApiError>,
    /// The consumer at the origin.
    pub(super) consumer: String,
    /// The origin was made anew: what was sourced from it before does not count.
    pub(super) is_recreated: bool,
}

/// One origin.
pub(crate) struct Feed {
    kind: Kind,
    source: StreamSource,
    /// Of the source, in order, the first that matches counts; then that of the stream.
    transforms: Vec<Transform>,
    input: Option<SubjectTransform>,
    input_transform: Option<Transform>,
    pub(super) status: Mutex<Status>,
}

impl Feed {
    pub(super) fn new(kind: Kind, source: StreamSource, config: &StreamConfig) -> Arc<Self> {
        // Those that are not valid were refused before; one without a destination only filters.
        let transform = |src: &str, dest: &str| Transform::new(src, dest).ok().filter(|_| !dest.is_empty());
        let transforms = source.subject_transforms.iter();
        let transforms = transforms.filter_map(|pair| transform(&pair.src, &pair.dest)).collect();
        let input_transform =
            config.subject_transform.as_ref().and_then(|pair| transform(&pair.src, &pair.dest));
        let input = config.subject_transform.clone();
        Arc::new(Self { kind, source, transforms, input, input_transform, status: Mutex::default() })
    }

    /// Whether the feed does what the configuration says of its origin.
    pub(super) fn is_as(&self, kind: &Kind, source: &StreamSource, config: &StreamConfig) -> bool {
        self.is_of(kind) && self.source == *source && self.input == config.subject_transform
    }

    pub(super) fn is_of(&self, kind: &Kind) -> bool {
        self.kind == *kind
    }

    pub(super) fn kind(&self) -> &Kind {
        &self.kind
    }

    pub(super) fn is_mirror(&self) -> bool {
        self.kind == Kind::Mirror
    }

    pub(super) fn source(&self) -> &StreamSource {
        &self.source
    }

    /// The subject under which a message of the origin is stored.
    pub(super) fn rename(&self, subject: &[u8], random: &mut dyn FnMut() -> u32) -> Option<Vec<u8>> {
        let renamed = self.transforms.iter().find_map(|transform| transform.transform(subject, &mut *random));
        let Some(input) = &self.input_transform else { return renamed };
        let current = renamed.as_deref().unwrap_or(subject);
        input.transform(current, random).or(renamed)
    }

    pub(super) fn fail(&self, error: Option<ApiError>) {
        self.status.lock().error = error;
    }

    pub(super) fn info(&self) -> StreamSourceInfo {
        let status = self.status.lock();
        let mut info = info_of(&self.source);
        if self.is_mirror() && !status.is_asked {
            info.filter_subject.clear();
        }
        let active = status.heard.map(|at| i64::try_from(at.elapsed().as_nanos()).unwrap_or(i64::MAX));
        StreamSourceInfo {
            lag: status.lag,
            active: active.unwrap_or(-1),
            error: status.error.clone(),
            ..info
        }
    }

    /// Follows the origin until aborted.
    pub(super) async fn run(self: Arc<Self>, leader: Weak<StreamLeader>) {
        let mut failures = 0_u32;
        loop {
            let Some(strong) = leader.upgrade() else { return };
            let jitter = strong.context.rng.lock().below(JITTER_MAX_MILLIS);
            tokio::time::sleep(Duration::from_millis(jitter)).await;
            let begun = Instant::now();
            let end = session::follow(&self, &strong).await;
            drop(strong);
            failures = match end {
                End::Closed => return,
                End::Again => 0,
                End::Failed => failures.saturating_add(1),
            };
            let pause = match failures {
                0 => REQUEST_INTERVAL.saturating_sub(begun.elapsed()),
                count => PAUSE_FIRST.saturating_mul(1 << count.saturating_sub(1).min(10)).min(PAUSE_MAX),
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// The configuration names this origin no more: its consumer is of no use. Tried once, in the background.
    pub(super) fn delete_consumer(&self, leader: &Arc<StreamLeader>) {
        let consumer = self.status.lock().consumer.clone();
        if consumer.is_empty() || self.source.consumer.is_some() {
            return;
        }
        let subject =
            request::api_subject(&self.source, &format!("CONSUMER.DELETE.{}.{consumer}", self.source.name));
        let Some(requester) = leader.requester() else { return };
        let (stream, origin) = (Arc::clone(leader.name()), self.source.name.clone());
        tokio::spawn(async move {
            if let Err(error) = requester.request(&subject, b"", b"", DELETE_TIMEOUT).await {
                tracing::debug!("stream {stream}: deleting consumer {consumer} of stream {origin}: {error}");
            }
        });
    }
}

/// What is told of an origin before it was asked for anything.
pub(super) fn info_of(source: &StreamSource) -> StreamSourceInfo {
    StreamSourceInfo {
        name: source.name.clone(),
        external: source.external.clone(),
        active: -1,
        filter_subject: source.filter_subject.clone(),
        subject_transforms: source.subject_transforms.clone(),
        ..StreamSourceInfo::default()
    }
}
