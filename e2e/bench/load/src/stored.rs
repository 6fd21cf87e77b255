//! Many requests under way on one connection, a bounded number unanswered: publishes and their acks, direct gets and
//! their messages. Not consuming.

use crate::Outcome;
use crate::messages::Messages;
use crate::plan::{Expected, Plan};
use crate::publish::{message, named, write_messages};
use crate::report::Report;
use crate::usage::{Used, Watch};
use crate::wire::Wire;
use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

const ANSWERS: &str = "_INBOX.load.answers";

/// How many answers have come; the sender waits here when its window is full.
pub(crate) struct Answered {
    count: Mutex<u64>,
    more: Condvar,
}

impl Answered {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { count: Mutex::new(0), more: Condvar::new() })
    }

    pub(crate) fn set(&self, count: u64) {
        if let Ok(mut place) = self.count.lock() {
            *place = count;
        }
        self.more.notify_one();
    }

    /// Lets the sender go on to its end, where it sees the error.
    pub(crate) fn give_up(&self) {
        self.set(u64::MAX / 2);
    }

    /// How many may be sent now. Waits for a quarter of the window, so that writes are of a size worth a system call.
    pub(crate) fn await_credit(&self, sent: u64, window: u64) -> Outcome<u64> {
        let mut count = self.count.lock().map_err(|_| "the reader panicked")?;
        loop {
            let credit = (*count + window).saturating_sub(sent);
            if credit >= (window / 4).max(1) {
                return Ok(credit.min(window));
            }
            count = self.more.wait(count).map_err(|_| "the reader panicked")?;
        }
    }
}

/// Whether an answer is what was expected.
pub(crate) fn check(expected: Expected, payload: &[u8], size: usize) -> Outcome<()> {
    let has = |words: &[u8]| payload.windows(words.len()).any(|part| part == words);
    let is_good = match expected {
        Expected::Same => payload.len() == size,
        Expected::Ack => payload.starts_with(b"{\"stream\"") && !has(b"\"error\":"),
        Expected::Stored => payload.starts_with(b"NATS/1.0\r\n") && has(b"Nats-Sequence: "),
    };
    if is_good {
        Ok(())
    } else {
        Err(format!("not what was asked for: {}", String::from_utf8_lossy(payload)).into())
    }
}

pub(crate) fn run(plan: &Plan) -> Outcome<Report> {
    let mut wire = Wire::connect(&plan.address, plan.transport)?;
    wire.confirm(&format!("SUB {ANSWERS} 1\r\n"))?;
    let mut stream = wire.tcp()?;
    let answered = Answered::new();
    let watch = Watch::start();
    let began = Instant::now();
    let reader = read_answers(wire, plan, &answered);
    send(&mut stream, plan, &answered)?;
    let used = reader.join().map_err(|_| "the reader panicked")??;
    let mut report = Report::new(plan.count, plan.count, began.elapsed().as_secs_f64());
    report.add_thread(watch.stop());
    report.add_thread(used);
    Ok(report)
}

fn send(stream: &mut TcpStream, plan: &Plan, answered: &Answered) -> Outcome<()> {
    let reply = format!("{ANSWERS} ");
    let size = if plan.expected == Expected::Stored { 0 } else { plan.size };
    let one = (!plan.subject.contains('{')).then(|| message(&plan.subject, &reply, size));
    let mut block = Vec::new();
    let mut sent = 0;
    while sent < plan.count {
        let now = answered.await_credit(sent, plan.window)?.min(plan.count - sent);
        if let Some(one) = &one {
            write_messages(stream, one, now)?;
        } else {
            block.clear();
            for number in sent..sent + now {
                let subject = named(&plan.subject, 0, number, plan.subjects);
                write!(block, "PUB {subject} {reply}{size}\r\n")?;
                block.resize(block.len() + size, b'x');
                block.extend_from_slice(b"\r\n");
            }
            stream.write_all(&block)?;
        }
        sent += now;
    }
    Ok(())
}

fn read_answers(wire: Wire, plan: &Plan, answered: &Arc<Answered>) -> thread::JoinHandle<Outcome<Used>> {
    let (answered, expected, wanted) = (Arc::clone(answered), plan.expected, plan.count);
    thread::spawn(move || {
        let watch = Watch::start();
        let mut messages = Messages::new(wire);
        let mut seen = 0;
        while seen < wanted {
            let more =
                messages.take_available(wanted - seen, |received| check(expected, received.payload, 0));
            seen += more.inspect_err(|_| answered.give_up())?;
            answered.set(seen);
        }
        Ok(watch.stop())
    })
}
