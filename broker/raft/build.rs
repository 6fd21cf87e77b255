//! Generates the protobuf and gRPC code from `proto/` with a compiler written in Rust (no protoc).

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["proto/lanes.proto", "proto/admin.proto"], ["proto"])?;
    tonic_prost_build::configure().bytes(".weir.raft.v1").compile_fds(files)?;
    Ok(())
}
