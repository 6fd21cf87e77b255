//! The `weir-operator` binary: command line and logs only, the work is in the library.
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use weir_operator::api::v1alpha1::GoDuration;
use weir_operator::context::Settings;
use weir_operator::run::{Options, run};

/// Weir operator: runs replicated, NATS-compatible message brokers on Kubernetes.
///
/// It turns Clusters into brokers, and Streams and Consumers into what JetStream keeps in them. Install it with the
/// chart charts/weir or with manifests/weir.yaml.
#[derive(Parser)]
#[command(version, about, long_about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Work: watch Clusters, Streams and Consumers, and make them so.
    ///
    /// Uses the cluster it runs in, or that of KUBECONFIG. Ends on TERM or INT; ends with an error when the lease
    /// is lost, so that no two operators ever work at once.
    Run(RunArguments),
    /// Print the CRDs as YAML, or write a file each into a directory.
    Crds {
        /// Directory to write to, instead of standard output.
        #[arg(long, value_name = "DIRECTORY")]
        out: Option<PathBuf>,
    },
}

#[derive(Args)]
struct RunArguments {
    /// Image of brokers whose Cluster names none.
    #[arg(long, env = "WEIR_BROKER_IMAGE", value_name = "IMAGE")]
    broker_image: Option<String>,
    /// Look at this namespace only; all when not given.
    #[arg(long, env = "WEIR_WATCH_NAMESPACE", value_name = "NAMESPACE")]
    watch_namespace: Option<String>,
    /// DNS domain of the Kubernetes cluster.
    #[arg(long, env = "WEIR_CLUSTER_DOMAIN", value_name = "DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
    /// How often streams and consumers are compared with what the broker has, e.g. 30s; 1s to 1h.
    #[arg(long, env = "WEIR_DRIFT_INTERVAL", value_name = "DURATION", default_value = "30s", value_parser = drift_interval)]
    drift_interval: Duration,
    /// Address of /healthz and /metrics.
    #[arg(long, env = "WEIR_LISTEN", value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// Name of the lease that decides which of several operators works.
    #[arg(long, env = "WEIR_LEASE_NAME", value_name = "NAME", default_value = "weir-operator")]
    lease_name: String,
    /// Namespace of that lease, and of this operator.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE", default_value = "default")]
    lease_namespace: String,
    /// Work without a lease; for one operator on a workstation only.
    #[arg(long)]
    no_lease: bool,
    /// Name of this operator among several.
    #[arg(long, env = "POD_NAME", value_name = "NAME", default_value = "weir-operator")]
    pod_name: String,
    /// What to log: error, warn, info, debug, trace, or a filter such as "info,weir_operator=debug".
    #[arg(long, env = "WEIR_LOG", value_name = "FILTER", default_value = "info")]
    log: String,
    /// How to log.
    #[arg(long, env = "WEIR_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

fn drift_interval(text: &str) -> Result<Duration, String> {
    let nanoseconds = GoDuration(text.to_owned()).nanoseconds().and_then(|it| u64::try_from(it).ok());
    let interval = nanoseconds.map(Duration::from_nanos).ok_or("no duration such as 30s or 5m")?;
    let range = Duration::from_secs(1)..=Duration::from_secs(3600);
    range.contains(&interval).then_some(interval).ok_or_else(|| "it must be 1s to 1h".to_owned())
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Run(arguments) => work(arguments),
        Command::Crds { out } => write_crds(out.as_deref()),
    }
}

fn work(arguments: RunArguments) -> anyhow::Result<()> {
    // The client's own account of its connections is for whoever asks for it.
    let filter = tracing_subscriber::EnvFilter::try_new(format!("async_nats=warn,{}", arguments.log))
        .map_err(|error| anyhow::anyhow!("--log {}: {error}", arguments.log))?;
    let colours = std::io::stderr().is_terminal();
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    match arguments.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    let options = Options {
        lease: (!arguments.no_lease).then_some((arguments.lease_namespace, arguments.lease_name)),
        listen: arguments.listen,
        settings: Settings {
            broker_image: arguments.broker_image.filter(|image| !image.is_empty()),
            watch_namespace: arguments.watch_namespace.filter(|namespace| !namespace.is_empty()),
            cluster_domain: arguments.cluster_domain,
            drift_interval: arguments.drift_interval,
            pod_name: arguments.pod_name,
        },
    };
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(options))
}

fn write_crds(out: Option<&Path>) -> anyhow::Result<()> {
    for (name, body) in weir_operator::crds::files()? {
        match out {
            Some(directory) => std::fs::write(directory.join(name), body)?,
            None => write!(std::io::stdout(), "---\n{body}")?,
        }
    }
    Ok(())
}
