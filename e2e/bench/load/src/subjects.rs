//! Many subjects under wildcard subscribers, while inboxes come and go on another connection.
//! All of it is fixed work: how much does not depend on how fast the server is.

use crate::Outcome;
use crate::messages::Messages;
use crate::plan::Plan;
use crate::report::Report;
use crate::usage::{Used, Watch};
use crate::wire::Wire;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

/// Subjects are `bench.<region>.<device>`.
const REGIONS: u64 = 100;
/// One connection subscribes `bench.<region>.>` for the first so many regions.
const WATCHED_REGIONS: u64 = 50;
/// One inbox is subscribed, written to and dropped for so many messages.
const MESSAGES_AN_INBOX: u64 = 50;
const WRITE_BYTES: usize = 64 * 1024;
/// A prime: subjects come in no order that a cache likes.
const STRIDE: u64 = 61_813;

pub(crate) fn run(plan: &Plan) -> Outcome<Report> {
    let devices = (plan.subjects / REGIONS).max(1);
    let subject = plan.subject.as_str();
    let regions: String =
        (0..WATCHED_REGIONS).map(|region| format!("SUB {subject}.{region}.> {}\r\n", region + 1)).collect();
    let indices = (0..plan.count).map(|number| number * STRIDE % (devices * REGIONS));
    let in_watched = indices.clone().filter(|index| index % REGIONS < WATCHED_REGIONS).count() as u64;
    let in_seventh = indices.clone().filter(|index| index % REGIONS == 7).count() as u64;
    let wanted = [
        (format!("SUB {subject}.*.* 1\r\n"), plan.count),
        (regions, in_watched),
        (format!("SUB {subject}.7.* 1\r\nSUB *.7.nobody 2\r\n"), in_seventh),
    ];
    let mut readers = Vec::new();
    for (lines, count) in wanted.clone() {
        let mut wire = Wire::connect(&plan.subscribe_at, plan.transport)?;
        wire.confirm(&lines)?;
        readers.push(thread::spawn(move || read(wire, count)));
    }
    let sent = Arc::new(AtomicU64::new(0));
    let is_over = Arc::new(AtomicBool::new(false));
    let churn = {
        let (wire, sent, is_over) =
            (Wire::connect(&plan.address, plan.transport)?, Arc::clone(&sent), Arc::clone(&is_over));
        let inboxes = plan.count / MESSAGES_AN_INBOX;
        thread::spawn(move || churn(wire, inboxes, &sent, &is_over))
    };
    let mut publisher = Wire::connect(&plan.address, plan.transport)?;
    let watch = Watch::start();
    let began = Instant::now();
    let result = publish(&mut publisher, plan, indices, &sent);
    is_over.store(true, Ordering::Release);
    result?;
    let mut report = Report::new(plan.count, wanted.iter().map(|(_, count)| count).sum(), 0.0);
    report.add_thread(watch.stop());
    for reader in readers {
        report.add_thread(reader.join().map_err(|_| "a reader panicked")??);
    }
    report.add_thread(churn.join().map_err(|_| "the inboxes panicked")??);
    report.seconds = began.elapsed().as_secs_f64();
    Ok(report)
}

fn publish(
    wire: &mut Wire,
    plan: &Plan,
    indices: impl Iterator<Item = u64>,
    sent: &AtomicU64,
) -> Outcome<()> {
    let payload = vec![b'x'; plan.size];
    let mut block = Vec::with_capacity(WRITE_BYTES * 2);
    let mut count = 0;
    for index in indices {
        write!(block, "PUB {}.{}.{} {}\r\n", plan.subject, index % REGIONS, index / REGIONS, plan.size)?;
        block.extend_from_slice(&payload);
        block.extend_from_slice(b"\r\n");
        count += 1;
        if block.len() >= WRITE_BYTES {
            wire.write_all(&block)?;
            block.clear();
            sent.store(count, Ordering::Release);
        }
    }
    wire.write_all(&block)?;
    sent.store(count, Ordering::Release);
    wire.confirm("")
}

fn read(wire: Wire, wanted: u64) -> Outcome<Used> {
    let mut messages = Messages::new(wire);
    let watch = Watch::start();
    let mut seen = 0;
    while seen < wanted {
        seen += messages.take_available(wanted - seen, |_| Ok(()))?;
    }
    Ok(watch.stop())
}

/// Follows the publisher: subscribes an inbox, writes to it, reads that, drops it.
fn churn(wire: Wire, inboxes: u64, sent: &AtomicU64, is_over: &AtomicBool) -> Outcome<Used> {
    let mut messages = Messages::new(wire);
    let watch = Watch::start();
    for number in 0..inboxes {
        while sent.load(Ordering::Acquire) < number * MESSAGES_AN_INBOX && !is_over.load(Ordering::Acquire) {
            thread::yield_now();
        }
        let lines = format!(
            "SUB _INBOX.load.{number} {number}\r\nPUB _INBOX.load.{number} 2\r\nhi\r\nUNSUB {number}\r\n"
        );
        messages.wire().write_all(lines.as_bytes())?;
        messages.take_available(1, |_| Ok(()))?;
    }
    Ok(watch.stop())
}
