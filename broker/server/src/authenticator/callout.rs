//! Asking a service about a client, and believing its answer or not. Not the rules of that (weir_auth::callout).

use std::{
    sync::{Arc, Weak},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::sync::mpsc;
use tracing::{debug, warn};
use weir_auth::{
    callout::{self, Expected, Setting},
    jwt::{
        Account as AccountClaims, AuthorizationRequest, Claims, ClientInformation, ClientTls,
        ConnectInformation, ServerIdentity, User, UserPermissionLimits,
    },
    nkey::{KeyPair, Kind},
    operator,
};
use weir_conf::{AuthCallout, Options};
use weir_hub::{
    Account, CloseReason, ConnectionKind, Credentials, Hub, Identity, InternalHandler, Principal, Refusal,
    Rule, Verdict,
};
use weir_stdx::time::UnixNanos;

use super::{ServerKeys, jwt_permissions};
use crate::{identity::short_hash, resolver::Accounts};

/// What is asked about.
pub(super) struct Question {
    pub(super) credentials: Credentials,
    /// The trusted proxy that vouches for the client.
    pub(super) proxy: Option<String>,
    /// The client only gets in through a proxy.
    pub(super) proxy_required: bool,
    /// The client began without CONNECT.
    pub(super) _is_silent: bool,
    /// The JWT the client showed, in operator mode.
    pub(super) jwt: String,
    /// What it was found to be before asking.
    pub(super) principal: Option<Principal>,
}

/// Asks.
pub(super) struct Asker {
    hub: Weak<Hub>,
    keys: Arc<ServerKeys>,
    configured: Option<AuthCallout>,
    tags: Vec<String>,
    timeout: Duration,
}

/// Who is asked, and who may answer.
struct Service<'a> {
    account: Arc<Account>,
    setting: Setting<'a>,
    /// What the question is addressed to.
    issuer: &'a str,
    /// The service's curve key; questions are encrypted for it.
    xkey: Option<&'a str>,
}

/// Now, in nanoseconds since 1970.
pub(super) fn now() -> i128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i128::try_from(since.as_nanos()).unwrap_or(i128::MAX)
}

impl Question {
    pub(super) fn new(credentials: Credentials, proxy: Option<String>, is_silent: bool) -> Self {
        Self {
            credentials,
            proxy,
            proxy_required: false,
            _is_silent: is_silent,
            jwt: String::new(),
            principal: None,
        }
    }

    pub(super) fn identity(&self) -> Identity {
        Identity::of(&self.credentials.options, None)
    }
}

impl Asker {
    pub(super) fn new(options: &Options, hub: &Arc<Hub>, keys: &Arc<ServerKeys>) -> Self {
        Self {
            hub: Arc::downgrade(hub),
            keys: Arc::clone(keys),
            configured: options.auth_callout.clone(),
            tags: options.server_tags.clone(),
            timeout: options.auth_timeout,
        }
    }

    /// A service is configured.
    pub(super) fn is_configured(&self) -> bool {
        self.configured.is_some()
    }

    /// The service has a say on clients that are in this account so far.
    pub(super) fn is_in_scope(&self, account: &str) -> bool {
        let Some(configured) = &self.configured else { return false };
        let allowed = &configured.allowed_accounts;
        account == weir_hub::GLOBAL_ACCOUNT
            || allowed.is_empty()
            || allowed.iter().any(|allowed| allowed == account)
    }

    /// The service connects as this configured user, which it is not asked about.
    pub(super) fn is_own(&self, user: Option<&str>) -> bool {
        let own = self.configured.iter().flat_map(|configured| &configured.auth_users);
        user.is_some_and(|user| own.into_iter().any(|known| known == user))
    }

    /// Clients in the service's account must not ask questions themselves.
    pub(super) fn shielded(&self, verdict: Verdict) -> Verdict {
        let account = self.configured.as_ref().map(|configured| configured.account.as_str());
        shielded(verdict, account)
    }

    /// Asks the configured service; its account is told of who is refused.
    pub(super) async fn ask_configured(&self, question: &Question) -> Verdict {
        self.telling(self.ask_configured_service(question).await)
    }

    /// Has the service's account told of a refusal.
    pub(super) fn telling(&self, verdict: Verdict) -> Verdict {
        let account = self.configured.as_ref().map(|configured| configured.account.as_str());
        verdict.map_err(|refusal| refusal.told_to(account.unwrap_or_default()))
    }

    async fn ask_configured_service(&self, question: &Question) -> Verdict {
        let refusal = Refusal::violation(&question.identity());
        let Some((configured, hub)) = self.configured.as_ref().zip(self.hub.upgrade()) else {
            return Err(refusal);
        };
        let Some(account) = hub.account(&configured.account) else {
            let name = &configured.account;
            warn!("No valid account {name:?} for auth callout request: account missing");
            return Err(refusal);
        };
        let service = Service {
            account,
            setting: Setting::Configured { issuer: &configured.issuer },
            issuer: &configured.issuer,
            xkey: configured.xkey.as_deref(),
        };
        let name = service.account.name().to_owned();
        let (user, expected_now) = self.ask(&hub, &service, question).await?;
        let place = |user: &Claims<User>| {
            let expected =
                Expected { account: &name, ..self.expected(&user.subject, "", &service, expected_now) };
            let target = callout::placement(user, &expected)?;
            match hub.account(&target) {
                Some(_) => Ok(target),
                None => Err(format!(
                    "no valid account {target:?} for auth callout response on account {name:?}: account missing"
                )),
            }
        };
        match place(&user) {
            Ok(target) => self.admitted(question, &user, user.nats.limits.clone(), &target, None, &name),
            Err(reason) => Err(complain(&reason, refusal)),
        }
    }

    /// Asks the service of an account, in operator mode; that account is told of who is refused.
    pub(super) async fn ask_account(
        &self,
        question: &Question,
        accounts: &Arc<Accounts>,
        asking: &Claims<AccountClaims>,
    ) -> Verdict {
        let verdict = self.ask_service_of(question, accounts, asking).await;
        verdict.map_err(|refusal| refusal.told_to(&asking.subject))
    }

    async fn ask_service_of(
        &self,
        question: &Question,
        accounts: &Arc<Accounts>,
        asking: &Claims<AccountClaims>,
    ) -> Verdict {
        let refusal = Refusal::violation(&question.identity());
        let Some((hub, account)) =
            self.hub.upgrade().and_then(|hub| hub.account(&asking.subject).map(|account| (hub, account)))
        else {
            return Err(refusal);
        };
        let xkey = &asking.nats.authorization.xkey;
        let service = Service {
            account,
            setting: Setting::Operator { account: asking, strict: accounts.is_strict(asking) },
            issuer: &asking.subject,
            xkey: (!xkey.is_empty()).then_some(xkey.as_str()),
        };
        let (user, asked_at) = self.ask(&hub, &service, question).await?;
        let name = asking.subject.clone();
        let place = async {
            let expected = self.expected(&user.subject, "", &service, asked_at);
            let expected = Expected { account: &name, ..expected };
            let target = callout::placement(&user, &expected)?;
            let claims = accounts.lookup(&target).await.map_err(|reason| {
                format!("no valid account {target:?} for auth callout response on account {name:?}: {reason}")
            })?;
            let limits = callout::limits_in(&user, &claims, accounts.is_strict(&claims))?;
            Ok::<_, String>((claims, limits))
        };
        match place.await {
            Ok((claims, limits)) => {
                let verdict = self.admitted(question, &user, limits, &claims.subject, Some(&claims), &name);
                shielded(verdict, Some(&asking.subject))
            }
            Err(reason) => Err(complain(&reason, refusal)),
        }
    }

    fn expected<'a>(&self, user: &'a str, server: &'a str, service: &Service<'a>, now: i128) -> Expected<'a> {
        Expected { user, server, account: "", setting: service.setting, now }
    }

    /// Sends the question and reads the answer: the user it names, and when it was read.
    async fn ask(
        &self,
        hub: &Arc<Hub>,
        service: &Service<'_>,
        question: &Question,
    ) -> Result<(Box<Claims<User>>, i128), Refusal> {
        let refusal = || Refusal::violation(&question.identity());
        let name = service.account.name().to_owned();
        let asked_at = now();
        let Some((user, random)) = one_time_user() else { return Err(refusal()) };
        let server = self.keys.server_id();
        let request = self.request(hub, service, question, &user);
        let seconds = weir_auth::schedule::seconds(asked_at);
        let expires = seconds.saturating_add(i64::try_from(self.timeout.as_secs()).unwrap_or(i64::MAX));
        let token = callout::encode_request(service.issuer, request, self.keys.pair(), seconds, expires);
        let (body, headers) = match service.xkey {
            None => (token.into_bytes(), Vec::new()),
            Some(xkey) => {
                let mut nonce = [0; weir_auth::xkey::NONCE_BYTES];
                let drawn = getrandom::fill(&mut nonce).is_ok();
                let sealed = self.keys.curve().seal(token.as_bytes(), xkey, nonce).filter(|_| drawn);
                let Some(sealed) = sealed else {
                    warn!("Error encrypting auth request claim on account {name:?}");
                    return Err(refusal());
                };
                let header = format!("NATS/1.0\r\n{}: {}\r\n\r\n", callout::XKEY_HEADER, self.keys.xkey());
                (sealed, header.into_bytes())
            }
        };
        let reply = format!("$SYS._INBOX.{}.{random:016x}", short_hash(&server));
        let Some(answer) = self.exchange(service, &reply, &headers, &body).await else {
            debug!("Authorization callout response not received in time on account {name:?}");
            return Err(refusal());
        };
        let expected = Expected { account: &name, ..self.expected(&user, &server, service, now()) };
        let own = service.xkey.map(|xkey| (self.keys.curve(), xkey));
        let read = callout::open(&answer, own, &name)
            .and_then(|(plain, is_sealed)| callout::read_response(&plain, is_sealed, &expected));
        let claims = read.map_err(|reason| complain(&reason, refusal()))?;
        if (question.proxy_required || claims.nats.limits.proxy_required) && question.proxy.is_none() {
            let refusal = Refusal::because(CloseReason::ProxyRequired, &question.identity());
            return Err(complain("proxy connection required", refusal));
        }
        callout::check_user(&claims, &expected).map_err(|reason| complain(&reason, refusal()))?;
        Ok((claims, expected.now))
    }

    /// Publishes the question and waits for the first answer.
    async fn exchange(
        &self,
        service: &Service<'_>,
        reply: &str,
        headers: &[u8],
        body: &[u8],
    ) -> Option<Vec<u8>> {
        let (tell, mut told) = mpsc::channel(1);
        let handler: InternalHandler = Arc::new(move |message| {
            // Later answers are for nobody.
            let _ = tell.try_send(message.payload.to_vec());
        });
        let _listening = service.account.subscribe_internal(reply, None, handler);
        let subject = callout::SUBJECT.as_bytes();
        service.account.publish(subject, Some(reply.as_bytes()), headers, body);
        tokio::time::timeout(self.timeout, told.recv()).await.ok().flatten()
    }

    fn request(
        &self,
        hub: &Arc<Hub>,
        service: &Service<'_>,
        question: &Question,
        user: &str,
    ) -> AuthorizationRequest {
        let info = hub.info();
        let credentials = &question.credentials;
        let options = &credentials.options;
        let principal = question.principal.as_ref();
        let shown = principal.map_or_else(|| question.identity(), |principal| principal.identity.clone());
        AuthorizationRequest {
            server: ServerIdentity {
                name: info.server_name,
                host: info.host,
                id: info.server_id,
                version: info.version,
                cluster: info.cluster,
                tags: self.tags.clone(),
                xkey: service.xkey.map(|_| self.keys.xkey()).unwrap_or_default(),
            },
            user_nkey: user.to_owned(),
            client_info: ClientInformation {
                host: credentials.address.ip().to_string(),
                id: credentials.connection,
                user: shown.shown().to_owned(),
                name: options.name.clone(),
                tags: principal.map(|principal| principal.tags.clone()).unwrap_or_default(),
                name_tag: principal.map(|principal| principal.name_tag.clone()).unwrap_or_default(),
                kind: "Client".to_owned(),
                protocol: match credentials.transport.kind {
                    ConnectionKind::WebSocket => "websocket",
                    ConnectionKind::Mqtt | ConnectionKind::MqttWs => "mqtt",
                    _ => "nats",
                }
                .to_owned(),
                mqtt_id: String::new(),
                nonce: if options.sig.is_empty() { String::new() } else { credentials.nonce.clone() },
            },
            connect_opts: ConnectInformation {
                jwt: if question.jwt.is_empty() { options.jwt.clone() } else { question.jwt.clone() },
                nkey: options.nkey.clone(),
                sig: options.sig.clone(),
                auth_token: options.auth_token.clone(),
                user: options.user.clone(),
                pass: options.pass.clone(),
                name: options.name.clone(),
                lang: options.lang.clone(),
                version: options.version.clone(),
                protocol: options.protocol,
            },
            client_tls: credentials.transport.tls.as_ref().map(|tls| ClientTls {
                version: tls.version.clone(),
                cipher: tls.cipher_suite.clone(),
                certs: Vec::new(),
                verified_chains: match tls.peer_certificates.as_slice() {
                    [] => Vec::new(),
                    chain => vec![chain.iter().map(|certificate| pem(certificate)).collect()],
                },
            }),
            ..AuthorizationRequest::default()
        }
    }

    /// The client as what the answer says it is.
    fn admitted(
        &self,
        question: &Question,
        user: &Claims<User>,
        limits: UserPermissionLimits,
        account: &str,
        target: Option<&Claims<AccountClaims>>,
        asking: &str,
    ) -> Verdict {
        let refusal = Refusal::violation(&question.identity());
        if limits.proxy_required && question.proxy.is_none() {
            let refusal = Refusal::because(CloseReason::ProxyRequired, &question.identity());
            return Err(complain("proxy connection required", refusal));
        }
        let Some(expires) = operator::expiry(user.expires, &limits, now()) else {
            let reason = format!("authorized user on account {asking:?} outside of valid connect times");
            return Err(complain(&reason, refusal));
        };
        if operator::check_connection_type(&limits.allowed_connection_types, "")
            == Err("invalid connection types")
        {
            let reason = format!("authorized user on account {asking:?} using invalid connection type");
            return Err(complain(&reason, refusal));
        }
        let granted = limits.permissions();
        let own = granted != weir_auth::jwt::Permissions::default();
        let permissions = if own {
            Some(Arc::new(jwt_permissions(&granted)))
        } else {
            target.and_then(crate::resolver::default_permissions)
        };
        let before = question.principal.as_ref();
        let identity = if user.name.is_empty() {
            before.map_or_else(|| question.identity(), |before| before.identity.clone())
        } else {
            Identity::User(user.name.clone())
        };
        Ok(Principal {
            account: account.to_owned(),
            identity,
            permissions,
            expires: expires.and_then(|expires| u64::try_from(expires).ok()).map(UnixNanos),
            nkey: user.subject.clone(),
            issuer_key: if user.nats.issuer_account.is_empty() {
                account.to_owned()
            } else {
                user.issuer.clone()
            },
            signing_key: if user.nats.issuer_account.is_empty() {
                String::new()
            } else {
                user.issuer.clone()
            },
            name_tag: before.map(|before| before.name_tag.clone()).unwrap_or_default(),
            tags: before.map(|before| before.tags.clone()).unwrap_or_default(),
            issued_at: user.issued_at,
            has_default_permissions: !own && target.is_some(),
            proxy_key: question.proxy.clone().unwrap_or_default(),
            ..Principal::default()
        })
    }
}

/// Keeps a client of the service's account from asking questions itself.
pub(super) fn shielded(verdict: Verdict, account: Option<&str>) -> Verdict {
    let mut principal = verdict?;
    if account == Some(principal.account.as_str()) {
        let mut permissions = principal.permissions.as_deref().cloned().unwrap_or_default();
        permissions.publish.deny.push(Rule::parse(callout::SUBJECT));
        principal.permissions = Some(Arc::new(permissions));
    }
    Ok(principal)
}

fn complain(reason: &str, refusal: Refusal) -> Refusal {
    warn!("{}", callout::title_case(reason));
    refusal
}

/// The public key of a user that exists for one question only, and a random number.
fn one_time_user() -> Option<(String, u64)> {
    let (mut seed, mut random) = ([0; 32], [0; 8]);
    getrandom::fill(&mut seed).ok()?;
    getrandom::fill(&mut random).ok()?;
    let pair = KeyPair::from_random(Kind::User, &seed)?;
    Some((pair.public(), u64::from_be_bytes(random)))
}

/// A certificate as text.
fn pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap_or_default()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
