//! Who a client is: CONNECT, the authenticator's verdict, permissions that change. Not its other operations.

use super::session::Session;
use crate::auth::{Credentials, Decision, Identity, Principal, Refusal, Verdict};
use crate::close_reason::CloseReason;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tracing::error;
use weir_proto::{ConnectOptions, err};

impl Session {
    pub(super) fn on_connect(&mut self, json: &[u8]) -> Result<(), CloseReason> {
        let options = ConnectOptions::from_json(json).map_err(|error| {
            self.complain(&format!("CONNECT is not valid: {error}"));
            CloseReason::ProtocolViolation
        })?;
        if self.connected {
            // A second CONNECT is another login: nothing of the first is kept.
            self.handle.drop_subscriptions();
        }
        let credentials = self.credentials(options.clone());
        self.pending_options = Some(Box::new(options));
        self.note_first_round_trip();
        match self.hub.authenticator().authenticate(&credentials) {
            Decision::Now(verdict) => self.on_verdict(verdict),
            Decision::Later(verdict) => {
                self.pending_authentication = Some(verdict);
                Ok(())
            }
        }
    }

    fn credentials(&self, options: ConnectOptions) -> Credentials {
        Credentials {
            options,
            connection: self.handle.id,
            started: self.handle.started,
            address: self.handle.address(),
            nonce: self.nonce.as_deref().unwrap_or_default().to_owned(),
            transport: self.handle.transport.load_full().unwrap_or_default(),
        }
    }

    /// A client that begins without CONNECT: it may be allowed to.
    pub(super) fn on_silent_start(&mut self) -> Result<(), CloseReason> {
        let credentials = self.credentials(ConnectOptions::default());
        match self.hub.authenticator().authenticate_silent(&credentials) {
            None => Err(self.refuse(&Refusal::violation(&Identity::Nobody))),
            Some(Decision::Now(verdict)) => self.on_verdict(verdict),
            Some(Decision::Later(verdict)) => {
                self.pending_authentication = Some(verdict);
                Ok(())
            }
        }
    }

    pub(super) fn take_pending_authentication(
        &mut self,
    ) -> Option<Pin<Box<dyn Future<Output = Verdict> + Send>>> {
        self.pending_authentication.take()
    }

    pub(super) fn on_verdict(&mut self, verdict: Verdict) -> Result<(), CloseReason> {
        let options = self.pending_options.take();
        let mut principal = match verdict {
            Ok(principal) => principal,
            Err(refusal) => {
                if let Some(options) = options {
                    self.note_refused(&options);
                }
                return Err(self.refuse(&refusal));
            }
        };
        let Some(options) = options else {
            self.join(principal)?;
            self.connected = true;
            return Ok(());
        };
        if principal.identity == Identity::Nobody {
            principal.identity = Identity::of(&options, None);
        }
        // Accounts named by clients were never more than an experiment; nats-server refuses them as well.
        if !options.account.is_empty() || options.new_account {
            let refusal = Refusal::violation(&principal.identity);
            self.note_refused(&options);
            self.join(principal)?;
            return Err(self.refuse(&refusal));
        }
        if !(0..=1).contains(&options.protocol) {
            self.error(err::INVALID_CLIENT_PROTOCOL);
            self.complain(err::INVALID_CLIENT_PROTOCOL);
            return Err(CloseReason::BadClientProtocolVersion);
        }
        if options.no_responders && !(options.headers && self.hub.limits().headers) {
            self.error(err::NO_RESPONDERS_NEEDS_HEADERS);
            self.complain(err::NO_RESPONDERS_NEEDS_HEADERS);
            return Err(CloseReason::NoRespondersRequiresHeaders);
        }
        self.join(principal)?;
        let headers = options.headers && self.hub.limits().headers;
        self.echo = options.echo;
        self.verbose = options.verbose;
        self.pedantic = options.pedantic;
        self.headers = headers;
        self.no_responders = options.no_responders;
        self.protocol = options.protocol;
        self.connected = true;
        self.handle.headers.store(headers, Ordering::Relaxed);
        self.handle.async_info.store(options.protocol >= 1, Ordering::Relaxed);
        let mut state = self.handle.state.write();
        state.credentials = Some(self.credentials((*options).clone()));
        state.options = without_secrets(&options);
        let is_first = !std::mem::replace(&mut state.connected, true);
        drop(state);
        self.hub.observe(|observer| {
            if let Some(account) = self.account.as_ref().filter(|_| is_first) {
                observer.account_changed(account);
            }
            observer.connected(&self.handle.snapshot(false));
        });
        self.acknowledge();
        Ok(())
    }

    /// Keeps what a client said that is refused. Of one that is in already, what it said first stays known.
    fn note_refused(&self, options: &ConnectOptions) {
        let mut state = self.handle.state.write();
        if !state.connected {
            state.identity = Identity::of(options, None);
            state.options = without_secrets(options);
        }
    }

    /// Refuses the client and tells the observer; returns the reason to close with.
    pub(super) fn refuse(&mut self, refusal: &Refusal) -> CloseReason {
        if !refusal.log.is_empty() {
            error!("{} - {}", self.handle.label(), refusal.log);
        }
        if !refusal.answer.is_empty() {
            self.error(&refusal.answer);
        }
        let reason = refusal.reason;
        let account = match &refusal.account {
            Some(name) => self.hub.account(name),
            None => Some(self.account.clone().unwrap_or_else(|| self.hub.global_account())),
        };
        self.hub.observe(|observer| {
            observer.authentication_failed(&self.handle.snapshot(false), reason, account.as_ref());
        });
        reason
    }

    /// Until a PING is answered, the time from accepting to CONNECT stands for the round trip.
    fn note_first_round_trip(&self) {
        if self.handle.rtt_nanos.load(Ordering::Relaxed) == 0 {
            let waited = crate::hub::now().since(self.handle.started);
            let nanos = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
            self.handle.rtt_nanos.store(nanos.max(1), Ordering::Relaxed);
        }
    }

    /// Binds the connection to an account, once.
    pub(super) fn join(&mut self, principal: Principal) -> Result<(), CloseReason> {
        let account = self.hub.ensure_account(&principal.account);
        let default = account.settings().default_permissions.clone();
        let permissions = principal.permissions.clone().or(default);
        self.take_permissions(permissions.clone());
        self.user_limits = principal.limits;
        let handle = Arc::clone(&self.handle);
        let mut state = handle.state.write();
        let is_same = state.account.as_ref().is_some_and(|known| Arc::ptr_eq(known, &account));
        state.identity.clone_from(&principal.identity);
        state.permissions = permissions;
        self.expires = principal.expires;
        state.expires = principal.expires;
        state.principal = Some(Arc::new(Principal { permissions: state.permissions.clone(), ..principal }));
        if is_same {
            drop(state);
            self.apply_limits(&account);
            return Ok(());
        }
        if account.is_full() {
            drop(state);
            return Err(self.refuse_in_full_account());
        }
        let old = state.account.replace(Arc::clone(&account));
        drop(state);
        if let Some(old) = old {
            old.count_connection(false);
            let subscriptions = std::mem::take(&mut *self.handle.subscriptions.lock());
            for subscription in subscriptions.values() {
                old.unsubscribe(subscription);
            }
            if self.connected {
                self.hub.observe(|observer| observer.account_changed(&old));
            }
        }
        account.count_connection(true);
        // Of a client that is about to connect, CONNECT tells.
        if self.connected {
            self.hub.observe(|observer| observer.account_changed(&account));
        }
        self.apply_limits(&account);
        self.account = Some(account);
        Ok(())
    }
}

/// What CONNECT said, for those who ask about the connection later.
fn without_secrets(options: &ConnectOptions) -> ConnectOptions {
    ConnectOptions { pass: String::new(), auth_token: String::new(), jwt: String::new(), ..options.clone() }
}
