//! Power cuts of all nodes at once, under load: what was acknowledged before the cut is there after it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use weir_stdx::rng::SeededRng;

use super::cluster::Cluster;
use crate::Group;

const ROUNDS: u64 = 12;

/// Proposes numbers until the group does not take them any more; notes those acknowledged.
async fn load(group: Group, numbers: std::ops::RangeFrom<u64>, acked: Arc<Mutex<Vec<u64>>>) {
    for number in numbers {
        group.ready().await;
        let proposal = group.propose(number.to_string().into());
        let acked = Arc::clone(&acked);
        tokio::spawn(async move {
            if proposal.await.is_ok() {
                acked.lock().push(number);
            }
        });
        // About as many as can be acknowledged, so that something is always under way.
        if number % 16 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_all_lose_power() {
    let seed = std::env::var("WEIR_POWER_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut rng = SeededRng::new(seed.unwrap_or(20_261_121));
    let mut cluster = Cluster::on_disks(3).await;
    let mut promised = HashSet::new();
    for round in 0..ROUNDS {
        let leader = cluster.leader().await;
        let acked = Arc::new(Mutex::new(Vec::new()));
        let group = cluster.node(leader).group.clone();
        let loading = tokio::spawn(load(group, round * 1_000_000 + 1.., Arc::clone(&acked)));
        tokio::time::sleep(Duration::from_millis(100 + rng.below(300))).await;
        if round % 3 == 2 {
            for peer in 1..=3 {
                cluster.checkpoint(peer).await;
            }
            tokio::time::sleep(Duration::from_millis(rng.below(100))).await;
        }
        // Only what was acknowledged by now was surely before the cut.
        promised.extend(std::mem::take(&mut *acked.lock()));
        cluster.cut_power(&mut rng).await;
        loading.abort();
        for peer in 1..=3 {
            cluster.start(peer).await;
        }
        cluster.propose(format!("{}", (round + 1) * 1_000_000)).await;
        cluster.agree(promised.len()).await;
        let payloads = cluster.node(1).machine.state().payloads;
        let numbers = payloads.iter().map(|payload| {
            let text = std::str::from_utf8(payload).expect("text");
            text.parse::<u64>().expect("a number")
        });
        let numbers = numbers.collect::<Vec<_>>();
        let distinct = numbers.iter().copied().collect::<HashSet<_>>();
        assert_eq!(distinct.len(), numbers.len(), "round {round}: something is there twice");
        let lost = promised.difference(&distinct).count();
        assert_eq!(lost, 0, "round {round}: of {} acknowledged", promised.len());
    }
    println!("{} acknowledged over {ROUNDS} power cuts", promised.len());
    assert!(promised.len() > 100);
}
