//! Publishers and subscribers of one subject, where everyone gets everything. Not requests.

use crate::Outcome;
use crate::messages::Messages;
use crate::plan::Plan;
use crate::publish::{message, write_messages};
use crate::report::Report;
use crate::usage::{Used, Watch};
use crate::wire::Wire;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub(crate) const SID: u64 = 1;
const PROBE_SID: u64 = 2;
const PROBE_EVERY: Duration = Duration::from_millis(20);
const PROBES: u32 = 500;

pub(crate) fn run(plan: &Plan) -> Outcome<Report> {
    let subscribers = (0..plan.subscribers).map(|_| subscribe(plan)).collect::<Outcome<Vec<_>>>()?;
    let mut publishers = (0..plan.publishers)
        .map(|_| Wire::connect(&plan.address, plan.transport))
        .collect::<Outcome<Vec<_>>>()?;
    let mut readers = Vec::new();
    for subscriber in subscribers {
        readers.push(await_interest(&mut publishers[0], plan, subscriber)?);
    }
    let each = plan.count / plan.publishers;
    let total = each * plan.publishers;
    // One more party: this thread, which takes the time.
    let start = Arc::new(Barrier::new(readers.len() + publishers.len() + 1));
    let mut threads: Vec<JoinHandle<Outcome<Used>>> = Vec::new();
    for reader in readers {
        let (start, plan) = (Arc::clone(&start), plan.clone());
        threads.push(thread::spawn(move || read_all(reader, &plan, total, &start)));
    }
    let mut senders: Vec<JoinHandle<Outcome<Used>>> = Vec::new();
    for mut wire in publishers {
        let (start, one) = (Arc::clone(&start), message(&plan.subject, "", plan.size));
        senders.push(thread::spawn(move || {
            start.wait();
            let watch = Watch::start();
            write_messages(&mut wire, &one, each)?;
            wire.confirm("")?;
            Ok(watch.stop())
        }));
    }
    start.wait();
    let began = Instant::now();
    let used = join(threads)?;
    let seconds = began.elapsed().as_secs_f64();
    let mut report = Report::new(total, total * plan.subscribers, seconds);
    for used in used.into_iter().chain(join(senders)?) {
        report.add_thread(used);
    }
    Ok(report)
}

fn join(threads: Vec<JoinHandle<Outcome<Used>>>) -> Outcome<Vec<Used>> {
    threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked")?).collect()
}

pub(crate) fn subscribe(plan: &Plan) -> Outcome<Wire> {
    let mut wire = Wire::connect(&plan.subscribe_at, plan.transport)?;
    wire.confirm(&format!("SUB {} {SID}\r\nSUB {}.probe {PROBE_SID}\r\n", plan.subject, plan.subject))?;
    Ok(wire)
}

/// Publishes probes until one arrives: interest has then come to the publisher's server, in order.
pub(crate) fn await_interest(publisher: &mut Wire, plan: &Plan, subscriber: Wire) -> Outcome<Messages> {
    let is_there = Arc::new(AtomicBool::new(false));
    let mut messages = Messages::new(subscriber);
    let seen = Arc::clone(&is_there);
    let reader = thread::spawn(move || -> Outcome<Messages> {
        messages.take_available(1, |_| Ok(()))?;
        seen.store(true, Ordering::Release);
        Ok(messages)
    });
    let probe = message(&format!("{}.probe", plan.subject), "", 0);
    for _ in 0..PROBES {
        write_messages(publisher, &probe, 1)?;
        thread::sleep(PROBE_EVERY);
        if is_there.load(Ordering::Acquire) {
            return reader.join().map_err(|_| "the reader panicked")?;
        }
    }
    Err("interest does not come to the publisher's server".into())
}

fn read_all(mut messages: Messages, plan: &Plan, total: u64, start: &Barrier) -> Outcome<Used> {
    start.wait();
    let watch = Watch::start();
    // Probes sent for others still come first.
    let mut ahead = 0;
    while ahead == 0 {
        messages.take_available(1, |received| {
            ahead += u64::from(received.sid == SID);
            Ok(())
        })?;
    }
    let head = format!("MSG {} {SID} {}\r\n", plan.subject, plan.size);
    messages.count_alike(total - ahead, head.as_bytes(), plan.size)?;
    Ok(watch.stop())
}
