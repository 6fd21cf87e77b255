//! Generates the client of the broker's admin service from the broker's own proto file.
//! Not the server side: that is the broker's.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    // From the folder it runs in: a path fixed when it was compiled would be another clone's with a shared target folder.
    let root = "../broker/raft/proto";
    println!("cargo:rerun-if-changed={root}/admin.proto");
    let descriptors = protox::compile(["admin.proto"], [root])?;
    tonic_prost_build::configure().build_server(false).compile_fds(descriptors)?;
    Ok(())
}
