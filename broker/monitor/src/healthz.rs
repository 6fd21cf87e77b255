//! `/healthz`: whether the server, its JetStream, or one stream or consumer is in order.
//!
//! Beside nats-server's parameters there is `weir-caught-up=true`, for a readiness probe: 200 only
//! once every replica on this server has applied what was committed.

use serde::Serialize;

use crate::{
    Health, Presence, Source,
    json::compact,
    query::{Query, Refused},
};

/// Status code and body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

#[derive(Serialize)]
struct Body<'a> {
    status: &'a str,
    #[serde(skip_serializing_if = "is_no_code")]
    status_code: u16,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Detail<'a>>,
}

#[derive(Serialize)]
struct Detail<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumer: Option<&'a str>,
    error: &'a str,
}

/// Over HTTP the status code is not repeated in the body.
fn is_no_code(code: &u16) -> bool {
    *code == 0
}

struct Problem {
    status: u16,
    /// `unavailable`, or `error` for a request that makes no sense.
    word: &'static str,
    kind: &'static str,
    error: String,
}

impl Problem {
    fn unavailable(kind: &'static str, error: impl Into<String>) -> Self {
        Self { status: 503, word: "unavailable", kind, error: error.into() }
    }

    fn not_found(kind: &'static str, error: String) -> Self {
        Self { status: 404, word: "unavailable", kind, error }
    }

    fn bad_request(error: &str) -> Self {
        Self { status: 400, word: "error", kind: "BAD_REQUEST", error: error.to_owned() }
    }
}

/// What is asked about.
struct Asked<'a> {
    account: Option<&'a str>,
    stream: Option<&'a str>,
    consumer: Option<&'a str>,
    server_only: bool,
    enabled_only: bool,
    meta_only: bool,
    caught_up: bool,
    details: bool,
}

impl<'a> Asked<'a> {
    fn of(query: &'a Query) -> Result<Self, Refused> {
        Ok(Self {
            account: query.text("account"),
            stream: query.text("stream"),
            consumer: query.text("consumer"),
            server_only: query.boolean("js-server-only")?,
            // The two differ in name only, as in the reference.
            enabled_only: query.boolean("js-enabled-only")? || query.boolean("js-enabled")?,
            meta_only: query.boolean("js-meta-only")?,
            caught_up: query.boolean("weir-caught-up")?,
            details: query.boolean("details")?,
        })
    }
}

pub(crate) fn healthz(source: &dyn Source, query: &Query) -> Result<Answer, Refused> {
    let asked = Asked::of(query)?;
    let problem = check(source, &asked);
    let status = problem.as_ref().map_or(200, |problem| problem.status);
    let body = compact(&body(&asked, problem.as_ref(), 0));
    Ok(Answer { status, body })
}

/// The same with the status code inside, for requests that do not come over HTTP.
pub(crate) fn healthz_with_code(source: &dyn Source, query: &Query) -> Result<String, Refused> {
    let asked = Asked::of(query)?;
    let problem = check(source, &asked);
    let status = problem.as_ref().map_or(200, |problem| problem.status);
    Ok(compact(&body(&asked, problem.as_ref(), status)))
}

fn body<'a>(asked: &Asked<'a>, problem: Option<&'a Problem>, status_code: u16) -> Body<'a> {
    let Some(problem) = problem else {
        return Body { status: "ok", status_code, error: "", errors: Vec::new() };
    };
    if !asked.details {
        return Body { status: problem.word, status_code, error: &problem.error, errors: Vec::new() };
    }
    let is_about = |kinds: &[&str]| kinds.contains(&problem.kind);
    let detail = Detail {
        kind: problem.kind,
        account: asked.account.filter(|_| is_about(&["ACCOUNT", "STREAM", "CONSUMER"])),
        stream: asked.stream.filter(|_| is_about(&["STREAM", "CONSUMER"])),
        consumer: asked.consumer.filter(|_| is_about(&["CONSUMER"])),
        error: &problem.error,
    };
    Body { status: "error", status_code, error: "", errors: vec![detail] }
}

fn check(source: &dyn Source, asked: &Asked<'_>) -> Option<Problem> {
    if asked.account.is_none() && asked.stream.is_some() {
        let error = "\"account\" must not be empty when checking stream health";
        return Some(Problem::bad_request(error));
    }
    if asked.stream.is_none() && asked.consumer.is_some() {
        let error = "\"stream\" must not be empty when checking consumer health";
        return Some(Problem::bad_request(error));
    }
    let health = source.health();
    if !health.accepting {
        return Some(Problem::unavailable("CONNECTION", "not accepting connections"));
    }
    if asked.server_only || !health.jetstream_configured {
        return None;
    }
    jetstream(source, asked, &health)
}

fn jetstream(source: &dyn Source, asked: &Asked<'_>, health: &Health) -> Option<Problem> {
    if !health.jetstream_running {
        return Some(Problem::unavailable("JETSTREAM", "JetStream not enabled"));
    }
    if asked.enabled_only {
        return None;
    }
    if let Some(error) = &health.meta_problem {
        return Some(Problem::unavailable("JETSTREAM", error));
    }
    if asked.meta_only {
        return None;
    }
    if let Some(account) = asked.account.filter(|name| source.presence(name, "", None) == Presence::NoAccount)
    {
        return Some(no_account(account));
    }
    if let (Some(account), Some(stream)) = (asked.account, asked.stream) {
        return presence(source, account, stream, asked.consumer);
    }
    if !health.behind.is_empty() && (asked.caught_up || asked.stream.is_none()) {
        let error = format!("not caught up: {}", health.behind.join("; "));
        return Some(Problem::unavailable("JETSTREAM", error));
    }
    None
}

fn no_account(name: &str) -> Problem {
    Problem::not_found("ACCOUNT", format!("JetStream account {name:?} not found"))
}

fn presence(source: &dyn Source, account: &str, stream: &str, consumer: Option<&str>) -> Option<Problem> {
    match source.presence(account, stream, consumer) {
        Presence::Healthy => None,
        Presence::Unhealthy(error) if consumer.is_some() => Some(Problem::unavailable("CONSUMER", error)),
        Presence::Unhealthy(error) => Some(Problem::unavailable("STREAM", error)),
        Presence::NoAccount => {
            Some(Problem::not_found("ACCOUNT", format!("JetStream account {account:?} not found")))
        }
        Presence::NoStream => Some(Problem::not_found(
            "STREAM",
            format!("JetStream stream {stream:?} not found on account {account:?}"),
        )),
        Presence::NoConsumer => {
            let consumer = consumer.unwrap_or_default();
            Some(Problem::not_found(
                "CONSUMER",
                format!(
                    "JetStream consumer {consumer:?} not found for stream {stream:?} on account {account:?}"
                ),
            ))
        }
    }
}
