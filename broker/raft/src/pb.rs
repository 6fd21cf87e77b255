//! Generated protobuf and gRPC code: `raft` for the lanes between brokers, `admin` for the operator.

/// Between brokers.
pub(crate) mod raft {
    #![expect(
        unused_qualifications,
        clippy::all,
        clippy::too_many_lines,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        unreachable_pub,
        reason = "generated code"
    )]
    tonic::include_proto!("weir.raft.v1");
}

/// The admin service.
pub mod admin {
    #![expect(
        unused_qualifications,
        clippy::too_many_lines,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        unreachable_pub,
        reason = "generated code"
    )]
    tonic::include_proto!("weir.admin.v1");
}
