//! What of the `jetstream` block a reload takes over: more memory and storage, and limits. In nats-server's order and words.

use std::time::Duration;

use weir_conf::{
    BatchOptions, JetStreamOptions, StoreEncryption, SyncPolicy, format_duration, friendly_bytes,
};

use super::{Diff, text};

/// What nats-server syncs after when it is told nothing.
const SYNC_INTERVAL_DEFAULT: Duration = Duration::from_secs(120);
/// The requests that nats-server queues when it is told nothing.
const API_REQUESTS_MAX: u64 = 10_000;

pub(super) fn compare(diff: &mut Diff<'_>) -> Result<(), String> {
    let (old, new) = match (&diff.old.jetstream, &diff.new.jetstream) {
        (None, None) => return Ok(()),
        (Some(old), Some(new)) => (old, new),
        _ => return Err("config reload not supported for JetStream".to_owned()),
    };
    let fixed = |name: &str, old: &dyn ToString, new: &dyn ToString| {
        let (old, new) = (old.to_string(), new.to_string());
        if old == new {
            return Ok(());
        }
        Err(format!("config reload not supported for {name}: old={old}, new={new}"))
    };
    fixed("NoJetStreamStrict", &!old.strict, &!new.strict)?;
    let memory = grown(old.max_memory, new.max_memory)?;
    let file = grown(old.max_file, new.max_file)?;
    for (name, more) in [("max_mem_store", memory), ("max_file_store", file)] {
        if let Some(bytes) = more {
            diff.say(format!("JetStream {name} = {}", friendly_bytes(bytes)));
        }
    }
    fixed("JetStreamDomain", &text(&old.domain), &text(&new.domain))?;
    encryption(&old.encryption, &new.encryption)?;
    if limits(old) != limits(new) {
        diff.say("JetStream limits");
    }
    let queue = |o: &JetStreamOptions| {
        Some(o.request_queue_limit).filter(|limit| *limit > 0).unwrap_or(API_REQUESTS_MAX)
    };
    fixed("JetStreamRequestQueueLimit", &queue(old), &queue(new))?;
    // The default is printed as nothing.
    let usual = JetStreamOptions::default();
    let shown = |number: usize, usual: usize| if number == usual { 0 } else { number };
    let messages = |o: &JetStreamOptions| shown(o.buffered_messages_max, usual.buffered_messages_max);
    fixed("StreamMaxBufferedMsgs", &messages(old), &messages(new))?;
    let bytes = |o: &JetStreamOptions| shown(o.buffered_bytes_max, usual.buffered_bytes_max);
    fixed("StreamMaxBufferedSize", &bytes(old), &bytes(new))?;
    if old.store_dir != new.store_dir && new.store_dir.is_some() {
        return Err("config reload not supported for jetstream storage directory".to_owned());
    }
    fixed("SyncInterval", &interval(old.sync), &interval(new.sync))?;
    fixed("SyncAlways", &(old.sync == SyncPolicy::Always), &(new.sync == SyncPolicy::Always))
}

/// A store stays as it was opened. nats-server prints the keys.
fn encryption(old: &StoreEncryption, new: &StoreEncryption) -> Result<(), String> {
    let names = [
        ("JetStreamKey", old.key == new.key),
        ("JetStreamOldKey", old.previous_key == new.previous_key),
        ("JetStreamCipher", old.cipher.unwrap_or_default() == new.cipher.unwrap_or_default()),
    ];
    match names.into_iter().find(|(_, same)| !same) {
        Some((name, _)) => Err(format!("config reload not supported for {name}")),
        None => Ok(()),
    }
}

/// What nats-server says after all other options: a limit or a folder that is no longer named.
pub(super) fn compare_last(diff: &Diff<'_>) -> Result<(), String> {
    let (Some(old), Some(new)) = (&diff.old.jetstream, &diff.new.jetstream) else { return Ok(()) };
    let forgotten = |old: Option<u64>, new: Option<u64>| old.is_some() && new.is_none();
    if forgotten(old.max_memory, new.max_memory) || forgotten(old.max_file, new.max_file) {
        return Err("config reload not supported for jetstream max memory and max store".to_owned());
    }
    if old.store_dir.is_some() && new.store_dir.is_none() {
        return Err("config reload not supported for jetstream storage dir".to_owned());
    }
    Ok(())
}

/// The new number of bytes where it is larger than before.
fn grown(old: Option<u64>, new: Option<u64>) -> Result<Option<u64>, String> {
    let refused = match (old, new) {
        (None, Some(_)) => "jetstream dynamic max memory and store",
        (Some(old), Some(new)) if new < old => "decreasing jetstream max memory and store",
        (Some(old), Some(new)) if new > old => return Ok(Some(new)),
        _ => return Ok(None),
    };
    Err(format!("config reload not supported for {refused}"))
}

type Limits<'a> = (u64, [i64; 3], Option<Duration>, &'a BatchOptions);

fn limits(options: &JetStreamOptions) -> Limits<'_> {
    let numbers = [options.max_ack_pending, options.max_ha_assets, options.max_request_batch];
    (options.default_max_consumers, numbers, options.duplicate_window, &options.batches)
}

fn interval(sync: SyncPolicy) -> String {
    format_duration(match sync {
        SyncPolicy::Always => SYNC_INTERVAL_DEFAULT,
        SyncPolicy::Interval(interval) => interval,
    })
}

#[cfg(test)]
mod tests {
    use weir_conf::Options;

    use super::*;

    fn planned(old: JetStreamOptions, new: JetStreamOptions) -> Result<Vec<String>, String> {
        let of = |jetstream| Options { jetstream: Some(jetstream), ..Options::default() };
        let changes = super::super::plan(&of(old), &of(new))?;
        Ok(changes.iter().map(ToString::to_string).filter(|text| text.contains("JetStream")).collect())
    }

    fn with(max_memory: u64, max_file: u64) -> JetStreamOptions {
        let (max_memory, max_file) = (Some(max_memory), Some(max_file));
        JetStreamOptions { max_memory, max_file, ..JetStreamOptions::default() }
    }

    #[test]
    fn more_room_is_taken_over_and_less_is_refused() {
        let more = planned(with(1 << 20, 1 << 30), with(2 << 20, 3 << 30));
        let said =
            ["Reloaded: JetStream max_mem_store = 2.00 MB", "Reloaded: JetStream max_file_store = 3.00 GB"];
        assert_eq!(more.expect("taken over"), said);
        let less = planned(with(2, 2), with(3, 1)).expect_err("refused");
        assert_eq!(less, "config reload not supported for decreasing jetstream max memory and store");
        let none = planned(with(2, 2), JetStreamOptions::default()).expect_err("refused");
        assert_eq!(none, "config reload not supported for jetstream max memory and max store");
    }

    #[test]
    fn other_options_are_refused_with_both_values() {
        let usual = JetStreamOptions::default;
        let domain = JetStreamOptions { domain: Some("hub".to_owned()), ..usual() };
        let refused = planned(usual(), domain).expect_err("refused");
        assert_eq!(refused, "config reload not supported for JetStreamDomain: old=, new=hub");
        let limits = JetStreamOptions { max_ack_pending: 5, ..usual() };
        assert_eq!(planned(usual(), limits).expect("taken over"), ["Reloaded: JetStream limits"]);
    }
}
