//! Publishing without a subscriber, and the writing of many messages that all publishers share.

use crate::Outcome;
use crate::plan::Plan;
use crate::report::Report;
use crate::usage::Watch;
use crate::wire::Wire;
use std::io::Write;
use std::time::Instant;

const WRITE_BYTES: usize = 128 * 1024;

/// The bytes of one PUB.
pub(crate) fn message(subject: &str, reply: &str, size: usize) -> Vec<u8> {
    let mut bytes = format!("PUB {subject} {reply}{size}\r\n").into_bytes();
    bytes.extend(std::iter::repeat_n(b'x', size));
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// A subject with its places filled in: `{c}` by the client's number, `{n}` by that of a subject. Neighbours in time are
/// no neighbours in number.
pub(crate) fn named(subject: &str, client: u64, number: u64, subjects: u64) -> String {
    const SCATTER: u64 = 7919;
    if !subject.contains('{') {
        return subject.to_owned();
    }
    let number = number.wrapping_mul(SCATTER) % subjects.max(1);
    subject.replace("{c}", &client.to_string()).replace("{n}", &number.to_string())
}

/// Writes `count` times the same message, many in one write.
pub(crate) fn write_messages(wire: &mut impl Write, one: &[u8], count: u64) -> Outcome<()> {
    let per_write = (WRITE_BYTES / one.len()).max(1) as u64;
    let block = one.repeat(per_write.min(count) as usize);
    let mut left = count;
    while left > 0 {
        let now = left.min(per_write);
        wire.write_all(&block[..one.len() * now as usize])?;
        left -= now;
    }
    wire.flush()?;
    Ok(())
}

pub(crate) fn run(plan: &Plan) -> Outcome<Report> {
    let mut wire = Wire::connect(&plan.address, plan.transport)?;
    let one = message(&plan.subject, "", plan.size);
    let watch = Watch::start();
    let began = Instant::now();
    write_messages(&mut wire, &one, plan.count)?;
    wire.confirm("")?;
    let mut report = Report::new(plan.count, 0, began.elapsed().as_secs_f64());
    report.add_thread(watch.stop());
    Ok(report)
}
