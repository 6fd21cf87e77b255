//! Compares what a spec wants with what a broker has, and knows whose it is. Pure.
use kube::ResourceExt;
use serde_json::Value;

use super::{BrokerObject, Config};

/// Key in the broker's metadata with the object that manages something.
pub const OWNER_KEY: &str = "weir.dev/owner";
/// Metadata that the broker keeps for itself.
const BROKER_PREFIX: &str = "_nats.";

/// The object that manages something in a broker: `namespace/name`. Not the uid: an object that was deleted with
/// preventDelete and made again has its own back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner(String);

impl std::fmt::Display for Owner {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Owner {
    /// This object as an owner.
    pub fn of(object: &impl BrokerObject) -> Self {
        Self(format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any()))
    }

    /// Who manages what has this configuration.
    pub fn in_config(config: &Config) -> Option<Self> {
        let owner = config.get("metadata")?.get(OWNER_KEY)?.as_str()?;
        Some(Self(owner.to_owned()))
    }

    /// Writes the owner into a configuration.
    pub fn stamp(&self, mut config: Config) -> Config {
        let metadata = config.entry("metadata").or_insert_with(|| Value::Object(Config::new()));
        if let Value::Object(metadata) = metadata {
            metadata.insert(OWNER_KEY.to_owned(), Value::String(self.0.clone()));
        }
        config
    }
}

/// The configuration without what the broker keeps in it for itself.
pub fn without_broker_metadata(mut config: Config) -> Config {
    if let Some(Value::Object(metadata)) = config.get_mut("metadata") {
        metadata.retain(|key, _| !key.starts_with(BROKER_PREFIX));
    }
    config
}

/// Keys of `wanted` that have another value in `live`. A key that is not there stands for nothing: 0, false, empty.
pub fn differences(live: &Config, wanted: &Config) -> Vec<String> {
    let live = without_broker_metadata(live.clone());
    wanted
        .iter()
        .filter(|(key, value)| !same(live.get(*key).unwrap_or(&Value::Null), value))
        .map(|(key, _)| key.clone())
        .collect()
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(is_nothing),
    }
}

fn same(live: &Value, wanted: &Value) -> bool {
    if is_nothing(live) && is_nothing(wanted) {
        return true;
    }
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            let get = |map: &Config, key: &str| map.get(key).cloned().unwrap_or_default();
            live.keys().chain(wanted.keys()).all(|key| same(&get(live, key), &get(wanted, key)))
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| same(live, wanted))
        }
        (Value::String(live), Value::String(wanted)) => live == wanted || same_time(live, wanted),
        _ => live == wanted,
    }
}

/// `2026-01-02T03:04:05.000Z` and `2026-01-02T03:04:05Z` are the same time.
fn same_time(live: &str, wanted: &str) -> bool {
    use k8s_openapi::jiff::Timestamp;
    matches!((live.parse::<Timestamp>(), wanted.parse::<Timestamp>()), (Ok(live), Ok(wanted)) if live == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(value: Value) -> Config {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn only_wanted_keys_count_and_nothing_equals_absent() {
        let live = config(json!({ "name": "A", "max_age": 5, "consumer_limits": {}, "new_in_2_20": true }));
        assert!(
            differences(
                &live,
                &config(json!({ "name": "A", "max_age": 5, "sealed": false, "description": "" }))
            )
            .is_empty()
        );
        assert!(
            differences(&live, &config(json!({ "consumer_limits": { "max_ack_pending": 0 } }))).is_empty()
        );
        assert_eq!(differences(&live, &config(json!({ "max_age": 0, "name": "B" }))), ["max_age", "name"]);
        assert_eq!(differences(&live, &config(json!({ "subjects": ["a"] }))), ["subjects"]);
    }

    #[test]
    fn the_brokers_own_metadata_is_no_difference_but_a_strangers_is() {
        let owner = Owner("shop/orders".into());
        let wanted = owner.stamp(Config::new());
        let live = json!({ "metadata": { "_nats.ver": "2.15.1", "weir.dev/owner": "shop/orders" } });
        assert!(differences(&config(live), &wanted).is_empty());
        let live = json!({ "metadata": { "weir.dev/owner": "shop/orders", "x": "y" } });
        assert_eq!(differences(&config(live), &wanted), ["metadata"]);
        let live = config(json!({ "metadata": { "weir.dev/owner": "shop/orders" } }));
        assert_eq!(Owner::in_config(&live), Some(owner));
        assert_eq!(Owner::in_config(&config(json!({ "metadata": { "x": "y" } }))), None);
    }

    #[test]
    fn times_are_compared_as_times() {
        let live = config(json!({ "opt_start_time": "2026-01-02T03:04:05Z" }));
        assert!(
            differences(&live, &config(json!({ "opt_start_time": "2026-01-02T04:04:05.000+01:00" })))
                .is_empty()
        );
        assert_eq!(differences(&live, &config(json!({ "opt_start_time": "2026-01-02T03:04:06Z" }))).len(), 1);
    }
}
