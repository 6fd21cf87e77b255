//! Auth callout: the question a server asks about a client, and whether an answer may be believed. Not the sending.

use crate::jwt::{
    self, Account, AuthorizationRequest, AuthorizationResponse, Claims, User, UserPermissionLimits,
};
use crate::nkey::KeyPair;
use crate::operator;
use crate::xkey::CurveKey;

/// Where questions go.
pub const SUBJECT: &str = "$SYS.REQ.USER.AUTH";
/// Who questions are meant for.
pub const AUDIENCE: &str = "nats-authorization-request";
/// The header that tells the server's curve key.
pub const XKEY_HEADER: &str = "Nats-Server-Xkey";

/// Writes and signs a question: `subject` is the issuer that is to answer, times in seconds since 1970.
pub fn encode_request(
    subject: &str,
    mut request: AuthorizationRequest,
    server: &KeyPair,
    now: i64,
    expires: i64,
) -> String {
    "authorization_request".clone_into(&mut request.kind);
    request.version = 2;
    let claims = Claims {
        audience: AUDIENCE.to_owned(),
        subject: subject.to_owned(),
        expires,
        nats: request,
        ..Claims::default()
    };
    jwt::encode(claims, server, now)
}

/// In what setting an answer is read.
#[derive(Debug, Clone, Copy)]
pub enum Setting<'a> {
    /// Users are configured: the issuer that must have signed.
    Configured {
        /// The public account key of the service.
        issuer: &'a str,
    },
    /// Operator mode: the account that asked.
    Operator {
        /// Its claims.
        account: &'a Claims<Account>,
        /// Whether it may use signing keys only.
        strict: bool,
    },
}

/// What an answer must fit.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The user key in the question.
    pub user: &'a str,
    /// The server's public key.
    pub server: &'a str,
    /// The account's name, for texts.
    pub account: &'a str,
    /// Who may have signed.
    pub setting: Setting<'a>,
    /// Nanoseconds since 1970.
    pub now: i128,
}

/// Opens an answer when it is encrypted. True: it was.
///
/// # Errors
/// When nobody but another could open it.
pub fn open(answer: &[u8], key: Option<(&CurveKey, &str)>, account: &str) -> Result<(Vec<u8>, bool), String> {
    if answer.is_empty() {
        return Err(format!("auth callout violation: \"no reason supplied\" on account {account:?}"));
    }
    match key {
        Some((own, sender)) if !answer.starts_with(jwt::PREFIX.as_bytes()) => {
            own.open(answer, sender).map(|plain| (plain, true)).map_err(|reason| {
                format!("error decrypting auth callout response on account {account:?}: {reason}")
            })
        }
        _ => Ok((answer.to_vec(), false)),
    }
}

/// The user an answer speaks of. `is_sealed` when only the service could have written it.
///
/// # Errors
/// Why it is not believed, or the service's own error.
pub fn read_response(
    answer: &[u8],
    is_sealed: bool,
    expected: &Expected<'_>,
) -> Result<Box<Claims<User>>, String> {
    let text = std::str::from_utf8(answer).map_err(|_| "the answer is no text".to_owned())?;
    let response = jwt::decode_authorization_response(text).map_err(|error| error.to_string())?;
    let seconds = crate::schedule::seconds(expected.now);
    if let Some(issue) = response.issues(seconds).first() {
        return Err(format!("authorization response had validation errors: {issue}"));
    }
    if response.subject != expected.user {
        return Err("auth callout violation: auth callout response is not for expected user".to_owned());
    }
    if response.audience != expected.server {
        return Err("auth callout violation: auth callout response is not for server".to_owned());
    }
    if !is_sealed {
        check_signer(&response, expected)?;
    }
    if !response.nats.error.is_empty() {
        return Err(format!("auth callout service returned an error: {}", response.nats.error));
    }
    jwt::decode_user(&response.nats.jwt).map_err(|error| error.to_string())
}

fn check_signer(response: &Claims<AuthorizationResponse>, expected: &Expected<'_>) -> Result<(), String> {
    let is_known = match expected.setting {
        Setting::Configured { issuer } => response.issuer == issuer,
        Setting::Operator { account, strict } => {
            let asserted = &response.nats.issuer_account;
            if !asserted.is_empty() && *asserted != account.subject {
                return Err(format!(
                    "auth callout response issuer account {asserted:?} is not the callout account"
                ));
            }
            response.issuer == account.subject
                || operator::signer(account, strict, &response.issuer).is_some()
        }
    };
    if is_known { Ok(()) } else { Err("auth callout signing key is unknown".to_owned()) }
}

/// Checks the user of an answer: its claims, its key. Placement comes next (`placement`).
///
/// # Errors
/// What is wrong with it.
pub fn check_user(user: &Claims<User>, expected: &Expected<'_>) -> Result<(), String> {
    if let Some(issue) = user.issues(crate::schedule::seconds(expected.now)).first() {
        return Err(format!("Error validating user JWT: {issue}"));
    }
    if user.subject != expected.user {
        return Err(format!(
            "Expected authorized user of {:?} but got {:?} on account {:?}",
            expected.user, user.subject, expected.account
        ));
    }
    Ok(())
}

/// The name or key of the account that the user is put into.
///
/// # Errors
/// When the service may not put it there.
pub fn placement(user: &Claims<User>, expected: &Expected<'_>) -> Result<String, String> {
    let account = expected.account;
    match expected.setting {
        Setting::Configured { issuer } => {
            if !user.nats.issuer_account.is_empty() {
                return Err(format!(
                    "error non operator mode account {account:?}: attempted to use issuer_account"
                ));
            }
            if user.issuer != issuer {
                let got = &user.issuer;
                return Err(format!(
                    "wrong issuer for auth callout response on account {account:?}, expected {issuer:?} got {got:?}"
                ));
            }
            Ok(user.audience.clone())
        }
        Setting::Operator { account: asking, .. } => {
            let target = user.account();
            if target != asking.subject && !asking.nats.authorization.allows(target) {
                let issuer = &user.issuer;
                return Err(format!(
                    "account {issuer:?} not permitted as valid account option for auth callout for account {account:?}"
                ));
            }
            Ok(target.to_owned())
        }
    }
}

/// The user's limits in operator mode, by the key that signed it for the account it is put into.
///
/// # Errors
/// When that key may not sign, or its scope does not fit.
pub fn limits_in(
    user: &Claims<User>,
    target: &Claims<Account>,
    strict: bool,
) -> Result<UserPermissionLimits, String> {
    if operator::signer(target, strict, &user.issuer).is_none() {
        return Err(format!("user JWT issuer {:?} is not known", user.issuer));
    }
    operator::scoped_limits(user, target, strict).map_err(|denial| match denial {
        operator::Denial::Quiet(text) | operator::Denial::Loud(text) => {
            text.replacen("User JWT", "user JWT", 1)
        }
        operator::Denial::ProxyRequired => "proxy required".to_owned(),
    })
}

/// The text with its first letter large, as warnings have it.
pub fn title_case(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests;
