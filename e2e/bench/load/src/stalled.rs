//! What one subscriber that never reads costs the others, and the server's memory. Not a comparison of two servers.

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

/// The same load in slices, with and without `stalled` subscribers beside the `subscribers` that read, in turns: what
/// else the machine does meanwhile falls on both. Prints as JSON the rates of each pair of slices in messages published
/// a second, without and with.
pub(crate) fn rates(plan: &Plan) -> Outcome<()> {
    // One slice before the first pair, for what is slow only once.
    let slices = Slices::start(plan, 2 * plan.pairs + 1, plan.count)?;
    let mut rates = Vec::new();
    for slice in 0..slices.number {
        // Without, with; with, without; and so on.
        let is_stalled = slice > 0 && matches!((slice - 1) % 4, 1 | 2);
        let stalled = stalled(plan, if is_stalled { plan.stalled } else { 0 })?;
        thread::sleep(SETTLE);
        rates.push((is_stalled, plan.count as f64 / slices.one().as_secs_f64()));
        drop(stalled);
    }
    slices.end()?;
    let pairs: Vec<String> = rates[1..].chunks_exact(2).map(pair).collect();
    println!("{{\"pairs\": [{}]}}", pairs.join(", "));
    Ok(())
}

/// The load in slices of `window` messages, each begun when everyone who reads has the one before: what waits in the
/// server waits for the `stalled` ones.
pub(crate) fn paced(plan: &Plan) -> Outcome<()> {
    let stalled = stalled(plan, plan.stalled)?;
    let slices = Slices::start(plan, plan.count / plan.window.max(1), plan.window)?;
    for _ in 0..slices.number {
        slices.one();
    }
    slices.end()?;
    drop(stalled);
    println!("{{\"messages\": {}}}", plan.count);
    Ok(())
}

fn stalled(plan: &Plan, count: u64) -> Outcome<Vec<Wire>> {
    (0..count).map(|_| subscribe(plan)).collect()
}

/// A publisher and its readers, who go through the same slices together.
struct Slices {
    number: u64,
    gate: Arc<Barrier>,
    threads: Vec<JoinHandle<Outcome<()>>>,
}

impl Slices {
    /// Connects everyone; they wait for the first of `number` slices of `count` messages.
    fn start(plan: &Plan, number: u64, count: u64) -> Outcome<Self> {
        let mut publisher = Wire::connect(&plan.address, plan.transport)?;
        let mut readers = Vec::new();
        for _ in 0..plan.subscribers {
            readers.push(await_interest(&mut publisher, plan, subscribe(plan)?)?);
        }
        // The publisher, and the thread that takes the time.
        let gate = Arc::new(Barrier::new(readers.len() + 2));
        let mut threads = Vec::new();
        for mut reader in readers {
            let (gate, plan) = (Arc::clone(&gate), plan.clone());
            let read = move |slice| read(&mut reader, &plan, count, slice);
            threads.push(thread::spawn(move || in_slices(&gate, number, read)));
        }
        let (one, publisher_gate) = (message(&plan.subject, "", plan.size), Arc::clone(&gate));
        let publish = move |_| {
            write_messages(&mut publisher, &one, count)?;
            publisher.confirm("")
        };
        threads.push(thread::spawn(move || in_slices(&publisher_gate, number, publish)));
        Ok(Self { number, gate, threads })
    }

    /// Lets everyone go through the next slice; how long that took.
    fn one(&self) -> Duration {
        self.gate.wait();
        let began = Instant::now();
        self.gate.wait();
        began.elapsed()
    }

    /// Behind the last slice.
    fn end(self) -> Outcome<()> {
        self.threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked")?)
    }
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

fn read(reader: &mut Messages, plan: &Plan, count: u64, slice: u64) -> Outcome<()> {
    // Probes sent for others still come first.
    let mut ahead = 0;
    while slice == 0 && ahead == 0 {
        reader.take_available(1, |received| {
            ahead += u64::from(received.sid == SID);
            Ok(())
        })?;
    }
    let head = format!("MSG {} {SID} {}\r\n", plan.subject, plan.size);
    reader.count_alike(count - ahead, head.as_bytes(), plan.size)
}

fn pair(slices: &[(bool, f64)]) -> String {
    let rate =
        |stalled| slices.iter().find(|(is_stalled, _)| *is_stalled == stalled).map_or(0.0, |(_, rate)| *rate);
    format!("[{:.1}, {:.1}]", rate(false), rate(true))
}
