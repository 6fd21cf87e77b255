//! What is asked for: values by name, each with a default. Not what is done with them.

use crate::Outcome;

/// How a connection is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    /// TLS after INFO, any certificate.
    Tls,
    /// WebSocket without TLS.
    WebSocket,
}

/// What an answer has to be, or the load ends with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// As many bytes as a request has.
    Same,
    /// A publish acknowledgement without an error.
    Ack,
    /// A stored message, as a direct get answers.
    Stored,
}

/// One load.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) address: String,
    /// Where subscribers connect; `address` unless said otherwise.
    pub(crate) subscribe_at: String,
    pub(crate) transport: Transport,
    /// Subject published to; `{n}` in it becomes the number of one of `subjects`, `{c}` that of the client.
    pub(crate) subject: String,
    pub(crate) expected: Expected,
    pub(crate) stream: String,
    pub(crate) consumer: String,
    /// A new consumer's deliver_policy and filter_subject.
    pub(crate) policy: String,
    pub(crate) filter: String,
    /// Payload bytes a message.
    pub(crate) size: usize,
    /// Messages published, over all publishers.
    pub(crate) count: u64,
    pub(crate) publishers: u64,
    pub(crate) subscribers: u64,
    pub(crate) stalled: u64,
    pub(crate) pairs: u64,
    pub(crate) clients: u64,
    pub(crate) responders: u64,
    pub(crate) subjects: u64,
    pub(crate) connections: u64,
    /// Answers outstanding at most.
    pub(crate) window: u64,
    /// Messages of one pull request, or of one batch.
    pub(crate) batch: u64,
}

impl Plan {
    /// From `name=value` words.
    pub(crate) fn parse(words: &[String]) -> Outcome<Self> {
        let mut plan = Self {
            address: "127.0.0.1:4222".to_owned(),
            subscribe_at: String::new(),
            transport: Transport::Tcp,
            subject: "bench".to_owned(),
            size: 128,
            count: 100_000,
            publishers: 1,
            subscribers: 1,
            stalled: 0,
            pairs: 10,
            clients: 1,
            responders: 1,
            subjects: 100_000,
            connections: 10_000,
            window: 1024,
            batch: 100,
            expected: Expected::Same,
            stream: "BENCH".to_owned(),
            consumer: "bench".to_owned(),
            policy: "all".to_owned(),
            filter: String::new(),
        };
        for word in words {
            let (name, value) = word.split_once('=').ok_or_else(|| format!("{word} is not name=value"))?;
            match name {
                "address" => value.clone_into(&mut plan.address),
                "subscribe_at" => value.clone_into(&mut plan.subscribe_at),
                "subject" => value.clone_into(&mut plan.subject),
                "stream" => value.clone_into(&mut plan.stream),
                "consumer" => value.clone_into(&mut plan.consumer),
                "policy" => value.clone_into(&mut plan.policy),
                "filter" => value.clone_into(&mut plan.filter),
                "expected" => {
                    plan.expected = match value {
                        "same" => Expected::Same,
                        "ack" => Expected::Ack,
                        "stored" => Expected::Stored,
                        _ => return Err(format!("no answer is called {value}").into()),
                    }
                }
                "transport" => {
                    plan.transport = match value {
                        "tcp" => Transport::Tcp,
                        "tls" => Transport::Tls,
                        "ws" => Transport::WebSocket,
                        _ => return Err(format!("no transport {value}").into()),
                    }
                }
                "size" => plan.size = value.parse()?,
                _ => {
                    let number = match name {
                        "count" => &mut plan.count,
                        "publishers" => &mut plan.publishers,
                        "subscribers" => &mut plan.subscribers,
                        "stalled" => &mut plan.stalled,
                        "pairs" => &mut plan.pairs,
                        "clients" => &mut plan.clients,
                        "responders" => &mut plan.responders,
                        "subjects" => &mut plan.subjects,
                        "connections" => &mut plan.connections,
                        "window" => &mut plan.window,
                        "batch" => &mut plan.batch,
                        _ => return Err(format!("no value is called {name}").into()),
                    };
                    *number = value.parse()?;
                }
            }
        }
        if plan.subscribe_at.is_empty() {
            plan.subscribe_at.clone_from(&plan.address);
        }
        Ok(plan)
    }
}
