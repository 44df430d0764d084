//! A name whose addresses are all servers, with a resolver that the test controls.

use super::{LONG, client};
use crate::app::{Balancer, upgrade};
use crate::base::time;
use crate::control::names::Resolver;
use crate::policy::health::Health;
use crate::policy::pick::Algorithm;
use crate::state::config::{Config, Listener, Resolve, ServerSpec};
use crate::state::instance::Instance;
use crate::state::verdict::Verdict;
use parking_lot::Mutex;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// The addresses that the name has, or none.
type Zone = Arc<Mutex<Option<Vec<IpAddr>>>>;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Responds `ok` to each request, in a thread for each connection.
fn serve(listener: TcpListener) {
    let each = |mut stream: TcpStream| {
        while stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    };
    thread::spawn(move || {
        listener.incoming().flatten().for_each(|stream| drop(thread::spawn(move || each(stream))))
    });
}

/// A balancer over `web.test`, whose addresses are in the zone, at this port.
fn balancer(zone: &Zone, port: u16) -> Balancer {
    let mut config = Config::default();
    config.listen.listeners = vec![Listener::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))];
    config.listen.served_by_header = true;
    (config.admin.socket, config.admin.bind) = (None, None);
    config.servers.algorithm = Algorithm::RoundRobin;
    config.servers.health_check.rules.interval = Duration::from_millis(40);
    config.servers.health_check.timeout = Duration::from_secs(20);
    config.servers.load_report.enabled = Some(false);
    config.servers.ejection.consecutive_failures = 0;
    let address = format!("web.test:{port}").parse().unwrap();
    config.servers.list = vec![ServerSpec { resolve: Resolve::All, ..ServerSpec::new("web", address) }];
    let zone = Arc::clone(zone);
    let resolver = Resolver::new(move |_| {
        let known = zone.lock().clone().ok_or_else(|| io::Error::other("no such name"))?;
        Ok(known.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect())
    });
    Balancer::start_as(Instance::default(), config, upgrade::Inheritance::default(), resolver).unwrap()
}

/// Sends requests until each of these members has responded to one, and none of the others to the last ten.
fn until_served_by(balancer: &Balancer, expected: &[&str]) {
    let deadline = time::now().after(LONG);
    let (mut missing, mut others_ago): (Vec<&str>, usize) = (expected.to_vec(), 0);
    while !missing.is_empty() || others_ago < 10 {
        assert!(time::now() < deadline, "missing: {missing:?}");
        // Any of them may fail: a name that moves is looked up after a failure.
        balancer.main.proxy.shared.verdicts.tell(a_failure(balancer));
        let Some(text) = served(balancer) else { continue };
        let name = text.lines().find_map(|line| line.strip_prefix("X-Served-By: ")).unwrap().to_owned();
        missing.retain(|one| *one != name);
        others_ago = if expected.contains(&name.as_str()) { others_ago + 1 } else { 0 };
        thread::park_timeout(Duration::from_millis(10));
    }
}

/// The response to a request, unless it is a 503 of the balancer.
fn served(balancer: &Balancer) -> Option<String> {
    let (mut client, mut text) = (client(balancer), String::new());
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    client.read_to_string(&mut text).unwrap();
    text.starts_with("HTTP/1.1 200").then_some(text)
}

/// Says that a request failed, which brings the next look-up forward.
fn a_failure(balancer: &Balancer) -> Verdict {
    let snapshot = balancer.main.proxy.shared.table.snapshot();
    let server = snapshot.servers.first().map_or(crate::base::ids::ServerId(0), |server| server.id);
    Verdict { server, failure: Some("said so"), is_unreachable: false }
}

#[test]
fn every_address_of_a_name_is_a_server_while_the_name_has_it() {
    let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = first.local_addr().unwrap().port();
    serve(first);
    ["127.0.0.2", "127.0.0.3"].into_iter().for_each(|host| serve(TcpListener::bind((host, port)).unwrap()));
    let has_v6 = TcpListener::bind(("::1", port)).map(serve).is_ok();
    let two = if has_v6 { "::1" } else { "127.0.0.2" };
    let zone: Zone = Arc::new(Mutex::new(Some(vec![ip(two), ip("127.0.0.1")])));
    let balancer = balancer(&zone, port);
    let table = Arc::clone(&balancer.main.proxy.shared.table);
    let v2 = format!("web@{two}");
    until_served_by(&balancer, &[&v2, "web@127.0.0.1"]);
    *zone.lock() = Some(vec![ip("127.0.0.3"), ip("127.0.0.1")]);
    until_served_by(&balancer, &["web@127.0.0.1", "web@127.0.0.3"]);
    for lost in [None, Some(Vec::new())] {
        *zone.lock() = lost;
        let name = table.find("web").unwrap();
        let deadline = time::now().after(LONG);
        while name.addresses().loss().is_none() {
            assert!(time::now() < deadline, "the look-up fails");
            balancer.main.proxy.shared.verdicts.tell(a_failure(&balancer));
            thread::park_timeout(Duration::from_millis(10));
        }
        until_served_by(&balancer, &["web@127.0.0.1", "web@127.0.0.3"]);
        *zone.lock() = Some(vec![ip("127.0.0.1"), ip("127.0.0.3")]);
        while name.addresses().loss().is_some() {
            assert!(time::now() < deadline, "the look-up succeeds");
            balancer.main.proxy.shared.verdicts.tell(a_failure(&balancer));
            thread::park_timeout(Duration::from_millis(10));
        }
    }
    let health = |name: &str| table.find(name).map(|server| server.health());
    assert_eq!((health("web@127.0.0.1"), health(&v2)), (Some(Health::Up), None));
    balancer.stop(time::now().after(LONG));
}
