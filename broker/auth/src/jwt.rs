//! The JWTs of NATS: claims, reading and checking them, writing them. Not whether their issuer is trusted.

mod account;
mod activation;
mod authorization;
mod claims;
mod decode;
mod encode;
mod limits;
mod operator;
mod user;
mod validate;

pub use account::{
    Account, Export, ExternalAuthorization, Import, ImportType, JetStreamLimits, MessageTrace,
    OperatorLimits, SamplingRate, ServiceLatency, SigningKeys, UserScope, WeightedMapping,
};
pub use activation::Activation;
pub use authorization::{
    AuthorizationRequest, AuthorizationResponse, ClientInformation, ClientTls, ConnectInformation,
    ServerIdentity,
};
pub use claims::{Claims, is_revoked};
pub use decode::{
    DecodeError, Token, decode, decode_account, decode_activation, decode_authorization_response,
    decode_generic, decode_operator, decode_user, undecorated,
};
pub use encode::encode;
pub use limits::{Permission, Permissions, ResponsePermission, TimeRange, UserPermissionLimits};
pub use operator::Operator;
pub use user::User;
pub use validate::{Issue, Issues};

/// What every JWT begins with in base64 (`{"`).
pub const PREFIX: &str = "eyJ";
