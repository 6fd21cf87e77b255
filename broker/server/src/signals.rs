//! The signals a server obeys.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
pub(crate) enum Caught {
    /// With the signal's name.
    Terminate(&'static str),
    Reload,
    Reopen,
    LameDuck,
}

pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user_1: Signal,
    user_2: Signal,
}

impl Signals {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
            user_2: signal(SignalKind::user_defined2())?,
        })
    }

    pub(crate) async fn next(&mut self) -> Caught {
        tokio::select! {
            _ = self.terminate.recv() => Caught::Terminate("terminated"),
            _ = self.interrupt.recv() => Caught::Terminate("interrupt"),
            _ = self.hangup.recv() => Caught::Reload,
            _ = self.user_1.recv() => Caught::Reopen,
            _ = self.user_2.recv() => Caught::LameDuck,
        }
    }
}
