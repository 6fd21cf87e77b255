//! A server whose disk fails, for a moment or for good, while its group works: it stops and says so, or waits for room,
//! the others go on, and nothing that was acknowledged is lost. And snapshots that do not arrive at the first attempt.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use weir_stdx::rng::SeededRng;
use weir_storage::disk::sim::Fault;

use super::cluster::{Cluster, PATIENCE, wait_for};
use crate::PeerId;

/// Runs of a plain test; `RAFT_FAULT_RUNS` asks for more, `RAFT_FAULT_SEED` for others.
const RUNS: u64 = 6;
const PROPOSALS: u64 = 25;
/// Operations of the victim's disk in a run, about; one of them fails.
const OPERATIONS: u64 = 60;
/// More than heartbeats are within the time of a test: something of a snapshot.
const ATTEMPT_BYTES: i64 = 128 << 10;
const FAULTS: [(Fault, bool); 6] = [
    (Fault::Io, true),
    (Fault::OutOfSpace, true),
    (Fault::ShortWrite, false),
    (Fault::Io, false),
    (Fault::OutOfSpace, false),
    (Fault::ShortWrite, true),
];

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

/// Proposes until so many are acknowledged; none is proposed twice.
async fn work(cluster: &Cluster, next: &AtomicU64, acked: &mut HashSet<u64>) {
    let wanted = acked.len() as u64 + PROPOSALS;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while (acked.len() as u64) < wanted {
        assert!(tokio::time::Instant::now() < deadline, "the others do not go on");
        let number = next.fetch_add(1, Ordering::Relaxed);
        let group = cluster.node(cluster.leader().await).group.clone();
        let proposal = group.propose(Bytes::from(number.to_string()));
        match tokio::time::timeout(PATIENCE / 4, proposal).await {
            Ok(Ok(_)) => drop(acked.insert(number)),
            // The leader has stopped, or waits for its disk.
            Ok(Err(_)) | Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
    }
}

fn check(cluster: &Cluster, acked: &HashSet<u64>, what: &str) {
    let payloads = cluster.node(1).machine.state().payloads;
    let numbers: Vec<u64> = payloads
        .iter()
        .map(|payload| std::str::from_utf8(payload).expect("text").parse().expect("a number"))
        .collect();
    let there: HashSet<u64> = numbers.iter().copied().collect();
    assert_eq!(there.len(), numbers.len(), "{what}: something is there twice");
    assert!(acked.is_subset(&there), "{what}: lost {:?}", acked.difference(&there).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_disk_fails_says_so_and_the_others_lose_nothing() {
    let mut rng = SeededRng::new(number("RAFT_FAULT_SEED", 1));
    let runs = number("RAFT_FAULT_RUNS", RUNS);
    let mut cluster = Cluster::on_disks(3).await;
    let (next, mut acked, mut stopped) = (AtomicU64::new(1), HashSet::new(), 0);
    for run in 0..runs {
        let (fault, lasting) = FAULTS[usize::try_from(run).expect("few") % FAULTS.len()];
        let leader = cluster.leader().await;
        let is_leader = run / 6 % 2 == run % 2;
        let victim = (1..=3).find(|peer| (*peer == leader) == is_leader).expect("one of three");
        let (disk, operation) = (cluster.disk(victim), rng.below(OPERATIONS));
        let what = format!("run {run}: {fault:?} at {operation}, lasting: {lasting}, leader: {is_leader}");
        if lasting {
            disk.fail_from(operation, fault);
        } else {
            disk.fail_at(operation, fault);
        }
        work(&cluster, &next, &mut acked).await;
        // Votes are written as well.
        let leader = cluster.leader().await;
        let heir = (1..=3).find(|peer| *peer != leader && *peer != victim);
        if let Some(heir) = heir.filter(|_| run % 2 == 0) {
            drop(cluster.node(leader).group.transfer_leader(Some(PeerId(heir))).await);
        }
        work(&cluster, &next, &mut acked).await;
        let status = cluster.node(victim).group.status();
        if let Some(reason) = &status.failed {
            assert!(!status.is_leader, "{what}: it leads, and has stopped");
            assert!(reason.contains("journal"), "{what}: {reason}");
            assert!(cluster.node(victim).group.propose("late".into()).await.is_err(), "{what}");
            stopped += 1;
        }
        disk.heal();
        if status.failed.is_some() {
            cluster.stop(victim).await;
            cluster.start(victim).await;
        }
        work(&cluster, &next, &mut acked).await;
        cluster.agree(acked.len()).await;
        check(&cluster, &acked, &what);
    }
    println!("{} acknowledged, {stopped} of {runs} failing disks stopped their server", acked.len());
    assert!(stopped > runs / 4, "{stopped} of {runs}");
}

/// A cluster of which one follower can only be helped by a snapshot of several megabytes: (leader, follower).
async fn left_behind(cluster: &mut Cluster) -> (u64, u64) {
    cluster.options.lag_bytes = 0;
    cluster.propose_many(10).await;
    let leader = cluster.leader().await;
    let behind = (1..=3).find(|peer| *peer != leader).expect("a follower");
    cluster.stop(behind).await;
    for _ in 0..8 {
        cluster.propose(vec![b'x'; 1 << 20]).await;
    }
    cluster.checkpoint(leader).await;
    let other = (1..=3).find(|peer| *peer != leader && *peer != behind).expect("a third");
    cluster.checkpoint(other).await;
    for peer in [leader, other] {
        let group = cluster.node(peer).group.clone();
        wait_for("the log to be cut", || (group.status().purged > 0).then_some(())).await;
    }
    (leader, behind)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_whose_connection_breaks_half_way_is_sent_again() {
    let mut cluster = Cluster::linked(3).await;
    let (leader, behind) = left_behind(&mut cluster).await;
    cluster.links().break_after(leader, behind, 3 << 20);
    cluster.start(behind).await;
    cluster.agree(18).await;
    assert!(cluster.links().has_broken(leader, behind), "it came in one piece");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_finds_no_place_comes_again_once_there_is_one() {
    let mut cluster = Cluster::linked(3).await;
    let (leader, behind) = left_behind(&mut cluster).await;
    let others: Vec<u64> = (1..=3).filter(|peer| *peer != behind).collect();
    others.iter().for_each(|peer| cluster.links().set(*peer, behind, false));
    cluster.start(behind).await;
    // Nothing can be written where it is to wait.
    let spool = cluster.spool(behind);
    std::fs::remove_dir_all(&spool).and_then(|()| std::fs::write(&spool, b"a file")).expect("no folder");
    cluster.links().break_after(leader, behind, i64::MAX);
    others.iter().for_each(|peer| cluster.links().set(*peer, behind, true));
    wait_for("an attempt", || (cluster.links().passed(leader, behind) > ATTEMPT_BYTES).then_some(())).await;
    let node = cluster.node(behind);
    assert!(node.machine.payloads() < 18 && node.group.status().failed.is_none());
    std::fs::remove_file(&spool).and_then(|()| std::fs::create_dir(&spool)).expect("a folder");
    cluster.agree(18).await;
}
