//! The health thread with real sockets, and a resolver controlled by the test.

use super::*;
use crate::base::ids::PoolId;
use crate::state::config::Config;
use crate::state::config::ServerSpec;
use parking_lot::Mutex;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// How long a test waits for an event; far more than it takes.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The resolver's results by name: addresses, an error, or no response at all.
type Zone = Arc<Mutex<HashMap<String, Option<Vec<&'static str>>>>>;

/// The agent in its thread.
struct Fixture {
    table: Arc<Table>,
    verdicts: Verdicts,
    handle: Handle,
    thread: Option<thread::JoinHandle<()>>,
    closed: Receiver<ServerId>,
    /// Look-ups without a response end with the test.
    _silence: Sender<()>,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.handle.stop();
        let joined = self.thread.take().map(thread::JoinHandle::join);
        assert!(thread::panicking() || joined.is_some_and(|joined| joined.is_ok()));
    }
}

fn spec(name: &str, address: &str) -> ServerSpec {
    ServerSpec::new(name, address.parse().unwrap())
}

/// A fast configuration: a probe every 40 ms, none of which fails because the machine is slow.
fn quick() -> Config {
    let mut config = Config::default();
    config.servers.health_check.rules.interval = Duration::from_millis(40);
    config.servers.health_check.timeout = Duration::from_secs(20);
    config.servers.load_report.enabled = Some(false);
    config
}

fn start(config: &Config, list: &[ServerSpec], zone: &Zone) -> Fixture {
    let mut config = config.clone();
    config.servers.list = list.to_vec();
    let table = Arc::new(Table::of(Live::plain(config)));
    let verdicts = Verdicts::default();
    let (agent, handle) = Agent::new(Arc::clone(&table), &verdicts);
    let (silence, ended) = bounded::<()>(0);
    let zone = Arc::clone(zone);
    let resolver = Resolver::new(move |name| {
        let said = zone.lock().get(name).cloned();
        match said {
            Some(Some(list)) => Ok(list.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect()),
            Some(None) => Err(io::Error::other("no such name")),
            None => Err(io::Error::other(format!("{:?}", ended.recv()))),
        }
    });
    let (close, closed) = unbounded();
    let agent = agent.with_resolver(resolver).on_close_idle(move |id| _ = close.send(id));
    let thread = Some(thread::spawn(move || agent.run()));
    Fixture { table, verdicts, handle, thread, closed, _silence: silence }
}

impl Fixture {
    fn server(&self, name: &str) -> Arc<Server> {
        self.table.find(name).unwrap()
    }

    fn until_health(&self, name: &str, health: Health) {
        let server = self.server(name);
        until(&format!("{name} is {health:?}"), || server.health() == health);
    }

    fn fails(&self, name: &str) {
        self.verdicts.tell(Verdict {
            server: self.server(name).id,
            failure: Some("cannot be reached"),
            is_unreachable: true,
        });
    }
}

/// Checks every 2 ms.
fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = time::now().after(LONGEST_WAIT);
    while !holds() {
        assert!(time::now() < deadline, "{what}");
        thread::park_timeout(Duration::from_millis(2));
    }
}

/// Responds to each connection's first request with 204, in a thread of its own; counts them. It closes when asked to,
/// or when its client does.
fn serve(listener: TcpListener) -> Arc<AtomicUsize> {
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let count = Arc::clone(&count);
            thread::spawn(move || serve_one(stream.unwrap(), &count));
        }
    });
    served
}

fn serve_one(mut stream: TcpStream, count: &AtomicUsize) {
    let mut bytes = [0; 1024];
    while stream.read(&mut bytes).is_ok_and(|read| read > 0) {
        count.fetch_add(1, Ordering::AcqRel);
        let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
    }
}

/// Listeners on one port of several loopback addresses.
fn listeners<const N: usize>(hosts: [&str; N]) -> ([TcpListener; N], u16) {
    let first = TcpListener::bind((hosts[0], 0)).unwrap();
    let port = first.local_addr().unwrap().port();
    let mut first = Some(first);
    (hosts.map(|host| first.take().unwrap_or_else(|| TcpListener::bind((host, port)).unwrap())), port)
}

/// A socket with a port of its own that refuses connections, for as long as it is there: a listener that is dropped gives its port
/// to whichever test asks next.
fn bound() -> (OwnedFd, u16) {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
    let fd = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    bind(&fd, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let port = SocketAddr::try_from(rustix::net::getsockname(&fd).unwrap()).unwrap().port();
    (fd, port)
}

/// Neither accepts nor refuses connections: connecting to it gets no response.
fn silent() -> (TcpListener, Vec<TcpStream>) {
    let (fd, _) = bound();
    rustix::net::listen(&fd, 0).unwrap();
    let listener = TcpListener::from(fd);
    let filler = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener, vec![filler])
}

fn zone(names: &[(&str, Option<Vec<&'static str>>)]) -> Zone {
    let names = names.iter().map(|(name, list)| ((*name).to_owned(), list.clone()));
    Arc::new(Mutex::new(names.collect()))
}

#[test]
fn a_server_whose_name_is_lost_stays_up_at_its_last_address() {
    let ([listener], port) = listeners(["127.0.0.1"]);
    let served = serve(listener);
    let zone = zone(&[("app.test", Some(vec!["127.0.0.1"]))]);
    let fixture = start(&quick(), &[spec("a", &format!("app.test:{port}"))], &zone);
    fixture.until_health("a", Health::Up);
    zone.lock().insert("app.test".into(), None);
    fixture.fails("a");
    let server = fixture.server("a");
    until("the look-up failed", || server.addresses().loss().is_some());
    let before = served.load(Ordering::Acquire);
    until("probes go on", || served.load(Ordering::Acquire) > before + 10);
    assert_eq!(server.health(), Health::Up);
    assert_eq!(server.addresses().all().len(), 1);
    zone.lock().insert("app.test".into(), Some(vec!["127.0.0.1"]));
    until("it is found again", || server.addresses().loss().is_none());
}

#[test]
fn a_name_that_was_never_found_is_down_until_it_is() {
    let ([listener], port) = listeners(["127.0.0.1"]);
    let _served = serve(listener);
    let zone = zone(&[("app.test", None)]);
    let fixture = start(&quick(), &[spec("a", &format!("app.test:{port}"))], &zone);
    fixture.until_health("a", Health::Down);
    let outcome = fixture.server("a").last_check().unwrap().outcome;
    assert_eq!(outcome, "its name does not resolve: no such name");
    zone.lock().insert("app.test".into(), Some(vec!["127.0.0.1"]));
    fixture.until_health("a", Health::Up);
}

#[test]
fn silent_look_ups_hold_up_neither_probes_nor_names_of_other_zones() {
    let ([listener], port) = listeners(["127.0.0.1"]);
    let _served = serve(listener);
    let (_closed, gone) = bound();
    let mut list: Vec<_> =
        (0..200).map(|number| spec(&format!("s{number}"), &format!("h{number}.dead.test:80"))).collect();
    list.push(spec("a", &format!("127.0.0.1:{port}")));
    list.push(spec("gone", &format!("127.0.0.1:{gone}")));
    list.push(spec("named", &format!("app.live.test:{port}")));
    let fixture = start(&quick(), &list, &zone(&[("app.live.test", Some(vec!["127.0.0.1"]))]));
    fixture.until_health("a", Health::Up);
    fixture.until_health("gone", Health::Down);
    fixture.until_health("named", Health::Up);
    fixture.until_health("s0", Health::Down);
}

#[test]
fn a_moved_name_takes_probes_and_idle_connections_with_it() {
    let ([old, new], port) = listeners(["127.0.0.1", "127.0.0.2"]);
    let (old, new) = (serve(old), serve(new));
    let zone = zone(&[("app.test", Some(vec!["127.0.0.1"]))]);
    let fixture = start(&quick(), &[spec("a", &format!("app.test:{port}"))], &zone);
    fixture.until_health("a", Health::Up);
    let server = fixture.server("a");
    let generation = server.addresses().generation();
    assert_eq!(new.load(Ordering::Acquire), 0);
    zone.lock().insert("app.test".into(), Some(vec!["127.0.0.2"]));
    fixture.fails("a");
    assert_eq!(fixture.closed.recv_timeout(LONGEST_WAIT), Ok(server.id));
    assert!(!server.addresses().keeps_idle(generation));
    // A probe that began before the move may come late, once.
    until("it is probed there only", || {
        let (before, from) = (old.load(Ordering::Acquire), new.load(Ordering::Acquire));
        until("it is probed there", || new.load(Ordering::Acquire) > from + 3);
        old.load(Ordering::Acquire) == before
    });
}

#[test]
fn a_failed_connect_asks_for_a_look_up_without_health_checks() {
    let mut config = quick();
    config.servers.health_check.rules.enabled = false;
    let zone = zone(&[("app.test", Some(vec!["127.0.0.1"]))]);
    let fixture = start(&config, &[spec("a", "app.test:80")], &zone);
    let server = fixture.server("a");
    until("it is found", || !server.addresses().all().is_empty());
    zone.lock().insert("app.test".into(), Some(vec!["127.0.0.2"]));
    let asked = time::now();
    fixture.fails("a");
    until("it moved", || server.addresses().all()[..] == ["127.0.0.2:80".parse().unwrap()]);
    // The next look-up is due after 5 s anyway. Where the machine stood still for that long, it cannot be told.
    let mut took = time::now().since(asked);
    for host in ["127.0.0.3", "127.0.0.4", "127.0.0.5"] {
        if took >= Duration::from_secs(3) {
            zone.lock().insert("app.test".into(), Some(vec![host]));
            let asked = time::now();
            fixture.fails("a");
            until("it moved", || {
                server.addresses().all()[0].ip() == host.parse::<std::net::IpAddr>().unwrap()
            });
            took = time::now().since(asked);
        }
    }
    assert!(took < Duration::from_secs(3), "sooner than the next look-up");
}

#[test]
fn the_second_address_serves_when_the_first_does_not() {
    // The first one refuses, or responds 500 to each probe.
    for responses in [false, true] {
        let (first, port) = bound();
        let _served = serve(TcpListener::bind(("127.0.0.2", port)).unwrap());
        if responses {
            rustix::net::listen(&first, 128).unwrap();
            let first = TcpListener::from(first.try_clone().unwrap());
            thread::spawn(move || {
                for stream in first.incoming() {
                    let mut stream = stream.unwrap();
                    let _ = stream.read(&mut [0; 1024]);
                    let _ = stream.write_all(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
                }
            });
        }
        let zone = zone(&[("app.test", Some(vec!["127.0.0.1", "127.0.0.2"]))]);
        let mut config = quick();
        config.servers.health_check.http_mut().is_strict = true;
        let fixture = start(&config, &[spec("a", &format!("app.test:{port}"))], &zone);
        fixture.until_health("a", Health::Up);
        let first = fixture.server("a").addresses().candidates().next();
        assert_eq!(first.map(|(address, _)| address), Some(SocketAddr::from(([127, 0, 0, 2], port))));
    }
}

#[test]
fn a_server_with_one_thread_is_not_shut_out_by_an_idle_connection() {
    let ([listener], port) = listeners(["127.0.0.1"]);
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    // One connection after the other, each until its client closes it.
    thread::spawn(move || listener.incoming().for_each(|stream| serve_one(stream.unwrap(), &count)));
    let mut config = quick();
    // A probe that finds the thread taken fails, and so may some that a busy machine delays.
    config.servers.health_check.timeout = Duration::from_millis(200);
    config.servers.health_check.rules.fall = 100;
    let fixture = start(&config, &[spec("a", &format!("127.0.0.1:{port}"))], &zone(&[]));
    fixture.until_health("a", Health::Up);
    let server = fixture.server("a");
    for _ in 0..3 {
        let mut idle = TcpStream::connect(("127.0.0.1", port)).unwrap();
        idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert!(idle.read(&mut [0; 1024]).unwrap() > 0);
        let generation = server.addresses().generation();
        assert_eq!(fixture.closed.recv_timeout(LONGEST_WAIT), Ok(server.id), "the probe has no response");
        assert!(!server.addresses().keeps_idle(generation));
        drop(idle);
        until("connections are kept while probes pass", || {
            fixture.closed.try_iter().for_each(drop);
            let (before, generation) = (served.load(Ordering::Acquire), server.addresses().generation());
            until("it is probed", || served.load(Ordering::Acquire) > before + 2);
            server.addresses().keeps_idle(generation) && fixture.closed.is_empty()
        });
        assert_eq!(server.health(), Health::Up);
    }
}

#[test]
fn a_server_that_listens_later_is_up_at_its_first_passed_probe() {
    let mut config = Config::default();
    config.servers.load_report.enabled = Some(false);
    // Far longer than the test: a server that was never up is probed more often.
    config.servers.health_check.rules.interval = Duration::from_secs(600);
    // Bound, so that no other process gets the port, and not listening.
    let (fd, port) = bound();
    let fixture = start(&config, &[spec("a", &format!("127.0.0.1:{port}"))], &zone(&[]));
    fixture.until_health("a", Health::Down);
    rustix::net::listen(&fd, 128).unwrap();
    let _served = serve(TcpListener::from(fd));
    fixture.until_health("a", Health::Up);
}

#[test]
fn silent_servers_do_not_hold_up_the_probes_of_others() {
    let ([listener], port) = listeners(["127.0.0.1"]);
    let served = serve(listener);
    let silent: Vec<_> = (0..100).map(|_| silent()).collect();
    let named = |(number, (listener, _)): (usize, &(TcpListener, _))| {
        spec(&format!("s{number}"), &listener.local_addr().unwrap().to_string())
    };
    let mut list: Vec<_> = silent.iter().enumerate().map(named).collect();
    list.push(spec("a", &format!("127.0.0.1:{port}")));
    let mut config = quick();
    // Far longer than the test: were one waited for, the others would never be probed.
    config.servers.health_check.timeout = Duration::from_secs(600);
    let fixture = start(&config, &list, &zone(&[]));
    fixture.until_health("a", Health::Up);
    let before = served.load(Ordering::Acquire);
    until("it is probed", || served.load(Ordering::Acquire) >= before + 10);
}

#[test]
fn servers_that_hang_in_every_way_hold_up_no_probe_of_another() {
    let ([listener], port) = listeners(["127.0.0.1"]);
    let served = serve(listener);
    // Each accepts; then it says nothing, or drips a head or a body, or sends headers without end.
    let ways: [(&[u8], &[u8]); 4] = [
        (b"", b""),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    ];
    let hangs = |(begin, piece): (&'static [u8], &'static [u8])| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let _ = stream.read(&mut [0; 1024]);
                    let _ = stream.write_all(begin);
                    while !piece.is_empty() && stream.write_all(piece).is_ok() {
                        thread::park_timeout(Duration::from_millis(10));
                    }
                    let _ = stream.read(&mut [0; 1024]);
                });
            }
        });
        address
    };
    let mut list: Vec<_> =
        (0..40).map(|number| spec(&format!("s{number}"), &hangs(ways[number % ways.len()]))).collect();
    list.push(spec("a", &format!("127.0.0.1:{port}")));
    let mut config = quick();
    // Far longer than the test: were one waited for, the others would never be probed.
    config.servers.health_check.timeout = Duration::from_secs(600);
    config.servers.health_check.http_mut().expect_body = None;
    let fixture = start(&config, &list, &zone(&[]));
    fixture.until_health("a", Health::Up);
    let before = served.load(Ordering::Acquire);
    until("it is probed", || served.load(Ordering::Acquire) >= before + 10);
    assert_eq!(fixture.server("s0").health(), Health::Starting, "its first probe is still out");
}

/// A server that responds to every request with this head, and the targets that it was asked for.
fn answering(head: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let targets = Arc::clone(&asked);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut bytes = [0; 1024];
            let length = stream.read(&mut bytes).unwrap_or(0);
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            targets.lock().push(text.split(' ').nth(1).unwrap_or_default().to_owned());
            let _ = write!(stream, "HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        }
    });
    (address, asked)
}

#[test]
fn load_reports_are_asked_for_where_the_server_or_the_file_says_so_and_any_status_is_a_sign_of_life() {
    let check = |enabled: Option<bool>, head: &'static str, is_asked: bool| {
        let (address, asked) = answering(head);
        let mut config = quick();
        config.servers.load_report.enabled = enabled;
        config.servers.load_report.interval = Duration::from_millis(10);
        let fixture = start(&config, &[spec("a", &address)], &zone(&[]));
        fixture.until_health("a", Health::Up);
        let count = |path: &str| asked.lock().iter().filter(|target| *target == path).count();
        // Several probes later a report would have been asked for.
        until("probes are made", || count("/health") >= 5 && (!is_asked || count("/queue/status") > 0));
        assert_eq!(count("/queue/status") > 0, is_asked, "{enabled:?} {head}");
        assert_eq!(fixture.server("a").health(), Health::Up);
    };
    check(None, "404 Not Found", false);
    check(None, "500 Internal Server Error", false);
    check(None, "503 Service Unavailable", false);
    check(None, "200 OK\r\nX-Load-Report: /queue/status", true);
    check(Some(false), "200 OK\r\nX-Load-Report: /queue/status", false);
    check(Some(true), "401 Unauthorized", true);
}

/// An agent that is not running, with this many servers.
fn still(servers: usize) -> (Agent, Arc<Table>) {
    let config = Config::default();
    let address = |at: usize| format!("127.{}.{}.{}:9001", 1 + at / 62_500, at / 250 % 250, at % 250 + 1);
    let list: Vec<_> = (0..servers).map(|at| spec(&format!("s{at}"), &address(at))).collect();
    let table = Arc::new(Table::new(config.servers.algorithm, true, None, &list));
    let (mut agent, _handle) = Agent::new(Arc::clone(&table), &Verdicts::default());
    agent.sync(Moment::START);
    (agent, table)
}

fn failed(id: ServerId, is_ours: bool) -> Finding {
    let reply = Err(Silence { words: "connection refused".into(), is_ours });
    let (check, address) = (Arc::new(Config::default().servers.health_check), "127.0.0.1:1".parse().unwrap());
    let found = Found::Probe { check, address, is_secure: false, reply };
    Finding { id, at: None, took: Duration::ZERO, found }
}

#[test]
fn a_probe_that_could_not_be_made_says_nothing_of_the_server() {
    for (is_ours, expected) in [(false, Health::Down), (true, Health::Starting)] {
        let (mut agent, table) = still(1);
        let server = table.find("s0").unwrap();
        agent.learn(failed(server.id, is_ours));
        agent.publish(time::now());
        assert_eq!(server.health(), expected, "ours: {is_ours}");
        let watched = &agent.watched[&server.id];
        assert!(!watched.probing && watched.probe_at > Moment::START, "it is probed again");
    }
}

#[test]
fn thousands_of_transitions_are_few_writes_of_the_table() {
    let (mut agent, table) = still(3_000);
    let version = table.version();
    let ids: Vec<_> = table.snapshot().servers.iter().map(|server| server.id).collect();
    let begun = time::now();
    for id in ids {
        agent.learn(failed(id, false));
        agent.publish(time::now());
    }
    let writes = table.version() - version;
    let most = time::now().since(begun).as_millis() / 20 + 1;
    assert!(u128::from(writes) <= most, "{writes} writes where {most} are allowed");
    agent.publish(Moment::NEVER);
    assert!(table.snapshot().pool(PoolId(0)).ready.is_empty());
    assert_eq!((agent.newcomers, agent.pools[PoolId(0)].ejected), (3_000, 0));
    table.remove(PoolId(0), "s0");
    agent.sync(Moment::START);
    assert_eq!(agent.newcomers, 2_999);
}

/// The servers of a name and their addresses, by the table.
fn members(table: &Table) -> Vec<String> {
    let mut names: Vec<_> = table.snapshot().servers.iter().map(|server| server.name.clone()).collect();
    names.sort();
    names
}

#[test]
fn all_addresses_of_a_name_are_servers_with_health_of_their_own() {
    let ([one, two], port) = listeners(["127.0.0.1", "127.0.0.2"]);
    let (one, _two) = (serve(one), serve(two));
    let zone = zone(&[("app.test", Some(vec!["127.0.0.2", "127.0.0.1", "127.0.0.9"]))]);
    let web = ServerSpec {
        resolve: crate::state::config::Resolve::All,
        ..spec("web", &format!("app.test:{port}"))
    };
    let fixture = start(&quick(), &[web], &zone);
    until("they are there", || members(&fixture.table).len() == 3);
    fixture.until_health("web@127.0.0.1", Health::Up);
    fixture.until_health("web@127.0.0.2", Health::Up);
    fixture.until_health("web@127.0.0.9", Health::Down);
    let first = fixture.server("web@127.0.0.1");
    // Two answers without an address take it out.
    zone.lock().insert("app.test".into(), Some(vec!["127.0.0.2"]));
    fixture.fails("web@127.0.0.2");
    until("one is left", || members(&fixture.table) == ["web@127.0.0.2"]);
    let mut closed = std::iter::from_fn(|| fixture.closed.recv_timeout(LONGEST_WAIT).ok());
    assert!(closed.any(|id| id == first.id), "its idle connections are closed");
    assert!(first.is_retired());
    let probes = one.load(Ordering::Acquire);
    for nothing in [None, Some(Vec::new())] {
        zone.lock().insert("app.test".into(), nothing);
        fixture.fails("web@127.0.0.2");
        until("the look-up fails", || fixture.server("web").addresses().loss().is_some());
        assert_eq!(members(&fixture.table), ["web@127.0.0.2"]);
        zone.lock().insert("app.test".into(), Some(vec!["127.0.0.2"]));
        until("it is found", || fixture.server("web").addresses().loss().is_none());
    }
    assert!(one.load(Ordering::Acquire) <= probes + 1, "it is not probed any more");
    fixture.table.remove(PoolId(0), "web");
    fixture.handle.look();
    assert!(members(&fixture.table).is_empty());
}
