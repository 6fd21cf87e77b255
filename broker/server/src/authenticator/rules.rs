//! Configured users: names, nkeys, tokens, certificates. Pure but for the computing of hashes.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use tracing::{debug, warn};
use weir_auth::{
    certificate::{self, Candidate},
    distinguished_name::DistinguishedName,
    operator::check_signature,
};
use weir_conf::Options;
use weir_hub::{
    CloseReason, ConnectionKind, Credentials, Decision, GLOBAL_ACCOUNT, Identity, Permissions, Principal,
    Refusal, SYSTEM_ACCOUNT, Verdict, is_bcrypt, verify,
};

use super::configured_permissions;

/// A configured user.
struct Known {
    name: String,
    password: String,
    account: String,
    permissions: Option<Arc<Permissions>>,
    connection_types: BTreeSet<String>,
    proxy_required: bool,
}

impl Known {
    fn may_use(&self, kind: ConnectionKind) -> bool {
        self.connection_types.is_empty() || self.connection_types.contains(kind.name())
    }

    fn principal(&self, identity: Identity) -> Principal {
        Principal { identity, permissions: self.permissions.clone(), ..Principal::anonymous(&self.account) }
    }
}

/// One password or token in place of users.
#[derive(Default, Clone)]
struct Single {
    user: Option<String>,
    password: String,
    token: Option<String>,
}

/// What of the rules holds for one kind of connection.
struct Scope<'a> {
    single: &'a Single,
    no_auth_user: Option<&'a str>,
    maps_certificates: bool,
}

/// All configured users.
pub(super) struct Rules {
    users: HashMap<String, Arc<Known>>,
    nkeys: HashMap<String, Arc<Known>>,
    single: Single,
    proxy_required: bool,
    no_auth_user: Option<String>,
    /// `no_auth_user` is this server's own invention, of which INFO says nothing.
    is_guest_hidden: bool,
    maps_certificates: bool,
    websocket: Single,
    websocket_no_auth_user: Option<String>,
    websocket_maps_certificates: bool,
    has_websocket: bool,
}

/// The outcome, but for a hash that is still to be computed.
pub(super) struct Judgement {
    outcome: Outcome,
    /// The configured user that was found, whether or not it got in.
    pub(super) user: Option<String>,
    /// The user only gets in through a proxy.
    pub(super) proxy_required: bool,
}

enum Outcome {
    Known(Verdict),
    Hash { secret: String, given: String, principal: Principal, refusal: Refusal },
}

impl Judgement {
    fn now(verdict: Verdict) -> Self {
        Self { outcome: Outcome::Known(verdict), user: None, proxy_required: false }
    }

    fn of(self, user: &str, proxy_required: bool) -> Self {
        Self { user: Some(user.to_owned()), proxy_required, ..self }
    }

    /// Compares secrets; hashes are computed off the connection's thread.
    fn compare(secret: &str, given: &str, principal: Principal, refusal: Refusal) -> Self {
        if !is_bcrypt(secret) {
            return Self::now(if verify(secret, given) { Ok(principal) } else { Err(refusal) });
        }
        let (secret, given) = (secret.to_owned(), given.to_owned());
        let outcome = Outcome::Hash { secret, given, principal, refusal };
        Self { outcome, user: None, proxy_required: false }
    }

    /// The hub's form; `proxy` is noted with who got in.
    pub(super) fn into_decision(self, proxy: Option<String>) -> Decision {
        let proxied =
            move |principal: Principal| Principal { proxy_key: proxy.unwrap_or_default(), ..principal };
        match self.outcome {
            Outcome::Known(verdict) => Decision::Now(verdict.map(proxied)),
            Outcome::Hash { secret, given, principal, refusal } => Decision::Later(Box::pin(async move {
                let matches = tokio::task::spawn_blocking(move || verify(&secret, &given)).await;
                if matches.unwrap_or(false) { Ok(proxied(principal)) } else { Err(refusal) }
            })),
        }
    }
}

impl Rules {
    pub(super) fn new(options: &Options) -> Self {
        let (mut users, mut nkeys) = (HashMap::new(), HashMap::new());
        for user in &options.users {
            let known = Known {
                name: user.nkey.clone().unwrap_or_else(|| user.user.clone()),
                password: user.password.clone(),
                account: user.account.clone(),
                permissions: user
                    .permissions
                    .as_ref()
                    .map(|granted| Arc::new(configured_permissions(granted))),
                connection_types: user.allowed_connection_types.clone(),
                proxy_required: user.proxy_required,
            };
            let into = if user.nkey.is_some() { &mut nkeys } else { &mut users };
            into.insert(known.name.clone(), Arc::new(known));
        }
        let mut rules = Self {
            users,
            nkeys,
            single: Single { token: options.auth_token.clone(), ..Single::default() },
            proxy_required: options.proxy_required,
            no_auth_user: options.no_auth_user.clone(),
            is_guest_hidden: false,
            maps_certificates: options.tls.as_ref().is_some_and(|tls| tls.verify_and_map),
            websocket: Single::default(),
            websocket_no_auth_user: None,
            websocket_maps_certificates: false,
            has_websocket: false,
        };
        if let Some(websocket) = &options.websocket {
            rules.has_websocket = true;
            rules.websocket = Single {
                user: websocket.username.clone(),
                password: websocket.password.clone().unwrap_or_default(),
                token: websocket.token.clone(),
            };
            rules.websocket_no_auth_user.clone_from(&websocket.no_auth_user);
            rules.websocket_maps_certificates = websocket.tls.as_ref().is_some_and(|tls| tls.verify_and_map);
        }
        if has_users_of_the_system_only(options) {
            rules.invite_guests();
        }
        rules
    }

    /// Where only the system account has users, everybody else is let into the global account.
    fn invite_guests(&mut self) {
        let mut random = [0; 4];
        // The name only must not be a configured one.
        let _ = getrandom::fill(&mut random);
        let guest = format!("nats-{:08x}", u32::from_be_bytes(random));
        let known = Known {
            name: guest.clone(),
            password: guest.clone(),
            account: GLOBAL_ACCOUNT.to_owned(),
            permissions: None,
            connection_types: BTreeSet::new(),
            proxy_required: false,
        };
        self.users.insert(guest.clone(), Arc::new(known));
        self.no_auth_user = Some(guest);
        self.is_guest_hidden = true;
    }

    fn overrides_websocket(&self) -> bool {
        self.websocket.user.is_some()
            || self.websocket.token.is_some()
            || self.websocket_no_auth_user.is_some()
    }

    fn scope(&self, kind: ConnectionKind) -> Scope<'_> {
        let is_websocket = kind == ConnectionKind::WebSocket;
        let overridden = is_websocket && self.overrides_websocket();
        Scope {
            single: if overridden { &self.websocket } else { &self.single },
            no_auth_user: if overridden {
                self.websocket_no_auth_user.as_deref()
            } else {
                self.no_auth_user.as_deref()
            },
            maps_certificates: if is_websocket {
                self.websocket_maps_certificates
            } else {
                self.maps_certificates
            },
        }
    }

    /// Clients of that kind have to say who they are.
    pub(super) fn is_required(&self, kind: ConnectionKind) -> bool {
        let configured = !self.users.is_empty() || !self.nkeys.is_empty() || self.single.token.is_some();
        configured || (kind == ConnectionKind::WebSocket && self.overrides_websocket())
    }

    /// Somebody stands in for clients that say nothing, and INFO may show it.
    pub(super) fn has_announced_guest(&self) -> bool {
        self.no_auth_user.is_some() && !self.is_guest_hidden
    }

    pub(super) fn has_nkeys(&self) -> bool {
        !self.nkeys.is_empty()
    }

    /// Clients of that kind may begin without CONNECT.
    pub(super) fn lets_in_silent(&self, kind: ConnectionKind) -> bool {
        let websocket = self.websocket_no_auth_user.as_deref().filter(|_| kind == ConnectionKind::WebSocket);
        let guest = websocket.or(self.no_auth_user.as_deref()).and_then(|name| self.users.get(name));
        guest.is_some_and(|guest| !guest.proxy_required && guest.may_use(kind))
    }

    /// A user that got in under that name does not exist any more, or not in that account.
    pub(super) fn has_moved(&self, principal: &Principal) -> bool {
        let known = match &principal.identity {
            Identity::Nkey(key) => self.nkeys.get(key),
            Identity::User(name) => self.users.get(name),
            _ => return false,
        };
        known.is_none_or(|known| known.account != principal.account)
    }

    /// Whether the client gets in.
    pub(super) fn judge(&self, credentials: &Credentials, is_proxied: bool) -> Judgement {
        let kind = credentials.transport.kind;
        let scope = self.scope(kind);
        if !self.is_required(kind) {
            return Judgement::now(Ok(Principal::anonymous(GLOBAL_ACCOUNT)));
        }
        let options = &credentials.options;
        let is_silent = options.user.is_empty() && options.pass.is_empty() && options.auth_token.is_empty();
        let mut nkey = options.nkey.as_str();
        if let Some(guest) = scope.no_auth_user
            && is_silent
            && nkey.is_empty()
            && self.nkeys.contains_key(guest)
        {
            nkey = guest;
        }
        if !self.nkeys.is_empty() && !nkey.is_empty() {
            return self.judge_nkey(nkey, &scope, credentials, is_proxied);
        }
        let refusal = Refusal::violation(&Identity::of(options, None));
        if self.users.is_empty() {
            return self.judge_single(&scope, credentials, is_proxied, refusal);
        }
        if scope.maps_certificates {
            return match self.by_certificate(credentials) {
                Some(user) => self.judge_user(&user, Some(&options.pass), &scope, credentials, is_proxied),
                None => Judgement::now(Err(refusal)),
            };
        }
        let guest = scope.no_auth_user.filter(|_| is_silent).and_then(|name| self.users.get(name));
        if let Some(guest) = guest {
            if !guest.may_use(kind) {
                return Judgement::now(Err(refusal));
            }
            return self.judge_user(guest, None, &scope, credentials, is_proxied);
        }
        if options.user.is_empty() {
            return self.judge_single(&scope, credentials, is_proxied, refusal);
        }
        match self.users.get(&options.user).filter(|user| user.may_use(kind)) {
            Some(user) => self.judge_user(user, Some(&options.pass), &scope, credentials, is_proxied),
            None => Judgement::now(Err(refusal)),
        }
    }

    fn judge_nkey(
        &self,
        nkey: &str,
        scope: &Scope<'_>,
        credentials: &Credentials,
        is_proxied: bool,
    ) -> Judgement {
        let identity = Identity::Nkey(nkey.to_owned());
        let Some(user) = self.nkeys.get(nkey).filter(|user| user.may_use(credentials.transport.kind)) else {
            return Judgement::now(Err(Refusal::violation(&identity)));
        };
        if user.proxy_required && !is_proxied {
            let refusal = Refusal::because(CloseReason::ProxyRequired, &identity);
            return Judgement::now(Err(refusal)).of(nkey, true);
        }
        if scope.no_auth_user != Some(nkey)
            && let Err(reason) = check_signature(nkey, &credentials.nonce, &credentials.options.sig)
        {
            debug!("{} - cid:{} - {reason}", credentials.address, credentials.connection);
            return Judgement::now(Err(Refusal::violation(&identity))).of(nkey, user.proxy_required);
        }
        let principal = Principal { issuer_key: user.account.clone(), ..user.principal(identity) };
        Judgement::now(Ok(principal)).of(nkey, user.proxy_required)
    }

    /// `given` is the password; `None` for a client that says nothing and becomes this user.
    fn judge_user(
        &self,
        user: &Known,
        given: Option<&str>,
        scope: &Scope<'_>,
        credentials: &Credentials,
        is_proxied: bool,
    ) -> Judgement {
        let options = &credentials.options;
        let identity = if options.nkey.is_empty() {
            Identity::User(user.name.clone())
        } else {
            Identity::Nkey(options.nkey.clone())
        };
        if user.proxy_required && !is_proxied {
            let refusal = Refusal::because(CloseReason::ProxyRequired, &identity);
            return Judgement::now(Err(refusal)).of(&user.name, true);
        }
        let refusal = Refusal::violation(&identity);
        let is_guest = scope.no_auth_user == Some(user.name.as_str());
        if !scope.maps_certificates && user.password.is_empty() && !is_guest && self.could_be_mapped(user) {
            debug!("User {:?} requires a client certificate", user.name);
            return Judgement::now(Err(refusal)).of(&user.name, user.proxy_required);
        }
        let principal = user.principal(identity);
        let judgement = match given {
            Some(given) => Judgement::compare(&user.password, given, principal, refusal),
            None => Judgement::now(Ok(principal)),
        };
        judgement.of(&user.name, user.proxy_required)
    }

    fn could_be_mapped(&self, user: &Known) -> bool {
        (self.maps_certificates && user.may_use(ConnectionKind::Standard))
            || (self.has_websocket
                && self.websocket_maps_certificates
                && user.may_use(ConnectionKind::WebSocket))
    }

    fn judge_single(
        &self,
        scope: &Scope<'_>,
        credentials: &Credentials,
        is_proxied: bool,
        refusal: Refusal,
    ) -> Judgement {
        let options = &credentials.options;
        let identity = Identity::of(options, None);
        if self.proxy_required && !is_proxied {
            return Judgement::now(Err(Refusal::because(CloseReason::ProxyRequired, &identity)));
        }
        let principal = Principal { identity, ..Principal::anonymous(GLOBAL_ACCOUNT) };
        if let Some(token) = &scope.single.token {
            return Judgement::compare(token, &options.auth_token, principal, refusal);
        }
        match &scope.single.user {
            Some(user) if *user == options.user => {
                Judgement::compare(&scope.single.password, &options.pass, principal, refusal).of(user, false)
            }
            _ => Judgement::now(Err(refusal)),
        }
    }

    /// The user that a name in the client's certificate stands for.
    fn by_certificate(&self, credentials: &Credentials) -> Option<Arc<Known>> {
        let kind = credentials.transport.kind;
        let label = || format!("{} - cid:{}", credentials.address, credentials.connection);
        let Some(tls) = &credentials.transport.tls else {
            debug!("{} - User required in cert, no TLS connection state", label());
            return None;
        };
        let Some(own) = tls.peer_certificates.first() else {
            debug!("{} - User required in cert, no peer certificates found", label());
            return None;
        };
        if tls.peer_certificates.len() > 1 {
            debug!("{} - Multiple peer certificates found, selecting first", label());
        }
        let Some(candidates) = certificate::candidates(own) else {
            debug!("{} - User required in cert, none found", label());
            return None;
        };
        for candidate in candidates {
            let named = |text: &str| self.users.get(text).filter(|user| user.may_use(kind)).cloned();
            let (found, how) = match &candidate {
                Candidate::Email(text) => (named(text), "email found in cert"),
                Candidate::DnsName(text) => (named(text), "SAN found in cert"),
                Candidate::Uri(text) => (named(text), "URI found in cert"),
                Candidate::Subject(name) => (self.by_name(name, kind), "DistinguishedNameMatch"),
                Candidate::WithDomainComponents(text) => (named(text), "RDNSequence"),
                Candidate::Text(text) => (named(text), "certificate subject"),
            };
            if let Some(user) = found {
                debug!("{} - Using {how} for auth [{:?}]", label(), user.name);
                if !credentials.options.user.is_empty() {
                    let name = &credentials.options.user;
                    warn!("User {name:?} found in connect proto, but user required from cert");
                }
                return Some(user);
            }
        }
        debug!("{} - User in cert [{:?}], not found", label(), certificate::subject_text(own));
        None
    }

    fn by_name(&self, name: &DistinguishedName, kind: ConnectionKind) -> Option<Arc<Known>> {
        let mut reordered = None;
        for user in self.users.values().filter(|user| user.may_use(kind)) {
            let Some(known) = DistinguishedName::parse(&user.name) else { continue };
            if known.matches(name) {
                return Some(Arc::clone(user));
            }
            if known.matches_reordered(name) {
                reordered = Some(Arc::clone(user));
            }
        }
        reordered
    }
}

/// Only the system account has users: nats-server then lets everybody else into the global one.
fn has_users_of_the_system_only(options: &Options) -> bool {
    let system = options.system_account.as_deref().unwrap_or(SYSTEM_ACCOUNT);
    let is_only_account = options.accounts.keys().all(|name| name == system || name == GLOBAL_ACCOUNT);
    !options.users.is_empty()
        && options.accounts.contains_key(system)
        && is_only_account
        && options.no_auth_user.is_none()
        && options.auth_token.is_none()
        && options.single_user.is_none()
        && options.users.iter().all(|user| user.account == system)
}
