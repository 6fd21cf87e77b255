//! Signing claims. Not reading them.

use super::claims::Claims;
use crate::nkey::KeyPair;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use data_encoding::BASE32_NOPAD;
use serde::Serialize;
use sha2::{Digest, Sha512_256};

const HEADER: &str = r#"{"typ":"JWT","alg":"ed25519-nkey"}"#;

/// Signs `claims` as of `now` (seconds since 1970); issuer, time and id are filled in.
pub fn encode<T: Default + Serialize>(mut claims: Claims<T>, key: &KeyPair, now: i64) -> String {
    claims.issuer = key.public();
    claims.issued_at = now;
    claims.id = String::new();
    claims.id = hash(&claims);
    // Serialising plain data into memory cannot fail.
    let payload = serde_json::to_vec(&claims).unwrap_or_default();
    let mut token = URL_SAFE_NO_PAD.encode(HEADER);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut token);
    let signature = key.sign(token.as_bytes());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    token
}

fn hash<T: Default + Serialize>(claims: &Claims<T>) -> String {
    let mut registered = serde_json::to_value(claims).unwrap_or_default();
    if let Some(fields) = registered.as_object_mut() {
        fields.remove("nats");
    }
    BASE32_NOPAD.encode(&Sha512_256::digest(registered.to_string()))
}
