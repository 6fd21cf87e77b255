//! The mirror and the sources of a stream, on its leader: one feed for each origin, begun and ended with the
//! configuration. What a feed does is in its own files; what is stored, the machine decides.

mod feed;
mod incoming;
mod open;
mod request;
mod session;

use std::sync::Arc;

use tokio::task::AbortHandle;
use weir_jetstream::sourcing::index_name;
use weir_jsapi::{StreamConfig, StreamSource, StreamSourceInfo};

use super::leader::StreamLeader;
use feed::{Feed, Kind};

/// The feeds of a leader; dropping it ends them.
#[derive(Default)]
pub(crate) struct Sourcing {
    running: Vec<Running>,
}

struct Running {
    feed: Arc<Feed>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sourcing {
    /// Makes the feeds those of the configuration: those that stay are left alone.
    pub(crate) fn configure(&mut self, leader: &Arc<StreamLeader>, config: &StreamConfig) {
        let wanted = wanted(config);
        let is_wanted =
            |running: &Running| wanted.iter().any(|(kind, source)| running.feed.is_as(kind, source, config));
        let (kept, ended): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.running).into_iter().partition(is_wanted);
        self.running = kept;
        for running in ended {
            running.task.abort();
            if !wanted.iter().any(|(kind, _)| running.feed.is_of(kind)) {
                running.feed.delete_consumer(leader);
            }
        }
        for (kind, source) in wanted {
            if self.running.iter().any(|running| running.feed.is_of(&kind)) {
                continue;
            }
            let feed = Feed::new(kind, source.clone(), config);
            let task = tokio::spawn(Arc::clone(&feed).run(Arc::downgrade(leader))).abort_handle();
            self.running.push(Running { feed, task });
        }
    }

    /// STREAM.INFO's `mirror` and `sources`, in the configuration's order.
    pub(crate) fn infos(
        &self,
        config: &StreamConfig,
        position: &dyn Fn(&str) -> u64,
    ) -> (Option<StreamSourceInfo>, Vec<StreamSourceInfo>) {
        let mut mirror = None;
        let mut sources = Vec::new();
        for (kind, source) in wanted(config) {
            let running = self.running.iter().find(|running| running.feed.is_of(&kind));
            let mut info = match running {
                Some(running) => running.feed.info(),
                None => feed::info_of(source),
            };
            match kind {
                Kind::Mirror => mirror = Some(info),
                Kind::Source { index_name } => {
                    info.seq = position(&index_name);
                    sources.push(info);
                }
            }
        }
        (mirror, sources)
    }
}

fn wanted(config: &StreamConfig) -> Vec<(Kind, &StreamSource)> {
    let mirror = config.mirror.iter().map(|mirror| (Kind::Mirror, mirror));
    let sources =
        config.sources.iter().map(|source| (Kind::Source { index_name: index_name(source) }, source));
    mirror.chain(sources).collect()
}
