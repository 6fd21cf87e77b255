//! `compression` of connections between servers.

use std::time::Duration;

use crate::{
    options::{CompressionMode, CompressionOptions},
    read::Reader,
    value::{Node, Value},
};

/// Levels for round trips of 10, 50 and 100 ms and more.
const RTT_THRESHOLDS: [Duration; 3] =
    [Duration::from_millis(10), Duration::from_millis(50), Duration::from_millis(100)];

/// What `on` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    Fast,
    Auto,
}

impl On {
    fn name(self) -> &'static str {
        match self {
            Self::Fast => "s2_fast",
            Self::Auto => "s2_auto",
        }
    }
}

/// Reads the option; what makes no sense as a whole is in [`Reader::late`], since the reference sees
/// it only when the server starts.
pub(super) fn compression(
    reader: &mut Reader<'_>,
    key: &str,
    node: &Node,
    on: On,
) -> Option<CompressionOptions> {
    let mut thresholds = Vec::new();
    let mode = match &node.value {
        Value::String(mode) => mode.clone(),
        Value::Boolean(true) => on.name().to_owned(),
        Value::Boolean(false) => "off".to_owned(),
        Value::Map(map) => {
            let mut mode = String::new();
            for (key, node) in map {
                match key.to_lowercase().as_str() {
                    "mode" => mode = reader.string(node)?,
                    "rtt_thresholds" | "thresholds" | "rtts" | "rtt" => {
                        thresholds = rtt_thresholds(reader, node)?;
                    }
                    _ => {
                        reader.unknown(key, node);
                        return None;
                    }
                }
            }
            mode
        }
        other => {
            let kind = other.go_type();
            reader.error(node, format!("field {key:?} should be a boolean or a structure, got {kind}"));
            return None;
        }
    };
    if mode.is_empty() {
        return Some(CompressionOptions::default());
    }
    match normalized(&mode, &thresholds, on) {
        Ok(options) => Some(options),
        Err(message) => {
            reader.late.push(message);
            None
        }
    }
}

fn rtt_thresholds(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<Duration>> {
    let mut thresholds = Vec::new();
    for item in reader.array(node)? {
        let text = reader.string(item)?;
        match crate::parse_duration(&text) {
            Ok(threshold) => thresholds.push(threshold),
            // Below zero is not used, like zero.
            Err(_) if text.starts_with('-') => thresholds.push(Duration::ZERO),
            Err(reason) => {
                reader.error(node, reason);
                return None;
            }
        }
    }
    Some(thresholds)
}

fn normalized(text: &str, thresholds: &[Duration], on: On) -> Result<CompressionOptions, String> {
    let lower = text.to_lowercase();
    let name = match lower.as_str() {
        "on" | "enabled" | "true" => on.name(),
        other => other,
    };
    let mode = match name {
        "not supported" | "not_supported" => CompressionMode::NotSupported,
        "disabled" | "off" | "false" => CompressionMode::Off,
        "accept" => CompressionMode::Accept,
        "auto" | "s2_auto" => {
            let rtt_thresholds = ordered(text, thresholds)?;
            return Ok(CompressionOptions { mode: CompressionMode::S2Auto, rtt_thresholds });
        }
        "fast" | "s2_fast" => CompressionMode::S2Fast,
        "better" | "s2_better" => CompressionMode::S2Better,
        "best" | "s2_best" => CompressionMode::S2Best,
        _ => return Err(format!("unsupported compression mode {text:?}")),
    };
    Ok(CompressionOptions { mode, rtt_thresholds: thresholds.to_vec() })
}

fn ordered(mode: &str, thresholds: &[Duration]) -> Result<Vec<Duration>, String> {
    if thresholds.is_empty() {
        return Ok(RTT_THRESHOLDS.to_vec());
    }
    let shown = || {
        let list: Vec<String> = thresholds.iter().map(|time| crate::format_duration(*time)).collect();
        format!("[{}]", list.join(" "))
    };
    let mut highest = Duration::ZERO;
    for threshold in thresholds.iter().filter(|time| !time.is_zero()) {
        if *threshold < highest {
            return Err(format!("RTT threshold values {} should be in ascending order", shown()));
        }
        highest = *threshold;
    }
    let used = thresholds.iter().rposition(|time| !time.is_zero()).map_or(0, |last| last + 1);
    match used {
        0 => Err(format!("compression mode {mode:?} requires at least one RTT threshold")),
        1..=4 => Ok(thresholds[..used].to_vec()),
        _ => {
            let shown = shown();
            Err(format!("compression mode {mode:?} should have no more than 4 RTT thresholds: {shown}"))
        }
    }
}
