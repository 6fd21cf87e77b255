//! Keeps the status that a certificate is shown with fresh. Not where it comes from.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::Instant};
use tracing::{error, info};
use weir_conf::format_duration;
use weir_net::{
    ocsp::{Certificate, Response, Status},
    tls::Staple,
};

use super::{
    moment, now, show,
    statuses::{Known, Statuses},
};
use crate::system::Command;

/// When there is no telling until when a status is true.
const USUAL_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// When it should have been renewed before.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(120);
/// Halves of what is left get no smaller.
const MOMENT: Duration = Duration::from_secs(1);
/// Handshakes that find no status ask for one at most this often.
const ASKED_SPACING: Duration = Duration::from_secs(1);

/// One certificate of a port.
pub(super) struct Monitor {
    /// Of connections, in nats-server's words.
    pub(super) kind: &'static str,
    pub(super) file: String,
    pub(super) leaf: Certificate,
    pub(super) issuer: Certificate,
    pub(super) staple: Arc<Staple>,
    /// The server stops when the certificate is not good any more.
    pub(super) stops_when_revoked: bool,
}

/// What comes after a look at the status.
enum Next {
    /// Another look, after a while.
    Look(Duration),
    /// None, unless a handshake wants one.
    Rest,
    /// The end of the server.
    Stop,
}

impl Monitor {
    /// Runs until the process is told to stop, or the task is ended.
    pub(super) async fn run(self, statuses: Arc<Statuses>, commands: mpsc::Sender<Command>) {
        let mut last = statuses.get(&self.leaf, &self.issuer).await.ok();
        let mut next = self.first(last.as_ref());
        loop {
            let wait = match next {
                Next::Look(wait) => Some(wait),
                Next::Rest => None,
                Next::Stop => {
                    // Nobody listens only when the server stops already.
                    let _ = commands.send(Command::Stop).await;
                    return;
                }
            };
            self.wait(wait, &statuses).await;
            next = match statuses.fetch(&self.leaf, &self.issuer).await {
                Ok(known) => {
                    last = Some(known.clone());
                    self.renewed(known)
                }
                Err(problem) => self.failed(&problem, last.as_ref()),
            };
        }
    }

    fn first(&self, known: Option<&Known>) -> Next {
        let (kind, file) = (self.kind, &self.file);
        match known.map(|known| &known.response) {
            Some(response) if response.status == Status::Good => {
                let wait = until_next(response, now());
                let (due, shown) = (moment(response.next_update), format_duration(wait));
                info!(
                    "Found OCSP status for {kind} certificate at '{file}': good, next update {due}, checking again in {shown}"
                );
                Next::Look(wait)
            }
            Some(response) if self.stops_when_revoked => {
                error!("Found OCSP status for {kind} certificate at '{file}': {}", response.status);
                Next::Stop
            }
            _ => Next::Look(Duration::ZERO),
        }
    }

    /// Waits so long; handshakes that find no status get one meanwhile.
    async fn wait(&self, wait: Option<Duration>, statuses: &Statuses) {
        let due = wait.map(|wait| Instant::now() + wait);
        loop {
            tokio::select! {
                () = sleep_until(due) => return,
                () = self.staple.wanted() => {
                    if let Ok(known) = statuses.get(&self.leaf, &self.issuer).await {
                        show(&self.staple, known);
                    }
                    tokio::time::sleep(ASKED_SPACING).await;
                }
            }
        }
    }

    fn renewed(&self, known: Known) -> Next {
        let (kind, file) = (self.kind, &self.file);
        let response = known.response.clone();
        show(&self.staple, known);
        if response.status != Status::Good {
            error!("Received OCSP status for {kind} certificate '{file}': {}", response.status);
            return if self.stops_when_revoked { Next::Stop } else { Next::Rest };
        }
        let wait = until_next(&response, now());
        let (due, shown) = (moment(response.next_update), format_duration(wait));
        info!(
            "Received OCSP status for {kind} certificate '{file}': good, next update {due}, checking again in {shown}"
        );
        Next::Look(wait)
    }

    fn failed(&self, problem: &str, last: Option<&Known>) -> Next {
        let wait = last.map_or(SHORTEST_INTERVAL, |known| until_next(&known.response, now()));
        let (file, shown) = (&self.file, format_duration(wait));
        error!("Bad OCSP status update for certificate '{file}': {problem}, trying again in {shown}");
        Next::Look(wait)
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Half of the time that the status is still true, at least a moment.
fn until_next(response: &Response, now: Duration) -> Duration {
    let Some(next) = response.next_update else { return USUAL_INTERVAL };
    // A look at the very last moment would find a status that is over.
    Duration::from_secs(next).checked_sub(now).map_or(SHORTEST_INTERVAL, |left| (left / 2).max(MOMENT))
}
