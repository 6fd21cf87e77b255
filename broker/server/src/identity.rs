//! Short ids of servers, as nats-server shows them.

use sha2::{Digest as _, Sha256};

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The eight characters nats-server shows for a server's name where it needs a short id.
pub(crate) fn short_hash(name: &str) -> String {
    let digest = Sha256::digest(name.as_bytes());
    digest[..8].iter().map(|byte| char::from(BASE62[usize::from(byte % 62)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_hash_is_the_one_of_nats_server() {
        assert_eq!(short_hash("ref"), "1y6PZ16X");
    }
}
