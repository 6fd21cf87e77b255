//! JetStream: requests of the API as anybody may send them, and log entries and checkpoints as a disk may give them back.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use weir_jetstream::meta::MetaCommand;
use weir_jetstream::{MemStore, MetaMachine, StreamCommand, StreamMachine};
use weir_jsapi::request::{
    ConsumerPauseRequest, ConsumersRequest, CreateConsumerRequest, LeaderStepDownRequest, MsgDeleteRequest,
    MsgGetRequest, NextRequest, PeerRemoveRequest, StreamConfigRequest, StreamInfoRequest,
    StreamNamesRequest, StreamPurgeRequest,
};
use weir_jsapi::{ConsumerConfig, StreamConfig, Time, json, request, subject};

/// The first byte says whose body it is; the rest is JSON.
pub(crate) fn request(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else { return };
    match kind % 14 {
        0 => read_back::<StreamInfoRequest>(body),
        1 => read_back::<StreamNamesRequest>(body),
        2 => read_back::<StreamPurgeRequest>(body),
        3 => read_back::<MsgGetRequest>(body),
        4 => read_back::<MsgDeleteRequest>(body),
        5 => read_back::<ConsumersRequest>(body),
        6 => read_back::<NextRequest>(body),
        7 => read_back::<ConsumerPauseRequest>(body),
        8 => read_back::<LeaderStepDownRequest>(body),
        9 => read_back::<PeerRemoveRequest>(body),
        10 | 11 => {
            if let Ok(request) = request::decode::<CreateConsumerRequest>(body) {
                written_reads_back(&request.config);
            }
            let _ = json::decode_lenient::<ConsumerConfig>(body);
        }
        _ => {
            if let Ok(request) = StreamConfigRequest::decode(body) {
                written_reads_back(&request.config);
            }
            let _ = json::decode_lenient::<StreamConfig>(body);
        }
    }
}

fn read_back<T: DeserializeOwned + Serialize + PartialEq + Debug>(body: &[u8]) {
    if let Ok(value) = request::decode::<T>(body) {
        written_reads_back(&value);
    }
}

fn written_reads_back<T: DeserializeOwned + Serialize + PartialEq + Debug>(value: &T) {
    let written = json::encode(value);
    let read: T = json::decode_lenient(&written).expect("what was written reads back");
    assert_eq!(&read, value, "{}", String::from_utf8_lossy(&written));
}

/// A subject of the API or of an acknowledgement, and a time.
pub(crate) fn subject(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = subject::parse(&text).map(|request| request.response_kind());
    let _ = subject::parse_ack(&text);
    if let Ok(time) = Time::parse(&text) {
        let written = time.to_string();
        assert_eq!(Time::parse(&written), Ok(time), "{written}");
    }
}

/// The first byte says which: an entry of a stream's or of the meta group's log, or a checkpoint of them.
pub(crate) fn commands(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    let bytes = Bytes::copy_from_slice(bytes);
    match kind % 4 {
        0 => {
            if let Ok(command) = StreamCommand::decode(bytes) {
                assert_eq!(StreamCommand::decode(command.encode()).as_ref(), Ok(&command));
            }
        }
        1 => {
            if let Ok(command) = MetaCommand::decode(bytes) {
                assert_eq!(MetaCommand::decode(command.encode()).as_ref(), Ok(&command));
            }
        }
        2 => {
            let _ = StreamMachine::restore(bytes, MemStore::default());
        }
        _ => {
            if let Ok(machine) = MetaMachine::restore(bytes) {
                let _ = machine.checkpoint();
            }
        }
    }
}
