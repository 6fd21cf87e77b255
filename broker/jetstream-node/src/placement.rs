//! Where a stream's replicas go: which servers are left out and why, in nats-server's words. The order among those that
//! fit is the meta machine's matter (`weir_jetstream::meta::rank_peers`).

use std::collections::{BTreeMap, BTreeSet};

use weir_jetstream::meta::rank_peers;
use weir_jsapi::{ApiError, StorageType, StreamConfig, errors};

use crate::context::{Cluster, Context};

/// A server with this tag takes no new replicas.
const EXCLUDED: &str = "!jetstream";

/// Servers that a choice is bound to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bounds<'a> {
    /// They have a replica and keep it, whatever their tags are.
    pub(crate) keep: &'a [u64],
    /// They come first if they fit.
    pub(crate) prefer: &'a [u64],
    /// They are not to be taken.
    pub(crate) without: &'a [u64],
}

/// Servers for a stream's replicas; `keep` are those that have one.
pub(crate) fn place(context: &Context, config: &StreamConfig, keep: &[u64]) -> Result<Vec<u64>, ApiError> {
    place_within(context, config, Bounds { keep, ..Bounds::default() })
}

/// Servers for a stream's replicas, those that stay in front.
pub(crate) fn place_within(
    context: &Context,
    config: &StreamConfig,
    bounds: Bounds<'_>,
) -> Result<Vec<u64>, ApiError> {
    let Some(cluster) = &context.cluster else { return Ok(vec![context.peer_id.0]) };
    let wanted = usize::try_from(config.num_replicas).unwrap_or(1).max(1);
    let mut reasons = Discarded::default();
    let tags = tags_of_servers(context, cluster);
    let wish = Wish::of(config, cluster);
    let mut available = BTreeSet::new();
    for member in context.members().iter().filter(|_| !wish.is_elsewhere) {
        let id = member.id;
        let known = tags.get(&id).filter(|_| context.is_available(id));
        let Some(tags) = known else {
            reasons.is_offline = true;
            continue;
        };
        let is_kept = bounds.keep.contains(&id);
        if bounds.without.contains(&id) {
            continue;
        }
        if is_kept || (wish.is_met(tags, &mut reasons) && reasons.has_room(context, config, id)) {
            available.insert(id);
        }
    }
    let first: Vec<u64> = bounds.keep.iter().chain(bounds.prefer).copied().collect();
    let ranked =
        rank_peers(context.meta.lock().machine(), &config.name, &first, &|id| available.contains(&id));
    let mut chosen = wish.without_twins(&ranked, bounds.keep, &tags, &mut reasons);
    if chosen.len() < wanted {
        return Err(errors::CLUSTER_NO_PEERS.with(reasons));
    }
    chosen.truncate(wanted);
    Ok(chosen)
}

/// Whether a server has all these tags.
pub(crate) fn has_tags(context: &Context, id: u64, wanted: &[String]) -> bool {
    let Some(cluster) = &context.cluster else { return wanted.is_empty() };
    let tags = tags_of_servers(context, cluster);
    wanted.is_empty() || tags.get(&id).is_some_and(|tags| wanted.iter().all(|wanted| contains(tags, wanted)))
}

/// The tags of this server and of those it is connected with.
fn tags_of_servers(context: &Context, cluster: &Cluster) -> BTreeMap<u64, Vec<String>> {
    let others = cluster.neighbours.peers().into_iter().map(|peer| (peer.info.peer_id.0, peer.info.tags));
    others.chain([(context.peer_id.0, cluster.tags.read().clone())]).collect()
}

/// Tags are compared without regard to case.
fn contains(tags: &[String], wanted: &str) -> bool {
    tags.iter().any(|tag| tag.trim().eq_ignore_ascii_case(wanted.trim()))
}

/// What a stream asks of servers.
struct Wish {
    is_elsewhere: bool,
    /// In the order asked for; with those that a server must not have.
    tags: Vec<(String, bool)>,
    /// No two replicas on servers with the same tag of this prefix; empty: wherever.
    unique_prefix: String,
}

impl Wish {
    fn of(config: &StreamConfig, cluster: &Cluster) -> Self {
        let placement = config.placement.clone().unwrap_or_default();
        let split = |tag: &String| match tag.strip_prefix('!') {
            Some(rest) => (rest.to_owned(), true),
            None => (tag.clone(), false),
        };
        let tags: Vec<_> = placement.tags.iter().map(split).collect();
        let unique = &cluster.unique_tag;
        // Who names such a tag wants those servers, be they alike.
        let is_named = tags.iter().any(|(tag, _)| tag.starts_with(unique.as_str()));
        Self {
            is_elsewhere: !placement.cluster.is_empty() && placement.cluster != cluster.name,
            unique_prefix: if is_named { String::new() } else { unique.clone() },
            tags,
        }
    }

    fn is_met(&self, tags: &[String], reasons: &mut Discarded) -> bool {
        if contains(tags, EXCLUDED) {
            reasons.is_excluded = true;
            return false;
        }
        let refused = self.tags.iter().find(|(tag, excludes)| contains(tags, tag) == *excludes);
        let Some((tag, excludes)) = refused else { return true };
        let said = if *excludes { &mut reasons.unwanted_tags } else { &mut reasons.missing_tags };
        said.insert(tag.clone());
        false
    }

    /// Of servers with the same unique tag the first.
    fn without_twins(
        &self,
        ranked: &[u64],
        keep: &[u64],
        tags: &BTreeMap<u64, Vec<String>>,
        reasons: &mut Discarded,
    ) -> Vec<u64> {
        if self.unique_prefix.is_empty() {
            return ranked.to_vec();
        }
        let unique_of = |id: &u64| tags.get(id)?.iter().find(|tag| tag.starts_with(&self.unique_prefix));
        let mut taken: BTreeSet<&String> = keep.iter().filter_map(unique_of).collect();
        let fits = |id: &&u64| {
            let is_free = keep.contains(id) || unique_of(id).is_some_and(|tag| taken.insert(tag));
            reasons.has_twin |= !is_free;
            is_free
        };
        ranked.iter().filter(fits).copied().collect()
    }
}

/// Why servers were left out.
#[derive(Default)]
struct Discarded {
    is_offline: bool,
    is_excluded: bool,
    has_no_storage: bool,
    has_twin: bool,
    has_too_many: bool,
    missing_tags: BTreeSet<String>,
    unwanted_tags: BTreeSet<String>,
}

impl Discarded {
    /// Whether a server can take one more stream; all are taken to have as much room as this one.
    fn has_room(&mut self, context: &Context, config: &StreamConfig, id: u64) -> bool {
        let meta = context.meta.lock();
        let held = || meta.machine().streams().filter(|stream| stream.peers.contains(&id));
        let room = context.room();
        let limit = match config.storage {
            StorageType::File => room.max_file,
            StorageType::Memory => room.max_memory,
        };
        let reserved: u64 = held()
            .filter(|stream| stream.config.storage == config.storage)
            .map(|stream| u64::try_from(stream.config.max_bytes).unwrap_or(0))
            .fold(0, u64::saturating_add);
        let wanted = u64::try_from(config.max_bytes).unwrap_or(0);
        if wanted > 0 && wanted > limit.saturating_sub(reserved) {
            self.has_no_storage = true;
            return false;
        }
        drop(meta);
        if config.num_replicas > 1 && has_too_many_assets(context, id) {
            self.has_too_many = true;
            return false;
        }
        true
    }
}

/// Whether a server has as many replicas of replicated streams as the configuration allows.
pub(crate) fn has_too_many_assets(context: &Context, id: u64) -> bool {
    let most = usize::try_from(context.room().limits.max_ha_assets).unwrap_or(0);
    if most == 0 {
        return false;
    }
    let meta = context.meta.lock();
    let held = meta.machine().streams().filter(|stream| stream.peers.contains(&id));
    held.filter(|stream| stream.config.num_replicas > 1).count() >= most
}

impl std::fmt::Display for Discarded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no suitable peers for placement")?;
        let said = [
            (self.is_offline, "peer offline"),
            (self.is_excluded, "exclude tag set"),
            (self.has_no_storage, "insufficient storage"),
            (self.has_twin, "server tag not unique"),
            (self.has_too_many, "miscellaneous issue"),
        ];
        for (_, reason) in said.into_iter().filter(|(applies, _)| *applies) {
            write!(f, ", {reason}")?;
        }
        for (tags, what) in [(&self.missing_tags, "not matched"), (&self.unwanted_tags, "excluded")] {
            if !tags.is_empty() {
                let quoted: Vec<_> = tags.iter().map(|tag| format!("'{tag}'")).collect();
                write!(f, ", tags {what} [{}]", quoted.join(", "))?;
            }
        }
        Ok(())
    }
}
