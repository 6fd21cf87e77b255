//! Requests and replies: each client has one request under way, as a caller who waits does. Without responders of
//! its own the server is asked, say for the ack of a publish. Not throughput of a stream.

use crate::Outcome;
use crate::messages::Messages;
use crate::plan::Plan;
use crate::publish::{message, named};
use crate::report::Report;
use crate::stored::check;
use crate::usage::{Used, Watch};
use crate::wire::Wire;
use std::io::Write;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Instant;

/// Requests of each client before the time is taken.
const WARM_UP: u64 = 20;
/// What asks a responder to end.
const END: &[u8] = b"end";

pub(crate) fn run(plan: &Plan) -> Outcome<Report> {
    let mut responders = Vec::new();
    for number in 0..plan.responders {
        let mut wire = Wire::connect(&plan.subscribe_at, plan.transport)?;
        wire.confirm(&format!("SUB {} q 1\r\nSUB {}.end.{number} 2\r\n", plan.subject, plan.subject))?;
        let size = plan.size;
        responders.push(thread::spawn(move || respond(wire, size)));
    }
    let each = plan.count / plan.clients;
    let start = Arc::new(Barrier::new(usize::try_from(plan.clients)? + 1));
    let mut clients = Vec::new();
    for number in 0..plan.clients {
        let wire = Wire::connect(&plan.address, plan.transport)?;
        let (plan, start) = (plan.clone(), Arc::clone(&start));
        clients.push(thread::spawn(move || ask(wire, &plan, number, each, &start)));
    }
    start.wait();
    let began = Instant::now();
    let mut report = Report::default();
    let mut results = Vec::new();
    for client in clients {
        results.push(client.join().map_err(|_| "a client panicked")??);
    }
    report.seconds = began.elapsed().as_secs_f64();
    report.messages = each * plan.clients;
    report.delivered = report.messages * 2;
    for (nanos, used) in &results {
        report.add_latencies(nanos);
        report.add_thread(*used);
    }
    let mut last = Wire::connect(&plan.address, plan.transport)?;
    for number in 0..plan.responders {
        last.write_all(format!("PUB {}.end.{number} {}\r\nend\r\n", plan.subject, END.len()).as_bytes())?;
    }
    last.confirm("")?;
    for responder in responders {
        report.add_thread(responder.join().map_err(|_| "a responder panicked")??);
    }
    Ok(report)
}

fn respond(wire: Wire, size: usize) -> Outcome<Used> {
    let watch = Watch::start();
    let mut messages = Messages::new(wire);
    let mut out = Vec::new();
    let mut goes_on = true;
    while goes_on {
        messages.take_available(u64::MAX, |received| {
            if received.payload == END {
                goes_on = false;
            } else {
                let reply = received.reply.ok_or("a request without a reply subject")?;
                out.extend_from_slice(&message(std::str::from_utf8(reply)?, "", size));
            }
            Ok(())
        })?;
        messages.wire().write_all(&out)?;
        out.clear();
    }
    Ok(watch.stop())
}

fn ask(mut wire: Wire, plan: &Plan, number: u64, each: u64, start: &Barrier) -> Outcome<(Vec<u64>, Used)> {
    let inbox = format!("_INBOX.load{number}");
    wire.confirm(&format!("SUB {inbox}.* 1\r\n"))?;
    let mut messages = Messages::new(wire);
    let mut latencies = Vec::with_capacity(usize::try_from(each)?);
    let mut watch = Watch::start();
    for request in 0..WARM_UP + each {
        if request == WARM_UP {
            start.wait();
            watch = Watch::start();
        }
        // A reply subject of its own, as clients do.
        let subject = named(&plan.subject, number, number + request * plan.clients, plan.subjects);
        let bytes = message(&subject, &format!("{inbox}.{request} "), plan.size);
        let sent = Instant::now();
        messages.wire().write_all(&bytes)?;
        messages.take_available(1, |received| check(plan.expected, received.payload, plan.size))?;
        if request >= WARM_UP {
            latencies.push(u64::try_from(sent.elapsed().as_nanos())?);
        }
    }
    Ok((latencies, watch.stop()))
}
