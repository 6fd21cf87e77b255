//! What a group promises, on three nodes and more.

use std::time::{Duration, Instant};

use super::cluster::{Cluster, GROUP, PATIENCE, wait_for};
use crate::{GroupError, Leadership, PeerId, ProposeError};

#[tokio::test(flavor = "multi_thread")]
async fn a_single_node_elects_itself_and_commits() {
    let cluster = Cluster::of(1).await;
    let first = cluster.propose("a").await;
    let second = cluster.propose("b").await;
    assert!(second.index > first.index);
    let count = second.response.and_then(|r| r.downcast::<usize>().ok());
    assert_eq!(count.as_deref(), Some(&2));
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_commit_ten_thousand_proposals_in_order() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let started = Instant::now();
    cluster.propose_many(10_000).await;
    println!("10,000 proposals took {:?}", started.elapsed());
    cluster.agree(10_000).await;
    let payloads = cluster.node(leader).machine.state().payloads;
    for (number, payload) in payloads.iter().enumerate() {
        let expected = format!("{number}-");
        assert!(payload.starts_with(expected.as_bytes()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_is_elected_when_the_leader_stops_and_it_catches_up_later() {
    let mut cluster = Cluster::of(3).await;
    cluster.propose_many(100).await;
    let old = cluster.leader().await;
    let term = cluster.node(old).group.status().term;
    cluster.stop(old).await;
    let started = Instant::now();
    let new = cluster.leader().await;
    println!("a new leader after {:?}", started.elapsed());
    assert_ne!(old, new);
    assert!(cluster.node(new).group.status().term > term);
    cluster.propose_many(100).await;
    cluster.start(old).await;
    cluster.agree(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_told_after_the_log_is_applied_and_ends_at_once() {
    let mut cluster = Cluster::of(3).await;
    cluster.propose_many(10).await;
    let old = cluster.leader().await;
    let machine = cluster.node(old).machine.clone();
    let told = machine.told();
    assert!(matches!(told.last(), Some(Leadership::Leader { .. })), "{told:?}");
    cluster.stop(old).await;
    wait_for("the old leader to be told", || {
        let told = machine.told();
        matches!(told.last(), Some(Leadership::Follower { .. })).then_some(())
    })
    .await;
    let new = cluster.leader().await;
    let told = cluster.node(new).machine.told();
    assert!(told.last().is_some_and(|now| now.is_leader()), "{told:?}");
    assert_eq!(cluster.node(new).machine.payloads(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_restarted_keep_everything() {
    let mut cluster = Cluster::of(3).await;
    cluster.propose_many(500).await;
    for round in 1..=3 {
        for peer in 1..=3 {
            cluster.stop(peer).await;
        }
        for peer in 1..=3 {
            cluster.start(peer).await;
        }
        cluster.propose(format!("round {round}")).await;
        cluster.agree(500 + round).await;
    }
    let initialised = cluster.node(1).group.initialize(vec![PeerId(1)]).await;
    assert_eq!(initialised, Err(GroupError::AlreadyInitialised));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_behind_a_cut_log_gets_a_snapshot() {
    let mut cluster = Cluster::of(3).await;
    cluster.options.lag_bytes = 0;
    cluster.propose_many(300).await;
    let leader = cluster.leader().await;
    let behind = (1..=3).find(|peer| *peer != leader).expect("a follower");
    cluster.stop(behind).await;
    cluster.propose_many(300).await;
    let index = cluster.checkpoint(leader).await;
    let purged = cluster.node(leader).group.clone();
    wait_for("the log to be cut", || (purged.status().purged > 0).then_some(())).await;
    assert!(purged.status().purged <= index);
    cluster.start(behind).await;
    cluster.agree(600).await;
    cluster.propose_many(10).await;
    cluster.agree(610).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_lost_everything_comes_back_under_a_new_id() {
    let mut cluster = Cluster::of(3).await;
    cluster.options.lag_bytes = 0;
    cluster.propose_many(100).await;
    let leader = cluster.leader().await;
    let lost = (1..=3).find(|peer| *peer != leader).expect("a follower");
    cluster.stop(lost).await;
    cluster.wipe(lost);
    let group = cluster.node(leader).group.clone();
    group.remove_member(PeerId(lost), PATIENCE).await.expect("removing");
    cluster.checkpoint(leader).await;
    cluster.start(7).await;
    let group = cluster.node(cluster.leader().await).group.clone();
    group.add_member(PeerId(7), PATIENCE).await.expect("adding");
    cluster.propose_many(10).await;
    cluster.agree(110).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_grow_from_three_to_five_and_shrink_again() {
    let mut cluster = Cluster::of(3).await;
    cluster.propose_many(200).await;
    let leader = cluster.leader().await;
    cluster.checkpoint(leader).await;
    for peer in [4, 5] {
        cluster.start(peer).await;
        let leader = cluster.node(cluster.leader().await).group.clone();
        leader.add_member(PeerId(peer), PATIENCE).await.expect("adding");
        leader.add_member(PeerId(peer), PATIENCE).await.expect("adding again");
    }
    let group = cluster.node(cluster.leader().await).group.clone();
    assert_eq!(group.status().voters, [1, 2, 3, 4, 5].map(PeerId));
    cluster.propose_many(50).await;
    cluster.agree(250).await;
    // The leader goes too, so that it must hand over.
    let leader = cluster.leader().await;
    let other = (1..=5).find(|peer| *peer != leader).expect("another");
    for gone in [other, leader] {
        let group = cluster.node(cluster.leader().await).group.clone();
        group.remove_member(PeerId(gone), PATIENCE).await.expect("removing");
    }
    cluster.stop(other).await;
    cluster.stop(leader).await;
    cluster.propose_many(50).await;
    cluster.agree(300).await;
    let group = cluster.node(cluster.leader().await).group.clone();
    let status = group.status();
    assert_eq!(status.voters.len(), 3);
    assert!(!status.voters.contains(&PeerId(leader)));
    assert!(!status.joint);
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_moves_to_the_member_asked_for() {
    let cluster = Cluster::of(3).await;
    cluster.propose_many(100).await;
    for _ in 0..4 {
        let old = cluster.leader().await;
        let target = (1..=3).find(|peer| *peer != old).expect("another");
        let started = Instant::now();
        let group = cluster.node(old).group.clone();
        group.transfer_leader(Some(PeerId(target))).await.expect("a transfer");
        let new = wait_for("the new leader", || {
            let new = cluster.leader_now()?;
            (new != old).then_some(new)
        })
        .await;
        println!("leadership moved in {:?}", started.elapsed());
        assert_eq!(new, target);
        cluster.propose("after").await;
    }
    let group = cluster.node(cluster.leader().await).group.clone();
    let nobody = group.transfer_leader(Some(PeerId(9))).await;
    assert_eq!(nobody, Err(GroupError::NotVoter(PeerId(9))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_elected_this_moment_can_hand_over_to_any_voter() {
    let cluster = Cluster::of(3).await;
    for turn in 0..6 {
        let old = cluster.leader().await;
        let target = (1..=3).filter(|peer| *peer != old).nth(turn % 2).expect("another");
        let group = cluster.node(old).group.clone();
        group.transfer_leader(Some(PeerId(target))).await.expect("a transfer");
        wait_for("the new leader", || (cluster.leader_now()? == target).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_to_a_dead_member_fails_and_the_group_goes_on() {
    let mut cluster = Cluster::of(3).await;
    cluster.propose_many(10).await;
    let leader = cluster.leader().await;
    let dead = (1..=3).find(|peer| *peer != leader).expect("another");
    cluster.stop(dead).await;
    let group = cluster.node(leader).group.clone();
    // Not known to be dead yet.
    let outcome = group.transfer_leader(Some(PeerId(dead))).await;
    println!("{outcome:?}");
    let started = Instant::now();
    cluster.propose("after").await;
    println!("publishing again after {:?}", started.elapsed());
    cluster.agree(11).await;
    let group = cluster.node(cluster.leader().await).group.clone();
    tokio::time::sleep(cluster.options.election_max).await;
    let refused = group.transfer_leader(Some(PeerId(dead))).await;
    assert_eq!(refused, Err(GroupError::Silent(PeerId(dead))));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_nothing_is_accepted() {
    let mut cluster = Cluster::of(3).await;
    cluster.propose_many(10).await;
    let leader = cluster.leader().await;
    let group = cluster.node(leader).group.clone();
    for peer in 1..=3 {
        if peer != leader {
            cluster.stop(peer).await;
        }
    }
    let outcome = tokio::time::timeout(PATIENCE, group.propose("lost".into())).await;
    let error = outcome.expect("it is resolved").expect_err("no majority");
    assert!(matches!(error, ProposeError::Unknown { .. }), "{error}");
    wait_for("the leader to notice", || (!group.status().is_leader).then_some(())).await;
    let refused = group.propose("refused".into()).await.expect_err("no majority");
    assert!(matches!(refused, ProposeError::NotLeader { .. }), "{refused}");
    for peer in 1..=3 {
        if peer != leader {
            cluster.start(peer).await;
        }
    }
    cluster.propose("back").await;
    cluster.agree(11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_names_the_leader() {
    let cluster = Cluster::of(3).await;
    cluster.propose("a").await;
    let leader = cluster.leader().await;
    let other = (1..=3).find(|peer| *peer != leader).expect("a follower");
    let group = cluster.node(other).group.clone();
    wait_for("the follower to know its leader", || {
        let now = *group.leadership().borrow();
        (now == Leadership::Follower { leader: Some(PeerId(leader)) }).then_some(())
    })
    .await;
    let refused = group.propose("b".into()).await.expect_err("not the leader");
    let leader = Some(PeerId(leader));
    assert_eq!(refused, ProposeError::NotLeader { leader });
    let refused = group.add_member(PeerId(9), Duration::from_secs(1)).await;
    assert_eq!(refused, Err(GroupError::NotLeader { leader }));
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_proposals_are_refused_until_some_are_done() {
    let mut cluster = Cluster::new();
    cluster.options.max_proposals = 4;
    for peer in 1..=3 {
        cluster.start(peer).await;
    }
    let members = [1, 2, 3].map(PeerId).to_vec();
    cluster.node(1).group.initialize(members).await.expect("initialising");
    let group = cluster.node(cluster.leader().await).group.clone();
    let proposals = (0..100).map(|n| group.propose(format!("{n}").into()));
    let results = futures::future::join_all(proposals.collect::<Vec<_>>()).await;
    let refused = results.iter().filter(|r| matches!(r, Err(ProposeError::Backpressure)));
    assert!(refused.count() > 50);
    group.ready().await;
    group.propose("after".into()).await.expect("room again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_group_leaves_nothing() {
    let cluster = Cluster::of(1).await;
    cluster.propose("a").await;
    let node = cluster.node(1).node.clone();
    node.drop_group(GROUP).await.expect("dropping");
    let machine = std::sync::Arc::new(super::counter::Counter::default());
    let group = node.open_group(GROUP, machine, cluster.options.clone()).await;
    assert!(!group.expect("it opens anew").is_initialized());
}
