//! One long fast batch (ADR-50): messages whose reply subjects number them, flow control by the server's acks, a commit at
//! the end. Not atomic batches.

use crate::Outcome;
use crate::messages::Messages;
use crate::plan::{Expected, Plan};
use crate::report::Report;
use crate::stored::{Answered, check};
use crate::usage::{Used, Watch};
use crate::wire::Wire;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

const PREFIX: &str = "_INBOX.load.fast";
const START: u8 = 0;
const APPEND: u8 = 1;
const COMMIT: u8 = 2;
/// Acks outstanding, in units of `batch`, which is the flow that is asked for.
const FLOWS_OUTSTANDING: u64 = 2;

pub(crate) fn run(plan: &Plan) -> Outcome<Report> {
    let mut wire = Wire::connect(&plan.address, plan.transport)?;
    wire.confirm(&format!("SUB {PREFIX}.> 1\r\n"))?;
    let mut stream = wire.tcp()?;
    let answered = Answered::new();
    let watch = Watch::start();
    let began = Instant::now();
    let reader = read_acks(wire, plan.count, &answered);
    let sent = send(&mut stream, plan, &answered);
    let used = reader.join().map_err(|_| "the reader panicked")??;
    sent?;
    let mut report = Report::new(plan.count, plan.count, began.elapsed().as_secs_f64());
    report.add_thread(watch.stop());
    report.add_thread(used);
    Ok(report)
}

fn send(stream: &mut TcpStream, plan: &Plan, answered: &Answered) -> Outcome<()> {
    let mut block = Vec::new();
    let mut sent = 0;
    while sent < plan.count {
        let now = answered.await_credit(sent, plan.batch * FLOWS_OUTSTANDING)?.min(plan.count - sent);
        block.clear();
        for sequence in sent + 1..=sent + now {
            let operation = match sequence {
                1 => START,
                last if last == plan.count => COMMIT,
                _ => APPEND,
            };
            let (subject, flow, size) = (&plan.subject, plan.batch, plan.size);
            write!(block, "PUB {subject} {PREFIX}.b.{flow}.fail.{sequence}.{operation}.$FI {size}\r\n")?;
            block.resize(block.len() + size, b'x');
            block.extend_from_slice(b"\r\n");
        }
        stream.write_all(&block)?;
        sent += now;
    }
    Ok(())
}

/// Reads flow acks up to the acknowledgement of the whole.
fn read_acks(wire: Wire, count: u64, answered: &Arc<Answered>) -> thread::JoinHandle<Outcome<Used>> {
    let answered = Arc::clone(answered);
    thread::spawn(move || {
        let watch = Watch::start();
        let mut messages = Messages::new(wire);
        let mut is_committed = false;
        while !is_committed {
            let taken = messages.take_available(u64::MAX, |received| {
                if let Some(sequence) = flow_ack(received.payload) {
                    answered.set(sequence);
                    return Ok(());
                }
                check(Expected::Ack, received.payload, 0)?;
                let counted = format!("\"count\":{count}");
                if !String::from_utf8_lossy(received.payload).contains(&counted) {
                    return Err(
                        format!("not {counted}: {}", String::from_utf8_lossy(received.payload)).into()
                    );
                }
                is_committed = true;
                Ok(())
            });
            taken.inspect_err(|_| answered.give_up())?;
        }
        Ok(watch.stop())
    })
}

/// The batch sequence of `{"type":"ack","seq":N,"msgs":M}`.
fn flow_ack(payload: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(payload).ok()?;
    let rest = text.strip_prefix("{\"type\":\"ack\",\"seq\":")?;
    rest[..rest.find(|c: char| !c.is_ascii_digit())?].parse().ok()
}
