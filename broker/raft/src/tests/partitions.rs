//! Nodes that run but cannot hear each other.

use super::cluster::{Cluster, wait_for};
use crate::ProposeError;

fn others(of: u64) -> [u64; 2] {
    match of {
        1 => [2, 3],
        2 => [1, 3],
        _ => [1, 2],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_cut_off_steps_back_before_another_is_elected() {
    let cluster = Cluster::linked(3).await;
    cluster.propose_many(100).await;
    let old = cluster.leader().await;
    let old_group = cluster.node(old).group.clone();
    for other in others(old) {
        cluster.links().set(old, other, false);
    }
    let lost = tokio::spawn(old_group.propose("lost".into()));
    // Never two that say they lead at the same time.
    let new = wait_for("another leader", || {
        let leading = (1..=3).filter(|peer| cluster.node(*peer).group.status().is_leader);
        let leading = leading.collect::<Vec<_>>();
        assert!(leading.len() < 2, "{leading:?} all lead");
        leading.first().copied().filter(|leader| *leader != old)
    })
    .await;
    let error = lost.await.expect("a task").expect_err("no majority");
    assert!(matches!(error, ProposeError::Unknown { .. }), "{error}");
    let group = cluster.node(new).group.clone();
    for number in 0..100 {
        group.propose(format!("new {number}").into()).await.expect("a majority");
    }
    for other in others(old) {
        cluster.links().set(old, other, true);
    }
    cluster.agree(200).await;
    let payloads = cluster.node(old).machine.state().payloads;
    let lost = payloads.iter().filter(|payload| payload.as_ref() == b"lost").count();
    assert_eq!(lost, 0, "what only the old leader had is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_reaches_one_follower_only_does_not_block_the_group() {
    let cluster = Cluster::linked(5).await;
    cluster.propose_many(50).await;
    cluster.replace_leader_that_reaches_one().await;
    cluster.propose("after").await;
    cluster.agree(51).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_was_away_does_not_disturb_the_leader() {
    let cluster = Cluster::linked(3).await;
    cluster.propose_many(10).await;
    let leader = cluster.leader().await;
    let term = cluster.node(leader).group.status().term;
    let away = others(leader)[0];
    for other in others(away) {
        cluster.links().set(away, other, false);
    }
    tokio::time::sleep(cluster.options.election_max * 3).await;
    cluster.propose_many(10).await;
    for other in others(away) {
        cluster.links().set(away, other, true);
    }
    cluster.agree(20).await;
    let status = cluster.node(leader).group.status();
    assert!(status.is_leader);
    assert_eq!(status.term, term, "nobody was elected meanwhile");
}
