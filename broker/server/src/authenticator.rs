//! Who gets in: the hub's authenticator, put together from the options. Not what claims mean (weir-auth).

mod callout;
mod grants;
mod keys;
mod operator;
mod rules;

use std::sync::Arc;

use weir_auth::operator::proxy_key;
use weir_conf::Options;
use weir_hub::{
    Authenticator, CloseReason, ConnectionKind, Credentials, Decision, Hub, Identity, Principal, Refusal,
    Verdict, is_bcrypt,
};
use weir_proto::ConnectOptions;

use crate::resolver::Accounts;

pub(crate) use grants::{configured_permissions, jwt_permissions};
pub(crate) use keys::ServerKeys;

use callout::{Asker, Question};
use rules::{Judgement, Rules};

/// Decides on every client: by configured users, by JWTs, by asking a service.
pub(crate) struct Gatekeeper {
    rules: Arc<Rules>,
    /// Keys of proxies whose signature counts.
    proxies: Vec<String>,
    accounts: Option<Arc<Accounts>>,
    asker: Arc<Asker>,
}

impl Gatekeeper {
    /// By these options; `accounts` makes it operator mode.
    pub(crate) fn new(
        options: &Options,
        hub: &Arc<Hub>,
        keys: &Arc<ServerKeys>,
        accounts: Option<Arc<Accounts>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            rules: Arc::new(Rules::new(options)),
            proxies: options.proxies.iter().map(|proxy| proxy.key.clone()).collect(),
            accounts,
            asker: Arc::new(Asker::new(options, hub, keys)),
        })
    }

    fn decide(&self, credentials: &Credentials, is_silent: bool) -> Decision {
        let options = presented(credentials, self.accounts.is_some());
        let credentials = Credentials { options, ..credentials.clone() };
        let identity = Identity::of(&credentials.options, None);
        let Ok(proxy) = self.proxy_of(&credentials) else {
            return Decision::Now(Err(Refusal::because(CloseReason::ProxyNotTrusted, &identity)));
        };
        if let Some(accounts) = &self.accounts {
            let question = Question::new(credentials, proxy, is_silent);
            let (accounts, asker) = (Arc::clone(accounts), Arc::clone(&self.asker));
            return Decision::Later(Box::pin(operator::authenticate(accounts, asker, question)));
        }
        let judgement = self.rules.judge(&credentials, proxy.is_some());
        if !self.asker.is_configured() {
            return judgement.into_decision(proxy);
        }
        let question = Question::new(credentials, proxy, is_silent);
        Decision::Later(Box::pin(ask_configured(Arc::clone(&self.asker), judgement, question)))
    }

    /// The trusted proxy that vouches for the client; an error when one that is not trusted does.
    fn proxy_of(&self, credentials: &Credentials) -> Result<Option<String>, ()> {
        let signature = &credentials.options.proxy_sig;
        if signature.is_empty() || self.proxies.is_empty() {
            return Ok(None);
        }
        let key = proxy_key(&self.proxies, &credentials.nonce, signature).ok_or(())?;
        Ok(Some(key.to_owned()))
    }
}

/// Configured users with a service beside them.
async fn ask_configured(asker: Arc<Asker>, judgement: Judgement, mut question: Question) -> Verdict {
    let user = judgement.user.clone();
    question.proxy_required = judgement.proxy_required;
    let verdict = judgement.into_decision(question.proxy.clone()).verdict().await;
    let account = verdict.as_ref().map_or(weir_hub::GLOBAL_ACCOUNT, |principal| &principal.account);
    if !asker.is_in_scope(account) {
        return verdict;
    }
    if asker.is_own(user.as_deref()) {
        return asker.shielded(asker.telling(verdict));
    }
    let verdict = asker.ask_configured(&question).await;
    asker.shielded(verdict)
}

/// What the client says, with what its cookies say where CONNECT is silent.
fn presented(credentials: &Credentials, with_jwt: bool) -> ConnectOptions {
    let mut options = credentials.options.clone();
    let cookies = &credentials.transport.cookies;
    for (field, cookie) in [
        (&mut options.jwt, &cookies.jwt),
        (&mut options.user, &cookies.user),
        (&mut options.pass, &cookies.password),
        (&mut options.auth_token, &cookies.token),
    ] {
        if field.is_empty()
            && let Some(cookie) = cookie
        {
            field.clone_from(cookie);
        }
    }
    if !with_jwt {
        options.jwt.clear();
    }
    options
}

impl Authenticator for Gatekeeper {
    fn is_required(&self, kind: ConnectionKind) -> bool {
        self.accounts.is_some() || self.rules.is_required(kind)
    }

    fn is_announced(&self, kind: ConnectionKind) -> bool {
        self.is_required(kind) && !self.rules.has_announced_guest()
    }

    fn nonce_required(&self) -> bool {
        self.accounts.is_some() || self.rules.has_nkeys() || !self.proxies.is_empty()
    }

    fn authenticate(&self, credentials: &Credentials) -> Decision {
        self.decide(credentials, false)
    }

    fn authenticate_silent(&self, credentials: &Credentials) -> Option<Decision> {
        let kind = credentials.transport.kind;
        self.rules.lets_in_silent(kind).then(|| self.decide(credentials, true))
    }

    fn has_moved(&self, principal: &Principal) -> bool {
        self.accounts.is_none() && self.rules.has_moved(principal)
    }
}

/// Whether clients have to say who they are, by these options.
pub(crate) fn is_required(options: &Options) -> bool {
    is_operator_mode(options) || Rules::new(options).is_required(ConnectionKind::Standard)
}

/// Whether accounts and users come by JWT.
pub(crate) fn is_operator_mode(options: &Options) -> bool {
    !options.operator.jwts.is_empty() || !options.operator.trusted_keys.is_empty()
}

/// Some secret is written down as it is.
pub(crate) fn has_plain_secrets(options: &Options) -> bool {
    let users = options.users.iter().filter(|user| user.nkey.is_none());
    users.map(|user| user.password.as_str()).any(|text| !text.is_empty() && !is_bcrypt(text))
}

#[cfg(test)]
mod tests;
