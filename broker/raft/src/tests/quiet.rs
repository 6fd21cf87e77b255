//! Groups that rest: what they still do, and what wakes them.

use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use tokio::time::Instant;
use weir_stdx::rng::SeededRng;

use super::cluster::{Cluster, GROUP, PATIENCE, wait_for};
use super::counter::Counter;
use crate::{Group, GroupId, GroupOptions, Leadership, PeerId};

fn others(of: u64) -> Vec<u64> {
    (1..=3).filter(|peer| *peer != of).collect()
}

/// Waits until the group rests on all its running nodes.
async fn rest(cluster: &Cluster) {
    let all = || cluster.running.values().all(|running| running.group.quiet().is_quiet());
    wait_for("the group to rest", || all().then_some(())).await;
}

/// The last heartbeat of its own that a leader knows to be answered.
fn heartbeats(group: &Group) -> String {
    format!("{:?}", group.raft().metrics().borrow_watched().heartbeat)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_group_rests_and_keeps_its_leader_without_heartbeats() {
    let cluster = Cluster::of(3).await;
    cluster.propose_many(10).await;
    rest(&cluster).await;
    let leader = cluster.leader().await;
    let group = &cluster.node(leader).group;
    let (term, before) = (group.status().term, heartbeats(group));
    let told = cluster.node(leader).machine.told().len();
    let until = Instant::now() + cluster.options.election_max * 3;
    let mut woken = 0;
    while Instant::now() < until {
        woken += usize::from(!group.quiet().is_quiet());
        let status = group.status();
        assert!(status.is_leader && status.term == term);
        for replica in status.replication {
            assert!(replica.last_contact.is_some_and(|ago| ago < cluster.options.lease()), "{replica:?}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // A busy machine may have woken it.
    assert!(woken > 0 || heartbeats(group) == before);
    assert_eq!(cluster.node(leader).machine.told().len(), told, "its leadership never wavered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_must_not_rest_does_not() {
    let mut cluster = Cluster::new();
    cluster.options.quiet_after = None;
    cluster.form(3).await;
    cluster.propose_many(10).await;
    tokio::time::sleep(cluster.options.election_max).await;
    assert!(cluster.running.values().all(|running| !running.group.quiet().is_quiet()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proposal_in_a_quiet_group_commits_at_once() {
    let cluster = Cluster::of(3).await;
    cluster.propose("a").await;
    for round in 0..5 {
        rest(&cluster).await;
        // Long after Raft's own clock has lapsed.
        tokio::time::sleep(cluster.options.election_max).await;
        let leader = cluster.leader().await;
        let started = Instant::now();
        cluster.node(leader).group.propose("b".into()).await.expect("a leader");
        println!("committed after {:?}", started.elapsed());
        assert!(started.elapsed() < cluster.options.election_min);
        cluster.agree(round + 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_leader_that_dies_is_replaced() {
    let mut cluster = Cluster::of(3).await;
    cluster.propose_many(10).await;
    rest(&cluster).await;
    let old = cluster.leader().await;
    cluster.stop(old).await;
    let started = Instant::now();
    let new = cluster.leader().await;
    println!("a new leader after {:?}", started.elapsed());
    assert!(started.elapsed() < cluster.options.election_max * 4, "{:?}", started.elapsed());
    assert_ne!(new, old);
    cluster.start(old).await;
    cluster.propose("after").await;
    cluster.agree(11).await;
    rest(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_follower_cut_off_from_the_leader_alone_does_not_depose_it() {
    let cluster = Cluster::linked(3).await;
    cluster.propose_many(10).await;
    rest(&cluster).await;
    let leader = cluster.leader().await;
    let term = cluster.node(leader).group.status().term;
    cluster.links().set(leader, others(leader)[0], false);
    tokio::time::sleep(cluster.options.election_max * 4).await;
    let status = cluster.node(leader).group.status();
    assert!(status.is_leader, "{status:?}");
    assert_eq!(status.term, term);
    cluster.links().set(leader, others(leader)[0], true);
    cluster.propose("after").await;
    cluster.agree(11).await;
    rest(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_leader_cut_off_steps_back_within_its_lease_and_before_another_leads() {
    let cluster = Cluster::linked(3).await;
    cluster.propose_many(10).await;
    rest(&cluster).await;
    let old = cluster.leader().await;
    for other in others(old) {
        cluster.links().set(old, other, false);
    }
    let cut = Instant::now();
    let mut stepped_back = None;
    wait_for("another leader", || {
        let leading = (1..=3).filter(|peer| cluster.node(*peer).group.status().is_leader);
        let leading = leading.collect::<Vec<_>>();
        assert!(leading.len() < 2, "{leading:?} all lead");
        if !leading.contains(&old) {
            stepped_back.get_or_insert_with(|| cut.elapsed());
        }
        leading.first().copied().filter(|leader| *leader != old)
    })
    .await;
    let stepped_back = stepped_back.expect("before the other led");
    assert!(stepped_back < cluster.options.lease() + cluster.options.heartbeat * 2, "{stepped_back:?}");
    for other in others(old) {
        cluster.links().set(old, other, true);
    }
    cluster.propose("after").await;
    cluster.agree(11).await;
    rest(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_leader_that_reaches_one_follower_of_four_does_not_block_the_group() {
    let cluster = Cluster::linked(5).await;
    cluster.propose_many(10).await;
    rest(&cluster).await;
    cluster.replace_leader_that_reaches_one().await;
    cluster.propose("after").await;
    cluster.agree(11).await;
    rest(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_group_reads_hands_over_and_changes_its_members() {
    let mut cluster = Cluster::of(3).await;
    cluster.propose_many(10).await;
    for _ in 0..3 {
        rest(&cluster).await;
        let leader = cluster.leader().await;
        let group = cluster.node(leader).group.clone();
        // Long after Raft's own clock has lapsed.
        tokio::time::sleep(cluster.options.election_max).await;
        let started = Instant::now();
        let index = group.read_barrier().await.expect("a majority");
        assert!(started.elapsed() < cluster.options.election_min, "{:?}", started.elapsed());
        assert_eq!(index, group.status().last);
        rest(&cluster).await;
        let to = others(leader)[0];
        group.transfer_leader(Some(PeerId(to))).await.expect("a follower that answers");
        assert_eq!(cluster.leader().await, to);
    }
    rest(&cluster).await;
    cluster.start(4).await;
    let leader = cluster.leader().await;
    let group = cluster.node(leader).group.clone();
    tokio::time::sleep(cluster.options.election_max).await;
    group.add_member(PeerId(4), PATIENCE).await.expect("a new member");
    rest(&cluster).await;
    tokio::time::sleep(cluster.options.election_max).await;
    cluster.agree(10).await;
    let leaving = others(leader)[0];
    group.remove_member(PeerId(leaving), PATIENCE).await.expect("a removed member");
    cluster.stop(leaving).await;
    rest(&cluster).await;
    cluster.propose("after").await;
    cluster.agree(11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_groups_log_is_cut_and_a_follower_behind_it_gets_a_snapshot() {
    let mut cluster = Cluster::of(3).await;
    cluster.options.lag_bytes = 0;
    cluster.propose_many(300).await;
    rest(&cluster).await;
    let leader = cluster.leader().await;
    cluster.checkpoint(leader).await;
    let group = cluster.node(leader).group.clone();
    wait_for("the log to be cut", || (group.status().purged > 0).then_some(())).await;
    let behind = others(leader)[0];
    cluster.stop(behind).await;
    cluster.propose_many(300).await;
    cluster.checkpoint(leader).await;
    cluster.start(behind).await;
    cluster.agree(600).await;
    rest(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_rests_was_told_that_its_leader_leads_once() {
    let cluster = Cluster::of(1).await;
    cluster.propose("a").await;
    rest(&cluster).await;
    cluster.propose("b").await;
    rest(&cluster).await;
    let told = cluster.node(1).machine.told();
    assert_eq!(told.iter().filter(|now| now.is_leader()).count(), 1, "{told:?}");
}

/// Waits until each group rests, or has for a moment: a busy machine wakes some.
async fn all_rest(groups: &[Vec<Group>]) {
    let mut left = groups.iter().collect::<Vec<_>>();
    wait_for("all groups to rest", || {
        left.retain(|members| !members.iter().all(|group| group.quiet().is_quiet()));
        left.is_empty().then_some(())
    })
    .await;
}

/// Proposes to one of many groups now and then; counts what was committed.
async fn propose_somewhere(groups: &[Vec<Group>], counts: &mut [usize], rng: &mut SeededRng) {
    let number = usize::try_from(rng.below(groups.len() as u64)).expect("an index");
    let leads = |group: &&Group| matches!(*group.leadership().borrow(), Leadership::Leader { .. });
    let Some(leader) = groups[number].iter().find(leads) else {
        return;
    };
    let proposal = tokio::time::timeout(PATIENCE, leader.propose("x".into())).await;
    if proposal.expect("an answer").is_ok() {
        counts[number] += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_groups_rest_and_wake_under_partitions_and_lose_nothing() {
    const GROUPS: u64 = 50;
    let cluster = Cluster::linked(3).await;
    let options = GroupOptions { quiet_after: Some(Duration::from_millis(200)), ..cluster.options.clone() };
    let mut machines = Vec::new();
    let mut groups = Vec::new();
    for number in 0..GROUPS {
        let id = GroupId(GROUP.0 + 1 + number);
        let mut members = Vec::new();
        for running in cluster.running.values() {
            let machine = std::sync::Arc::new(Counter::lax());
            let group = running.node.open_group(id, machine.clone(), options.clone()).await;
            members.push(group.expect("a group"));
            machines.push((number, machine));
        }
        members[0].initialize((1..=3).map(PeerId).collect()).await.expect("initialising");
        groups.push(members);
    }
    all_rest(&groups).await;
    let mut rng = SeededRng::new(7);
    let mut counts = vec![0; groups.len()];
    for round in 0..6 {
        let (a, b) = [(1, 2), (2, 3), (1, 3)][round % 3];
        cluster.links().set(a, b, false);
        let until = Instant::now() + options.election_max;
        while Instant::now() < until {
            propose_somewhere(&groups, &mut counts, &mut rng).await;
            for members in &groups {
                let leads =
                    |group: &&Group| matches!(*group.leadership().borrow(), Leadership::Leader { .. });
                assert!(members.iter().filter(leads).count() < 2, "two lead");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        cluster.links().set(a, b, true);
    }
    all_rest(&groups).await;
    assert!(counts.iter().sum::<usize>() > 10, "{counts:?}");
    for (number, machine) in machines {
        let index = usize::try_from(number).expect("a small number");
        assert!(machine.payloads() >= counts[index], "group {number} lost something");
    }
}
