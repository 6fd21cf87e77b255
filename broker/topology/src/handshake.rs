//! How two servers introduce themselves, as a machine without I/O: CONNECT, INFO, compression, refusals.
//! Not what is done about its verdicts (`introduce`), or which place a connection gets (`places`).

use crate::compression;
use crate::options::RouteOptions;
use std::time::Duration;
use weir_conf::CompressionMode;
use weir_hub::CloseReason;
use weir_proto::{Info, RouteConnect, err};

/// What nats-server says instead of a cluster for leaf nodes without one.
const NO_ORIGIN: &str = "_";

/// The name of the cluster that a server is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClusterName {
    pub(crate) text: String,
    /// Whether it was made up, so that it gives way to one that was chosen.
    pub(crate) is_dynamic: bool,
}

/// This server, as far as it matters here.
pub(crate) struct Own<'a> {
    pub(crate) server_id: &'a str,
    pub(crate) server_name: &'a str,
    pub(crate) cluster: &'a ClusterName,
    pub(crate) options: &'a RouteOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// CONNECT has to come first.
    Connect,
    /// The first INFO has to come, or, with compression, the second.
    Info,
    Up,
}

/// Why a connection ends during its introduction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Told to the other side.
    pub(crate) answer: Option<String>,
    /// Logged as an error.
    pub(crate) log: Option<String>,
    /// Logged behind it, as nats-server does for what is wrong with a CONNECT.
    pub(crate) kind: Option<&'static str>,
    pub(crate) reason: CloseReason,
}

impl Refusal {
    pub(crate) fn silent(reason: CloseReason) -> Self {
        Self { answer: None, log: None, kind: None, reason }
    }

    /// Nobody is let in with that.
    pub(crate) fn unauthorized(connect: &RouteConnect) -> Self {
        let user =
            if connect.user.is_empty() { String::new() } else { format!(" - User {:?}", connect.user) };
        Self {
            answer: Some(err::AUTHORIZATION.to_owned()),
            log: Some(format!("authentication error{user}")),
            kind: None,
            reason: CloseReason::AuthenticationViolation,
        }
    }

    pub(crate) fn told(text: String, reason: CloseReason) -> Self {
        Self { answer: Some(text.clone()), log: Some(text), kind: None, reason }
    }

    fn of_kind(self, kind: &'static str) -> Self {
        Self { kind: Some(kind), ..self }
    }
}

/// What to do after an INFO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Send INFO and speak S2 from here on; who began the connection sends it before that, the other after.
    Compress(CompressionMode),
    /// Give the connection its place; then, if asked for, send INFO.
    Register { answer: bool },
}

/// The introduction of one connection.
pub(crate) struct Handshake {
    pub(crate) phase: Phase,
    solicited: bool,
    /// The account it is for alone; empty for all.
    pub(crate) account: String,
    negotiated: bool,
    /// What is in force.
    pub(crate) compression: CompressionMode,
    /// What INFO shall say of gossip about this server.
    pub(crate) gossip_mode: i64,
}

impl Handshake {
    pub(crate) fn new(solicited: bool, account: &str, gossip_mode: i64) -> Self {
        Self {
            phase: if solicited { Phase::Info } else { Phase::Connect },
            solicited,
            account: account.to_owned(),
            negotiated: false,
            compression: CompressionMode::NotSupported,
            gossip_mode,
        }
    }

    /// Whether INFO is sent at once; otherwise it follows the other side's.
    pub(crate) fn sends_info_at_once(&self, options: &RouteOptions) -> bool {
        !self.solicited || !(compression::is_wanted(options.compression.mode) || self.tells_index(options))
    }

    /// A connection of a pool says which one it is once the other side's INFO has come.
    fn tells_index(&self, options: &RouteOptions) -> bool {
        self.account.is_empty() && options.pool_size >= 1
    }

    /// Judges CONNECT. The result is the name of the cluster to take on, if any.
    pub(crate) fn on_connect(
        &mut self,
        own: &Own<'_>,
        connect: &RouteConnect,
        is_authorized: bool,
    ) -> Result<Option<ClusterName>, Refusal> {
        if !is_authorized || connect.new_account || !connect.account.is_empty() {
            return Err(Refusal::unauthorized(connect));
        }
        if !connect.lang.is_empty() {
            let refusal = Refusal::told(err::CLIENT_ON_ROUTE_PORT.to_owned(), CloseReason::WrongPort);
            return Err(refusal.of_kind(err::CLIENT_ON_ROUTE_PORT));
        }
        if !connect.gateway.is_empty() {
            let text = format!("Rejecting connection from gateway {:?} on the Route port", connect.gateway);
            return Err(Refusal::told(text, CloseReason::WrongGateway).of_kind("wrong gateway"));
        }
        if connect.cluster == NO_ORIGIN {
            let text = format!("Rejecting connection, cluster name {:?} is reserved", connect.cluster);
            let refusal = Refusal::told(text, CloseReason::ClusterNameConflict);
            return Err(refusal.of_kind("cluster name is reserved"));
        }
        let adopted = if connect.cluster == own.cluster.text {
            None
        } else if let Some(name) = adopts(own.cluster, &connect.cluster, connect.cluster_dynamic) {
            Some(name)
        } else {
            let text = format!(
                "Rejecting connection, cluster name {:?} does not match {:?}",
                connect.cluster, own.cluster.text
            );
            let refusal = Refusal::told(text, CloseReason::ClusterNameConflict);
            return Err(refusal.of_kind("cluster name from remote server conflicts"));
        };
        self.phase = Phase::Info;
        Ok(adopted)
    }

    /// Judges who the other side is by any INFO. The result is the name of the cluster to take on, if any.
    pub(crate) fn judge(own: &Own<'_>, info: &Info) -> Result<Option<ClusterName>, Refusal> {
        if info.server_id == own.server_id {
            return Err(Refusal::silent(CloseReason::DuplicateRoute));
        }
        if info.cluster.is_empty() || info.cluster == own.cluster.text {
            return Ok(None);
        }
        if info.cluster == NO_ORIGIN {
            return Err(Refusal::silent(CloseReason::ClusterNameConflict));
        }
        adopts(own.cluster, &info.cluster, info.cluster_dynamic)
            .map(Some)
            .ok_or_else(|| Refusal::silent(CloseReason::ClusterNameConflict))
    }

    /// Judges the first INFO, or with compression the second; `rtt` is what is known of the round trip.
    pub(crate) fn on_info(&mut self, own: &Own<'_>, info: &Info, rtt: Duration) -> Result<Step, Refusal> {
        if !self.solicited && info.server_name == own.server_name {
            let log = format!("Remote server has a duplicate name: {:?}", info.server_name);
            let reason = CloseReason::DuplicateServerName;
            return Err(Refusal { log: Some(log), ..Refusal::silent(reason) });
        }
        let configured = own.options.compression.mode;
        let is_wanted = compression::is_wanted(configured);
        if is_wanted && !self.negotiated {
            self.negotiated = true;
            let chosen = compression::select(configured, &info.compression)
                .map_err(|text| Refusal::told(text, CloseReason::ProtocolViolation))?;
            self.compression = match chosen {
                CompressionMode::S2Auto => {
                    compression::level_for(rtt, &own.options.compression.rtt_thresholds)
                }
                chosen => chosen,
            };
            if compression::is_wanted(self.compression) {
                return Ok(Step::Compress(self.compression));
            }
        } else if !is_wanted {
            let is_known = !info.compression.is_empty() && configured == CompressionMode::Off;
            self.compression = if is_known { CompressionMode::Off } else { CompressionMode::NotSupported };
        }
        if !self.solicited {
            self.account.clone_from(&info.route_account);
        }
        self.phase = Phase::Up;
        Ok(Step::Register { answer: self.solicited && !self.sends_info_at_once(own.options) })
    }

    /// What INFO says of compression: `s2_auto` where that is configured, else what was agreed on.
    pub(crate) fn told_compression(&self, options: &RouteOptions) -> &'static str {
        match options.compression.mode {
            CompressionMode::S2Auto => CompressionMode::S2Auto.name(),
            CompressionMode::NotSupported => "",
            configured if !self.negotiated => configured.name(),
            _ => self.compression.name(),
        }
    }
}

/// A name that was made up gives way to a chosen one, and to a greater one that was made up.
fn adopts(own: &ClusterName, other: &str, other_is_dynamic: bool) -> Option<ClusterName> {
    let gives_way = own.is_dynamic && (!other_is_dynamic || own.text.as_str() < other);
    gives_way.then(|| ClusterName { text: other.to_owned(), is_dynamic: other_is_dynamic })
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_conf::CompressionOptions;

    fn options(mode: CompressionMode) -> RouteOptions {
        RouteOptions {
            compression: CompressionOptions { mode, rtt_thresholds: Vec::new() },
            ..RouteOptions::default()
        }
    }

    fn named(text: &str, is_dynamic: bool) -> ClusterName {
        ClusterName { text: text.to_owned(), is_dynamic }
    }

    fn own<'a>(cluster: &'a ClusterName, options: &'a RouteOptions) -> Own<'a> {
        Own { server_id: "NME", server_name: "me", cluster, options }
    }

    fn info(compression: &str) -> Info {
        Info {
            server_id: "NOTHER".into(),
            server_name: "other".into(),
            cluster: "C".into(),
            compression: compression.into(),
            route_pool_size: 3,
            ..Info::default()
        }
    }

    fn connect() -> RouteConnect {
        RouteConnect { cluster: "C".into(), name: "NOTHER".into(), ..RouteConnect::default() }
    }

    const RTT: Duration = Duration::from_millis(1);

    #[test]
    fn without_compression_one_info_each_is_enough() {
        let (cluster, options) = (named("C", false), options(CompressionMode::Off));
        let own = own(&cluster, &options);
        let mut dialler = Handshake::new(true, "", 0);
        assert!(
            !dialler.sends_info_at_once(&options),
            "it says its place in the pool, which it does not know yet"
        );
        assert_eq!(dialler.on_info(&own, &info("off"), RTT), Ok(Step::Register { answer: true }));
        assert_eq!((dialler.phase, dialler.compression), (Phase::Up, CompressionMode::Off));
        let mut acceptor = Handshake::new(false, "", 0);
        assert!(acceptor.sends_info_at_once(&options));
        assert_eq!(acceptor.on_connect(&own, &connect(), true), Ok(None));
        assert_eq!(acceptor.on_info(&own, &info(""), RTT), Ok(Step::Register { answer: false }));
        assert_eq!(acceptor.compression, CompressionMode::NotSupported);
    }

    #[test]
    fn with_compression_a_second_info_follows() {
        let (cluster, options) = (named("C", false), options(CompressionMode::S2Auto));
        let own = own(&cluster, &options);
        let mut dialler = Handshake::new(true, "", 0);
        let fast = Step::Compress(CompressionMode::S2Uncompressed);
        assert_eq!(dialler.on_info(&own, &info("accept"), RTT), Ok(fast));
        assert_eq!(dialler.phase, Phase::Info);
        assert_eq!(dialler.told_compression(&options), "s2_auto");
        assert_eq!(dialler.on_info(&own, &info("s2_fast"), RTT), Ok(Step::Register { answer: true }));
        let refused = Handshake::new(true, "", 0).on_info(&own, &info("zip"), RTT);
        let text = "unsupported route compression mode \"zip\"".to_owned();
        assert_eq!(refused, Err(Refusal::told(text, CloseReason::ProtocolViolation)));
    }

    #[test]
    fn a_connection_for_one_account_says_so_at_once() {
        let (cluster, options) = (named("C", false), options(CompressionMode::Off));
        let mut dialler = Handshake::new(true, "A", 0);
        assert!(dialler.sends_info_at_once(&options));
        let step = dialler.on_info(&own(&cluster, &options), &info("off"), RTT);
        assert_eq!(step, Ok(Step::Register { answer: false }));
        let mut acceptor = Handshake::new(false, "", 0);
        let asks = Info { route_account: "A".into(), ..info("off") };
        acceptor.on_info(&own(&cluster, &options), &asks, RTT).expect("accepted");
        assert_eq!(acceptor.account, "A");
    }

    #[test]
    fn strangers_are_told_what_nats_server_tells_them() {
        let (cluster, options) = (named("C", false), options(CompressionMode::Accept));
        let own = own(&cluster, &options);
        let refused = |connect: RouteConnect, is_authorized: bool| {
            let refusal = Handshake::new(false, "", 0).on_connect(&own, &connect, is_authorized);
            let refusal = refusal.expect_err("refused");
            (refusal.answer.unwrap_or_default(), refusal.reason)
        };
        assert_eq!(
            refused(connect(), false),
            ("Authorization Violation".into(), CloseReason::AuthenticationViolation)
        );
        assert_eq!(
            refused(RouteConnect { lang: "go".into(), ..connect() }, true),
            ("attempted to connect to route port".into(), CloseReason::WrongPort)
        );
        assert_eq!(
            refused(RouteConnect { gateway: "G".into(), ..connect() }, true),
            ("Rejecting connection from gateway \"G\" on the Route port".into(), CloseReason::WrongGateway)
        );
        assert_eq!(
            refused(RouteConnect { cluster: "D".into(), ..connect() }, true),
            (
                "Rejecting connection, cluster name \"D\" does not match \"C\"".into(),
                CloseReason::ClusterNameConflict
            )
        );
    }

    #[test]
    fn names_that_were_made_up_give_way() {
        let chosen =
            |own: &ClusterName, other: &str, dynamic| adopts(own, other, dynamic).map(|name| name.text);
        assert_eq!(chosen(&named("b", true), "a", false), Some("a".into()));
        assert_eq!(chosen(&named("b", true), "c", true), Some("c".into()));
        assert_eq!(chosen(&named("b", true), "a", true), None);
        assert_eq!(chosen(&named("b", false), "c", false), None);
    }

    #[test]
    fn a_route_to_itself_and_a_second_server_of_the_name_are_closed() {
        let (cluster, options) = (named("C", false), options(CompressionMode::Off));
        let own = own(&cluster, &options);
        let itself = Info { server_id: "NME".into(), ..info("off") };
        assert_eq!(Handshake::judge(&own, &itself), Err(Refusal::silent(CloseReason::DuplicateRoute)));
        let twin = Info { server_name: "me".into(), ..info("off") };
        let refused = Handshake::new(false, "", 0).on_info(&own, &twin, RTT).expect_err("refused");
        assert_eq!((refused.answer, refused.reason), (None, CloseReason::DuplicateServerName));
    }
}
