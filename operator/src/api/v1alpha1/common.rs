//! What several kinds share: durations, quantities, references, conditions.
//! Not the rules of one kind: those sit with the kind.
use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A length of time as Go writes it: `90s`, `1h30m`, `250ms`; empty or `0` means none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GoDuration(pub String);

impl GoDuration {
    /// The length in nanoseconds; `None` when the text is not a Go duration or is above 292 years.
    pub fn nanoseconds(&self) -> Option<i64> {
        let mut rest = self.0.as_str();
        if rest.is_empty() || rest == "0" {
            return Some(0);
        }
        let mut total = 0f64;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
            let number: f64 = rest[..digits].parse().ok()?;
            rest = &rest[digits..];
            let unit_length = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let nanoseconds = match &rest[..unit_length] {
                "ns" => 1f64,
                "us" | "µs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return None,
            };
            total += number * nanoseconds;
            rest = &rest[unit_length..];
        }
        (total < i64::MAX as f64).then_some(total.round() as i64)
    }
}

impl JsonSchema for GoDuration {
    fn schema_name() -> Cow<'static, str> {
        "GoDuration".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // A rule and not a pattern: it says in words what is wrong.
        json_schema!({
            "type": "string",
            "maxLength": 64,
            "x-kubernetes-validations": [{
                "rule": r"self.matches('^(0|([0-9]+(\\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)?$')",
                "message": "must be a duration such as 90s, 1h30m or 250ms (units: ns, us, ms, s, m, h)"
            }]
        })
    }
}

/// An amount as Kubernetes writes it: `10Gi`, `500m`, `2`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Amount(pub String);

impl Amount {
    /// The amount in whole units (bytes for storage and memory), rounded down; `None` when it is not an amount.
    pub fn bytes(&self) -> Option<u64> {
        const SUFFIXES: [(&str, f64); 13] = [
            ("Ki", 1024.0),
            ("Mi", 1_048_576.0),
            ("Gi", 1_073_741_824.0),
            ("Ti", 1_099_511_627_776.0),
            ("Pi", 1_125_899_906_842_624.0),
            ("Ei", 1_152_921_504_606_846_976.0),
            ("k", 1e3),
            ("M", 1e6),
            ("G", 1e9),
            ("T", 1e12),
            ("P", 1e15),
            ("E", 1e18),
            ("m", 1e-3),
        ];
        let (number, factor) = SUFFIXES
            .iter()
            .find_map(|(suffix, factor)| self.0.strip_suffix(suffix).map(|number| (number, *factor)))
            .unwrap_or((self.0.as_str(), 1.0));
        let number: f64 = number.parse().ok()?;
        let bytes = number * factor;
        (number.is_finite() && bytes >= 0.0 && bytes < u64::MAX as f64).then_some(bytes as u64)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Integer(i64),
            Float(f64),
            Text(String),
        }
        Ok(Self(match Raw::deserialize(deserializer)? {
            Raw::Integer(number) => number.to_string(),
            Raw::Float(number) => number.to_string(),
            Raw::Text(text) => text,
        }))
    }
}

impl JsonSchema for Amount {
    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "anyOf": [{ "type": "integer" }, { "type": "string" }],
            "maxLength": 32,
            "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
        })
    }
}

/// Names the Cluster that holds an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRef {
    /// Name of the Cluster.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
    /// Its namespace; that of this object when unset. Another namespace has to be allowed by the Cluster's
    /// `allowedNamespaces`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// A condition of an object's status, as `kubectl wait --for=condition=…` reads it.
pub type StatusCondition = Condition;

/// Schema of a list of conditions: a map by type, so that several writers can each own theirs.
pub(super) fn conditions_schema(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = generator.subschema_for::<Vec<Condition>>();
    schema.insert("x-kubernetes-list-type".into(), "map".into());
    schema.insert("x-kubernetes-list-map-keys".into(), serde_json::json!(["type"]));
    schema
}

/// Condition types that every kind has, as kstatus defines them.
pub mod condition {
    /// The object is what its spec asks for.
    pub const READY: &str = "Ready";
    /// Work towards the spec is under way.
    pub const RECONCILING: &str = "Reconciling";
    /// Work stopped, and a person has to act.
    pub const STALLED: &str = "Stalled";
    /// Clusters only: fewer replicas were asked for than can be given now.
    pub const SCALE_DOWN_BLOCKED: &str = "ScaleDownBlocked";
    /// Clusters only: volumes are growing or cannot.
    pub const STORAGE_RESIZING: &str = "StorageResizing";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_become_nanoseconds() {
        for (text, expected) in [
            ("", Some(0)),
            ("0", Some(0)),
            ("1ns", Some(1)),
            ("250ms", Some(250_000_000)),
            ("1h30m", Some(5_400_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            ("2m0s", Some(120_000_000_000)),
            ("5", None),
            ("5d", None),
            ("s", None),
            ("9999999h", None),
        ] {
            assert_eq!(GoDuration(text.into()).nanoseconds(), expected, "{text}");
        }
    }

    #[test]
    fn amounts_become_bytes_whether_written_as_number_or_text() {
        for (text, expected) in [
            ("\"10Gi\"", Some(10_737_418_240)),
            ("\"1.5k\"", Some(1500)),
            ("1024", Some(1024)),
            ("\"500m\"", Some(0)),
            ("\"ten\"", None),
        ] {
            let amount: Amount = serde_json::from_str(text).unwrap();
            assert_eq!(amount.bytes(), expected, "{text}");
        }
    }
}
