//! The help texts.

/// The help of `-h`, for a program of this name.
pub fn usage_text(program: &str) -> String {
    format!(
        "
Usage: {program} [options]
{SERVER}{LOGGING}{JETSTREAM}{AUTHORIZATION}{TLS}{CLUSTER}{WEIR}{COMMON}"
    )
}

const SERVER: &str = "
Server Options:
    -a, --addr, --net <host>         Address to listen on for clients (default: 0.0.0.0)
    -p, --port <port>                Port for clients, -1 for a free one (default: 4222)
    -n, --name
        --server_name <server_name>  Name of this server (default: made up)
    -P, --pid <file>                 Write the process id to this file
    -m, --http_port <port>           Port for monitoring over HTTP
    -ms,--https_port <port>          Port for monitoring over HTTPS (not supported yet)
    -c, --config <file>              Configuration file
    -t                               Check the configuration file and exit
    -sl,--signal <signal>[=<pid>]    Signal a running server (ldm, stop, quit, term, reopen, reload);
                                     <pid> is a process id or the path of a pid file
        --client_advertise <string>  Address that clients are told to connect to
        --ports_file_dir <dir>       Write <executable>_<pid>.ports into this directory
";
const LOGGING: &str = "
Logging Options:
    -l, --log <file>                 Log to this file instead of standard error
    -T, --logtime                    Timestamps in the log (default: true)
        --logtime_utc                Timestamps in UTC (default: false)
    -s, --syslog                     Log to syslog (not supported yet)
    -r, --remote_syslog <addr>       Address of a syslog server (not supported yet)
    -D, --debug                      Debug output
    -V, --trace                      Trace the protocol
    -VV                              Trace the system account as well
    -DV                              Debug and trace
    -DVV                             Debug and trace, the system account as well
        --log_size_limit <limit>     Size at which the log file is rotated (not supported yet)
        --max_traced_msg_len <len>   Bytes of a message shown in a trace (default: all)
";
const JETSTREAM: &str = "
JetStream Options:
    -js, --jetstream                 Enable JetStream
    -sd, --store_dir <dir>           Directory of the store
";
const AUTHORIZATION: &str = "
Authorization Options:
        --user <user>                User that clients must present
        --pass <password>            Password of that user
        --auth <token>               Token that clients must present
";
const TLS: &str = "
TLS Options (not supported yet, refused):
        --tls                        TLS without client certificates
        --tlscert <file>             Certificate of the server
        --tlskey <file>              Private key of the certificate
        --tlsverify                  TLS with client certificates
        --tlscacert <file>           Authority of the client certificates
";
const CLUSTER: &str = "
Cluster Options:
        --routes <rurl-1, rurl-2>    Servers to make routes to
        --cluster <cluster-url>      URL to accept routes on
        --cluster_name <string>      Name of the cluster (default: made up)
        --no_advertise <bool>        Do not tell clients of the other servers
        --cluster_advertise <string> Address that other servers are told to connect to
        --connect_retries <number>   Attempts for routes learnt from other servers
        --cluster_listen <url>       URL to accept routes on
";
const WEIR: &str = "
Weir Options:
        --weir_grpc <host:port>      Address of the gRPC service for replication and administration
        --cluster_secret_file <file> File with the secret that servers of one cluster share
";
const COMMON: &str = "
Common Options:
    -h, --help                       Show this text
    -v, --version                    Show the version
        --help_tls                   Help on TLS

";

/// The help of `--help_tls`.
pub const TLS_HELP: &str = "
TLS is not supported yet: a configuration or a flag that asks for it is refused.
";
