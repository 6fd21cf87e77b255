//! Loads a NATS server over raw TCP and prints one line of JSON: messages and seconds.
//! Not a client: it speaks just enough of the protocol, and ends at the first thing it does not expect.
//!
//! usage: weir-load publish|pair|jetstream HOST:PORT SUBJECT SIZE COUNT [WINDOW]
//!   publish    publishes without a subscriber; ends when the server has answered a PING behind the last message
//!   pair       one publisher, one subscriber on connections of their own; ends when all have arrived
//!   jetstream  publishes with WINDOW acks outstanding at most; ends when all are acked

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const READ_BYTES: usize = 256 * 1024;
const WRITE_BYTES: usize = 64 * 1024;
const CONNECT: &[u8] = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"load\",\"version\":\"0\",\"headers\":true,\"no_responders\":true}\r\nPING\r\n";

struct Plan {
    address: String,
    subject: String,
    size: usize,
    count: u64,
    window: u64,
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, mode, address, subject, size, count, rest @ ..] = arguments.as_slice() else {
        return Err("usage: weir-load publish|pair|jetstream HOST:PORT SUBJECT SIZE COUNT [WINDOW]".into());
    };
    let window = rest.first().map_or(Ok(1024), |text| text.parse())?;
    let plan = Plan {
        address: address.clone(),
        subject: subject.clone(),
        size: size.parse()?,
        count: count.parse()?,
        window,
    };
    let seconds = match mode.as_str() {
        "publish" => publish(&plan)?,
        "pair" => pair(&plan)?,
        "jetstream" => jetstream(&plan)?,
        other => return Err(format!("no mode {other}").into()),
    };
    println!("{{\"messages\": {}, \"seconds\": {seconds:.6}}}", plan.count);
    Ok(())
}

fn connect(address: &str) -> Outcome<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.write_all(CONNECT)?;
    await_pong(&mut stream)?;
    Ok(stream)
}

/// Reads lines up to a PONG; for a connection on which nothing else is under way.
fn await_pong(stream: &mut TcpStream) -> Outcome<()> {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !seen.windows(6).any(|bytes| bytes == b"PONG\r\n") {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Err("the server closed the connection".into());
        }
        seen.extend_from_slice(&buffer[..read]);
        refuse_errors(&seen)?;
    }
    Ok(())
}

fn refuse_errors(bytes: &[u8]) -> Outcome<()> {
    if bytes.starts_with(b"-ERR") || bytes.windows(6).any(|part| part == b"\r\n-ERR") {
        return Err(String::from_utf8_lossy(bytes).into());
    }
    Ok(())
}

fn message(plan: &Plan, reply: &str) -> Vec<u8> {
    let mut bytes = format!("PUB {} {reply}{}\r\n", plan.subject, plan.size).into_bytes();
    bytes.extend(std::iter::repeat_n(b'x', plan.size));
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// `count` messages, many in one write.
fn write_messages(stream: &mut TcpStream, one: &[u8], count: u64) -> Outcome<()> {
    let per_write = (WRITE_BYTES / one.len()).max(1) as u64;
    let block = one.repeat(per_write.min(count) as usize);
    let mut left = count;
    while left > 0 {
        let now = left.min(per_write);
        stream.write_all(&block[..one.len() * now as usize])?;
        left -= now;
    }
    Ok(())
}

fn publish(plan: &Plan) -> Outcome<f64> {
    let mut stream = connect(&plan.address)?;
    let began = Instant::now();
    write_messages(&mut stream, &message(plan, ""), plan.count)?;
    stream.write_all(b"PING\r\n")?;
    await_pong(&mut stream)?;
    Ok(began.elapsed().as_secs_f64())
}

fn pair(plan: &Plan) -> Outcome<f64> {
    let mut subscriber = connect(&plan.address)?;
    subscriber.write_all(format!("SUB {} 1\r\nPING\r\n", plan.subject).as_bytes())?;
    await_pong(&mut subscriber)?;
    let mut publisher = connect(&plan.address)?;
    let began = Instant::now();
    let wanted = plan.count;
    let reader = thread::spawn(move || Messages::new(subscriber).take(wanted, |_| Ok(())));
    write_messages(&mut publisher, &message(plan, ""), plan.count)?;
    reader.join().map_err(|_| "the subscriber panicked")??;
    Ok(began.elapsed().as_secs_f64())
}

/// How many acks have come; the publisher waits here when its window is full.
struct Acked {
    count: Mutex<u64>,
    more: Condvar,
}

fn jetstream(plan: &Plan) -> Outcome<f64> {
    let mut stream = connect(&plan.address)?;
    stream.write_all(b"SUB _INBOX.load.acks 1\r\nPING\r\n")?;
    await_pong(&mut stream)?;
    let acked = Arc::new(Acked { count: Mutex::new(0), more: Condvar::new() });
    let (reader_stream, reader_acked, wanted) = (stream.try_clone()?, Arc::clone(&acked), plan.count);
    let began = Instant::now();
    let reader = thread::spawn(move || -> Outcome<()> {
        let mut messages = Messages::new(reader_stream);
        let result = read_acks(&mut messages, &reader_acked, wanted);
        if result.is_err() {
            // Lets the publisher go on to its end, where it sees the error.
            set(&reader_acked, u64::MAX / 2);
        }
        result
    });
    let one = message(plan, "_INBOX.load.acks ");
    let mut sent = 0;
    while sent < plan.count {
        let credit = await_credit(&acked, sent, plan.window)?;
        let now = credit.min(plan.count - sent);
        write_messages(&mut stream, &one, now)?;
        sent += now;
    }
    reader.join().map_err(|_| "the reader panicked")??;
    Ok(began.elapsed().as_secs_f64())
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
        seen += messages.take_available(wanted - seen, |payload| {
            if payload.starts_with(b"{\"stream\"") && !payload.windows(8).any(|part| part == b"\"error\":") {
                return Ok(());
            }
            Err(format!("no ack: {}", String::from_utf8_lossy(payload)).into())
        })?;
        set(acked, seen);
    }
    Ok(())
}

/// Takes MSG and HMSG apart as they arrive.
struct Messages {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Messages {
    fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: vec![0; READ_BYTES], start: 0, end: 0 }
    }

    fn take(&mut self, wanted: u64, mut each: impl FnMut(&[u8]) -> Outcome<()>) -> Outcome<()> {
        let mut seen = 0;
        while seen < wanted {
            seen += self.take_available(wanted - seen, &mut each)?;
        }
        Ok(())
    }

    /// The messages of at least one read; how many they were.
    fn take_available(&mut self, at_most: u64, mut each: impl FnMut(&[u8]) -> Outcome<()>) -> Outcome<u64> {
        let mut seen = 0;
        loop {
            while seen < at_most {
                let Some((body, next)) = self.parse()? else { break };
                if let Some((from, to)) = body {
                    each(&self.buffer[from..to])?;
                    seen += 1;
                }
                self.start = next;
            }
            if seen > 0 {
                return Ok(seen);
            }
            self.fill()?;
        }
    }

    /// The next operation: the place of its payload, where it has one, and the place behind it.
    #[expect(clippy::type_complexity, reason = "one private caller")]
    fn parse(&mut self) -> Outcome<Option<(Option<(usize, usize)>, usize)>> {
        let unread = &self.buffer[self.start..self.end];
        let Some(line_end) = unread.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let line = &unread[..line_end];
        let body_start = self.start + line_end + 1;
        match line.first() {
            Some(b'M' | b'H') => {
                let text = std::str::from_utf8(line)?.trim_end();
                let size: usize = text.rsplit(' ').next().unwrap_or_default().parse()?;
                let next = body_start + size + 2;
                Ok((next <= self.end).then_some((Some((body_start, body_start + size)), next)))
            }
            Some(b'P') if line.starts_with(b"PING") => {
                self.stream.write_all(b"PONG\r\n")?;
                Ok(Some((None, body_start)))
            }
            Some(b'I' | b'P' | b'+') => Ok(Some((None, body_start))),
            _ => Err(String::from_utf8_lossy(line).into()),
        }
    }

    fn fill(&mut self) -> Outcome<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end == self.buffer.len() {
            return Err("a message is larger than the buffer".into());
        }
        let read = self.stream.read(&mut self.buffer[self.end..])?;
        if read == 0 {
            return Err("the server closed the connection".into());
        }
        self.end += read;
        Ok(())
    }
}
