//! Consuming a stream: a pull consumer whose messages are acked one by one, or a push consumer as ordered clients make
//! it. Not publishing, and not who made the stream.

use crate::Outcome;
use crate::messages::Messages;
use crate::plan::Plan;
use crate::report::Report;
use crate::usage::Watch;
use crate::wire::Wire;
use std::io::Write;
use std::time::Instant;

const INBOX: &str = "_INBOX.load.messages";
const ANSWERS: &str = "_INBOX.load.answers";

/// Takes `count` messages from the durable `consumer`, `batch` a request, and acks each.
pub(crate) fn pull(plan: &Plan) -> Outcome<Report> {
    let mut wire = Wire::connect(&plan.address, plan.transport)?;
    wire.confirm(&format!("SUB {INBOX} 1\r\n"))?;
    let mut messages = Messages::new(wire);
    let body = format!("{{\"batch\":{},\"expires\":30000000000}}", plan.batch);
    let request = format!(
        "PUB $JS.API.CONSUMER.MSG.NEXT.{}.{} {INBOX} {}\r\n{body}\r\n",
        plan.stream,
        plan.consumer,
        body.len()
    );
    let watch = Watch::start();
    let began = Instant::now();
    let mut out = Vec::new();
    let (mut seen, mut asked) = (0, 0);
    while seen < plan.count {
        // The next request is there before the last has been answered, as clients that read continuously do.
        while asked < plan.count && asked < seen + plan.batch + plan.batch / 2 {
            out.extend_from_slice(request.as_bytes());
            asked += plan.batch;
        }
        messages.wire().write_all(&out)?;
        out.clear();
        seen += messages.take_available(plan.count - seen, |received| {
            let reply =
                received.reply.ok_or_else(|| String::from_utf8_lossy(received.payload).into_owned())?;
            out.extend_from_slice(b"PUB ");
            out.extend_from_slice(reply);
            out.extend_from_slice(b" 4\r\n+ACK\r\n");
            Ok(())
        })?;
    }
    messages.wire().write_all(&out)?;
    let mut report = Report::new(seen, seen, began.elapsed().as_secs_f64());
    report.add_thread(watch.stop());
    Ok(report)
}

/// Makes an ordered push consumer and reads `count` messages from it.
pub(crate) fn replay(plan: &Plan) -> Outcome<Report> {
    let mut wire = Wire::connect(&plan.address, plan.transport)?;
    wire.confirm(&format!("SUB {INBOX} 1\r\nSUB {ANSWERS} 2\r\n"))?;
    let filter = if plan.filter.is_empty() {
        String::new()
    } else {
        format!(",\"filter_subject\":\"{}\"", plan.filter)
    };
    let body = format!(
        "{{\"stream_name\":\"{}\",\"config\":{{\"deliver_subject\":\"{INBOX}\",\"deliver_policy\":\"{}\"{filter},\"ack_policy\":\"none\",\
         \"max_deliver\":1,\"ack_wait\":79200000000000,\"flow_control\":true,\"idle_heartbeat\":5000000000,\"mem_storage\":true,\
         \"num_replicas\":1}}}}",
        plan.stream, plan.policy
    );
    let mut messages = Messages::new(wire);
    let watch = Watch::start();
    let began = Instant::now();
    let request =
        format!("PUB $JS.API.CONSUMER.CREATE.{} {ANSWERS} {}\r\n{body}\r\n", plan.stream, body.len());
    messages.wire().write_all(request.as_bytes())?;
    let (mut seen, mut out) = (0, Vec::new());
    while seen < plan.count {
        let mut controls = 0;
        let taken = messages.take_available(plan.count - seen, |received| {
            if received.sid == 2 {
                controls += 1;
                let refused = received.payload.windows(8).any(|part| part == b"\"error\":");
                return if refused { Err(String::from_utf8_lossy(received.payload).into()) } else { Ok(()) };
            }
            let is_control = received.payload.starts_with(b"NATS/1.0 ");
            controls += u64::from(is_control);
            match received.reply {
                Some(reply) if is_control => {
                    out.extend_from_slice(b"PUB ");
                    out.extend_from_slice(reply);
                    out.extend_from_slice(b" 0\r\n\r\n");
                }
                None if !is_control => return Err("a message without a reply subject".into()),
                _ => {}
            }
            Ok(())
        })?;
        seen += taken - controls;
        if !out.is_empty() {
            messages.wire().write_all(&out)?;
            out.clear();
        }
    }
    let mut report = Report::new(seen, seen, began.elapsed().as_secs_f64());
    report.add_thread(watch.stop());
    Ok(report)
}
