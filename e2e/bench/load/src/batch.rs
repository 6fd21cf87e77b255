//! Publishing in atomic batches of `batch` messages, one under way at a time. Not fast batches.

use crate::Outcome;
use crate::messages::Messages;
use crate::plan::{Expected, Plan};
use crate::report::Report;
use crate::stored::check;
use crate::usage::Watch;
use crate::wire::Wire;
use std::io::Write;
use std::time::Instant;

const ANSWERS: &str = "_INBOX.load.answers";

/// `count` messages in atomic batches; the next begins when the last is committed.
pub(crate) fn atomic(plan: &Plan) -> Outcome<Report> {
    let mut wire = Wire::connect(&plan.address, plan.transport)?;
    wire.confirm(&format!("SUB {ANSWERS} 1\r\n"))?;
    let mut messages = Messages::new(wire);
    let mut latencies = Vec::new();
    let watch = Watch::start();
    let began = Instant::now();
    let mut sent = 0;
    let mut block = Vec::new();
    while sent < plan.count {
        block.clear();
        for sequence in 1..=plan.batch {
            let is_last = sequence == plan.batch;
            let commit = if is_last { "Nats-Batch-Commit: 1\r\n" } else { "" };
            let reply = if is_last { format!("{ANSWERS} ") } else { String::new() };
            let headers = format!(
                "NATS/1.0\r\nNats-Batch-Id: b{sent}\r\nNats-Batch-Sequence: {sequence}\r\n{commit}\r\n"
            );
            write!(
                block,
                "HPUB {} {reply}{} {}\r\n{headers}",
                plan.subject,
                headers.len(),
                headers.len() + plan.size
            )?;
            block.resize(block.len() + plan.size, b'x');
            block.extend_from_slice(b"\r\n");
        }
        let asked = Instant::now();
        messages.wire().write_all(&block)?;
        messages.take_available(1, |received| check(Expected::Ack, received.payload, 0))?;
        latencies.push(u64::try_from(asked.elapsed().as_nanos())?);
        sent += plan.batch;
    }
    let mut report = Report::new(sent, sent, began.elapsed().as_secs_f64());
    report.add_latencies(&latencies);
    report.add_thread(watch.stop());
    Ok(report)
}
