//! Publishing to a stream with a bounded number of acks outstanding. Not consuming.

use crate::Outcome;
use crate::messages::Messages;
use crate::plan::Plan;
use crate::publish::{message, write_messages};
use crate::report::Report;
use crate::usage::Watch;
use crate::wire::Wire;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

const ACKS: &str = "_INBOX.load.acks";

/// How many acks have come; the publisher waits here when its window is full.
struct Acked {
    count: Mutex<u64>,
    more: Condvar,
}

pub(crate) fn run(plan: &Plan) -> Outcome<Report> {
    let mut wire = Wire::connect(&plan.address, plan.transport)?;
    wire.confirm(&format!("SUB {ACKS} 1\r\n"))?;
    let mut stream = wire.tcp()?;
    let acked = Arc::new(Acked { count: Mutex::new(0), more: Condvar::new() });
    let (reader_acked, wanted) = (Arc::clone(&acked), plan.count);
    let watch = Watch::start();
    let began = Instant::now();
    let reader = thread::spawn(move || {
        let watch = Watch::start();
        let result = read_acks(&mut Messages::new(wire), &reader_acked, wanted);
        if result.is_err() {
            // Lets the publisher go on to its end, where it sees the error.
            set(&reader_acked, u64::MAX / 2);
        }
        result.map(|()| watch.stop())
    });
    let one = message(&plan.subject, &format!("{ACKS} "), plan.size);
    let mut sent = 0;
    while sent < plan.count {
        let credit = await_credit(&acked, sent, plan.window)?;
        let now = credit.min(plan.count - sent);
        write_messages(&mut stream, &one, now)?;
        sent += now;
    }
    let used = reader.join().map_err(|_| "the reader panicked")??;
    let mut report = Report::new(plan.count, plan.count, began.elapsed().as_secs_f64());
    report.add_thread(watch.stop());
    report.add_thread(used);
    Ok(report)
}

fn set(acked: &Acked, count: u64) {
    if let Ok(mut place) = acked.count.lock() {
        *place = count;
    }
    acked.more.notify_one();
}

/// Waits for a quarter of the window, so that writes are of a size worth a system call.
fn await_credit(acked: &Acked, sent: u64, window: u64) -> Outcome<u64> {
    let mut count = acked.count.lock().map_err(|_| "the reader panicked")?;
    loop {
        let credit = (*count + window).saturating_sub(sent);
        if credit >= (window / 4).max(1) {
            return Ok(credit.min(window));
        }
        count = acked.more.wait(count).map_err(|_| "the reader panicked")?;
    }
}

fn read_acks(messages: &mut Messages, acked: &Acked, wanted: u64) -> Outcome<()> {
    let mut seen = 0;
    while seen < wanted {
        seen += messages.take_available(wanted - seen, |received| {
            let payload = received.payload;
            if payload.starts_with(b"{\"stream\"") && !payload.windows(8).any(|part| part == b"\"error\":") {
                return Ok(());
            }
            Err(format!("no ack: {}", String::from_utf8_lossy(payload)).into())
        })?;
        set(acked, seen);
    }
    Ok(())
}
