//! An upgrade of the running binary. The old process starts the new one with a Unix socket as its standard input, and sends it
//! its listening sockets, what the admin API changed and which servers are up. The new one starts as any other, takes the
//! sockets in the place of opening some, and says over the same Unix socket that it is ready. Then the old one drains. As long
//! as both run both accept from the same sockets, so no connection is lost; if the new one fails, the old one goes on.

use super::{Balancer, kept, spawn};
use crate::base::inherited::{self, Socket, Sockets};
use crate::base::program;
use crate::base::time;
use crate::data::Proxy;
use crate::policy::health::Health;
use crate::state::changes::Changes;
use crate::state::config::Config;
use crate::state::server::{AgentWord, Role, Server};
use crate::state::table::Table;
use crossbeam_channel::Sender;
use parking_lot::Mutex;
use rustix::process::{Pid, getppid};
use serde::{Deserialize, Serialize};
use std::env;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Set for the new process: the old one, which is its parent.
const FROM: &str = "EVENKEEL_UPGRADE_FROM";
/// Variables that are meant for one process, and it is not the new one (sd_listen_fds(3), sd_watchdog_enabled(3)).
const NOT_FOR_OTHERS: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];
/// The new process may take so long until it is ready. A start takes milliseconds; reading many certificates takes longer.
const START_LIMIT: Duration = Duration::from_secs(30);
/// The new process waits so long for the addresses of servers with names: most look-ups take milliseconds.
const NAMES_LIMIT: Duration = Duration::from_secs(3);
/// Between two looks at them.
const NAMES_LOOK: Duration = Duration::from_millis(5);

/// What the new process gets beside the descriptors.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Handed {
    /// Name and place of each socket, in the order of the descriptors, and whether the file of a Unix socket is ours.
    sockets: Vec<(String, String, bool)>,
    /// Where the admin socket is: the new process may replace the old one there, and no other process.
    admin_socket: Option<PathBuf>,
    changes: Changes,
    /// Pool, name and address of servers, and whether they are up; those of which nothing is known yet are not there.
    servers: Vec<(String, String, String, bool)>,
    /// Pool, name and address of servers, and what their agents say; a process of another version may not tell.
    #[serde(default)]
    agents: Vec<(String, String, String, AgentWord)>,
    /// Pool and name of names whose addresses are all servers, and these.
    #[serde(default)]
    members: Vec<(String, String, Vec<SocketAddr>)>,
}

/// What the new process says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Ready,
    Failed(String),
}

/// Why a process cannot be upgraded, if it cannot.
pub(super) fn impossible(config: &Config) -> Option<String> {
    if std::process::id() == 1 {
        let why =
            "this is the first process of a container, which ends with it; start a new container beside it";
        return Some(why.to_owned());
    }
    let is_units_main = env::var("SYSTEMD_EXEC_PID").is_ok_and(|pid| pid == std::process::id().to_string());
    if is_units_main && env::var_os("NOTIFY_SOCKET").is_none() {
        let why = "systemd would end the new process with this one; the unit needs Type=notify or Type=notify-reload";
        return Some(why.to_owned());
    }
    let from_input =
        config.file.is_none() && env::args_os().any(|argument| argument == "-" || argument == "-c-");
    from_input.then(|| {
        "the configuration came from the standard input, and a new process cannot read it again".to_owned()
    })
}

/// The new process, for as long as it is not ready.
#[derive(Clone, Debug, Default)]
pub(super) struct Successor(Arc<Mutex<Starting>>);

#[derive(Debug, Default)]
struct Starting {
    child: Option<Child>,
    /// No more is started.
    is_over: bool,
}

impl Successor {
    /// This process was asked to stop, so the one that was to take its place is ended: it would serve after all, or keep the
    /// ports without serving them. One that has said that it is ready goes on.
    pub(super) fn end(&self) {
        let mut starting = self.0.lock();
        starting.is_over = true;
        if let Some(mut child) = starting.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            log::info!("upgrade: process {} was not ready yet, and was ended, as this one stops", child.id());
        }
    }

    fn start(&self, command: &mut Command) -> io::Result<u32> {
        let mut starting = self.0.lock();
        if starting.is_over {
            return Err(io::Error::other("this process stops"));
        }
        let child = command.spawn()?;
        Ok(starting.child.insert(child).id())
    }

    /// The process, which is not ended any more; `None` if it was.
    fn take(&self) -> Option<Child> {
        self.0.lock().child.take()
    }
}

/// Starts the upgrade in a thread of its own; the new process comes through `done` if there is one that is ready.
pub(super) fn begin(balancer: &Balancer, done: Sender<u32>) {
    let (upgrading, successor) = (Arc::clone(&balancer.upgrading), balancer.successor.clone());
    let main = balancer.main.proxy.clone();
    let front =
        balancer.admin.as_ref().and_then(|admin| admin.front.as_ref()).map(|front| front.proxy.clone());
    let started = spawn("upgrade", move || {
        let outcome = hand_over(&main, front.as_ref(), &successor);
        upgrading.ended(&outcome);
        match outcome {
            Ok(pid) => _ = done.send(pid),
            // The log has it.
            Err(_) if successor.0.lock().is_over => {}
            Err(why) => log::error!("upgrade: {why}; this process goes on"),
        }
    });
    if let Err(error) = started {
        balancer.upgrading.ended(&Err(error.to_string()));
        log::error!("upgrade: {error}");
    }
}

/// Starts the new process, and waits until it is ready.
fn hand_over(main: &Proxy, front: Option<&Proxy>, successor: &Successor) -> Result<u32, String> {
    let path = program::path().ok_or("the path of the running program is not known")?;
    let of_system = |error: io::Error| format!("the listening sockets cannot be handed over: {error}");
    let mut sockets = main.sockets().map_err(of_system)?;
    if let Some(front) = front {
        sockets.extend(front.sockets().map_err(of_system)?);
    }
    let (near, far) = UnixStream::pair().map_err(of_system)?;
    near.set_read_timeout(Some(START_LIMIT)).map_err(of_system)?;
    near.set_write_timeout(Some(START_LIMIT)).map_err(of_system)?;
    let mut command = Command::new(&path);
    NOT_FOR_OTHERS.iter().for_each(|name| _ = command.env_remove(name));
    command.args(env::args_os().skip(1)).env(FROM, std::process::id().to_string());
    let started = successor.start(command.stdin(Stdio::from(OwnedFd::from(far))));
    // The command has the other end open for as long as it is there.
    drop(command);
    let pid = started.map_err(|error| format!("{} cannot be started: {}", path.display(), advice(&error)))?;
    log::info!("upgrade: started {} as process {pid}", path.display());
    if let Err(error) = tell(&near, &sockets, main) {
        // It may have said why before it ended.
        log::debug!("upgrade: the new process does not take what is for it: {error}");
    }
    let said = inherited::receive(&near);
    let said = said.map(|(_, text)| serde_json::from_str::<Said>(&text).ok());
    let mut child =
        successor.take().ok_or("the balancer was asked to stop, and the new process was ended")?;
    match said {
        Ok(Some(Said::Ready)) => Ok(pid),
        Ok(Some(Said::Failed(why))) => {
            let _ = child.wait();
            Err(format!("the new process could not start: {why}"))
        }
        other => Err(ended(&mut child, other.err())),
    }
}

/// What is wrong with the file of the new program.
fn advice(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it is not there; install the new version at this path".to_owned(),
        io::ErrorKind::PermissionDenied => format!("{error}; make it executable for this user"),
        _ => error.to_string(),
    }
}

/// Sends the new process what is for it.
fn tell(to: &UnixStream, sockets: &[Socket], main: &Proxy) -> io::Result<()> {
    let snapshot = main.shared.table.snapshot();
    let (config, servers) = (&snapshot.live.config, &snapshot.servers);
    let members_of = |name: &Arc<Server>| {
        let at = snapshot.members(name).filter_map(|member| member.role().address()).collect();
        (config.pool_name(name.pool).to_owned(), name.name.clone(), at)
    };
    let handed = Handed {
        sockets: sockets.iter().map(|one| (one.name.clone(), one.place.clone(), one.is_ours)).collect(),
        admin_socket: config.admin.socket.clone(),
        changes: Changes::between(config, &snapshot.listed()),
        members: snapshot.names.iter().map(members_of).collect(),
        servers: servers.iter().filter_map(|server| health_of(config, server)).collect(),
        agents: servers.iter().filter_map(|server| agent_of(config, server)).collect(),
    };
    let fds: Vec<_> = sockets.iter().map(|socket| socket.fd.as_fd()).collect();
    inherited::send(to, &fds, &serde_json::to_string(&handed)?)
}

/// An ejection ends with the process that decided on it. A server that is used although its probes fail goes on to be used until
/// the new process has found the same.
fn health_of(config: &Config, server: &Server) -> Option<(String, String, String, bool)> {
    let is_up = match server.health() {
        Health::Up | Health::Ejected { .. } => true,
        Health::Down => server.is_fail_open(),
        Health::Starting => return None,
    };
    let pool = config.pool_name(server.pool).to_owned();
    Some((pool, server.name.clone(), server.shown_address(), is_up))
}

/// What the agent of a server says, as it was heard: an agent that has said `drain` may not say it again.
fn agent_of(config: &Config, server: &Server) -> Option<(String, String, String, AgentWord)> {
    let word = server.agent().filter(|_| config.pool(server.pool).agent_check.is_some())?;
    let pool = config.pool_name(server.pool).to_owned();
    Some((pool, server.name.clone(), server.shown_address(), word))
}

/// The new process says nothing: it has ended, or is made to.
fn ended(child: &mut Child, error: Option<io::Error>) -> String {
    let timed_out = error.is_some_and(|error| error.kind() == io::ErrorKind::WouldBlock);
    if timed_out {
        let _ = child.kill();
        let _ = child.wait();
        return format!("the new process was not ready within {START_LIMIT:?}, and was ended");
    }
    // What it says is over; so is it, or soon.
    let _ = child.kill();
    match child.wait() {
        Ok(status) => format!("the new process ended before it was ready ({status})"),
        Err(error) => format!("the new process ended before it was ready ({error})"),
    }
}

/// What a process that takes the place of another got from it, and what systemd gave it.
#[derive(Debug, Default)]
pub(super) struct Inheritance {
    /// Listening sockets.
    pub(super) sockets: Sockets,
    /// Another process is still there.
    is_upgrade: bool,
    handed: Handed,
}

impl Inheritance {
    /// What there is. An error is a reason not to start.
    pub(super) fn take() -> Result<Self, super::Error> {
        let Some(predecessor) = predecessor() else {
            return Ok(Inheritance {
                sockets: Sockets::new(super::systemd::sockets()),
                ..Inheritance::default()
            });
        };
        let received = inherited::receive(predecessor);
        let (fds, text) =
            received.map_err(|error| super::Error(format!("upgrade: nothing was handed over: {error}")))?;
        let handed: Handed = serde_json::from_str(&text).map_err(|error| {
            super::Error(format!("upgrade: what was handed over is not understood: {error}"))
        })?;
        let sockets = handed.sockets.iter().zip(fds).map(|((name, place, is_ours), fd)| Socket {
            name: name.clone(),
            place: place.clone(),
            is_ours: *is_ours,
            fd,
        });
        Ok(Inheritance { sockets: Sockets::new(sockets.collect()), is_upgrade: true, handed })
    }

    /// Whether the admin socket of this configuration is that of the other process.
    pub(super) fn takes_over_admin(&self, config: &Config) -> bool {
        self.is_upgrade && self.handed.admin_socket == config.admin.socket
    }

    /// Makes a new table as it was: what the admin API changed, from the other process or from the state file, and which
    /// servers are up. The first probes may then take their time: no request is rejected meanwhile. What the state file has
    /// comes back.
    pub(super) fn restore(&self, config: &Config, table: &Table) -> Changes {
        if !self.is_upgrade {
            return kept::restore(config, table);
        }
        kept::apply(&self.handed.changes, config, table);
        for (pool, name, addresses) in &self.handed.members {
            let name = config.pool_named(pool).and_then(|pool| table.find_in(pool, name));
            if let Some(name) = name.filter(|name| *name.role() == Role::Name) {
                table.set_members(&name, addresses);
            }
        }
        let snapshot = table.snapshot();
        let known = self.handed.servers.iter().filter_map(|(pool, name, address, is_up)| {
            let pool = config.pool_named(pool)?;
            let is_it = |server: &&Arc<Server>| {
                server.pool == pool && server.name == *name && server.shown_address() == *address
            };
            let server = snapshot.servers.iter().find(is_it)?;
            Some((&**server, if *is_up { Health::Up } else { Health::Down }))
        });
        let known: Vec<_> = known.collect();
        table.set_healths(&known);
        let words = self.handed.agents.iter().filter_map(|(pool, name, address, word)| {
            let pool = config.pool_named(pool).filter(|pool| config.pool(*pool).agent_check.is_some())?;
            let is_it = |server: &&Arc<Server>| {
                server.pool == pool && server.name == *name && server.shown_address() == *address
            };
            Some((&**snapshot.servers.iter().find(is_it)?, Some(word.clone())))
        });
        let words: Vec<_> = words.collect();
        if !words.is_empty() {
            table.advise(words);
        }
        self.handed.changes.clone()
    }

    /// The addresses of servers that are up are known, or have had their time.
    pub(super) fn wait_for_names(&self, table: &Table) {
        let until = time::now().after(NAMES_LIMIT);
        let is_missing =
            |server: &Arc<Server>| server.health() == Health::Up && server.addresses().all().is_empty();
        while self.is_upgrade && time::now() < until && table.snapshot().servers.iter().any(is_missing) {
            let _ = crossbeam_channel::after(NAMES_LOOK).recv();
        }
    }
}

/// Tells the process whose place this one takes, if there is one, that it may drain.
pub(super) fn ready() {
    say(&Said::Ready);
}

/// Tells the process whose place this one was to take, if there is one, why it does not.
pub fn failed(why: &str) {
    say(&Said::Failed(why.to_owned()));
}

fn say(what: &Said) {
    let text = serde_json::to_string(what).unwrap_or_default();
    if let Some(Err(error)) = predecessor().map(|predecessor| inherited::send(predecessor, &[], &text)) {
        log::warn!("upgrade: the old process does not hear: {error}");
    }
}

/// The process whose place this one takes, on the standard input.
fn predecessor() -> Option<&'static UnixStream> {
    static PREDECESSOR: OnceLock<Option<UnixStream>> = OnceLock::new();
    let find = || {
        let from = env::var(FROM).ok()?.parse().ok();
        // The variable goes on to whatever a process starts.
        if from.is_none() || from != getppid().map(Pid::as_raw_nonzero).map(i32::from) {
            return None;
        }
        let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
        stream.peer_addr().ok()?;
        // Nothing else is to read from it, or keep it open.
        let _ = File::open("/dev/null").map(|null| rustix::stdio::dup2_stdin(&null));
        Some(stream)
    };
    PREDECESSOR.get_or_init(find).as_ref()
}
