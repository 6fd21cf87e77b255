//! Where the figures come from: the seam that the server room fills.

use crate::view::{Account, Connection, JetStream, Route, Server, Subscription, SubscriptionCounts};

/// What a render needs of the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    pub open: bool,
    pub closed: bool,
    /// Each connection's subscriptions too.
    pub subscriptions: bool,
}

/// What is known of a stream or consumer that is asked for by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    NoAccount,
    NoStream,
    NoConsumer,
    /// There, but not in order: why.
    Unhealthy(String),
    Healthy,
}

/// What the server knows of its own state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// Connections are accepted: false while starting, in lame duck mode, and when stopping.
    pub accepting: bool,
    /// JetStream is asked for by the configuration.
    pub jetstream_configured: bool,
    /// JetStream runs.
    pub jetstream_running: bool,
    /// What keeps the meta group from being current; `None` when it is, and without a cluster.
    pub meta_problem: Option<String>,
    /// What is behind, one line each: empty once every replica here has applied what was committed.
    pub behind: Vec<String>,
}

/// Publishes what the endpoints render. Every call is cheap and takes no lock of the message path for
/// longer than it takes to copy the figures out.
pub trait Source: Send + Sync + 'static {
    /// Settings and counters of the server.
    fn server(&self) -> Server;
    fn connections(&self, wanted: Wanted) -> Vec<Connection>;
    /// The routes, with the interest learnt through each when `subscriptions` is set.
    fn routes(&self, subscriptions: bool) -> Vec<Route>;
    /// Counts of the subscriptions of all accounts, and their list when `list` is set.
    fn subscriptions(&self, list: bool) -> (SubscriptionCounts, Vec<Subscription>);
    fn accounts(&self) -> Vec<Account>;
    /// JetStream with its accounts, their streams and consumers; `None` when it does not run. The
    /// details may be left empty when `details` is not set.
    fn jetstream(&self, details: bool) -> Option<JetStream>;
    fn health(&self) -> Health;
    /// Whether a stream (and one of its consumers) is here and in order.
    fn presence(&self, account: &str, stream: &str, consumer: Option<&str>) -> Presence;
}
