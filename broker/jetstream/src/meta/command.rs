//! What the meta group's log holds, and its bytes: a version, then JSON. Meta commands are rare; clarity beats size.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use weir_jsapi::StreamConfig;

use super::Member;

/// Format of an encoded command.
const VERSION: u8 = 1;

/// One entry of the meta log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetaCommand {
    /// A stream with a configuration already normalised, on these peers.
    CreateStream { account: String, config: Box<StreamConfig>, peers: Vec<u64>, created_nanos: u64 },
    /// The stream's whole new configuration and peers.
    UpdateStream { account: String, config: Box<StreamConfig>, peers: Vec<u64> },
    DeleteStream { account: String, name: String },
    /// A member is new, or its name or endpoint changed.
    PutMember(Member),
    RemoveMember { id: u64 },
}

/// Why bytes are not meta state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetaCodecError {
    #[error("meta state is empty")]
    Empty,
    #[error("meta state has format {0}, this server reads format {1}")]
    Version(u8, u8),
    #[error("meta state: {0}")]
    Json(String),
}

impl MetaCommand {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        // Plain data with text keys: serialising to memory cannot fail.
        let written = serde_json::to_writer(&mut out, self);
        debug_assert!(written.is_ok(), "meta commands serialize: {written:?}");
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, MetaCodecError> {
        decode_versioned(bytes, VERSION)
    }
}

pub(super) fn decode_versioned<T: DeserializeOwned>(bytes: &[u8], version: u8) -> Result<T, MetaCodecError> {
    match bytes.split_first() {
        None => Err(MetaCodecError::Empty),
        Some((found, _)) if *found != version => Err(MetaCodecError::Version(*found, version)),
        Some((_, json)) => serde_json::from_slice(json).map_err(|error| MetaCodecError::Json(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_comes_back_as_it_went_in() {
        let config = StreamConfig { name: "A".to_owned(), max_age: 5, ..StreamConfig::default() };
        let command = MetaCommand::CreateStream {
            account: "$G".to_owned(),
            config: Box::new(config),
            peers: vec![u64::MAX, 2],
            created_nanos: 1,
        };
        assert_eq!(MetaCommand::decode(&command.encode()), Ok(command));
    }

    #[test]
    fn bytes_that_are_no_command_are_refused() {
        assert_eq!(MetaCommand::decode(b""), Err(MetaCodecError::Empty));
        assert_eq!(MetaCommand::decode(b"\x09{}"), Err(MetaCodecError::Version(9, 1)));
        assert!(matches!(MetaCommand::decode(b"\x01{"), Err(MetaCodecError::Json(_))));
    }
}
