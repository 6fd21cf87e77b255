//! What `state.json` says of the stream, judged.

use weir_jsapi::StreamState;

use crate::error::BackupError;

/// Reads the state that a backup begins with.
pub(crate) fn decode(json: &[u8]) -> Result<StreamState, BackupError> {
    let state: StreamState = weir_jsapi::json::decode_lenient(json)
        .map_err(|text| BackupError::invalid(format!("error in state.json: {text}")))?;
    check(&state).map_err(|text| BackupError::invalid(format!("invalid stream state: {text}")))?;
    Ok(state)
}

fn check(state: &StreamState) -> Result<(), &'static str> {
    const INCONSISTENT: &str = "inconsistent message count or sequence range";
    let StreamState { first_seq, last_seq, messages, .. } = *state;
    if first_seq == 0 {
        return if last_seq == 0 && messages == 0 { Ok(()) } else { Err(INCONSISTENT) };
    }
    if first_seq > last_seq {
        // What was emptied begins right behind its last message.
        return if first_seq - 1 == last_seq && messages == 0 { Ok(()) } else { Err(INCONSISTENT) };
    }
    if messages > (last_seq - first_seq).saturating_add(1) {
        return Err("message count exceeds sequence range");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_that_cannot_be_are_refused() {
        let state = |first, last, messages| {
            format!(
                r#"{{"messages":{messages},"bytes":0,"first_seq":{first},"first_ts":"0001-01-01T00:00:00Z","last_seq":{last},"last_ts":"0001-01-01T00:00:00Z","consumer_count":0}}"#
            )
        };
        for good in [state(0, 0, 0), state(5, 4, 0), state(1, 9, 9), state(1, 9, 2)] {
            decode(good.as_bytes()).expect("valid");
        }
        let refused = |json: String| decode(json.as_bytes()).expect_err("refused").to_string();
        for bad in [state(0, 1, 0), state(6, 4, 0), state(5, 4, 1)] {
            assert_eq!(refused(bad), "invalid stream state: inconsistent message count or sequence range");
        }
        assert_eq!(refused(state(1, 2, 3)), "invalid stream state: message count exceeds sequence range");
        decode(state(1, u64::MAX, u64::MAX).as_bytes()).expect("valid");
        assert!(refused("{".to_owned()).starts_with("error in state.json: "));
    }
}
