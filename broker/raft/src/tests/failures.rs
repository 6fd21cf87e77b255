//! What a group does when its disk, its state or its secret is not what it should be.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use weir_storage::GroupId;

use super::cluster::{Cluster, GROUP, PATIENCE, wait_for};
use super::counter::Counter;
use super::memory_log::MemoryLog;
use crate::admin::{
    AdminClient, AdminError, AdminHandler, JoinReply, JoinRequest, RemovePeerReply, RemovePeerRequest,
    ReplicasReply, ReplicasRequest, StatusReply, TransferLeadershipReply,
};
use crate::{
    Committed, Done, GroupLog, GroupOptions, Leadership, LogExtent, LogPosition, LogRecord, Machine,
    MachineError, NodeConfig, OpenError, PeerId, ProposeError, RaftNode, Response, SnapshotSource,
};

/// A log whose disk can be broken.
#[derive(Default)]
struct Breakable {
    log: MemoryLog,
    broken: AtomicBool,
}

impl Breakable {
    fn judge(&self, done: Done) -> Option<Done> {
        if self.broken.load(Ordering::Relaxed) {
            done(Err(io::Error::other("the disk is broken")));
            return None;
        }
        Some(done)
    }
}

impl GroupLog for Breakable {
    fn append(&self, group: GroupId, entries: Vec<LogRecord>, done: Done) {
        if let Some(done) = self.judge(done) {
            self.log.append(group, entries, done);
        }
    }

    fn truncate_after(&self, group: GroupId, index: u64, done: Done) {
        if let Some(done) = self.judge(done) {
            self.log.truncate_after(group, index, done);
        }
    }

    fn purge_to(&self, group: GroupId, index: u64, done: Done) {
        if let Some(done) = self.judge(done) {
            self.log.purge_to(group, index, done);
        }
    }

    fn put_state(&self, group: GroupId, key: u8, value: Bytes, done: Done) {
        if let Some(done) = self.judge(done) {
            self.log.put_state(group, key, value, done);
        }
    }

    fn get_state(&self, group: GroupId, key: u8) -> Option<Bytes> {
        self.log.get_state(group, key)
    }

    fn extent(&self, group: GroupId) -> LogExtent {
        self.log.extent(group)
    }

    fn read(
        &self,
        group: GroupId,
        from: u64,
        to_exclusive: u64,
        max_bytes: usize,
    ) -> io::Result<Vec<LogRecord>> {
        self.log.read(group, from, to_exclusive, max_bytes)
    }

    fn drop_group(&self, group: GroupId, done: Done) {
        self.log.drop_group(group, done);
    }
}

async fn node_on(log: Arc<dyn GroupLog>, folder: &tempfile::TempDir) -> RaftNode {
    let config = NodeConfig {
        peer: PeerId(1),
        name: "n1".to_owned(),
        listener: TcpListener::bind("127.0.0.1:0").expect("a port"),
        secret: Some("right".to_owned()),
        spool_dir: folder.path().join("spool"),
        spool_vault: None,
        admin: None,
    };
    RaftNode::start(config, log, Arc::new(|_| None)).await.expect("a node")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_disk_stops_the_group_with_a_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = Arc::new(Breakable::default());
    let node = node_on(Arc::clone(&log) as Arc<dyn GroupLog>, &folder).await;
    let machine = Arc::new(Counter::default());
    let opened = node.open_group(GROUP, machine.clone(), GroupOptions::fast()).await;
    let group = opened.expect("it opens");
    group.initialize(vec![PeerId(1)]).await.expect("initialising");
    wait_for("a leader", || group.status().is_leader.then_some(())).await;
    group.propose("a".into()).await.expect("a healthy disk");
    log.broken.store(true, Ordering::Relaxed);
    let lost = tokio::time::timeout(PATIENCE, group.propose("b".into())).await;
    let error = lost.expect("it is resolved").expect_err("nothing is on disk");
    assert!(matches!(error, ProposeError::Unknown { .. } | ProposeError::Stopped(_)));
    let failed = wait_for("the group to stop", || group.status().failed).await;
    assert!(failed.contains("the disk is broken"), "{failed}");
    wait_for("the machine to be told", || {
        machine.told().last().is_some_and(|now| !now.is_leader()).then_some(())
    })
    .await;
    assert!(group.propose("c".into()).await.is_err());
    assert_eq!(machine.payloads(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_behind_the_cut_log_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = node_on(Arc::new(MemoryLog::default()), &folder).await;
    let machine = Arc::new(Counter::default());
    let opened = node.open_group(GROUP, machine, GroupOptions::fast()).await;
    let group = opened.expect("it opens");
    group.initialize(vec![PeerId(1)]).await.expect("initialising");
    wait_for("a leader", || group.status().is_leader.then_some(())).await;
    let proposed = group.propose("a".into()).await.expect("committed");
    group.compact(proposed.index).await.expect("compacting");
    wait_for("the cut", || (group.status().purged == proposed.index).then_some(())).await;
    node.close_group(GROUP).await;
    let lost = Arc::new(Counter::default());
    let refused = node.open_group(GROUP, lost, GroupOptions::fast()).await;
    let expected = proposed.index;
    assert!(matches!(
        refused,
        Err(OpenError::StateLost { group: 5, applied: 0, purged }) if purged == expected
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_and_empty_entries_are_replicated_and_too_large_ones_refused() {
    let cluster = Cluster::of(3).await;
    for bytes in [0, 1, 900_000, 3_000_000, 20_000_000] {
        cluster.propose(vec![7; bytes]).await;
    }
    let many = (0..200).map(|_| cluster.propose(vec![1; 100_000]));
    futures::future::join_all(many).await;
    let group = cluster.node(cluster.leader().await).group.clone();
    let limit = crate::MAX_ENTRY_BYTES;
    let refused = group.propose(vec![0; limit].into()).await;
    assert!(matches!(refused, Err(ProposeError::TooLarge { .. })));
    // The empty one is no payload to the counter.
    cluster.agree(204).await;
}

struct Answering;

#[tonic::async_trait]
impl AdminHandler for Answering {
    async fn status(&self) -> Result<StatusReply, tonic::Status> {
        Ok(StatusReply { server_name: "n1".to_owned(), ..StatusReply::default() })
    }

    async fn replicas(&self, _: ReplicasRequest) -> Result<ReplicasReply, tonic::Status> {
        Ok(ReplicasReply::default())
    }

    async fn transfer_leadership(&self) -> Result<TransferLeadershipReply, tonic::Status> {
        Ok(TransferLeadershipReply::default())
    }

    async fn join(&self, _: JoinRequest) -> Result<JoinReply, tonic::Status> {
        Ok(JoinReply::default())
    }

    async fn remove_peer(&self, _: RemovePeerRequest) -> Result<RemovePeerReply, tonic::Status> {
        Err(tonic::Status::failed_precondition("it holds replicas"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_service_answers_those_with_the_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = node_on(Arc::new(MemoryLog::default()), &folder).await;
    let endpoint = node.local_addr().to_string();
    let client = AdminClient::new(&endpoint, Some("right")).expect("a client");
    let code = |error: AdminError| match error {
        AdminError::Refused(status) => status.code(),
        error => panic!("{error}"),
    };
    let early = client.status().await.expect_err("nobody answers yet");
    assert_eq!(code(early), tonic::Code::Unavailable);
    node.set_admin(Some(Arc::new(Answering)));
    assert_eq!(client.status().await.expect("an answer").server_name, "n1");
    let refused = client.remove_peer(RemovePeerRequest::default()).await;
    let refused = refused.expect_err("refused");
    assert_eq!(code(refused), tonic::Code::FailedPrecondition);
    for secret in [None, Some("wrong")] {
        let client = AdminClient::new(&endpoint, secret).expect("a client");
        let refused = client.status().await.expect_err("not the secret");
        assert_eq!(code(refused), tonic::Code::Unauthenticated);
    }
    node.shutdown().await;
    let gone = tokio::time::timeout(Duration::from_secs(15), client.status()).await;
    assert!(gone.expect("it is resolved").is_err());
}

/// Applies nothing but panics.
struct Panicking(Counter);

impl Machine for Panicking {
    fn applied(&self) -> Option<LogPosition> {
        self.0.applied()
    }

    fn apply(&self, entries: Vec<Committed>) -> Result<Vec<Response>, MachineError> {
        assert!(entries.iter().all(|entry| entry.payload.as_ref() != b"panic"), "as asked");
        self.0.apply(entries)
    }

    fn snapshot(&self) -> Result<Box<dyn SnapshotSource>, MachineError> {
        self.0.snapshot()
    }

    fn install(&self, position: LogPosition, content: &mut dyn io::Read) -> Result<(), MachineError> {
        self.0.install(position, content)
    }

    fn leadership(&self, state: Leadership) {
        self.0.leadership(state);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_machine_stops_its_group_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = node_on(Arc::new(MemoryLog::default()), &folder).await;
    let open = async |id, machine: Arc<dyn Machine>| {
        let opened = node.open_group(GroupId(id), machine, GroupOptions::fast()).await;
        let group = opened.expect("it opens");
        group.initialize(vec![PeerId(1)]).await.expect("initialising");
        wait_for("a leader", || group.status().is_leader.then_some(())).await;
        group
    };
    let sick = open(1, Arc::new(Panicking(Counter::default()))).await;
    let healthy = open(2, Arc::new(Counter::default())).await;
    sick.propose("fine".into()).await.expect("no panic yet");
    assert!(sick.propose("panic".into()).await.is_err());
    let failed = wait_for("the group to stop", || sick.status().failed).await;
    assert!(failed.contains("panicked"), "{failed}");
    healthy.propose("fine".into()).await.expect("another group goes on");
}
