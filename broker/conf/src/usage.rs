//! The help texts.

/// The help of `-h`, for a program of this name.
pub fn usage_text(program: &str) -> String {
    format!(
        "
Usage: {program} [options]{STORE}
{SERVER}{LOGGING}{JETSTREAM}{AUTHORIZATION}{TLS}{CLUSTER}{WEIR}{COMMON}"
    )
}

const STORE: &str = "
       weir store check|repair <dir>  Check or repair the store of a stopped server (weir store help)";
const SERVER: &str = "
Server Options:
    -a, --addr, --net <host>         Address to listen on for clients (default: 0.0.0.0)
    -p, --port <port>                Port for clients, -1 for a free one (default: 4222)
    -n, --name
        --server_name <server_name>  Name of this server (default: made up)
    -P, --pid <file>                 Write the process id to this file
    -m, --http_port <port>           Port for monitoring over HTTP
    -ms,--https_port <port>          Port for monitoring over HTTPS
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
    -s, --syslog                     Log to syslog
    -r, --remote_syslog <addr>       Address of a syslog server
    -D, --debug                      Debug output
    -V, --trace                      Trace the protocol
    -VV                              Trace the system account as well
    -DV                              Debug and trace
    -DVV                             Debug and trace, the system account as well
        --log_size_limit <limit>     Size at which the log file is rotated
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
TLS Options:
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
pub const TLS_HELP: &str = r#"
TLS is set up in a tls block: at the top of the configuration file for clients, in cluster for routes, in websocket
for browsers.

    tls {
        cert_file:      "./server-cert.pem"
        key_file:       "./server-key.pem"
        # Who signed the certificates of clients, and whether they must have one.
        ca_file:        "./ca.pem"
        verify:         true
        # The user is the one that the certificate names.
        verify_and_map: true
        # "1.2" or "1.3"
        min_version:    "1.2"
        # Seconds for the handshake; before INFO: true, auto or a time to wait.
        timeout:         2
        handshake_first: auto

        cipher_suites: [ "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" ]
        curve_preferences: [ "X25519" ]
    }

Cipher suites that are served:
    TLS_AES_128_GCM_SHA256
    TLS_AES_256_GCM_SHA384
    TLS_CHACHA20_POLY1305_SHA256
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
    TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
    TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
    TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
    TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
    TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256

Curves that are served:
    X25519
    CurveP256
    CurveP384

Others that nats-server knows are read and warned of.
"#;
