//! Requests and the answers nats-server 2.15.1 gave to them (times as `"T"`), against what the machines answer.
//! Answers on features that are not built yet are left out of the data.

#![expect(clippy::unwrap_used, reason = "test data is trusted")]

use serde_json::Value;
use weir_jetstream::config::{ConsumerLimitsInForce, with_server_metadata};
use weir_jetstream::meta::{AccountLimitsInForce, MetaCommand, MetaOutcome};
use weir_jetstream::{MemStore, MetaMachine, Outcome, StreamMachine};
use weir_jsapi::request::{CreateConsumerRequest, StreamConfigRequest};
use weir_jsapi::response::{self, StreamCreated, kind};
use weir_jsapi::subject::ApiRequest;
use weir_jsapi::{ApiError, errors};
use weir_stdx::time::UnixNanos;

const NOW: UnixNanos = UnixNanos(1_795_262_400_000_000_000);

fn golden() -> Value {
    serde_json::from_str(include_str!("golden/nats-server-2.15.1.json")).unwrap()
}

/// Cases of one section as lists of texts.
fn cases(section: &str) -> Vec<Vec<String>> {
    let texts = |case: &Value| {
        case.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    golden()[section].as_array().unwrap().iter().map(texts).collect()
}

/// Times become `"T"`, except those the cases themselves bring.
fn mask(json: Vec<u8>) -> String {
    String::from_utf8(json).unwrap().replace("\"2026-11-21T12:00:00Z\"", "\"T\"")
}

fn compare(failures: &mut Vec<String>, request: &str, actual: String, expected: &str) {
    if actual != expected {
        failures.push(format!("{request}\n  ours:   {actual}\n  theirs: {expected}\n"));
    }
}

fn decode_stream(body: &str) -> Result<StreamConfigRequest, ApiError> {
    let request =
        StreamConfigRequest::decode(body.as_bytes()).map_err(|error| errors::INVALID_JSON.with(error))?;
    if request.config.name == "A" || request.config.name.len() == 1 && "LWIM".contains(&request.config.name) {
        return Ok(request);
    }
    Err(errors::STREAM_MISMATCH.error())
}

fn create(meta: &mut MetaMachine, body: &str) -> Result<StreamMachine<MemStore>, ApiError> {
    let request = decode_stream(body)?;
    let limits = AccountLimitsInForce::default();
    let config = meta.check_create("A", request.config, &limits, request.pedantic)?;
    let command = MetaCommand::CreateStream {
        account: "A".to_owned(),
        config: Box::new(config),
        peers: vec![1],
        created: NOW,
    };
    let MetaOutcome::Created(stream) = meta.apply(command) else { panic!("not created: {body}") };
    Ok(StreamMachine::new((*stream.config).clone(), NOW, MemStore::default()).unwrap())
}

fn render(kind: &str, machine: &StreamMachine<MemStore>, did_create: bool) -> Vec<u8> {
    let mut info = machine.info(NOW);
    with_server_metadata(&mut info.config.metadata);
    response::success(kind, StreamCreated { info, did_create })
}

#[test]
fn streams_are_created_as_by_the_reference() {
    let mut failures = Vec::new();
    for section in ["stream_create", "bodies"] {
        for case in cases(section) {
            let actual = match create(&mut MetaMachine::default(), &case[0]) {
                Ok(machine) => render(kind::STREAM_CREATE, &machine, true),
                Err(error) => response::failure(kind::STREAM_CREATE, error),
            };
            compare(&mut failures, &case[0], mask(actual), &case[1]);
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn streams_are_updated_as_by_the_reference() {
    let mut failures = Vec::new();
    for case in cases("stream_update") {
        let mut meta = MetaMachine::default();
        let mut machine = create(&mut meta, &case[0]).unwrap();
        let limits = AccountLimitsInForce::default();
        let result = decode_stream(&case[1]).and_then(|request| {
            let name = request.config.name.clone();
            meta.check_update("A", &name, request.config, &limits, request.pedantic)
        });
        let actual = match result {
            Ok(config) => {
                let command = weir_jetstream::StreamCommand::UpdateConfig(Box::new(config));
                machine.apply(command).unwrap();
                // The reference leaves did_create out of updates.
                render(kind::STREAM_UPDATE, &machine, false)
            }
            Err(error) => response::failure(kind::STREAM_UPDATE, error),
        };
        compare(&mut failures, &case[1], mask(actual), &case[2]);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Runs one consumer request and gives the response.
fn consumer(machine: &mut StreamMachine<MemStore>, tail: &str, body: &str) -> Vec<u8> {
    let subject = format!("$JS.API.{tail}");
    let subject = weir_jsapi::subject::parse(&subject).unwrap();
    assert!(matches!(subject, ApiRequest::ConsumerCreate { .. } | ApiRequest::ConsumerDurableCreate { .. }));
    let prepared = weir_jsapi::request::decode::<CreateConsumerRequest>(body.as_bytes())
        .map_err(|error| errors::INVALID_JSON.with(error))
        .and_then(|request| {
            machine.prepare_consumer(&subject, request, "NAME", &ConsumerLimitsInForce::default(), NOW)
        });
    let result = prepared.and_then(|prepared| {
        if let Some(command) = prepared.command {
            match machine.apply(command).unwrap() {
                Outcome::ConsumerReady { .. } => {}
                Outcome::Refused(error) => return Err(error),
                other => panic!("{other:?}"),
            }
        }
        Ok(prepared.name)
    });
    match result {
        Ok(name) => {
            let mut info = machine.consumer_info(&name, NOW).unwrap();
            if let Some(config) = &mut info.config {
                with_server_metadata(&mut config.metadata);
            }
            response::success(kind::CONSUMER_CREATE, info)
        }
        Err(error) => response::failure(kind::CONSUMER_CREATE, error),
    }
}

#[test]
fn consumers_are_created_as_by_the_reference() {
    let golden = golden();
    let mut failures = Vec::new();
    for case in cases("consumer_create") {
        let stream = golden["streams"][&case[0]].as_str().unwrap();
        let mut machine = create(&mut MetaMachine::default(), stream).unwrap();
        let actual = consumer(&mut machine, &case[1], &case[2]);
        compare(&mut failures, &format!("{} {}", case[1], case[2]), mask(actual), &case[3]);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn consumers_are_updated_as_by_the_reference() {
    let stream = golden()["streams"]["L"].as_str().unwrap().to_owned();
    let mut failures = Vec::new();
    for case in cases("consumer_update") {
        let mut machine = create(&mut MetaMachine::default(), &stream).unwrap();
        consumer(&mut machine, "CONSUMER.CREATE.L.d", &case[0]);
        let actual = consumer(&mut machine, "CONSUMER.CREATE.L.d", &case[1]);
        compare(&mut failures, &case[1], mask(actual), &case[2]);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
