//! Publishing advisories: to whom, and only where somebody listens. What they say is `weir_jsapi::advisory`'s business.

use std::sync::Arc;

use serde::Serialize;
use weir_hub::Account;
use weir_jsapi::advisory::{
    self, Advisory, ApiAudit, ApiLimitReached, ConsumerAction, DomainLeaderElected, LeaderElected,
    QuorumLost, ServerEvent, StreamAction,
};
use weir_jsapi::{ClusterInfo, PeerInfo};

use crate::api::Request;
use crate::context::Context;

impl Context {
    fn domain_text(&self) -> &str {
        self.domain.as_deref().unwrap_or_default()
    }

    /// Publishes an advisory in an account; `kind` is the last part of its type.
    pub(crate) fn emit<T: Serialize>(&self, account: &Arc<Account>, subject: &str, kind: &str, body: T) {
        if !account.has_interest(subject.as_bytes()) {
            return;
        }
        let (id, now) = (self.random_id(), crate::clock::now().to_rfc3339());
        let json = Advisory::new(kind, &id, &now, body).to_json();
        account.publish(subject.as_bytes(), None, b"", &json);
    }

    /// Tells of a request and its response.
    pub(crate) fn audit(&self, request: &Request, response: &[u8]) {
        let Some(asker) = &request.asker else { return };
        let audit = ApiAudit {
            server: &self.server_name,
            client: asker.0.as_deref(),
            subject: &request.subject,
            request: &String::from_utf8_lossy(&request.body),
            response: &String::from_utf8_lossy(response),
            domain: self.domain_text(),
        };
        self.emit(&request.account, advisory::API_AUDIT, "api_audit", audit);
    }

    /// Tells that a stream was created, changed or deleted.
    pub(crate) fn stream_action(&self, account: &Arc<Account>, stream: &str, action: &'static str) {
        let verb = match action {
            "create" => "CREATED",
            "modify" => "UPDATED",
            _ => "DELETED",
        };
        let subject = format!("{}STREAM.{verb}.{stream}", weir_jsapi::subject::ADVISORY_PREFIX);
        let body = StreamAction { stream, action, domain: self.domain_text() };
        self.emit(account, &subject, "stream_action", body);
    }

    /// Tells that a consumer was created or deleted.
    pub(crate) fn consumer_action(
        &self,
        account: &Arc<Account>,
        stream: &str,
        consumer: &str,
        action: &'static str,
    ) {
        let verb = if action == "create" { "CREATED" } else { "DELETED" };
        let subject = format!("{}CONSUMER.{verb}.{stream}.{consumer}", weir_jsapi::subject::ADVISORY_PREFIX);
        let body = ConsumerAction { stream, consumer, action, domain: self.domain_text() };
        self.emit(account, &subject, "consumer_action", body);
    }

    /// All members of a group, as advisories list them: this server too.
    fn with_this_server(&self, others: &[PeerInfo]) -> Vec<PeerInfo> {
        let own = PeerInfo {
            name: self.server_name.clone(),
            current: true,
            peer: self.peer_id.to_string(),
            ..PeerInfo::default()
        };
        std::iter::once(own).chain(others.iter().cloned()).collect()
    }

    /// Tells, once in the account and once in the system account, who leads a stream or one of its consumers.
    pub(crate) fn leader_elected(
        &self,
        account: &Arc<Account>,
        stream: &str,
        consumer: &str,
        info: &ClusterInfo,
    ) {
        let (what, name) = if consumer.is_empty() {
            ("STREAM", stream.to_owned())
        } else {
            ("CONSUMER", format!("{stream}.{consumer}"))
        };
        let subject = format!("{}{what}.LEADER_ELECTED.{name}", weir_jsapi::subject::ADVISORY_PREFIX);
        let kind = format!("{}_leader_elected", what.to_lowercase());
        let replicas = self.with_this_server(&info.replicas);
        for (target, said) in [(account, ""), (&self.hub.system_account(), account.name())] {
            let body = LeaderElected {
                account: said,
                stream,
                consumer,
                leader: &info.leader,
                replicas: &replicas,
                domain: self.domain_text(),
            };
            self.emit(target, &subject, &kind, body);
        }
    }

    /// Tells, once in the account and once in the system account, that a stream cannot go on.
    pub(crate) fn quorum_lost(&self, account: &Arc<Account>, stream: &str, others: &[PeerInfo]) {
        let replicas = &self.with_this_server(others);
        let subject = format!("{}STREAM.QUORUM_LOST.{stream}", weir_jsapi::subject::ADVISORY_PREFIX);
        for (target, said) in [(account, ""), (&self.hub.system_account(), account.name())] {
            let body =
                QuorumLost { account: said, stream, consumer: "", replicas, domain: self.domain_text() };
            self.emit(target, &subject, "stream_quorum_lost", body);
        }
    }

    /// Tells the system account that this server leads the meta group.
    pub(crate) fn meta_leader_elected(&self) {
        let Some(meta) = self.meta_snapshot() else { return };
        let body = DomainLeaderElected {
            leader: &self.peer_id.to_string(),
            replicas: &self.with_this_server(&meta.replicas),
            cluster: &meta.cluster_name,
            domain: self.domain_text(),
        };
        let subject = advisory::DOMAIN_LEADER_ELECTED;
        self.emit(&self.hub.system_account(), subject, "domain_leader_elected", body);
    }

    /// Tells the system account that a stream's store is full or broken here.
    pub(crate) fn out_of_storage(&self, stream: &str) {
        let body = ServerEvent {
            server: &self.server_name,
            server_id: &self.hub.options().server_id,
            stream,
            cluster: self.cluster.as_ref().map_or("", |cluster| &cluster.name),
            domain: self.domain_text(),
        };
        let subject = advisory::OUT_OF_STORAGE;
        self.emit(&self.hub.system_account(), subject, "server_out_of_space", body);
    }

    /// Tells the system account that this server left for good.
    pub(crate) fn server_removed(&self) {
        let body = ServerEvent {
            server: &self.server_name,
            server_id: &self.hub.options().server_id,
            stream: "",
            cluster: self.cluster.as_ref().map_or("", |cluster| &cluster.name),
            domain: self.domain_text(),
        };
        self.emit(&self.hub.system_account(), advisory::SERVER_REMOVED, "server_removed", body);
    }

    /// Tells the system account that API requests were dropped.
    pub(crate) fn limit_reached(&self, dropped: u64) {
        let body = ApiLimitReached { server: &self.server_name, domain: self.domain_text(), dropped };
        self.emit(&self.hub.system_account(), advisory::API_LIMIT_REACHED, "api_limit_reached", body);
    }
}
