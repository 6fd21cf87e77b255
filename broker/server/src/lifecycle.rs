//! One server from its start to its end: starts the rooms, waits for signals, reloads, stops.

use std::{sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};
use tracing::{error, info};
use weir_conf::{Options, RunRequest, SystemSources};
use weir_hub::{Hub, HubOptions, Limits, new_server_id};
use weir_monitor::{ClusterSettings, Monitor, ServerSettings};

use crate::{
    COMPATIBLE_VERSION,
    app::Program,
    authenticator::authenticator,
    files::{Ports, PortsFile, write_pid_file},
    jetstream::{self, RunningJetStream},
    listen,
    log::{self, LogOptions},
    monitoring::{self, ServerSource},
    reload, startup,
};

/// How long clients get to take what is on its way to them when the server stops.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);

/// Runs a server until a signal ends it. The error is what kept it from starting.
pub(crate) async fn run(request: RunRequest, program: Program) -> Result<(), String> {
    let mut signals = Signals::new().map_err(|error| format!("Can't catch signals: {error}"))?;
    let mut server = Server::start(request, &program).await?;
    loop {
        match signals.next().await {
            Caught::Terminate(name) => {
                info!("Trapped {name:?} signal");
                break;
            }
            Caught::Reload => {
                info!("Trapped \"hangup\" signal");
                server.reload();
            }
            Caught::Reopen => {
                info!("Trapped \"user defined signal 1\" signal");
                match log::reopen() {
                    Ok(true) => info!("File log re-opened"),
                    Ok(false) => {}
                    Err(message) => error!("{message}"),
                }
            }
            Caught::LameDuck => {
                info!("Trapped \"user defined signal 2\" signal");
                if server.lame_duck(&mut signals).await {
                    break;
                }
            }
        }
    }
    server.stop().await;
    Ok(())
}

/// What a signal asks for.
enum Caught {
    /// With the signal's name.
    Terminate(&'static str),
    Reload,
    Reopen,
    LameDuck,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user_1: Signal,
    user_2: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
            user_2: signal(SignalKind::user_defined2())?,
        })
    }

    async fn next(&mut self) -> Caught {
        tokio::select! {
            _ = self.terminate.recv() => Caught::Terminate("terminated"),
            _ = self.interrupt.recv() => Caught::Terminate("interrupt"),
            _ = self.hangup.recv() => Caught::Reload,
            _ = self.user_1.recv() => Caught::Reopen,
            _ = self.user_2.recv() => Caught::LameDuck,
        }
    }
}

/// A running server.
struct Server {
    request: RunRequest,
    hub: Arc<Hub>,
    jetstream: Option<Arc<RunningJetStream>>,
    source: Arc<ServerSource>,
    /// Dropped or set: monitoring ends.
    stopping: watch::Sender<bool>,
    _ports_file: Option<PortsFile>,
}

impl Server {
    async fn start(request: RunRequest, program: &Program) -> Result<Self, String> {
        let options = &request.options;
        if options.cluster.is_some() {
            return Err("Error starting the cluster: not supported yet".to_owned());
        }
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|error| format!("no randomness: {error}"))?;
        let server_id = new_server_id(random);
        let name = match options.server_name.as_str() {
            "" => server_id.clone(),
            name => name.to_owned(),
        };
        startup::greeting(program, options, &server_id, &name);
        if let Some(path) = &options.pid_file {
            write_pid_file(path)?;
        }
        let hub = Hub::new(hub_options(options, &server_id, &name), limits(options), authenticator(options));
        for account in options.accounts.keys() {
            hub.ensure_account(account);
        }
        let settings = settings(options, &server_id, &name);
        let source = ServerSource::new(Arc::clone(&hub), settings, options.jetstream.is_some());
        let source = Arc::new(source);
        let (stopping, _) = watch::channel(false);
        let mut ports = Ports::default();
        start_monitoring(options, &source, &stopping, &mut ports)?;
        let jetstream = jetstream::start(options, &name, &hub, None).await?.map(Arc::new);
        if let Some(jetstream) = &jetstream {
            source.set_jetstream(Arc::clone(jetstream));
        }
        let port = serve_clients(options, &hub, &mut ports)?;
        source.update_settings(|settings| settings.port = port);
        source.set_accepting(true);
        info!("Server is ready");
        let ports_file = match &options.ports_file_dir {
            None => None,
            Some(directory) => PortsFile::write(directory, &program.name, &ports)
                .inspect_err(|message| error!("{message}"))
                .ok(),
        };
        Ok(Self { request, hub, jetstream, source, stopping, _ports_file: ports_file })
    }

    /// Reads the configuration again and takes over what can change; else keeps what it has.
    fn reload(&mut self) {
        if let Err(message) = self.try_reload() {
            error!("Failed to reload server configuration: {}", message.trim_end());
        }
    }

    fn try_reload(&mut self) -> Result<(), String> {
        let new = self.request.flags.options(&SystemSources).map_err(|error| error.to_string())?;
        let changes = reload::plan(&self.request.options, &new)?;
        log::apply(&LogOptions::of(&new))?;
        if let Some(path) = new.pid_file.as_ref().filter(|_| self.request.options.pid_file != new.pid_file) {
            write_pid_file(path)?;
        }
        for account in new.accounts.keys() {
            self.hub.ensure_account(account);
        }
        self.hub.set_limits(limits(&new));
        self.hub.set_authenticator(authenticator(&new));
        self.source.update_settings(|settings| {
            let (id, name) = (settings.server_id.clone(), settings.server_name.clone());
            let (port, http_port) = (settings.port, settings.http_port);
            let start = settings.start;
            *settings = self::settings(&new, &id, &name);
            settings.port = port;
            settings.http_port = http_port;
            settings.start = start;
        });
        for change in &changes {
            info!("Reloaded: {change}");
        }
        info!("Reloaded server configuration ({})", new.config_digest);
        self.request.options = new;
        Ok(())
    }

    /// Lets the clients go one by one. True when the server is to stop, which a signal may ask for
    /// before the last client is gone.
    async fn lame_duck(&self, signals: &mut Signals) -> bool {
        info!("Entering lame duck mode, stop accepting new clients");
        self.source.set_accepting(false);
        let options = &self.request.options;
        let (duration, grace) = (options.lame_duck_duration, options.lame_duck_grace_period);
        let leaving = async {
            if let Some(jetstream) = &self.jetstream {
                jetstream.node.hand_over().await;
            }
            self.hub.enter_lame_duck(duration, grace).await;
        };
        tokio::pin!(leaving);
        loop {
            tokio::select! {
                () = &mut leaving => return true,
                caught = signals.next() => {
                    if let Caught::Terminate(name) = caught {
                        info!("Trapped {name:?} signal");
                        return true;
                    }
                }
            }
        }
    }

    async fn stop(self) {
        info!("Initiating Shutdown...");
        self.source.set_accepting(false);
        if let Some(jetstream) = &self.jetstream {
            info!("Initiating JetStream Shutdown...");
            jetstream.node.hand_over().await;
            jetstream.node.shutdown().await;
            info!("JetStream Shutdown");
        }
        self.hub.shutdown(SHUTDOWN_LIMIT).await;
        self.stopping.send_replace(true);
        info!("Server Exiting..");
    }
}

fn start_monitoring(
    options: &Options,
    source: &Arc<ServerSource>,
    stopping: &watch::Sender<bool>,
    ports: &mut Ports,
) -> Result<(), String> {
    let Some(port) = options.http_port else { return Ok(()) };
    let host = match options.http_host.as_str() {
        "" => &options.host,
        host => host,
    };
    let listener = listen::bind(host, port)
        .map_err(|reason| format!("Can't start monitoring: can't listen to the monitor port: {reason}"))?;
    let port = listen::port_of(&listener);
    info!("Starting http monitor on {}", listen::join(host, port));
    ports.monitoring = vec![format!("http://{}", listen::join(reachable(host), port))];
    source.update_settings(|settings| {
        host.clone_into(&mut settings.http_host);
        settings.http_port = port;
    });
    let listener = TcpListener::from_std(listener).map_err(|error| error.to_string())?;
    let monitor = Monitor::new(Arc::<ServerSource>::clone(source));
    let base_path = options.http_base_path.clone();
    let mut stopped = stopping.subscribe();
    tokio::spawn(async move {
        let stop = async move {
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        weir_monitor::serve(listener, monitor, &base_path, stop).await;
    });
    Ok(())
}

/// Gives the port.
fn serve_clients(options: &Options, hub: &Arc<Hub>, ports: &mut Ports) -> Result<u16, String> {
    let listener = listen::bind(&options.host, options.port).map_err(|reason| {
        let address = format!("{}:{}", options.host, options.port);
        format!("Error listening on port: {address}, {reason:?}")
    })?;
    let port = listen::port_of(&listener);
    info!("Listening for client connections on {}", listen::join(&options.host, port));
    ports.nats = vec![format!("nats://{}", listen::join(reachable(&options.host), port))];
    let listener = TcpListener::from_std(listener).map_err(|error| error.to_string())?;
    tokio::spawn(Arc::clone(hub).serve(listener));
    Ok(port)
}

/// A host that clients on this machine can use.
fn reachable(host: &str) -> &str {
    match host {
        "" | "0.0.0.0" | "::" => "127.0.0.1",
        host => host,
    }
}

fn hub_options(options: &Options, server_id: &str, name: &str) -> HubOptions {
    HubOptions {
        server_id: server_id.to_owned(),
        server_name: name.to_owned(),
        version: COMPATIBLE_VERSION.to_owned(),
        git_commit: startup::git_commit().to_owned(),
        language: "rust".to_owned(),
        host: options.host.clone(),
        port: u16::try_from(options.port).unwrap_or(0),
        jetstream: options.jetstream.is_some(),
        domain: options.jetstream.as_ref().and_then(|jetstream| jetstream.domain.clone()),
        cluster: options.cluster.as_ref().map(|cluster| cluster.name.clone()),
        ..HubOptions::default()
    }
}

fn limits(options: &Options) -> Limits {
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    Limits {
        max_payload: size(options.max_payload.into()),
        max_control_line: size(options.max_control_line.into()),
        max_pending: size(options.max_pending),
        max_connections: usize::try_from(options.max_connections).unwrap_or(0),
        max_subscriptions: size(options.max_subscriptions),
        ping_interval: options.ping_interval,
        ping_max: options.ping_max,
        write_deadline: options.write_deadline,
        auth_timeout: options.auth_timeout,
    }
}

fn settings(options: &Options, server_id: &str, name: &str) -> ServerSettings {
    let now = monitoring::now();
    let cluster = options.cluster.as_ref().map(|cluster| ClusterSettings {
        name: cluster.name.clone(),
        host: cluster.host.clone(),
        port: u16::try_from(cluster.port).unwrap_or(0),
        auth_timeout: cluster.auth_timeout,
        urls: cluster.routes.iter().map(|url| url.authority(6222)).collect(),
        pool_size: cluster.pool_size,
    });
    ServerSettings {
        server_id: server_id.to_owned(),
        server_name: name.to_owned(),
        version: COMPATIBLE_VERSION.to_owned(),
        git_commit: startup::git_commit().to_owned(),
        toolchain: "rust".to_owned(),
        host: options.host.clone(),
        port: u16::try_from(options.port).unwrap_or(0),
        auth_required: authenticator(options).is_required(),
        max_connections: options.max_connections,
        max_subscriptions: options.max_subscriptions,
        ping_interval: options.ping_interval,
        ping_max: options.ping_max,
        http_host: options.http_host.clone(),
        http_port: 0,
        http_base_path: options.http_base_path.clone(),
        auth_timeout: options.auth_timeout,
        max_control_line: options.max_control_line,
        max_payload: options.max_payload,
        max_pending: options.max_pending,
        write_deadline: options.write_deadline,
        cluster,
        start: now,
        config_load_time: now,
        config_digest: options.config_digest.clone(),
        system_account: match (&options.system_account, options.no_system_account) {
            (_, true) => String::new(),
            (Some(name), _) => name.clone(),
            (None, _) => weir_hub::SYSTEM_ACCOUNT.to_owned(),
        },
        tags: options.server_tags.clone(),
        metadata: options.server_metadata.clone(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
    }
}
