//! What one subscriber that never reads costs the others: the same load in slices, with and without it in turns, so that
//! what else the machine does meanwhile falls on both. Not a comparison of two servers.

use crate::Outcome;
use crate::deliver::{SID, await_interest, subscribe};
use crate::messages::Messages;
use crate::plan::Plan;
use crate::publish::{message, write_messages};
use crate::wire::Wire;
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long the server may take to notice that a stalled subscriber is gone.
const SETTLE: Duration = Duration::from_millis(100);

/// Prints the rates of each pair of slices as JSON: messages published a second, without and with `stalled` subscribers
/// beside the `subscribers` that read.
pub(crate) fn run(plan: &Plan) -> Outcome<()> {
    let mut publisher = Wire::connect(&plan.address, plan.transport)?;
    let mut readers = Vec::new();
    for _ in 0..plan.subscribers {
        readers.push(await_interest(&mut publisher, plan, subscribe(plan)?)?);
    }
    // The publisher, and this thread, which takes the time.
    let gate = Arc::new(Barrier::new(readers.len() + 2));
    // One slice before the first pair, for what is slow only once.
    let slices = 2 * plan.pairs + 1;
    let mut threads: Vec<JoinHandle<Outcome<()>>> = Vec::new();
    for mut reader in readers {
        let (gate, plan) = (Arc::clone(&gate), plan.clone());
        threads
            .push(thread::spawn(move || in_slices(&gate, slices, |slice| read(&mut reader, &plan, slice))));
    }
    let (count, one) = (plan.count, message(&plan.subject, "", plan.size));
    threads.push(thread::spawn({
        let gate = Arc::clone(&gate);
        move || {
            in_slices(&gate, slices, |_| {
                write_messages(&mut publisher, &one, count)?;
                publisher.confirm("")
            })
        }
    }));
    let mut rates = Vec::new();
    for slice in 0..slices {
        // Without, with; with, without; and so on.
        let is_stalled = slice > 0 && matches!((slice - 1) % 4, 1 | 2);
        let stalled = (0..if is_stalled { plan.stalled } else { 0 })
            .map(|_| subscribe(plan))
            .collect::<Outcome<Vec<_>>>()?;
        thread::sleep(SETTLE);
        gate.wait();
        let began = Instant::now();
        gate.wait();
        rates.push((is_stalled, count as f64 / began.elapsed().as_secs_f64()));
        drop(stalled);
    }
    for thread in threads {
        thread.join().map_err(|_| "a thread panicked")??;
    }
    let pairs: Vec<String> = rates[1..].chunks_exact(2).map(pair).collect();
    println!("{{\"pairs\": [{}]}}", pairs.join(", "));
    Ok(())
}

/// Goes through all gates, also behind a failure, so that nobody waits for ever.
fn in_slices(gate: &Barrier, slices: u64, mut one: impl FnMut(u64) -> Outcome<()>) -> Outcome<()> {
    let mut outcome = Ok(());
    for slice in 0..slices {
        gate.wait();
        if outcome.is_ok() {
            outcome = one(slice);
        }
        gate.wait();
    }
    outcome
}

fn read(reader: &mut Messages, plan: &Plan, slice: u64) -> Outcome<()> {
    // Probes sent for others still come first.
    let mut ahead = 0;
    while slice == 0 && ahead == 0 {
        reader.take_available(1, |received| {
            ahead += u64::from(received.sid == SID);
            Ok(())
        })?;
    }
    let head = format!("MSG {} {SID} {}\r\n", plan.subject, plan.size);
    reader.count_alike(plan.count - ahead, head.as_bytes(), plan.size)
}

fn pair(slices: &[(bool, f64)]) -> String {
    let rate =
        |stalled| slices.iter().find(|(is_stalled, _)| *is_stalled == stalled).map_or(0.0, |(_, rate)| *rate);
    format!("[{:.1}, {:.1}]", rate(false), rate(true))
}
