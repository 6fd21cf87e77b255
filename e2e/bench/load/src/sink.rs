//! A server that does next to nothing, to see how fast the generator itself is: what is published is read and
//! forgotten (a PING behind it is answered), and who subscribes is sent `count` messages at once. Not a broker.

use crate::Outcome;
use crate::plan::Plan;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

const INFO: &[u8] =
    b"INFO {\"server_id\":\"sink\",\"version\":\"0\",\"max_payload\":1048576,\"headers\":true}\r\n";
const READ_BYTES: usize = 256 * 1024;
const WRITE_BYTES: usize = 64 * 1024;
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until it is killed; the port is printed.
pub(crate) fn run(plan: &Plan) -> Outcome<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{{\"port\": {}}}", listener.local_addr()?.port());
    for stream in listener.incoming() {
        let (stream, plan) = (stream?, plan.clone());
        thread::spawn(move || serve(stream, &plan));
    }
    Ok(())
}

fn serve(mut stream: TcpStream, plan: &Plan) -> Outcome<()> {
    stream.write_all(INFO)?;
    let mut buffer = vec![0; READ_BYTES];
    let mut is_subscriber = false;
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        let bytes = &buffer[..read];
        is_subscriber |= bytes.starts_with(b"SUB ");
        if bytes.ends_with(b"PING\r\n") {
            stream.write_all(b"PONG\r\n")?;
            if is_subscriber {
                send_all(stream.try_clone()?, plan)?;
            }
        }
    }
}

/// A probe, then everything.
fn send_all(mut stream: TcpStream, plan: &Plan) -> Outcome<()> {
    // Not in one piece with the PONG, behind which the subscriber does not look.
    thread::sleep(PAUSE);
    stream.write_all(format!("MSG {}.probe 2 0\r\n\r\n", plan.subject).as_bytes())?;
    let mut one = format!("MSG {} 1 {}\r\n", plan.subject, plan.size).into_bytes();
    one.extend(std::iter::repeat_n(b'x', plan.size));
    one.extend_from_slice(b"\r\n");
    let per_write = (WRITE_BYTES / one.len()).max(1) as u64;
    let block = one.repeat(per_write as usize);
    let mut left = plan.count;
    while left > 0 {
        let now = left.min(per_write);
        stream.write_all(&block[..one.len() * now as usize])?;
        left -= now;
    }
    Ok(())
}
