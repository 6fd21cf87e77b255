//! One server from its start to its end: starts the rooms, waits for signals, reloads, stops.

use std::{sync::Arc, time::Duration};

use tokio::sync::{mpsc, watch};
use tracing::{error, info};
use weir_conf::{Options, RunRequest, SystemSources};
use weir_hub::{Hub, OpenDoor};
use weir_net::tls::ServerTls;
use weir_stdx::rng::SeededRng;

use crate::{
    accounts,
    app::Program,
    authenticator::{Gatekeeper, ServerKeys},
    cluster::{self, RunningCluster},
    doors::{ClientListener, WebSocketListener, reachable, reload_monitoring, start_monitoring},
    entrance,
    files::{Ports, PortsFile, write_pid_file},
    jetstream::{self, RunningJetStream},
    listen,
    log::{self, LogOptions},
    monitoring::ServerSource,
    ocsp::{Lasting, Ocsp},
    reload, resolver,
    settings::{hub_options, limits, settings},
    signals::{Caught, Signals},
    startup,
    system::{Command, System},
};

/// Commands from the system account that may wait.
const COMMANDS_MAX: usize = 16;
/// How long clients get to take what is on its way to them when the server stops.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);

/// Runs a server until a signal ends it. The error is what kept it from starting.
pub(crate) async fn run(request: RunRequest, program: Program) -> Result<(), String> {
    let mut signals = Signals::new().map_err(|error| format!("Can't catch signals: {error}"))?;
    let mut server = Server::start(request, &program).await?;
    loop {
        let caught = tokio::select! {
            caught = signals.next() => caught,
            Some(command) = server.commands.recv() => {
                if server.obey(command).await {
                    break;
                }
                continue;
            }
        };
        match caught {
            Caught::Terminate(name) => {
                info!("Trapped {name:?} signal");
                break;
            }
            Caught::Reload => {
                info!("Trapped \"hangup\" signal");
                // The log says what went wrong.
                let _ = server.reload().await;
            }
            Caught::Reopen => {
                info!("Trapped \"user defined signal 1\" signal");
                match log::reopen(&LogOptions::of(&server.request.options)) {
                    Ok(true) => info!("File log re-opened"),
                    Ok(false) => info!("File log re-open ignored, not a file logger"),
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

/// A running server.
struct Server {
    request: RunRequest,
    hub: Arc<Hub>,
    keys: Arc<ServerKeys>,
    /// The accounts of operator mode.
    claims: Option<Arc<resolver::Accounts>>,
    jetstream: Option<Arc<RunningJetStream>>,
    cluster: Option<Arc<RunningCluster>>,
    source: Arc<ServerSource>,
    /// Absent when the configuration wants none.
    system: Option<Arc<System>>,
    /// From the system account and what watches over certificates.
    commands: mpsc::Receiver<Command>,
    ocsp: Ocsp,
    /// What of it lasts from reload to reload.
    lasting: Lasting,
    /// Of the monitoring endpoints.
    monitoring_tls: Option<Arc<ServerTls>>,
    /// Dropped or set: monitoring ends.
    stopping: watch::Sender<bool>,
    _ports_file: Option<PortsFile>,
}

impl Server {
    async fn start(request: RunRequest, program: &Program) -> Result<Self, String> {
        let options = &request.options;
        let (command_sender, commands) = mpsc::channel(COMMANDS_MAX);
        let lasting = Lasting::new(command_sender.clone());
        let mut ocsp = Ocsp::prepare(options, &lasting).await?;
        let mut entrances = entrance::load(options, &ocsp.revocations)?;
        let random = random()?;
        let keys = Arc::new(ServerKeys::draw()?);
        let server_id = keys.server_id();
        resolver::check(options)?;
        let name = match options.server_name.as_str() {
            "" => server_id.clone(),
            name => name.to_owned(),
        };
        let made_up = || weir_stdx::id::random_text(&mut SeededRng::new(seed_of(random)), 22);
        let cluster_name = cluster::name(options, made_up);
        let shown_cluster = cluster_name.as_ref().map(|(name, _)| name.as_str());
        startup::greeting(program, options, &server_id, &name, shown_cluster);
        weir_hub::show_in_traces(options.max_traced_msg_len, options.trace_headers);
        startup::modes(options);
        ocsp.start();
        if let Some(path) = &options.pid_file {
            write_pid_file(path).map_err(|reason| format!("Could not write pidfile: {reason}"))?;
        }
        let clients = ClientListener::bind(options)?;
        let hub = Hub::new(
            hub_options(options, &keys, &name, clients.port, cluster_name.as_ref()),
            limits(options),
            Arc::new(OpenDoor),
        );
        hub.set_entrance(entrances.clients);
        let websocket = WebSocketListener::bind(entrances.websocket.as_mut(), options)?;
        if let Some(entrance) = entrances.websocket {
            hub.set_websocket(entrance);
        }
        accounts::check(options, hub.options().cluster.as_deref())?;
        accounts::apply(&hub, options, None);
        let claims = open_door(options, &hub, &keys)?;
        let settings = settings(options, &server_id, &name);
        let source = ServerSource::new(Arc::clone(&hub), settings, options.jetstream.is_some());
        let source = Arc::new(source);
        let (stopping, _) = watch::channel(false);
        let mut ports = Ports::default();
        source.set_ocsp_cache(ocsp.cache.clone());
        let revocations = &ocsp.revocations;
        let monitoring_tls = start_monitoring(options, revocations, &source, &stopping, &mut ports)?;
        let cluster = cluster::start(options, &hub, cluster_name, &revocations.routes)?.map(Arc::new);
        if let Some(cluster) = &cluster {
            ports.cluster = cluster_ports(options, cluster);
            source.set_cluster(Arc::clone(cluster));
        }
        resolver::start(claims.as_ref(), options).await?;
        let jetstream_cluster = match cluster.as_ref().filter(|_| options.jetstream.is_some()) {
            Some(cluster) => Some(cluster.for_jetstream(options)?),
            None => None,
        };
        let jetstream = jetstream::start(options, &name, &hub, jetstream_cluster).await?.map(Arc::new);
        introduce_jetstream(jetstream.as_ref(), &source, claims.as_ref());
        show_ports(&source, &hub, clients.port);
        let system = (!options.no_system_account)
            .then(|| System::start(&hub, &source, seed_of(random).rotate_left(1), command_sender));
        lasting.tell_events_to(system.as_ref());
        if let Some(websocket) = websocket {
            websocket.serve(&hub, &mut ports)?;
        }
        clients.serve(options, &hub, &mut ports)?;
        source.set_accepting(true);
        info!("Server is ready");
        if let Some(cluster) = &cluster {
            cluster.announce();
        }
        let ports_file = ports_file(options, program, &ports);
        Ok(Self {
            request,
            hub,
            keys,
            claims,
            jetstream,
            cluster,
            source,
            system,
            commands,
            ocsp,
            lasting,
            monitoring_tls,
            stopping,
            _ports_file: ports_file,
        })
    }

    /// Does what is asked for; true when that is the end.
    async fn obey(&mut self, command: Command) -> bool {
        let Command::Reload(done) = command else { return true };
        let outcome = self.reload().await;
        // Who asked may have gone.
        let _ = done.send(outcome);
        false
    }

    /// Reads the configuration again and takes over what can change; else keeps what it has.
    async fn reload(&mut self) -> Result<(), String> {
        let outcome = self.try_reload().await.map_err(|message| message.trim_end().to_owned());
        if let Err(message) = &outcome {
            error!("Failed to reload server configuration: {message}");
        }
        outcome
    }

    async fn try_reload(&mut self) -> Result<(), String> {
        if self.request.options.config_file.is_none() {
            let message = "can only reload config when a file is provided using -c or --config";
            return Err(message.to_owned());
        }
        let new = self.request.flags.options(&SystemSources).map_err(|error| error.to_string())?;
        let changes = reload::plan(&self.request.options, &new)?;
        // What can fail comes first, and of that last what cannot be taken back.
        resolver::check(&new)?;
        accounts::check(&new, self.hub.options().cluster_name().as_deref())?;
        let ocsp = Ocsp::prepare(&new, &self.lasting).await?;
        let revocations = &ocsp.revocations;
        let routes = match &self.cluster {
            Some(cluster) => {
                Some((Arc::clone(cluster), cluster.prepare_reload(&new, &self.hub, &revocations.routes)?))
            }
            None => None,
        };
        let prepared = log::prepare(&LogOptions::of(&new))?;
        let current = self.hub.websocket();
        let entrance = self.hub.entrance();
        let mut entrances = entrance::reload(&new, revocations, &entrance, current.as_deref())?;
        if let Some(tls) = &self.monitoring_tls {
            // The same files have just been read.
            reload_monitoring(tls, &new, revocations)?;
        }
        self.take_over(ocsp);
        weir_hub::show_in_traces(new.max_traced_msg_len, new.trace_headers);
        accounts::apply(&self.hub, &new, Some(&self.request.options));
        if let Some(jetstream) = &self.jetstream {
            jetstream.reload(&self.request.options, &new);
        }
        self.hub.set_limits(limits(&new));
        self.hub.set_entrance(entrances.clients);
        if let (Some(entrance), Some(current)) = (&mut entrances.websocket, current) {
            entrance.port = current.port;
            self.hub.set_websocket(entrance.clone());
        }
        if let Some(claims) = &self.claims {
            claims.reload(&new).await;
        }
        self.hub.set_authenticator(Gatekeeper::new(&new, &self.hub, &self.keys, self.claims.clone()));
        self.hub.recheck_credentials().await;
        if let Some((cluster, Some(options))) = routes {
            cluster.topology.reload(options).await;
        }
        self.source.update_settings(|settings| {
            let kept = settings.clone();
            *settings = crate::settings::settings(&new, &kept.server_id, &kept.server_name);
            settings.keep_bound(kept);
        });
        let closed = self.hub.enforce_max_connections();
        for change in &changes {
            if closed > 0 && change.is_of("max_connections") {
                info!("Closed {closed} connections to fall within max_connections");
            }
            if change.is_of("pid_file")
                && let Some(path) = &new.pid_file
                && let Err(reason) = write_pid_file(path)
            {
                error!("Failed to write pidfile: {reason}");
            }
            info!("{change}");
        }
        prepared.apply();
        if let Some(system) =
            self.system.as_ref().filter(|_| changes.iter().any(reload::Change::is_in_statistics))
        {
            system.tell_statsz();
        }
        info!("Reloaded server configuration ({})", new.config_digest);
        self.request.options = new;
        Ok(())
    }

    fn take_over(&mut self, mut ocsp: Ocsp) {
        self.ocsp.stop();
        ocsp.start();
        self.source.set_ocsp_cache(ocsp.cache.clone());
        self.ocsp = ocsp;
    }

    /// Lets the clients go one by one. True when the server is to stop, which a signal may ask for
    /// before the last client is gone.
    async fn lame_duck(&self, signals: &mut Signals) -> bool {
        info!("Entering lame duck mode, stop accepting new clients");
        self.source.set_accepting(false);
        if let Some(system) = &self.system {
            system.lame_duck();
        }
        let options = &self.request.options;
        let (duration, grace) = (options.lame_duck_duration, options.lame_duck_grace_period);
        if let Some(cluster) = &self.cluster {
            cluster.topology.enter_lame_duck();
        }
        let leaving = async {
            let hand_over = async {
                if let Some(jetstream) = &self.jetstream {
                    jetstream.node.hand_over().await;
                }
            };
            tokio::join!(hand_over, self.hub.enter_lame_duck(duration, grace));
        };
        tokio::pin!(leaving);
        loop {
            tokio::select! {
                () = &mut leaving => return true,
                () = self.last_client_left() => return true,
                caught = signals.next() => {
                    if let Caught::Terminate(name) = caught {
                        info!("Trapped {name:?} signal");
                        return true;
                    }
                }
            }
        }
    }

    /// Nobody is left to wait for.
    async fn last_client_left(&self) {
        const POLL: Duration = Duration::from_millis(50);
        loop {
            tokio::time::sleep(POLL).await;
            if self.hub.connection_count() == 0 {
                return;
            }
        }
    }

    async fn stop(mut self) {
        info!("Initiating Shutdown...");
        self.ocsp.stop();
        self.source.set_accepting(false);
        if let Some(system) = &self.system {
            system.stop();
        }
        if let Some(jetstream) = &self.jetstream {
            info!("Initiating JetStream Shutdown...");
            jetstream.node.hand_over().await;
            jetstream.node.shutdown().await;
            info!("JetStream Shutdown");
        }
        self.hub.shutdown(SHUTDOWN_LIMIT).await;
        if let Some(cluster) = &self.cluster {
            cluster.topology.shutdown(SHUTDOWN_LIMIT).await;
        }
        self.stopping.send_replace(true);
        info!("Server Exiting..");
    }
}

/// Shows JetStream to the monitor, and tells it of the accounts of operator mode.
fn introduce_jetstream(
    jetstream: Option<&Arc<RunningJetStream>>,
    source: &ServerSource,
    claims: Option<&Arc<resolver::Accounts>>,
) {
    let Some(jetstream) = jetstream else { return };
    source.set_jetstream(Arc::clone(jetstream));
    if let Some(claims) = claims {
        claims.serve_jetstream(jetstream);
    }
}

/// Bytes that nobody can guess.
fn random() -> Result<[u8; 32], String> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| format!("no randomness: {error}"))?;
    Ok(random)
}

/// Monitoring shows the ports that were really taken.
fn show_ports(source: &ServerSource, hub: &Hub, port: u16) {
    let websocket_port = hub.websocket().map(|entrance| entrance.port);
    source.update_settings(|settings| {
        settings.port = port;
        if let (Some(websocket), Some(port)) = (&mut settings.websocket, websocket_port) {
            websocket.port = port;
        }
    });
}

/// Writes down the ports for tools, if that is asked for.
fn ports_file(options: &Options, program: &Program, ports: &Ports) -> Option<PortsFile> {
    let directory = options.ports_file_dir.as_ref()?;
    PortsFile::write(directory, &program.name, ports).inspect_err(|message| error!("{message}")).ok()
}

/// Where other servers connect.
fn cluster_ports(options: &Options, cluster: &RunningCluster) -> Vec<String> {
    let host = options.cluster.as_ref().map_or("", |cluster| cluster.host.as_str());
    vec![format!("nats://{}", listen::join(reachable(host), cluster.topology.port()))]
}

/// Decides on clients from now on; in operator mode, with the accounts it looks up.
fn open_door(
    options: &Options,
    hub: &Arc<Hub>,
    keys: &Arc<ServerKeys>,
) -> Result<Option<Arc<resolver::Accounts>>, String> {
    let claims = resolver::Accounts::new(options, hub)?;
    hub.set_authenticator(Gatekeeper::new(options, hub, keys, claims.clone()));
    Ok(claims)
}

/// A seed for names that only need to differ.
fn seed_of(random: [u8; 32]) -> u64 {
    random.chunks(8).fold(0, |seed, chunk| {
        chunk.iter().fold(seed, |seed: u64, byte| seed.rotate_left(8) ^ u64::from(*byte))
    })
}
