//! Where the figures come from: the seam that the server room fills.

use std::collections::BTreeMap;

use crate::view::{
    Account, Connection, JetStream, Queue, RaftGroup, Route, Server, SubjectRules, Subscription,
};

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
    /// What routes may bring in and take out by this server's configuration: (import, export).
    fn route_rules(&self) -> (Option<SubjectRules>, Option<SubjectRules>);
    /// The routes, with the interest learnt through each when `subscriptions` is set.
    fn routes(&self, subscriptions: bool) -> Vec<Route>;
    /// The subscriptions of clients and of this process, of one account or of all.
    fn subscriptions(&self, account: Option<&str>) -> Vec<Subscription>;
    fn accounts(&self) -> Vec<Account>;
    /// JetStream with its accounts, their streams and consumers; `None` when it does not run. The
    /// details may be left empty when `details` is not set.
    fn jetstream(&self, details: bool) -> Option<JetStream>;
    /// The Raft groups with a replica here; `None` without a cluster.
    fn raft_groups(&self) -> Option<Vec<RaftGroup>>;
    /// The queues inside the server.
    fn queues(&self) -> Vec<Queue>;
    /// What the process was started with.
    fn command_line(&self) -> Vec<String>;
    /// How often each path was asked for over HTTP.
    fn http_requests(&self) -> BTreeMap<String, u64>;
    /// Counts a request for one of the known paths.
    fn count_http_request(&self, path: &'static str);
    fn health(&self) -> Health;
    /// Whether a stream (and one of its consumers) is here and in order.
    fn presence(&self, account: &str, stream: &str, consumer: Option<&str>) -> Presence;
}
