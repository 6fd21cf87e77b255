//! Answers to requests that came over the system account: the same renders as over HTTP, on one line.

use serde::Serialize;

use crate::{
    Source, accountz, connz, healthz, internals, json, jsz, peers,
    query::Refused,
    request::{Endpoint, Request},
    routez, statsz, subsz, varz,
};

/// What a request gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The JSON of the answer's data.
    Data(String),
    /// Why there is none.
    Refused(String),
    /// Another server answers, or nobody.
    Silence,
}

fn of<T: Serialize>(result: Result<T, Refused>) -> Answer {
    match result {
        Ok(value) => Answer::Data(json::compact(&value)),
        // nats-server's marker for answers that are somebody else's.
        Err(text) if text.starts_with("filtered response") => Answer::Silence,
        Err(text) => Answer::Refused(text),
    }
}

/// Answers a request; `endpoint` is the one it was read for.
pub fn answer(source: &dyn Source, endpoint: Endpoint, request: &Request) -> Answer {
    let query = &request.query;
    match endpoint {
        Endpoint::Varz => of(Ok(varz::varz(source, source.http_requests()))),
        Endpoint::Subsz => of(subsz::subsz(source, query)),
        Endpoint::Connz => of(connz::connz(source, query)),
        Endpoint::Routez => of(routez::routez(source, query)),
        Endpoint::Gatewayz => of(peers::gatewayz(source, query)),
        Endpoint::Leafz => of(peers::leafz(source, query)),
        Endpoint::Accountz => of(accountz::accountz(source, query)),
        Endpoint::AccountStatz => {
            let unused = query.boolean("unused").unwrap_or(false);
            match accountz::statz(source, &request.accounts, unused) {
                Ok(statz) if statz.is_empty() && !unused => Answer::Silence,
                statz => of(statz),
            }
        }
        Endpoint::AccountInfo => of(accountz::account_info(source, query.text("acc").unwrap_or_default())),
        Endpoint::Statsz => of(Ok(statsz::statsz(source))),
        Endpoint::Jsz => of(jsz::jsz(source, query)),
        Endpoint::AccountJsz => of(jsz::account_jsz(source, query)),
        Endpoint::Healthz => {
            healthz::healthz_with_code(source, query).map_or_else(Answer::Refused, Answer::Data)
        }
        Endpoint::Profilez => of(Ok(internals::profile(query))),
        Endpoint::Expvarz => of(Ok(internals::variables(source))),
        Endpoint::Ipqueuesz => of(internals::ipqueuesz(source, query)),
        Endpoint::Raftz => of(Ok(internals::raftz(source, query).unwrap_or_default())),
        Endpoint::Command => Answer::Silence,
    }
}
