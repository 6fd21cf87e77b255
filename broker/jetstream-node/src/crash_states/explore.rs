//! Walks the record of a workload and starts a server on states that a crash could leave, at every step.

use weir_stdx::rng::SeededRng;
use weir_storage::disk::sim::{CrashExplorer, SimDisk};

use super::coverage::Coverage;
use super::server::Server;
use super::workload::Workload;

/// Rounds of one seed's workload.
const ROUNDS: u32 = 60;
const STATES_PER_STEP: u32 = 1;

/// Runs one seed; returns how many states were tried, and what its workload came to.
pub(super) fn explore(seed: u64) -> Result<(u64, Coverage), String> {
    let workload = Workload::run(seed, ROUNDS).map_err(|reason| format!("without a crash: {reason}"))?;
    let mut explorer = CrashExplorer::new(workload.disk.record());
    let mut rng = SeededRng::new(seed ^ 0xC0FFEE);
    let (mut states, mut step) = (0, 0);
    while explorer.step() {
        step += 1;
        for _ in 0..STATES_PER_STEP {
            let crashed = explorer.crash(&mut rng);
            let mark = explorer.last_mark();
            states += recover(&workload, &crashed, mark, &mut rng)
                .map_err(|reason| format!("step {step}, mark {mark}: {reason}"))?;
        }
    }
    Ok((states, workload.coverage))
}

/// Starts on one state and checks it; sometimes crashes while it starts, or goes on afterwards.
fn recover(workload: &Workload, crashed: &SimDisk, mark: u64, rng: &mut SeededRng) -> Result<u64, String> {
    let mut states = 1;
    if rng.chance(1, 100) {
        let disk = crashed.fork_recording();
        let server = Server::start(&disk).map_err(|reason| format!("refused: {reason}"))?;
        workload.check(&server, mark)?;
        drop(server);
        let mut explorer = CrashExplorer::new(disk.record());
        let mut step = 0;
        while explorer.step() {
            step += 1;
            if step <= disk.baseline() {
                continue;
            }
            let again = explorer.crash(rng);
            let server = Server::start(&again)
                .map_err(|reason| format!("refused after a crash at step {step} of the start: {reason}"))?;
            workload
                .check(&server, mark)
                .map_err(|reason| format!("after a crash at step {step} of the start: {reason}"))?;
            states += 1;
        }
        return Ok(states);
    }
    let server = Server::start(crashed).map_err(|reason| format!("refused: {reason}"))?;
    workload.check(&server, mark)?;
    if rng.chance(1, 10) {
        // A start changes nothing that the next one needs; neither does a checkpoint of what was found.
        let groups: Vec<u64> = server.streams.keys().copied().collect();
        for group in groups.into_iter().filter(|_| rng.chance(1, 2)) {
            server.checkpoint(group)?;
        }
        server.pump();
        drop(server);
        let server = Server::start(crashed).map_err(|reason| format!("refused the second time: {reason}"))?;
        workload.check(&server, mark).map_err(|reason| format!("the second time: {reason}"))?;
        states += 1;
    }
    Ok(states)
}
