//! WebSocket (RFC 6455) with permessage-deflate (RFC 7692), the server's side: the upgrade and the frames.
//! Not what the messages mean.

mod accept;
mod codec;
mod deflate;
mod frame;
mod origin;
mod request;
mod upgrade;

pub use accept::UpgradeError;
pub use codec::{FrameOptions, WebSocketCodec};
pub use frame::{FrameDecoder, FrameError, Frames};
pub use origin::{AllowedOrigin, OriginRules};
pub use request::{ParsedRequest, Request, parse_request};
pub use upgrade::{CookieNames, Refusal, Upgrade, UpgradeKind, UpgradeRules, judge};
