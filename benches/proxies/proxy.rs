//! The proxies: finds them, writes their configuration, starts and stops them.

use super::process;
use super::settings::{self, Setup};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The time limit for a proxy to respond after its start.
const START: Duration = Duration::from_secs(10);

/// The hidden argument that makes this program the floor; its configuration follows.
pub const FLOOR: &str = "--be-the-floor";

/// Programs by path, instead of those that are built or installed.
#[derive(Debug, Default)]
pub struct Programs {
    pub nginx: Option<PathBuf>,
    pub haproxy: Option<PathBuf>,
    /// An earlier build of Evenkeel.
    pub before: Option<PathBuf>,
}

static GIVEN: OnceLock<Programs> = OnceLock::new();

/// Uses these programs from now on; only the first call counts.
pub fn give(programs: Programs) {
    let _ = GIVEN.set(programs);
}

/// What is between client and origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing, a direct connection.
    Direct,
    /// A forwarder that parses nothing: what the socket calls of any proxy cost.
    Floor,
    Evenkeel,
    /// An earlier build of Evenkeel.
    Before,
    Nginx,
    Haproxy,
}

impl Kind {
    /// Those that are always known.
    pub const ALL: [Kind; 4] = [Kind::Direct, Kind::Evenkeel, Kind::Nginx, Kind::Haproxy];

    /// These, the floor, and the earlier build if one is given, in the order of the table.
    pub fn measured() -> Vec<Kind> {
        let mut kinds = Kind::ALL.to_vec();
        kinds.insert(1, Kind::Floor);
        if Kind::Before.given().is_some() {
            kinds.insert(3, Kind::Before);
        }
        kinds
    }

    /// The name on the command line and in the table.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Direct => "direct",
            Kind::Floor => "floor",
            Kind::Evenkeel => "evenkeel",
            Kind::Before => "before",
            Kind::Nginx => "nginx",
            Kind::Haproxy => "haproxy",
        }
    }

    /// Its program; for a missing peer, how to install it.
    pub fn program(self) -> Result<PathBuf, String> {
        if let Some(given) = self.given() {
            return Ok(given.clone());
        }
        match self {
            Kind::Direct => Ok(PathBuf::new()),
            Kind::Floor => std::env::current_exe().map_err(|error| format!("floor: {error}")),
            Kind::Before => Err("before: no program is given".to_string()),
            Kind::Evenkeel => Ok(PathBuf::from(env!("CARGO_BIN_EXE_evenkeel"))),
            Kind::Nginx | Kind::Haproxy => find(self.name()).ok_or_else(|| {
                format!(
                    "{name} is not installed, so it is not measured: apt-get install {name}",
                    name = self.name()
                )
            }),
        }
    }

    /// The version reported by its program.
    pub fn version(self) -> String {
        let Ok(program) = self.program() else { return "not installed".to_string() };
        let flag = if matches!(self, Kind::Evenkeel | Kind::Before) { "--version" } else { "-v" };
        let Ok(told) = Command::new(program).arg(flag).output() else { return "unknown".to_string() };
        let text = [told.stdout, told.stderr].concat();
        String::from_utf8_lossy(&text).lines().next().unwrap_or("unknown").to_string()
    }

    /// The program that the command line gives for it.
    fn given(self) -> Option<&'static PathBuf> {
        let programs = GIVEN.get()?;
        match self {
            Kind::Nginx => programs.nginx.as_ref(),
            Kind::Haproxy => programs.haproxy.as_ref(),
            Kind::Before => programs.before.as_ref(),
            Kind::Direct | Kind::Floor | Kind::Evenkeel => None,
        }
    }
}

/// A proxy that responds.
pub struct Proxy {
    /// Its kind.
    pub kind: Kind,
    /// Where it listens.
    pub address: SocketAddr,
    /// Time from its start to its first response.
    pub start_ms: f64,
    child: Option<Child>,
    folder: Option<tempfile::TempDir>,
    /// Reserves its port.
    _port: Option<OwnedFd>,
}

impl Proxy {
    /// Starts a proxy in front of these servers and waits for its first response.
    pub fn start(kind: Kind, origins: &[SocketAddr], setup: Setup) -> Result<Proxy, String> {
        if kind == Kind::Direct {
            let nothing =
                Proxy { kind, address: origins[0], start_ms: 0.0, child: None, folder: None, _port: None };
            return Ok(nothing);
        }
        let text = |folder: &Path, address| {
            if setup.tls {
                settings::write_certificate(folder)?;
            }
            match kind {
                Kind::Nginx => Ok(settings::nginx(folder, address, origins, setup)),
                Kind::Haproxy => settings::haproxy(folder, address, origins, setup),
                Kind::Floor => Ok(format!("{address} {}", origins[0])),
                Kind::Evenkeel | Kind::Before | Kind::Direct => {
                    Ok(settings::evenkeel(folder, address, origins, free_address()?, setup))
                }
            }
        };
        Proxy::launch(kind, text, |child, address, begun| await_response(child, address, begun, setup))
    }

    /// Starts a proxy with this configuration, and waits until it is ready.
    pub fn launch(
        kind: Kind,
        text: impl FnOnce(&Path, SocketAddr) -> std::io::Result<String>,
        ready: impl Fn(&mut Child, SocketAddr, Instant) -> Result<(), String>,
    ) -> Result<Proxy, String> {
        let program = kind.program()?;
        let cannot = |error: std::io::Error| format!("{} did not start: {error}", kind.name());
        let folder = tempfile::tempdir().map_err(cannot)?;
        let (held, address) = reserved_address().map_err(cannot)?;
        let log = fs::File::create(folder.path().join("output")).map_err(cannot)?;
        let text = text(folder.path(), address).map_err(cannot)?;
        let mut command = command(kind, &program, folder.path(), &text).map_err(cannot)?;
        let outputs = (log.try_clone().map_err(cannot)?, log);
        command.stdin(Stdio::null()).stdout(outputs.0).stderr(outputs.1);
        let begun = Instant::now();
        let mut child = command.spawn().map_err(cannot)?;
        if let Err(why) = ready(&mut child, address, begun) {
            process::stop(&mut child);
            let output = fs::read_to_string(folder.path().join("output")).unwrap_or_default();
            return Err(format!("{} did not start: {why}\n{}", kind.name(), output.trim()));
        }
        let start_ms = begun.elapsed().as_secs_f64() * 1000.0;
        Ok(Proxy { kind, address, start_ms, child: Some(child), folder: Some(folder), _port: Some(held) })
    }
}

impl Proxy {
    /// Its processes, as they are now: some start their workers after the first of them responds. None for the direct
    /// connection.
    pub fn pids(&self) -> Vec<u32> {
        self.child.as_ref().map(|child| process::tree(child.id())).unwrap_or_default()
    }

    /// The file of its certificate, if it has one.
    pub fn certificate(&self) -> Option<PathBuf> {
        let file = self.folder.as_ref()?.path().join(settings::CERTIFICATE);
        file.is_file().then_some(file)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            process::stop(child);
        }
    }
}

/// Sends one request on a connection and reads its small response; true when it is a 200.
pub fn ask(stream: &mut (impl Read + Write)) -> std::io::Result<bool> {
    stream.write_all(b"GET /small HTTP/1.1\r\nHost: bench\r\n\r\n")?;
    let mut response = Vec::new();
    let mut bytes = [0; 2048];
    loop {
        let count = stream.read(&mut bytes)?;
        response.extend_from_slice(&bytes[..count]);
        let end = memchr::memmem::find(&response, b"\r\n\r\n");
        if count == 0 || end.is_some_and(|end| response.len() >= end + 4 + 59) {
            return Ok(response.starts_with(b"HTTP/1.1 200"));
        }
    }
}

fn await_response(
    child: &mut Child,
    address: SocketAddr,
    begun: Instant,
    setup: Setup,
) -> Result<(), String> {
    while begun.elapsed() < START {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("it ended ({status})"));
        }
        if is_ready(address, setup).unwrap_or(false) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err("no 200 within 10 seconds".to_string())
}

/// Whether it responds; one that wants TLS, or a host that it knows, whether it takes connections.
fn is_ready(address: SocketAddr, setup: Setup) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    if setup.tls || setup.routes > 0 { Ok(true) } else { ask(&mut stream) }
}

fn command(kind: Kind, program: &Path, folder: &Path, text: &str) -> std::io::Result<Command> {
    let file = folder.join("configuration");
    fs::write(&file, text)?;
    let mut command = Command::new(program);
    command.current_dir(folder);
    match kind {
        Kind::Nginx => command.arg("-p").arg(folder).arg("-c").arg(&file).arg("-e").arg(folder.join("error")),
        Kind::Haproxy => command.arg("-db").arg("-f").arg(&file),
        Kind::Floor => command.arg(FLOOR).arg(&file),
        Kind::Evenkeel | Kind::Before | Kind::Direct => command.arg("run").arg("-c").arg(&file),
    };
    Ok(command)
}

/// A port that was free a moment ago.
fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// A port that is reserved while the socket lives; only sockets that share addresses, as servers do, can listen on it.
fn reserved_address() -> std::io::Result<(OwnedFd, SocketAddr)> {
    let held = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&held, true)?;
    bind(&held, &SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let address = SocketAddr::try_from(getsockname(&held)?)?;
    Ok((held, address))
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}
