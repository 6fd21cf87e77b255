//! Stream: from a spec to JetStream's configuration of a stream, and its requests.
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};

use super::api::RequestError;
use super::{BrokerObject, Config, Policy, Wanted};
use crate::api::v1alpha1::{
    ClusterRef, GoDuration, Stream, StreamSource, StreamSpec, StreamStatus, SubjectTransform,
};

/// JetStream's "stream not found".
pub const STREAM_NOT_FOUND: u64 = 10059;
/// Duplicates are remembered this long unless set, or as long as messages live if that is shorter.
const DUPLICATE_WINDOW_NS: i64 = 120_000_000_000;

/// What a stream may go without, and goes without again when the spec drops it.
const OPTIONAL: [&str; 6] = [
    "description",
    "placement",
    "republish",
    "subject_transform",
    "consumer_limits",
    "subject_delete_marker_ttl",
];

impl BrokerObject for Stream {
    type Status = StreamStatus;

    fn cluster_ref(&self) -> &ClusterRef {
        &self.spec.cluster_ref
    }
    fn policy(&self) -> Policy {
        let StreamSpec { adopt, prevent_delete, prevent_update, .. } = self.spec;
        Policy { adopt, prevent_delete, prevent_update }
    }
    fn wanted(&self) -> Result<Wanted, String> {
        wanted(&self.stream_name(), &self.spec)
    }
    fn title(&self) -> String {
        format!("Stream {}", self.stream_name())
    }
    fn info_subject(&self) -> String {
        format!("STREAM.INFO.{}", self.stream_name())
    }
    fn create_request(&self, config: &Config) -> (String, Value) {
        (format!("STREAM.CREATE.{}", self.stream_name()), Value::Object(config.clone()))
    }
    fn update_request(&self, config: &Config) -> (String, Value) {
        (format!("STREAM.UPDATE.{}", self.stream_name()), Value::Object(config.clone()))
    }
    fn delete_subject(&self) -> String {
        format!("STREAM.DELETE.{}", self.stream_name())
    }
    fn is_missing(error: &RequestError) -> bool {
        error.is_code(STREAM_NOT_FOUND)
    }
    fn is_parent_missing(_: &RequestError) -> bool {
        false
    }
    fn status(&self) -> Option<&StreamStatus> {
        self.status.as_ref()
    }
    fn last(&self) -> (&[Condition], Option<i64>) {
        self.status.as_ref().map_or((&[], None), |status| (&status.conditions, status.observed_generation))
    }
    fn new_status(&self, conditions: Vec<Condition>) -> StreamStatus {
        StreamStatus {
            observed_generation: self.metadata.generation,
            stream_name: Some(self.stream_name()),
            conditions,
        }
    }
}

/// Nanoseconds of a duration, or a sentence on why not.
pub(super) fn nanoseconds(field: &str, duration: &GoDuration) -> Result<i64, String> {
    duration.nanoseconds().ok_or_else(|| {
        format!("spec.{field} is \"{}\", which is no duration such as 90s or 1h30m", duration.0)
    })
}

fn wanted(name: &str, spec: &StreamSpec) -> Result<Wanted, String> {
    let max_age = nanoseconds("maxAge", &spec.max_age)?;
    let of_its_own = spec.mirror.is_none() && spec.sources.is_empty();
    let subjects = match spec.subjects.is_empty() && of_its_own {
        true => vec![name.to_owned()],
        false => spec.subjects.clone(),
    };
    let per_subject = if spec.max_msgs_per_subject == 0 { -1 } else { spec.max_msgs_per_subject };
    let mut set = json!({
        "name": name,
        "description": spec.description,
        "subjects": subjects,
        "retention": spec.retention,
        "max_consumers": spec.max_consumers,
        "max_msgs": spec.max_msgs,
        "max_bytes": spec.max_bytes,
        "max_age": max_age,
        "max_msgs_per_subject": per_subject,
        "max_msg_size": spec.max_msg_size,
        "discard": spec.discard,
        "discard_new_per_subject": spec.discard_per_subject,
        "storage": spec.storage,
        "num_replicas": spec.replicas,
        "no_ack": spec.no_ack,
        "sealed": spec.sealed,
        "deny_delete": spec.deny_delete,
        "deny_purge": spec.deny_purge,
        "allow_rollup_hdrs": spec.allow_rollup,
        "compression": spec.compression,
        "first_seq": spec.first_sequence,
        "allow_direct": spec.allow_direct,
        "mirror_direct": spec.mirror_direct,
        "allow_msg_ttl": spec.allow_msg_ttl,
        "allow_msg_counter": spec.allow_msg_counter,
        "allow_atomic": spec.allow_atomic_publish,
        "allow_msg_schedules": spec.allow_msg_schedules,
        "metadata": spec.metadata,
        "sources": spec.sources.iter().map(source).collect::<Vec<_>>(),
        "mirror": spec.mirror.as_ref().map(source),
        "subject_transform": spec.subject_transform.as_ref().map(transform),
    });
    if let Some(placement) = &spec.placement {
        set["placement"] =
            json!({ "cluster": placement.cluster.clone().unwrap_or_default(), "tags": placement.tags });
    }
    if let Some(republish) = &spec.republish {
        set["republish"] = json!({ "src": republish.source, "dest": republish.destination, "headers_only": republish.headers_only });
    }
    if let Some(limits) = &spec.consumer_limits {
        let threshold = limits.inactive_threshold.clone().unwrap_or_default();
        set["consumer_limits"] = json!({
            "inactive_threshold": nanoseconds("consumerLimits.inactiveThreshold", &threshold)?,
            "max_ack_pending": limits.max_ack_pending.unwrap_or(0),
        });
    }
    if let Some(ttl) = &spec.subject_delete_marker_ttl {
        set["subject_delete_marker_ttl"] = json!(nanoseconds("subjectDeleteMarkerTtl", ttl)?);
    }
    let mut defaults = absent(&set, &OPTIONAL);
    match &spec.duplicate_window {
        Some(window) => set["duplicate_window"] = json!(nanoseconds("duplicateWindow", window)?),
        None if max_age > 0 => defaults["duplicate_window"] = json!(max_age.min(DUPLICATE_WINDOW_NS)),
        None => defaults["duplicate_window"] = json!(DUPLICATE_WINDOW_NS),
    }
    let Value::Object(defaults) = defaults else { return Err("no configuration".into()) };
    Ok(Wanted { set: without_nulls(set), defaults })
}

/// A null for each of these keys that has no value.
pub(super) fn absent(set: &Value, keys: &[&str]) -> Value {
    let missing = keys.iter().filter(|key| set.get(**key).is_none_or(Value::is_null));
    Value::Object(missing.map(|key| ((*key).to_owned(), Value::Null)).collect())
}

/// An object's keys that have a value. Absent stands for nothing.
pub(super) fn without_nulls(value: Value) -> Config {
    let Value::Object(map) = value else { return Config::new() };
    map.into_iter().filter(|(_, value)| !value.is_null()).collect()
}

fn transform(transform: &SubjectTransform) -> Value {
    json!({ "src": transform.source, "dest": transform.dest })
}

fn source(source: &StreamSource) -> Value {
    let mut value = json!({
        "name": source.name,
        "opt_start_seq": source.opt_start_seq,
        "opt_start_time": source.opt_start_time,
        "filter_subject": source.filter_subject,
        "subject_transforms": source.subject_transforms.iter().map(transform).collect::<Vec<_>>(),
    });
    if let Some(api) = &source.external_api_prefix {
        value["external"] =
            json!({ "api": api, "deliver": source.external_deliver_prefix.clone().unwrap_or_default() });
    }
    Value::Object(without_nulls(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(value: Value) -> StreamSpec {
        let mut whole = json!({ "clusterRef": { "name": "demo" } });
        whole.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn a_plain_stream_becomes_this_configuration() {
        let wanted =
            wanted("ORDERS", &spec(json!({ "subjects": ["ORDERS.*"], "replicas": 3, "maxAge": "24h" })))
                .unwrap();
        insta::assert_snapshot!(serde_yaml::to_string(&wanted.set).unwrap());
        assert_eq!(wanted.defaults["duplicate_window"], json!(120_000_000_000i64));
        assert_eq!(wanted.defaults["republish"], Value::Null, "dropped again when it leaves the spec");
    }

    #[test]
    fn every_field_becomes_one_of_jetstreams() {
        let wanted = wanted("ALL", &spec(json!({
            "description": "d", "subjects": ["a.>"], "retention": "workqueue", "maxConsumers": 3, "maxMsgs": 4,
            "maxBytes": 5, "maxAge": "1h", "maxMsgsPerSubject": 6, "maxMsgSize": 7, "discard": "new",
            "discardPerSubject": true, "storage": "memory", "replicas": 5, "noAck": true, "duplicateWindow": "1m",
            "placement": { "cluster": "c", "tags": ["t"] }, "sealed": true, "denyDelete": true, "denyPurge": true,
            "allowRollup": true, "compression": "s2", "firstSequence": 9,
            "sources": [{ "name": "S", "optStartSeq": 2, "filterSubject": "f", "externalApiPrefix": "$JS.x.API", "subjectTransforms": [{ "source": "a", "dest": "b" }] }],
            "subjectTransform": { "source": "a.>", "dest": "b.>" },
            "republish": { "source": "a.>", "destination": "r.>", "headersOnly": true },
            "allowDirect": true, "mirrorDirect": true, "allowMsgTtl": true, "subjectDeleteMarkerTtl": "1m",
            "allowMsgCounter": true, "allowAtomicPublish": true, "allowMsgSchedules": true,
            "consumerLimits": { "inactiveThreshold": "5m", "maxAckPending": 10 }, "metadata": { "team": "orders" },
        }))).unwrap();
        insta::assert_snapshot!(serde_yaml::to_string(&wanted.set).unwrap());
        assert!(wanted.defaults.is_empty());
    }

    #[test]
    fn a_stream_without_subjects_listens_to_its_own_name() {
        assert_eq!(wanted("A", &spec(json!({}))).unwrap().set["subjects"], json!(["A"]));
        assert_eq!(
            wanted("A", &spec(json!({ "mirror": { "name": "B" } }))).unwrap().set["subjects"],
            json!([])
        );
    }

    #[test]
    fn a_bad_duration_is_named() {
        let error = wanted("A", &spec(json!({ "maxAge": "5d" }))).unwrap_err();
        assert_eq!(error, "spec.maxAge is \"5d\", which is no duration such as 90s or 1h30m");
    }
}
