//! The demo: a balancer and three sample servers in one process, for a first try.

use super::{Balancer, Error, lifetime, preflight};
use crate::base::{output, program, signals};
use crate::sample;
use crate::state::address::Address;
use crate::state::config::{Config, Listener, ServerSpec};
use signal_hook::consts::SIGHUP;
use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Names and delays of the servers; one is slow, so that the effect of the algorithm is visible.
const SERVERS: [(&str, Duration); 3] = [
    ("quick-1", Duration::from_millis(5)),
    ("quick-2", Duration::from_millis(5)),
    ("slow", Duration::from_millis(50)),
];
/// The port of the seed, if it is free.
const PORT: u16 = 8000;
/// How long the demo waits for requests in flight when it stops.
const DRAIN: Duration = Duration::from_secs(5);

/// How the names of the demo's admin sockets begin.
const SOCKET: &str = "evenkeel-demo-";

/// Runs the demo until ctrl-C.
pub fn demo() -> Result<(), Error> {
    // Nothing can be reloaded here: SIGHUP means that the terminal was closed.
    let hangup = signals::has_terminal().then_some(SIGHUP);
    let signals = lifetime::watch_signals(&signals::STOP.into_iter().chain(hangup).collect::<Vec<_>>())?;
    let samples = SERVERS.iter().map(|(name, delay)| start(name, *delay)).collect::<Result<Vec<_>, _>>()?;
    let folder = std::env::temp_dir();
    remove_dead_sockets(&folder);
    let mut config = Config::default();
    config.listen.listeners = vec![Listener::plain(free(PORT))];
    config.admin.bind = config.admin.bind.map(|bind| free(bind.port()));
    config.listen.served_by_header = true;
    config.admin.socket = Some(folder.join(format!("{SOCKET}{}.sock", std::process::id())));
    config.servers.list = samples.iter().map(listed).collect();
    config.timeouts.drain = DRAIN;
    let balancer = Balancer::start(config)?;
    tell(&balancer, &samples);
    balancer.run_until(&signals)?;
    samples.into_iter().for_each(sample::Running::stop);
    Ok(())
}

/// Removes what demos that were killed left behind: their sockets, on which nothing listens.
fn remove_dead_sockets(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(SOCKET)
            && entry.file_type().is_ok_and(|kind| kind.is_socket());
        let is_refused = |error: std::io::Error| error.kind() == ErrorKind::ConnectionRefused;
        if is_ours && UnixStream::connect(entry.path()).is_err_and(is_refused) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The port on loopback, or one that the kernel chooses if it is taken, because a demo should not need configuration.
fn free(port: u16) -> SocketAddr {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match preflight::bindable(address) {
        Ok(()) => address,
        Err(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    }
}

fn start(name: &str, delay: Duration) -> Result<sample::Running, Error> {
    let options = sample::Options { name: Some(name.to_owned()), delay, ..sample::Options::default() };
    sample::start(sample::Options { port: 0, register: None, ..options }).map_err(Error)
}

fn listed(sample: &sample::Running) -> ServerSpec {
    let address = sample.address();
    let address = Address::Tcp { host: address.ip().to_string(), port: address.port() };
    ServerSpec::new(sample.name(), address)
}

fn tell(balancer: &Balancer, samples: &[sample::Running]) {
    let url = format!("http://localhost:{}", balancer.address().map_or(PORT, |address| address.port()));
    say(&format!("\nEvenkeel balances on {url} over three servers:"));
    for (sample, (_, delay)) in samples.iter().zip(SERVERS) {
        say(&format!("  {:8} {}  responds in {} ms", sample.name(), sample.address(), delay.as_millis()));
    }
    say("\nTry, in another terminal:");
    let program = program::name();
    let mut tries = vec![
        (format!("curl -i -X POST {url}/requests"), "X-Served-By names the server"),
        (format!("curl -X POST {url}/queue/status"), "the queue of one of them"),
        (format!("curl {url}/anything"), "what a server receives"),
        (format!("{program} loadtest {url}/requests"), "many requests, and how they are distributed"),
    ];
    match balancer.admin_address() {
        Some(admin) => {
            tries.push((format!("{program} status --admin {admin}"), "workers, servers and totals"));
            tries.push((format!("curl http://{admin}/metrics"), "the same for Prometheus"));
        }
        None => say("  (the admin API is not published: its port is taken)"),
    }
    let wide = tries.iter().map(|(line, _)| line.len()).max().unwrap_or(0);
    tries.iter().for_each(|(line, what)| say(&format!("  {line:wide$}  # {what}")));
    say("\nctrl-C stops it.\n");
}

/// The demo continues even if nothing reads its output.
fn say(line: &str) {
    output::standard().tell(format!("{line}\n").into_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn only_sockets_of_dead_demos_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        drop(UnixListener::bind(at("evenkeel-demo-1.sock")).unwrap());
        drop(UnixListener::bind(at("another.sock")).unwrap());
        let _alive = UnixListener::bind(at("evenkeel-demo-2.sock")).unwrap();
        // A file of that name is not a socket.
        fs::write(at("evenkeel-demo-notes"), "").unwrap();
        remove_dead_sockets(folder.path());
        let mut left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["another.sock", "evenkeel-demo-2.sock", "evenkeel-demo-notes"]);
    }
}
