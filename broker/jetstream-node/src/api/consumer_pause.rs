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
    if let Some(command) = command {
        let outcome = leader.propose(&command).await.map_err(|error| propose_failed(&error))?;
        if let Outcome::Refused(error) = outcome {
            return Err(error);
        }
        advise(leader, name, asked.pause_until);
    }
    Ok(Some(response::success(kind::CONSUMER_PAUSE, paused(asked.pause_until, clock::now().as_nanos()))))
}

/// Tells that a consumer is held until a time, or no longer.
pub(crate) fn advise(leader: &StreamLeader, name: &str, until: Option<Time>) {
    let until = until.filter(|until| !until.is_zero());
    let state = paused(until, clock::now().as_nanos());
    let mut body = serde_json::Map::new();
    body.insert("type".to_owned(), "io.nats.jetstream.advisory.v1.consumer_pause".into());
    body.insert("stream".to_owned(), (**leader.name()).into());
    body.insert("consumer".to_owned(), name.into());
    body.insert("paused".to_owned(), state.paused.into());
    body.insert("pause_until".to_owned(), until.unwrap_or_default().to_string().into());
    let subject = format!("$JS.EVENT.ADVISORY.CONSUMER.PAUSE.{}.{name}", leader.name());
    leader.context.advisory(&leader.account, &subject, body);
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
