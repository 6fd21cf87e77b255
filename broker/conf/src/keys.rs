//! Public nkeys in the configuration: are they keys, and of what kind.

/// The kinds of public keys that the configuration names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyKind {
    Operator,
    Account,
    User,
    Curve,
    /// Any public key.
    Any,
}

impl KeyKind {
    fn prefixes(self) -> &'static str {
        match self {
            Self::Operator => "O",
            Self::Account => "A",
            Self::User => "U",
            Self::Curve => "X",
            Self::Any => "OAUXNC",
        }
    }
}

/// `text` is a public key of this kind: its first letter says so, and its checksum is right.
pub(crate) fn is_valid(text: &str, kind: KeyKind) -> bool {
    text.starts_with(|first| kind.prefixes().contains(first)) && nkeys::from_public_key(text).is_ok()
}

/// `text` is the seed of a user.
pub(crate) fn is_user_seed(text: &str) -> bool {
    text.starts_with("SU") && nkeys::KeyPair::from_seed(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_by_kind_and_checksum() {
        let account = "ADMHMDX2LEUJRZQHGVSVRWZEJ2CPNHYO6TB4ZCZ37LXAX5SYNEW252GF";
        let keys = nkeys::KeyPair::new_account();
        let key = keys.public_key();
        assert!(is_valid(&key, KeyKind::Account) && is_valid(&key, KeyKind::Any));
        assert!(!is_valid(&key, KeyKind::User));
        assert!(!is_valid(&account[..55], KeyKind::Account));
        assert!(!is_valid("Añ", KeyKind::Account));
    }
}
