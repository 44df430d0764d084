//! Builds the parts, starts and joins the threads; the only layer that uses both planes.

pub mod demo;
mod kept;
mod lifetime;
mod listeners;
pub mod preflight;
mod publish;
mod reload;
mod sinks;
mod systemd;
pub mod upgrade;
mod watch;

pub use demo::demo;

use crate::base::limits::Descriptors;
use crate::base::signals;
use crate::base::time::{self, Moment};
use crate::base::{limits, program, text};
use crate::control::admin::{self, Admin, View};
use crate::control::names::Resolver;
use crate::control::{certificates, health, report, state_file, supervise};
use crate::data::Proxy;
use crate::data::accept::Acceptor;
use crate::state::config::Config;
use crate::state::events::{Events, Topic};
use crate::state::history::History;
use crate::state::instance::Instance;
use crate::state::live::too_many_connections;
use crate::state::reload::Reload;
use crate::state::upgrade::Upgrading;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// Why the balancer could not start, or had to stop: a sentence that says what to do.
#[derive(Debug)]
pub struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A balancer that is ready, and the signals that will stop it.
#[derive(Debug)]
pub struct Started {
    balancer: Balancer,
    signals: signals::Watch,
}

/// Starts the balancer. Errors are reasons why it cannot run on this machine.
pub fn start(config: Config) -> Result<Started, Error> {
    // Before the first thread: an early signal is not lost.
    let signals = lifetime::watch_signals(&signals::STOP)?;
    let instance = Instance { without_file: config.file.is_none(), ..Instance::of(config.origin()) };
    let balancer = upgrade::Inheritance::take()
        .and_then(|inheritance| Balancer::start_as(instance, config, inheritance, Resolver::of_system()))
        .inspect_err(|error| upgrade::failed(&error.to_string()))?;
    listeners::ready_on(&balancer.main.proxy.shared).iter().for_each(|place| log::info!("ready on {place}"));
    upgrade::ready();
    systemd::ready();
    Ok(Started { balancer, signals })
}

impl Started {
    /// Runs until a signal stops it: the first drains, a second, a second or more later, stops at once.
    pub fn run(self) -> Result<(), Error> {
        self.balancer.run_until(&self.signals)
    }
}

/// A running balancer.
#[derive(Debug)]
pub struct Balancer {
    main: Running,
    admin: Option<Published>,
    health: (health::Handle, JoinHandle<()>),
    sinks: sinks::Threads,
    reloader: Arc<reload::Reloader>,
    report: (report::Handle, JoinHandle<()>),
    certificates: (certificates::Handle, JoinHandle<()>),
    watch: (watch::Handle, JoinHandle<()>),
    kept: Option<(state_file::Handle, JoinHandle<()>)>,
    upgrading: Arc<Upgrading>,
    successor: upgrade::Successor,
}

/// What the admin API shows of the time since the start.
#[derive(Debug)]
struct Recent {
    started: Moment,
    events: Arc<Events>,
    history: Arc<History>,
}

/// A data plane with its two threads.
#[derive(Debug)]
struct Running {
    proxy: Proxy,
    accept: JoinHandle<()>,
    supervisor: JoinHandle<()>,
}

/// The admin API, and the data plane that protects it on its TCP port.
#[derive(Debug)]
struct Published {
    thread: JoinHandle<()>,
    stopper: admin::Stopper,
    front: Option<Running>,
}

impl Balancer {
    /// Starts a balancer without a configuration file. Errors are those of the listeners.
    pub fn start(config: Config) -> Result<Self, Error> {
        Self::start_as(Instance::default(), config, upgrade::Inheritance::default(), Resolver::of_system())
    }

    /// Starts all threads of the balancer with this identity. Names of servers are looked up with this resolver.
    fn start_as(
        instance: Instance,
        config: Config,
        mut inheritance: upgrade::Inheritance,
        resolver: Resolver,
    ) -> Result<Self, Error> {
        let started = time::now();
        // An upgrade starts what is there then.
        let _ = program::path();
        limits::raise_descriptors();
        let config = Arc::new(config);
        let (sinks, sources) = sinks::open(&config);
        let files = listeners::read_files(&config)?;
        let opened = Proxy::open(
            ("main", Descriptors::for_clients()),
            Arc::clone(&config),
            files,
            sinks,
            &mut inheritance.sockets,
        );
        let (proxy, acceptor) = opened.map_err(|(at, error)| listeners::open_error(&config, at, &error))?;
        let shared = &proxy.shared;
        let written = inheritance.restore(&config, &shared.table);
        let (agent, handle) = health::Agent::new(Arc::clone(&shared.table), &shared.verdicts);
        let closing = proxy.clone();
        let agent = agent.with_resolver(resolver).on_close_idle(move |_| closing.close_idle());
        let instance = Instance { pid: std::process::id(), admin: config.admin.bind, ..instance };
        let kept = kept::start(&config, &proxy.shared.table, written)?;
        let keep = kept.as_ref().map(|(handle, _)| handle.clone());
        let upgrading = Arc::new(Upgrading::new(upgrade::impossible(&config)));
        let recent = Recent { started, events: Arc::default(), history: Arc::default() };
        let version = env!("CARGO_PKG_VERSION");
        recent.events.keep(Topic::Balancer, log::Level::Info, format!("started, version {version}"));
        let agent = agent.with_events(Arc::clone(&recent.events));
        let (access, exporters) = <(sinks::AccessLogThread, sinks::Exporters)>::default();
        let writers = (&access, &exporters);
        let reloader = Arc::new(reload::Reloader::new(&config, &proxy, &handle, writers, &recent.events));
        let parts = Parts { health: &handle, keep, upgrading: &upgrading, reloader: &reloader };
        let admin = Published::start(instance, &proxy, parts, &mut inheritance, &recent)?;
        // From here on a failure must remove the admin socket again.
        let rest = sinks::Threads::start(&config, sources, &proxy, (access, exporters)).and_then(|sinks| {
            let health = spawn("health", move || agent.run())?;
            let report = start_report(&proxy, admin.as_ref(), recent)?;
            let certificates = listeners::watch_certificates(&proxy)?;
            let watch = watch::start(&reloader)?;
            Ok((sinks, health, report, certificates, watch, Running::start(proxy, acceptor)?))
        });
        let (sinks, health, report, certificates, watch, main) = match rest {
            Ok(rest) => rest,
            Err(error) => {
                admin.into_iter().for_each(Published::stop);
                return Err(error);
            }
        };
        advise_on_servers(&config);
        warn_of_connections(&config);
        inheritance.wait_for_names(&main.proxy.shared.table);
        for left in inheritance.sockets.left() {
            log::warn!("the socket {left} was handed over, and no listener of the configuration is there");
        }
        Ok(Balancer {
            main,
            admin,
            health: (handle, health),
            sinks,
            reloader,
            report,
            certificates,
            watch,
            kept,
            upgrading,
            successor: upgrade::Successor::default(),
        })
    }

    /// The first TCP address that it listens on, with the port that the kernel chose if 0 was asked for.
    pub fn address(&self) -> Option<SocketAddr> {
        self.main.proxy.shared.address()
    }

    /// The address of the admin API, if it is published.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref()?.front.as_ref()?.proxy.shared.address()
    }

    /// Begins to drain and releases every name that a successor needs: the admin socket, the admin port, the port.
    /// Connections that stay open, such as a WebSocket for hours, then delay the end of this process and not the start
    /// of the next. Never waits.
    fn leave(&self, deadline: Moment) {
        self.admin.iter().for_each(Published::leave);
        self.main.proxy.drain(deadline);
    }

    /// Drains until the deadline at most, and joins every thread.
    pub fn stop(self, deadline: Moment) {
        self.leave(deadline);
        let open = self.main.stop(deadline);
        if open > 0 {
            let open = text::counted(open, "connection is", "connections are");
            log::warn!("the time for draining is over; {open} cut");
        }
        if let Some(admin) = self.admin {
            admin.stop();
        }
        if let Some((handle, thread)) = self.kept {
            handle.stop();
            let _ = thread.join();
        }
        self.health.0.stop();
        let _ = self.health.1.join();
        drop(self.report.0);
        let _ = self.report.1.join();
        drop(self.certificates.0);
        let _ = self.certificates.1.join();
        drop(self.watch.0);
        let _ = self.watch.1.join();
        // Last, because the threads before it may still send lines.
        self.sinks.stop();
    }
}

impl Running {
    fn start(proxy: Proxy, acceptor: Acceptor) -> Result<Self, Error> {
        supervise::start_one(&proxy).map_err(|error| cannot_start("first worker", &error))?;
        let workers = proxy.clone();
        let supervisor = spawn("supervisor", move || supervise::run(&workers))?;
        let accept = spawn("accept", move || acceptor.run())?;
        Ok(Running { proxy, accept, supervisor })
    }

    /// The connections that were still open at the deadline.
    fn stop(self, deadline: Moment) -> usize {
        self.proxy.drain(deadline);
        let _ = self.accept.join();
        let open = self.proxy.left_open();
        // It ends soon after the last connection, or soon after the deadline.
        let _ = self.supervisor.join();
        open
    }
}

/// What the admin API acts on, beside the data plane.
struct Parts<'a> {
    health: &'a health::Handle,
    keep: Option<state_file::Handle>,
    upgrading: &'a Arc<Upgrading>,
    reloader: &'a Arc<reload::Reloader>,
}

impl Published {
    fn start(
        instance: Instance,
        main: &Proxy,
        parts: Parts<'_>,
        inheritance: &mut upgrade::Inheritance,
        recent: &Recent,
    ) -> Result<Option<Self>, Error> {
        let Parts { health, keep, upgrading, reloader } = parts;
        let (added, removed) = (health.clone(), health.clone());
        let (reload, preview) = (Arc::clone(reloader), Arc::clone(reloader));
        let (config, address) = (Arc::clone(&main.shared.table.live().config), Arc::default());
        let view = View {
            published: Arc::clone(&address),
            table: Arc::clone(&main.shared.table),
            stats: Arc::clone(&main.shared.stats),
            events: Arc::clone(&recent.events),
            history: Arc::clone(&recent.history),
            workers: Arc::new(main.clone()),
            instance,
            started: recent.started,
            registered: Arc::new(move |_| added.look()),
            forgotten: Arc::new(move |_| removed.look()),
            upgrading: Arc::clone(upgrading),
            reload: Reload::new(move || reload.run(), move || preview.preview()),
            reloads: Arc::clone(reloader.reloads()),
            takes_over: inheritance.takes_over_admin(&config),
            changed: Arc::new(move || keep.iter().for_each(state_file::Handle::changed)),
        };
        if config.admin.socket.is_none() {
            return Ok(None);
        }
        let admin: Admin = match admin::open(view) {
            Ok(admin) => admin,
            Err(reason) => return publish::unless_default(&config, reason),
        };
        let (stopper, socket) = (admin.stopper(), admin.published_at());
        let thread = spawn("admin", move || admin.run())?;
        let mut published = Published { thread, stopper, front: None };
        let sockets = &mut inheritance.sockets;
        let front = config.admin.bind.map(|bind| publish::front(&config, bind, socket, sockets));
        match front.unwrap_or(Ok(None)) {
            Ok(front) => {
                let bound = front.as_ref().and_then(|front| front.proxy.shared.address());
                // It is set once.
                bound.into_iter().for_each(|bound| _ = address.set(bound));
                published.front = front;
            }
            Err(error) => {
                published.stop();
                return Err(error);
            }
        }
        Ok(Some(published))
    }

    /// Releases the socket and the port; requests in flight still get responses. Never waits.
    fn leave(&self) {
        self.stopper.stop();
        self.front.iter().for_each(|front| front.proxy.drain(time::now().after(publish::DRAIN)));
    }

    fn stop(self) {
        self.leave();
        if let Some(front) = self.front {
            front.stop(time::now().after(publish::DRAIN));
        }
        let _ = self.thread.join();
    }
}

/// Tells how to get servers where the configuration has none, and something goes to a server.
fn advise_on_servers(config: &Config) {
    if config.needs_no_servers() || config.pool_ids().any(|pool| !config.pool(pool).list.is_empty()) {
        return;
    }
    let file = config.file.as_ref().map(|file| program::quoted(&file.to_string_lossy()));
    let option = file.map_or(String::new(), |file| format!(" -c {file}"));
    log::info!(
        "no servers yet: list them in the configuration, or start one in another terminal with \
         `{} server 9001{option}`",
        program::name()
    );
}

/// The limit of open files may allow fewer connections than the configuration says.
fn warn_of_connections(config: &Config) {
    let advice = too_many_connections(config);
    advice.into_iter().for_each(|advice| log::warn!("limits.connections: {advice}"));
}

/// Starts the thread that logs rejected and failed requests.
fn start_report(
    main: &Proxy,
    admin: Option<&Published>,
    recent: Recent,
) -> Result<(report::Handle, JoinHandle<()>), Error> {
    let (mut reporter, handle) = report::Reporter::new();
    reporter.tell(recent.events);
    reporter.sample(&main.shared.stats, &main.shared.table, Arc::new(main.clone()), recent.history);
    reporter.watch("", &main.shared.stats, &main.shared.table);
    if let Some(front) = admin.and_then(|admin| admin.front.as_ref()) {
        reporter.watch("admin: ", &front.proxy.shared.stats, &front.proxy.shared.table);
    }
    Ok((handle, spawn(report::THREAD, move || reporter.run())?))
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(run);
    started.map_err(|error| cannot_start(name, &error))
}

fn cannot_start(name: &str, error: &io::Error) -> Error {
    let limit = if limits::is_out_of_descriptors(error) { "open files" } else { "threads" };
    Error(format!("the {name} thread cannot be started: {error}; raise the limit of {limit}"))
}

#[cfg(test)]
mod tests;
