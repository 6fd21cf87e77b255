//! Writes `src/errors.rs` from `errors.tsv`. Run from the root: `cargo run -p weir-jsapi --example error-table`.

fn main() -> std::io::Result<()> {
    let root = env!("CARGO_MANIFEST_DIR");
    let tsv = std::fs::read_to_string(format!("{root}/errors.tsv"))?;
    std::fs::write(format!("{root}/src/errors.rs"), weir_jsapi::error::render_table(&tsv))
}
