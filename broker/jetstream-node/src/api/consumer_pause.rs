//! CONSUMER.PAUSE, at the stream's leader: holds deliveries until a time, or lets them go on at once.

use std::sync::Arc;

use weir_jetstream::Outcome;
use weir_jsapi::request::ConsumerPauseRequest;
use weir_jsapi::response::{ConsumerPaused, kind};
use weir_jsapi::{ApiError, Time, response};

use super::{Answer, Request, decode_optional, propose_failed};
use crate::clock;
use crate::stream::leader::StreamLeader;

pub(crate) async fn pause(
    leader: &Arc<StreamLeader>,
    name: &str,
    request: &Request,
) -> Result<Answer, ApiError> {
    let asked: ConsumerPauseRequest = decode_optional(request)?;
    let Some(replica) = leader.replica() else { return Ok(None) };
    let command = replica.replicated.lock().machine().prepare_pause(name, asked.pause_until)?;
    if let Some(command) = command
        && let Outcome::Refused(error) =
            leader.propose(&command).await.map_err(|error| propose_failed(&error))?
    {
        return Err(error);
    }
    Ok(Some(response::success(kind::CONSUMER_PAUSE, paused(asked.pause_until, clock::now().as_nanos()))))
}

/// What the reply says: a time that has passed pauses nothing.
fn paused(until: Option<Time>, now_nanos: u64) -> ConsumerPaused {
    let pause_until = until.unwrap_or_default();
    let left = pause_until
        .unix_nanos()
        .map_or(0, |until| until.saturating_sub(i64::try_from(now_nanos).unwrap_or(i64::MAX)));
    ConsumerPaused { paused: left > 0, pause_until, pause_remaining: left.max(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_time_to_come_pauses() {
        let at = |nanos| Some(Time::from_unix_nanos(nanos));
        assert_eq!(paused(at(150), 100).pause_remaining, 50);
        assert!(paused(at(150), 100).paused);
        assert!(!paused(at(100), 100).paused);
        assert!(!paused(at(50), 100).paused);
        assert_eq!(paused(None, 100), ConsumerPaused::default());
    }
}
