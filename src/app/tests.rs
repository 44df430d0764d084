//! A balancer in this process, with a server and clients on real sockets.

mod members;

use super::*;
use crate::state::config::{Listener, ServerSpec};
use crate::state::workers::Workers;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(30);

/// A balancer with one worker and without probes over these servers; all but the first are backups.
fn balancer(servers: &[&TcpListener]) -> Balancer {
    let mut config = Config::default();
    config.listen.listeners = vec![Listener::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))];
    config.threadpool.bounds.max = 1;
    config.admin.socket = None;
    config.admin.bind = None;
    config.servers.health_check.rules.enabled = false;
    config.servers.load_report.enabled = Some(false);
    let spec = |(at, server): (usize, &&TcpListener)| ServerSpec {
        backup: at > 0,
        ..ServerSpec::new(at.to_string(), server.local_addr().unwrap().to_string().parse().unwrap())
    };
    config.servers.list = servers.iter().enumerate().map(spec).collect();
    Balancer::start(config).unwrap()
}

/// A balancer over one server, which responds to one request for each permission sent.
fn start() -> (Balancer, Receiver<()>, Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let balancer = balancer(&[&listener]);
    let (asked, heard) = channel();
    let (leave, left) = channel();
    thread::spawn(move || {
        let (mut link, _) = listener.accept().unwrap();
        while link.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {
            asked.send(()).unwrap();
            left.recv().unwrap();
            link.write_all(RESPONSE).unwrap();
        }
    });
    (balancer, heard, leave)
}

fn client(balancer: &Balancer) -> TcpStream {
    let client = TcpStream::connect(balancer.address().unwrap()).unwrap();
    client.set_read_timeout(Some(LONG)).unwrap();
    client
}

fn ask(client: &mut TcpStream) {
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
}

fn response(client: &mut TcpStream) -> String {
    let mut seen = Vec::new();
    while !seen.ends_with(b"ok") {
        let mut buffer = [0; 4096];
        let count = client.read(&mut buffer).unwrap();
        assert!(count > 0, "closed after {:?}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8(seen).unwrap()
}

/// Returns when the accept thread has noticed the drain.
fn drain(balancer: &Balancer) {
    balancer.main.proxy.drain(time::now().after(Duration::from_secs(30)));
    while TcpStream::connect(balancer.address().unwrap()).is_ok() {
        thread::yield_now();
    }
}

#[test]
fn a_request_that_was_under_way_when_draining_began_is_answered() {
    let (balancer, _heard, leave) = start();
    let mut client = client(&balancer);
    ask(&mut client);
    leave.send(()).unwrap();
    assert!(!response(&mut client).to_lowercase().contains("connection: close"));
    drain(&balancer);
    ask(&mut client);
    leave.send(()).unwrap();
    assert!(response(&mut client).to_lowercase().contains("connection: close"));
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    balancer.stop(time::now().after(LONG));
}

#[test]
fn the_end_of_the_last_request_is_the_end_of_draining() {
    let (balancer, heard, leave) = start();
    let mut client = client(&balancer);
    ask(&mut client);
    heard.recv().unwrap();
    drain(&balancer);
    leave.send(()).unwrap();
    response(&mut client);
    let (stopped, end) = channel();
    thread::spawn(move || {
        balancer.stop(time::now().after(Duration::from_secs(30)));
        stopped.send(()).unwrap();
    });
    end.recv_timeout(LONG).expect("the supervisor was not notified");
}

#[test]
fn an_idle_client_does_not_hold_up_the_end() {
    let (balancer, _heard, _leave) = start();
    let mut client = client(&balancer);
    balancer.stop(time::now().after(Duration::from_secs(30)));
    assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
}

/// A server that sends this in response to its first request and closes.
fn says(words: &'static [u8]) -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let twin = listener.try_clone().unwrap();
    thread::spawn(move || {
        let (mut link, _) = twin.accept().unwrap();
        let _ = link.read(&mut [0; 4096]).unwrap();
        link.write_all(words).unwrap();
    });
    listener
}

#[test]
fn a_server_that_dies_in_the_middle_of_a_head_is_made_up_for() {
    let (dies, lives) = (says(b"HTTP/1.1 200 OK\r\nContent-Le"), says(RESPONSE));
    let balancer = balancer(&[&dies, &lives]);
    let mut client = client(&balancer);
    ask(&mut client);
    assert!(response(&mut client).starts_with("HTTP/1.1 200"));
    balancer.stop(time::now().after(LONG));
}

#[test]
fn clients_that_leave_need_no_worker() {
    let (balancer, heard, leave) = start();
    let mut busy = client(&balancer);
    ask(&mut busy);
    heard.recv().unwrap();
    let workers = balancer.main.proxy.clone();
    let idle = [client(&balancer), client(&balancer), client(&balancer)];
    let reach = |count| {
        let until = time::now().after(LONG);
        while workers.connections() != count {
            assert!(time::now() < until, "{} are open, {count} expected", workers.connections());
            thread::yield_now();
        }
    };
    reach(4);
    drop(idle);
    reach(1);
    leave.send(()).unwrap();
    response(&mut busy);
    balancer.stop(time::now().after(LONG));
}
