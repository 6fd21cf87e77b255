//! The passwords of a Cluster: read from its Secrets, made where they are missing, never made anew.
use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use super::build::Credentials;
use super::names::Names;
use crate::context::Context;
use crate::error::KubeError;

/// Letters and digits of a made password: 190 bits.
const PASSWORD_CHARACTERS: usize = 32;
/// A password that a person put into the Secret may be this long.
const PASSWORD_CHARACTERS_MAX: usize = 256;
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The API server did not answer as hoped.
    #[error("cannot read Secret {name}: {source}")]
    Read {
        /// Which.
        name: String,
        /// Why.
        source: KubeError,
    },
    /// Somebody put a password there that would need quoting.
    #[error("Secret {name}: \"{key}\" may hold 1 to 256 letters, digits, '-', '_', '.' and '~' only")]
    Unfit {
        /// Which.
        name: String,
        /// Where in it.
        key: &'static str,
    },
    /// The system has no randomness.
    #[error("cannot make a password: {0}")]
    Random(#[from] getrandom::Error),
}

/// Reads the credentials of a Cluster; what is missing is made, and written by the caller with the Secrets.
pub async fn read_or_make(context: &Context, names: &Names) -> Result<Credentials, CredentialsError> {
    let api: Api<Secret> = context.api(&names.namespace);
    let (app, operator, cluster) = (names.app_secret(), names.operator_secret(), names.cluster_secret());
    let (app_now, operator_now, cluster_now) =
        futures::try_join!(read(&api, &app), read(&api, &operator), read(&api, &cluster))?;
    Ok(Credentials {
        app_password: value_or_new(&app, app_now.as_ref(), "password")?,
        operator_password: value_or_new(&operator, operator_now.as_ref(), "password")?,
        route_password: value_or_new(&cluster, cluster_now.as_ref(), "route-password")?,
        grpc_token: value_or_new(&cluster, cluster_now.as_ref(), "grpc-token")?,
    })
}

async fn read(api: &Api<Secret>, name: &str) -> Result<Option<Secret>, CredentialsError> {
    api.get_opt(name)
        .await
        .map_err(|source| CredentialsError::Read { name: name.to_owned(), source: source.into() })
}

fn value_or_new(name: &str, secret: Option<&Secret>, key: &'static str) -> Result<String, CredentialsError> {
    let Some(value) = secret.and_then(|secret| secret.data.as_ref()?.get(key)) else {
        return Ok(random_password()?);
    };
    let fit = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
    if value.0.is_empty() || value.0.len() > PASSWORD_CHARACTERS_MAX || !value.0.iter().all(fit) {
        return Err(CredentialsError::Unfit { name: name.to_owned(), key });
    }
    Ok(value.0.iter().map(|byte| char::from(*byte)).collect())
}

fn random_password() -> Result<String, getrandom::Error> {
    // Bytes at or above 248 = 4 * 62 are passed over, so that every character is as likely as any other.
    let mut password = String::with_capacity(PASSWORD_CHARACTERS);
    while password.len() < PASSWORD_CHARACTERS {
        let mut bytes = [0u8; PASSWORD_CHARACTERS];
        getrandom::fill(&mut bytes)?;
        let room = PASSWORD_CHARACTERS - password.len();
        let letters = bytes.iter().filter(|byte| **byte < 248).take(room);
        password.extend(letters.map(|byte| char::from(ALPHABET[usize::from(byte % 62)])));
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn secret(value: &str) -> Secret {
        let data = BTreeMap::from([("password".into(), k8s_openapi::ByteString(value.into()))]);
        Secret { data: Some(data), ..Secret::default() }
    }

    #[test]
    fn a_password_that_is_there_stays() {
        assert_eq!(value_or_new("s", Some(&secret("Kept-1")), "password").unwrap(), "Kept-1");
        assert!(value_or_new("s", Some(&secret("a\"b")), "password").is_err());
        assert!(value_or_new("s", Some(&secret("")), "password").is_err());
    }

    #[test]
    fn made_passwords_are_long_and_differ() {
        let made = || value_or_new("s", None, "password").unwrap();
        let (one, two) = (made(), made());
        assert_eq!(one.len(), PASSWORD_CHARACTERS);
        assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_ne!(one, two);
    }
}
