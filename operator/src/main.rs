//! The `weir-operator` binary: command line only, the work is in the library.
use clap::{Parser, Subcommand};

/// Weir operator: runs NATS-compatible brokers on Kubernetes.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the CRDs as YAML, or write one file each into a directory.
    Crds {
        /// Directory to write to.
        #[arg(long)]
        out: Option<std::path::PathBuf>,
    },
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Crds { out } => write_crds(out.as_deref()),
    }
}

fn write_crds(out: Option<&std::path::Path>) -> anyhow::Result<()> {
    use std::io::Write;
    for (name, body) in weir_operator::crds::files()? {
        match out {
            Some(directory) => std::fs::write(directory.join(name), body)?,
            None => write!(std::io::stdout(), "---\n{body}")?,
        }
    }
    Ok(())
}
