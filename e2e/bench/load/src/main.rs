//! Loads a NATS server over raw TCP, TLS or WebSocket and prints one line of JSON with what it measured.
//! Not a client: it speaks just enough of the protocol, and ends at the first thing it does not expect.

mod batch;
mod consume;
mod deliver;
mod fast;
mod idle;
mod messages;
mod plan;
mod publish;
mod report;
mod request;
mod sink;
mod stalled;
mod stored;
mod subjects;
mod usage;
mod wire;

use plan::Plan;

/// What everything here ends with.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const USAGE: &str = "usage: weir-load MODE [name=value...]
  publish    publishes without a subscriber, until the server has answered a PING behind the last message
  deliver    `publishers` publish to one subject, each of `subscribers` gets everything
  stalled    one publisher, `subscribers`, and in every second of 2 x `pairs` slices `stalled` more that never read
  paced      one publisher, `subscribers` who all get `window` messages before the next are sent, `stalled` who never read
  request    `clients` ask, one request at a time each, `responders` in one queue group answer
  subjects   publishes to `subjects` subjects while wildcard subscribers listen and inboxes come and go
  idle       opens `connections`, says so on a line, and holds them until its standard input ends
  stored     publishes (or gets, expected=stored) with `window` answers outstanding at most
  pull       takes `count` messages from the durable `consumer` of `stream`, `batch` a request, and acks each
  replay     reads `count` messages from an ordered push consumer made for it (`policy`, `filter`)
  atomic     publishes atomic batches of `batch` messages, one under way at a time
  fast       publishes one fast batch of `count` messages, `batch` between two of the server's acks
  sink       a server that discards what is published, and sends `count` messages to who subscribes
values: address=HOST:PORT subscribe_at=HOST:PORT transport=tcp|tls|ws subject=NAME size=BYTES count=MESSAGES
  publishers= subscribers= stalled= pairs= clients= responders= subjects= connections= window= batch= stream= consumer=
  policy= filter= expected=same|ack|stored; in subject {n} is the number of one of `subjects`, {c} of the client";

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, values @ ..] = arguments.as_slice() else { return Err(USAGE.into()) };
    let plan = Plan::parse(values)?;
    let report = match mode.as_str() {
        "publish" => publish::run(&plan)?,
        "deliver" => deliver::run(&plan)?,
        "request" => request::run(&plan)?,
        "subjects" => subjects::run(&plan)?,
        "idle" => return idle::run(&plan),
        "stored" => stored::run(&plan)?,
        "pull" => consume::pull(&plan)?,
        "replay" => consume::replay(&plan)?,
        "fast" => fast::run(&plan)?,
        "atomic" => batch::atomic(&plan)?,
        "sink" => return sink::run(&plan),
        "stalled" => return stalled::rates(&plan),
        "paced" => return stalled::paced(&plan),
        _ => return Err(USAGE.into()),
    };
    println!("{}", report.into_json());
    Ok(())
}
