//! Consumer: from a spec to JetStream's configuration of a consumer, and its requests.
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};

use super::api::RequestError;
use super::stream::{STREAM_NOT_FOUND, absent, nanoseconds, without_nulls};
use super::{BrokerObject, Config, Policy, Wanted};
use crate::api::v1alpha1::{AckPolicy, ClusterRef, Consumer, ConsumerSpec, ConsumerStatus, DeliverPolicy};

/// JetStream's "consumer not found".
const CONSUMER_NOT_FOUND: u64 = 10014;
/// The broker's own defaults.
const ACK_WAIT_NS: i64 = 30_000_000_000;
const MAX_ACK_PENDING: i64 = 1000;
const MAX_WAITING: i64 = 512;

impl BrokerObject for Consumer {
    type Status = ConsumerStatus;

    fn cluster_ref(&self) -> &ClusterRef {
        &self.spec.cluster_ref
    }
    fn policy(&self) -> Policy {
        let ConsumerSpec { adopt, prevent_delete, prevent_update, .. } = self.spec;
        Policy { adopt, prevent_delete, prevent_update }
    }
    fn wanted(&self) -> Result<Wanted, String> {
        wanted(&self.consumer_name(), &self.spec)
    }
    fn title(&self) -> String {
        format!("Consumer {} of stream {}", self.consumer_name(), self.spec.stream_name)
    }
    fn info_subject(&self) -> String {
        format!("CONSUMER.INFO.{}.{}", self.spec.stream_name, self.consumer_name())
    }
    fn create_request(&self, config: &Config) -> (String, Value) {
        self.request(config, "create")
    }
    fn update_request(&self, config: &Config) -> (String, Value) {
        self.request(config, "update")
    }
    fn delete_subject(&self) -> String {
        format!("CONSUMER.DELETE.{}.{}", self.spec.stream_name, self.consumer_name())
    }
    fn is_missing(error: &RequestError) -> bool {
        error.is_code(CONSUMER_NOT_FOUND)
    }
    fn is_parent_missing(error: &RequestError) -> bool {
        error.is_code(STREAM_NOT_FOUND)
    }
    fn status(&self) -> Option<&ConsumerStatus> {
        self.status.as_ref()
    }
    fn last(&self) -> (&[Condition], Option<i64>) {
        self.status.as_ref().map_or((&[], None), |status| (&status.conditions, status.observed_generation))
    }
    fn new_status(&self, conditions: Vec<Condition>) -> ConsumerStatus {
        let delivery = if self.spec.deliver_subject.is_some() { "push" } else { "pull" };
        ConsumerStatus {
            observed_generation: self.metadata.generation,
            consumer_name: Some(self.consumer_name()),
            delivery: Some(delivery.into()),
            conditions,
        }
    }
}

impl Consumer {
    /// The request that creates or updates; `action` keeps one from doing the other by mistake.
    fn request(&self, config: &Config, action: &str) -> (String, Value) {
        let stream = &self.spec.stream_name;
        let subject = format!("CONSUMER.CREATE.{stream}.{}", self.consumer_name());
        (subject, json!({ "stream_name": stream, "config": config, "action": action }))
    }
}

fn deliver_policy(policy: DeliverPolicy) -> &'static str {
    match policy {
        DeliverPolicy::All => "all",
        DeliverPolicy::Last => "last",
        DeliverPolicy::New => "new",
        DeliverPolicy::ByStartSequence => "by_start_sequence",
        DeliverPolicy::ByStartTime => "by_start_time",
        DeliverPolicy::LastPerSubject => "last_per_subject",
    }
}

fn wanted(name: &str, spec: &ConsumerSpec) -> Result<Wanted, String> {
    let optional =
        |field: &str, duration: &Option<_>| duration.as_ref().map(|it| nanoseconds(field, it)).transpose();
    let backoff: Vec<i64> =
        spec.backoff.iter().map(|step| nanoseconds("backoff", step)).collect::<Result<_, _>>()?;
    let set = json!({
        "name": name,
        "durable_name": name,
        "description": spec.description.clone().unwrap_or_default(),
        "deliver_policy": deliver_policy(spec.deliver_policy),
        "opt_start_seq": spec.opt_start_seq,
        "opt_start_time": spec.opt_start_time,
        "deliver_subject": spec.deliver_subject,
        "deliver_group": spec.deliver_group,
        "ack_policy": spec.ack_policy,
        "ack_wait": optional("ackWait", &spec.ack_wait)?,
        "max_deliver": spec.max_deliver.filter(|max| *max != 0).unwrap_or(-1),
        "backoff": backoff,
        "filter_subject": spec.filter_subject.clone().unwrap_or_default(),
        "filter_subjects": spec.filter_subjects,
        "replay_policy": spec.replay_policy,
        "sample_freq": spec.sample_freq.clone().unwrap_or_default(),
        "max_waiting": spec.max_waiting,
        "rate_limit_bps": spec.rate_limit_bps.unwrap_or(0),
        "max_ack_pending": spec.max_ack_pending,
        "flow_control": spec.flow_control,
        "headers_only": spec.headers_only,
        "idle_heartbeat": optional("heartbeatInterval", &spec.heartbeat_interval)?.unwrap_or(0),
        "max_batch": spec.max_request_batch.unwrap_or(0),
        "max_expires": optional("maxRequestExpires", &spec.max_request_expires)?.unwrap_or(0),
        "max_bytes": spec.max_request_max_bytes.unwrap_or(0),
        "inactive_threshold": optional("inactiveThreshold", &spec.inactive_threshold)?.unwrap_or(0),
        "pause_until": spec.pause_until,
        "num_replicas": spec.replicas,
        "mem_storage": spec.mem_storage,
        "metadata": spec.metadata,
    });
    let mut defaults = absent(&set, &["pause_until"]);
    let acks = spec.ack_policy != AckPolicy::None;
    // With a backoff, the broker takes its first step for the wait.
    if spec.ack_wait.is_none() && acks {
        defaults["ack_wait"] = json!(backoff.first().copied().unwrap_or(ACK_WAIT_NS));
    }
    if spec.max_ack_pending.is_none() && acks {
        defaults["max_ack_pending"] = json!(MAX_ACK_PENDING);
    }
    if spec.max_waiting.is_none() && spec.deliver_subject.is_none() {
        defaults["max_waiting"] = json!(MAX_WAITING);
    }
    let Value::Object(defaults) = defaults else { return Err("no configuration".into()) };
    Ok(Wanted { set: without_nulls(set), defaults })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(value: Value) -> ConsumerSpec {
        let mut whole = json!({ "clusterRef": { "name": "demo" }, "streamName": "ORDERS" });
        whole.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn a_plain_pull_consumer_becomes_this_configuration() {
        let wanted = wanted("review", &spec(json!({}))).unwrap();
        insta::assert_snapshot!(serde_yaml::to_string(&wanted.set).unwrap());
        let defaults = json!({ "ack_wait": ACK_WAIT_NS, "max_ack_pending": 1000, "max_waiting": 512, "pause_until": null });
        assert_eq!(Value::Object(wanted.defaults), defaults);
    }

    #[test]
    fn every_field_becomes_one_of_jetstreams() {
        let wanted = wanted("push", &spec(json!({
            "description": "d", "deliverPolicy": "byStartSequence", "optStartSeq": 5, "deliverSubject": "out",
            "deliverGroup": "g", "ackPolicy": "all", "ackWait": "1m", "maxDeliver": 4, "backoff": ["1s", "1m"],
            "filterSubjects": ["a", "b"], "replayPolicy": "original", "sampleFreq": "50%", "rateLimitBps": 1000,
            "maxAckPending": 7, "flowControl": true, "headersOnly": true, "heartbeatInterval": "5s",
            "maxRequestBatch": 1, "maxRequestExpires": "2s", "maxRequestMaxBytes": 3, "inactiveThreshold": "1h",
            "pauseUntil": "2027-01-01T00:00:00Z", "replicas": 3, "memStorage": true, "metadata": { "team": "orders" },
        }))).unwrap();
        insta::assert_snapshot!(serde_yaml::to_string(&wanted.set).unwrap());
        assert!(wanted.defaults.is_empty());
    }

    #[test]
    fn create_and_update_cannot_be_mistaken_for_each_other() {
        let mut consumer = Consumer::new("review", spec(json!({})));
        consumer.metadata.namespace = Some("shop".into());
        let (subject, body) = consumer.create_request(&Config::new());
        assert_eq!(
            (subject.as_str(), body["action"].as_str()),
            ("CONSUMER.CREATE.ORDERS.review", Some("create"))
        );
        assert_eq!(consumer.update_request(&Config::new()).1["action"], "update");
    }
}
