//! One node as a process: takes proposals on its input, says on its output what became of them.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use weir_raft::{Group, GroupId, GroupOptions, NodeConfig, PeerId, PeerInfo, RaftNode};
use weir_storage::{Journal, JournalOptions};

use crate::machine::Numbers;

/// Set in a child: its id, its folder, and the ports of all nodes.
pub(crate) const CHILD_VARIABLE: &str = "WEIR_RAFT_CRASH_CHILD";
const GROUP: GroupId = GroupId(1);

pub(crate) fn run(arguments: &str) {
    // The test harness has begun a line.
    println!();
    let words = arguments.split(' ').collect::<Vec<_>>();
    let peer = words[0].parse().expect("an id");
    let folder = PathBuf::from(words[1]);
    let ports = words[2..].iter().map(|port| port.parse().expect("a port")).collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(serve(peer, &folder, ports));
}

async fn serve(peer: u64, folder: &Path, ports: Vec<u16>) {
    let journal = folder.join("journal");
    std::fs::create_dir_all(&journal).expect("a folder");
    let options = JournalOptions { file_size_bytes: 1024 * 1024, ..JournalOptions::default() };
    let (journal, recovery) = Journal::open(&journal, options).expect("the journal opens");
    assert!(recovery.damages.is_empty(), "{recovery:?}");
    let port = |peer: u64| ports[usize::try_from(peer).expect("small") - 1];
    let config = NodeConfig {
        peer: PeerId(peer),
        name: format!("n{peer}"),
        listener: TcpListener::bind(("127.0.0.1", port(peer))).expect("its port"),
        secret: Some("a secret".to_owned()),
        spool_dir: folder.join("spool"),
        spool_vault: None,
        admin: None,
    };
    let node = RaftNode::start(config, Arc::new(journal), Arc::new(|_| None)).await;
    let node = node.expect("a node");
    let peers = 1..=ports.len() as u64;
    for peer in peers.clone() {
        let info = PeerInfo { name: format!("n{peer}"), endpoint: format!("127.0.0.1:{}", port(peer)) };
        node.set_peer(PeerId(peer), info);
    }
    let machine = Arc::new(Numbers::open(folder));
    let options = GroupOptions { lag_bytes: 2048, ..GroupOptions::fast() };
    let group = node.open_group(GROUP, machine.clone(), options).await.expect("the group opens");
    if peer == 1 && !group.is_initialized() {
        // Already initialised when this is a restart.
        let _ = group.initialize(peers.map(PeerId).collect()).await;
    }
    tokio::spawn(checkpoints(group.clone(), machine.clone()));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(number) = line.strip_prefix("propose ") {
            let number = number.to_owned();
            let proposal = group.propose(number.clone().into());
            tokio::spawn(async move {
                match proposal.await {
                    Ok(_) => println!("ok {number}"),
                    Err(_) => println!("no {number}"),
                }
            });
        } else if line == "dump" {
            let numbers = machine.state.lock().numbers.clone();
            let words = numbers.iter().map(|number| format!(" {number}"));
            println!("dump{}", words.collect::<String>());
        }
    }
    // The test has ended.
    std::process::exit(0);
}

async fn checkpoints(group: Group, machine: Arc<Numbers>) {
    loop {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let index = machine.checkpoint().expect("a checkpoint");
        // A group that is stopping needs none.
        let _ = group.compact(index).await;
    }
}
