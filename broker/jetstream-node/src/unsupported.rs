//! Streams that need a newer server: one whose configuration, or whose consumer, was written for a higher level of the API
//! than this server has. They are not opened, or not served, so that nothing of them is lost; they are listed, say why
//! they are offline, and can be deleted. Not streams that could not be opened for damage.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use weir_hub::Account;
use weir_jetstream::config::unsupported;
use weir_jetstream::meta::StreamAssignment;

use crate::api::stream_create::is_served;
use crate::context::Context;
use crate::stream::replica::StreamReplica;

/// A stream with a replica here that is not served.
pub(crate) struct Offline {
    pub(crate) assignment: Arc<StreamAssignment>,
    pub(crate) reason: Reason,
    /// Open where only a consumer is the reason.
    replica: Option<Arc<StreamReplica>>,
}

/// By group.
pub(crate) type OfflineStreams = Mutex<BTreeMap<u64, Offline>>;

/// Why a stream is offline.
#[derive(Debug, Clone)]
pub(crate) struct Reason {
    /// In nats-server's words.
    pub(crate) text: Arc<str>,
    /// The consumers that are the reason, each with its own.
    pub(crate) consumers: Arc<BTreeMap<String, String>>,
}

impl Reason {
    fn of_stream(text: String) -> Self {
        Self { text: text.into(), consumers: Arc::default() }
    }
}

impl Context {
    /// Why an account's stream is offline, where it is.
    pub(crate) fn offline_reason(
        &self,
        account: &Arc<Account>,
        assignment: &StreamAssignment,
    ) -> Option<Reason> {
        if let Some(known) = self.offline_streams.lock().get(&assignment.group) {
            return Some(known.reason.clone());
        }
        let text = unsupported(&assignment.config.metadata)?;
        // What was restored is served until the server starts anew, as in nats-server.
        let is_offline = !assignment.restoring
            && !self.replicas.read().contains_key(&assignment.group)
            && !is_served(account, assignment.name());
        is_offline.then(|| Reason::of_stream(text))
    }
}

/// Leaves the stream closed if it needs a newer server; one that was found so once stays so.
pub(crate) fn is_kept_closed(context: &Context, assignment: &Arc<StreamAssignment>) -> bool {
    let mut streams = context.offline_streams.lock();
    if let Some(known) = streams.get_mut(&assignment.group) {
        known.assignment = Arc::clone(assignment);
        return true;
    }
    if assignment.restoring {
        return false;
    }
    let Some(reason) = unsupported(&assignment.config.metadata) else { return false };
    tracing::warn!("Detected unsupported stream '{} > {}': {reason}", assignment.account, assignment.name());
    let reason = Reason::of_stream(reason);
    let offline = Offline { assignment: Arc::clone(assignment), reason, replica: None };
    streams.insert(assignment.group, offline);
    true
}

/// Keeps a replica that was opened from being served if one of its consumers needs a newer server.
pub(crate) fn is_kept_unserved(context: &Context, replica: &Arc<StreamReplica>) -> bool {
    let assignment = replica.assignment();
    if assignment.restoring {
        return false;
    }
    let consumers: BTreeMap<String, String> = {
        let state = replica.replicated.lock();
        let consumers = state.machine().consumers();
        let reason = |(name, consumer): (&Arc<str>, &weir_jetstream::Consumer)| {
            Some((name.to_string(), unsupported(&consumer.config.metadata)?))
        };
        consumers.filter_map(reason).collect()
    };
    let Some(first) = consumers.keys().next() else { return false };
    let (account, name) = (&assignment.account, assignment.name());
    for (consumer, reason) in &consumers {
        tracing::warn!("Detected unsupported consumer '{account} > {name} > {consumer}': {reason}");
    }
    tracing::warn!("Stopping unsupported stream '{account} > {name}'");
    let text = format!("stopped - unsupported consumer {first:?}").into();
    let offline = Offline {
        assignment: Arc::clone(&assignment),
        reason: Reason { text, consumers: Arc::new(consumers) },
        replica: Some(Arc::clone(replica)),
    };
    context.offline_streams.lock().insert(assignment.group, offline);
    true
}

/// Removes the files of an offline stream that was deleted. What cannot be opened is left where it is.
pub(crate) async fn discard(context: &Arc<Context>, group: u64) {
    let Some(offline) = context.offline_streams.lock().remove(&group) else { return };
    let (account, name) = (offline.assignment.account.clone(), offline.assignment.name().to_owned());
    let replica = match offline.replica {
        Some(replica) => Ok(replica),
        None => StreamReplica::open(Arc::clone(context), offline.assignment).await,
    };
    let removed = match replica {
        Ok(replica) => replica.remove().await,
        Err(reason) => Err(reason),
    };
    if let Err(reason) = removed {
        tracing::warn!("Removing stream '{account} > {name}': {reason}");
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use weir_hub::{Hub, HubOptions, Limits, OpenDoor};
    use weir_jetstream::meta::MetaCommand;
    use weir_jetstream::{BatchLimits, ConsumerState, StreamCommand};
    use weir_jsapi::{ConsumerConfig, StreamConfig};
    use weir_stdx::time::UnixNanos;
    use weir_storage::SyncPolicy;

    use super::*;
    use crate::accounts::AccountShare;
    use crate::limits::{ServerLimits, ServerRoom};
    use crate::node::JetStreamNode;
    use crate::options::NodeOptions;
    use crate::stream::ingest::IngestLimits;
    use crate::stream::replica;

    const DEADLINE: Duration = Duration::from_secs(20);

    async fn start(store: &Path) -> Arc<JetStreamNode> {
        let batches = BatchLimits::default();
        let options = NodeOptions {
            server_name: "one".to_owned(),
            store_dir: store.to_owned(),
            sync: SyncPolicy::Always,
            encryption: None,
            room: ServerRoom { max_memory: 1, max_file: 1, limits: ServerLimits::default(), batches },
            strict: true,
            scoped_acks: false,
            api_requests_max: 0,
            domain: None,
            ingest: IngestLimits::default(),
            accounts: BTreeMap::from([("$G".to_owned(), Some(AccountShare::default()))]),
            cluster: None,
        };
        let hub = Hub::new(HubOptions::default(), Limits::default(), Arc::new(OpenDoor));
        JetStreamNode::start(options, hub).await.expect("a node")
    }

    async fn until(what: &str, is_so: impl Fn() -> bool) {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        while !is_so() {
            assert!(tokio::time::Instant::now() < deadline, "{what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn newer() -> BTreeMap<String, String> {
        BTreeMap::from([("_nats.req.level".to_owned(), "9".to_owned())])
    }

    async fn create(node: &JetStreamNode, metadata: BTreeMap<String, String>) -> u64 {
        let config =
            StreamConfig { name: "S".to_owned(), num_replicas: 1, metadata, ..StreamConfig::default() };
        let command = MetaCommand::CreateStream {
            account: "$G".to_owned(),
            config: Box::new(config),
            peers: vec![node.context.peer_id.0],
            created: UnixNanos(1),
        };
        node.context.meta.propose_wait(command.encode()).await.expect("created");
        node.context.assignment("$G", "S").expect("a stream").group
    }

    async fn delete(node: &JetStreamNode, group: u64) {
        let folder = replica::folder(&node.context.store_dir, group);
        let command = MetaCommand::DeleteStream { account: "$G".to_owned(), name: "S".to_owned() };
        node.context.meta.propose_wait(command.encode()).await.expect("deleted");
        until("the files are gone", || !folder.exists()).await;
        assert!(node.context.offline_streams.lock().is_empty());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stream_is_offline_because_of_one_consumer_and_can_be_deleted() {
        let folder = tempfile::tempdir().expect("a folder");
        let node = start(folder.path()).await;
        let group = create(&node, BTreeMap::new()).await;
        until("the stream is led", || {
            node.context.replica("$G", "S").is_some_and(|replica| replica.leader().is_some())
        })
        .await;
        let leader = node.context.replica("$G", "S").and_then(|replica| replica.leader()).expect("a leader");
        let config = ConsumerConfig { name: "C".to_owned(), metadata: newer(), ..ConsumerConfig::default() };
        let command = StreamCommand::RestoreConsumer {
            name: "C".to_owned(),
            config: Box::new(config),
            created: UnixNanos(1),
            state: Box::<ConsumerState>::default(),
        };
        leader.propose(&command).await.expect("a consumer");
        node.shutdown().await;
        drop((leader, node));

        let node = start(folder.path()).await;
        assert!(node.context.replica("$G", "S").is_none());
        let assignment = node.context.assignment("$G", "S").expect("a stream");
        let reason = node.context.offline_reason(&node.context.account("$G"), &assignment).expect("a reason");
        assert_eq!(&*reason.text, r#"stopped - unsupported consumer "C""#);
        let of_consumer = "unsupported - required API level: 9, current API level: 5";
        assert_eq!(reason.consumers.get("C").map(String::as_str), Some(of_consumer));
        delete(&node, group).await;
        node.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stream_of_a_newer_level_is_not_opened_and_can_be_deleted() {
        let folder = tempfile::tempdir().expect("a folder");
        let node = start(folder.path()).await;
        let group = create(&node, BTreeMap::new()).await;
        let files = replica::folder(&node.context.store_dir, group);
        until("the stream has files", || files.exists()).await;
        let config = StreamConfig {
            name: "S".to_owned(),
            num_replicas: 1,
            metadata: newer(),
            ..StreamConfig::default()
        };
        let update = MetaCommand::UpdateStream { account: "$G".to_owned(), config: Box::new(config) };
        node.context.meta.propose_wait(update.encode()).await.expect("updated");
        node.shutdown().await;
        drop(node);

        let node = start(folder.path()).await;
        assert!(node.context.replica("$G", "S").is_none());
        assert!(node.context.offline_streams.lock().contains_key(&group));
        assert!(files.exists());
        delete(&node, group).await;
        node.shutdown().await;
    }
}
