//! Generates the client of the broker's admin service from the broker's own proto file.
//! Not the server side: that is the broker's.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../broker/raft/proto");
    println!("cargo:rerun-if-changed={}", root.join("admin.proto").display());
    let descriptors = protox::compile(["admin.proto"], [root])?;
    tonic_prost_build::configure().build_server(false).compile_fds(descriptors)?;
    Ok(())
}
