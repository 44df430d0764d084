//! The sample server over real sockets: its endpoints, its bounded queue, its way in and out of a balancer.

use crossbeam_channel::{Receiver, bounded};
use evenkeel::base::time;
use evenkeel::cli::admin::{Client, Place};
use evenkeel::sample::{self, AdminApi, Options, Running};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// Long enough for a loaded machine; no test waits it out when it passes.
const MAX_WAIT: Duration = Duration::from_secs(30);

fn start(change: impl FnOnce(&mut Options)) -> Running {
    let mut options = Options {
        name: Some("a".into()),
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        ..Options::default()
    };
    change(&mut options);
    sample::start(options).unwrap()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(MAX_WAIT)).unwrap();
    stream
}

/// Reads one response with a Content-Length, skipping interim ones: status, head, JSON.
fn read_response(stream: &mut impl Read) -> (u16, String, Value) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            // Unlike a plain read it goes on where the process was stopped and continued.
            let read = stream.read_exact(&mut byte);
            assert!(read.is_ok(), "{read:?} after {:?}", String::from_utf8_lossy(&head));
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let status = head[9..12].parse().unwrap();
        if status < 200 {
            continue;
        }
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).unwrap();
        return (status, head, serde_json::from_slice(&body).unwrap());
    }
}

fn ask(address: SocketAddr, request: &str) -> (u16, String, Value) {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).unwrap();
    read_response(&mut stream)
}

fn post(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n")
}

/// Asks for the status until it is as wanted; each look is an answered request.
#[track_caller]
fn await_status(address: SocketAddr, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut stream = connect(address);
    let begun = time::now();
    loop {
        stream.write_all(post("/queue/status").as_bytes()).unwrap();
        let (_, _, status) = read_response(&mut stream);
        if wanted(&status) {
            return status;
        }
        assert!(time::now().since(begun) < MAX_WAIT, "it stays {status}");
    }
}

#[test]
fn a_request_is_queued_and_worked_off() {
    let server = start(|options| options.delay = Duration::from_millis(3));
    let (status, _, body) = ask(server.address(), &post("/requests"));
    assert_eq!((status, &body["server"], &body["id"]), (200, &"a".into(), &1.into()));
    assert!(body["served_ms"].as_f64().unwrap() >= 3.0 && body["waited_ms"].as_f64().unwrap() >= 0.0);
    let report = await_status(server.address(), |_| true);
    assert_eq!((&report["processed"], &report["queue_capacity"]), (&1.into(), &1000.into()));
    server.stop();
}

#[test]
fn status_and_health_response_while_workers_are_busy_and_a_full_queue_responds_503() {
    let server = start(|options| {
        options.workers = 1;
        options.queue_capacity = 1;
        options.delay = Duration::from_secs(3600);
    });
    let (mut busy, mut waiting) = (connect(server.address()), connect(server.address()));
    busy.write_all(post("/requests").as_bytes()).unwrap();
    await_status(server.address(), |status| status["in_progress"] == 1);
    waiting.write_all(post("/requests").as_bytes()).unwrap();
    let report = await_status(server.address(), |status| status["queue_length"] == 1);
    assert_eq!((&report["in_progress"], &report["processed"]), (&1.into(), &0.into()));
    let (status, _, body) = ask(server.address(), &post("/requests"));
    assert_eq!((status, &body["error"]), (503, &"the queue is full".into()));
    assert_eq!(ask(server.address(), "GET /health HTTP/1.1\r\nHost: test\r\n\r\n").0, 200);
}

#[test]
fn pipelined_requests_are_answered_in_order_whichever_worker_serves_them() {
    let server = start(|options| {
        options.workers = 2;
        options.delay = Duration::from_millis(2);
    });
    let mut stream = connect(server.address());
    let round = post("/requests") + "GET /health HTTP/1.1\r\nHost: test\r\n\r\n" + &post("/echo");
    stream.write_all(round.repeat(50).as_bytes()).unwrap();
    for id in 1..=50 {
        assert_eq!(read_response(&mut stream).2["id"], id);
        assert_eq!(read_response(&mut stream).2["status"], "up");
        assert_eq!(read_response(&mut stream).2["path"], "/echo");
    }
    server.stop();
}

#[test]
fn anything_else_is_echoed() {
    let server = start(|_| {});
    let request = "PUT /x?y=1 HTTP/1.1\r\nHost: test\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 5\r\n\r\nhello";
    let (status, _, body) = ask(server.address(), request);
    assert_eq!(status, 200);
    assert_eq!(
        (&body["method"], &body["path"], &body["body_length"]),
        (&"PUT".into(), &"/x?y=1".into(), &5.into())
    );
    let headers = serde_json::json!([["Host", "test"], ["X-A", "1"], ["x-a", "2"], ["Content-Length", "5"]]);
    assert_eq!(body["headers"], headers);
    server.stop();
}

#[test]
fn bodies_of_all_kinds_are_counted_and_the_connection_goes_on() {
    let server = start(|_| {});
    let mut stream = connect(server.address());
    let large = "x".repeat(300_000);
    let chunked =
        "POST /e HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n";
    let expects = "POST /e HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc";
    let declared = format!("POST /e HTTP/1.1\r\nHost: t\r\nContent-Length: 300000\r\n\r\n{large}");
    for (request, length) in [(chunked, 7), (expects, 3), (&declared, 300_000)] {
        stream.write_all(request.as_bytes()).unwrap();
        let (status, _, body) = read_response(&mut stream);
        assert_eq!((status, &body["body_length"]), (200, &length.into()));
    }
    server.stop();
}

#[test]
fn an_absurd_content_length_is_rejected_and_harms_no_other_client() {
    let server = start(|_| {});
    let request = "POST /requests HTTP/1.1\r\nHost: test\r\nContent-Length: 99999999999999\r\n\r\n";
    let (status, head, _) = ask(server.address(), request);
    assert_eq!(status, 413);
    assert!(head.contains("Connection: close"), "{head}");
    assert_eq!(ask(server.address(), &post("/requests")).0, 200);
    server.stop();
}

/// Threads of this process.
#[cfg(target_os = "linux")]
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
#[cfg(target_os = "linux")]
fn clients_that_declare_much_or_stall_cost_no_threads() {
    let server = start(|_| {});
    assert_eq!(ask(server.address(), &post("/requests")).0, 200);
    let before = threads();
    let large = format!("POST /x HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n", 2_u64 << 30);
    let mut held = Vec::new();
    for bytes in [&*large, "GET /half", "", "POST /x HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\nx"] {
        for _ in 0..100 {
            let mut stream = connect(server.address());
            stream.write_all(bytes.as_bytes()).unwrap();
            held.push(stream);
        }
    }
    assert_eq!(read_response(&mut held[0]).0, 413);
    assert_eq!(ask(server.address(), &post("/requests")).0, 200);
    // Other tests of this file run beside this one, and have some of their own.
    assert!(threads() < before + 200, "{before} before, {} now", threads());
    drop(held);
    assert_eq!(ask(server.address(), "GET /health HTTP/1.1\r\nHost: t\r\n\r\n").0, 200);
}

#[test]
fn stalled_uploads_hold_up_no_other_client() {
    let server = start(|_| {});
    let stalled = "POST /requests HTTP/1.1\r\nHost: test\r\nContent-Length: 5000\r\n\r\nonly this";
    let _streams: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = connect(server.address());
            stream.write_all(stalled.as_bytes()).unwrap();
            stream
        })
        .collect();
    assert_eq!(ask(server.address(), &post("/requests")).0, 200);
    assert_eq!(ask(server.address(), &post("/queue/status")).0, 200);
}

#[test]
fn the_fail_rate_responds_500() {
    let server = start(|options| options.fail_rate = 1.0);
    let (status, _, body) = ask(server.address(), &post("/requests"));
    assert_eq!((status, &body["server"]), (500, &"a".into()));
    server.stop();
}

#[test]
fn a_stop_finishes_what_is_in_progress_and_closes_what_is_kept_alive() {
    let server = start(|options| {
        options.workers = 1;
        options.delay = Duration::from_secs(1);
    });
    let address = server.address();
    let mut streams: Vec<_> = (0..3).map(|_| connect(address)).collect();
    for stream in &mut streams {
        stream.write_all(post("/requests").as_bytes()).unwrap();
    }
    // Two wait while the first is in progress; or some are done, where the machine stood still meanwhile.
    await_status(address, |status| {
        let count = |key: &str| status[key].as_u64().unwrap();
        count("queue_length") == 2 || count("queue_length") + count("processed") == 3
    });
    server.stop();
    for stream in &mut streams {
        assert_eq!(read_response(stream).0, 200);
    }
    assert!(TcpStream::connect(address).is_err(), "it still listens");
}

/// The admin API as far as a sample server uses it: each call is reported and answered by the script.
fn admin(script: &'static [u16]) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (report, calls) = bounded(100);
    std::thread::spawn(move || {
        for status in script {
            let (mut stream, _) = listener.accept().unwrap();
            let mut call = read_call(&mut stream);
            write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}")
                .unwrap();
            call.push_str(&format!(" -> {status}"));
            report.send(call).unwrap();
        }
    });
    (address, calls)
}

fn read_call(stream: &mut TcpStream) -> String {
    let mut call = String::new();
    let mut bytes = [0; 4096];
    loop {
        let count = stream.read(&mut bytes).unwrap();
        call.push_str(&String::from_utf8_lossy(&bytes[..count]));
        let Some((head, body)) = call.split_once("\r\n\r\n") else { continue };
        let length = head
            .to_ascii_lowercase()
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        if count == 0 || body.len() >= length.unwrap_or(0) {
            return call;
        }
    }
}

fn api(admin: SocketAddr, token: Option<String>) -> Option<Arc<dyn AdminApi>> {
    Some(Arc::new(Client::at(Place::Tcp(admin), token)))
}

fn registered(script: &'static [u16]) -> (Running, Receiver<String>) {
    let (admin, calls) = admin(script);
    let register = api(admin, Some("secret".into()));
    (start(|options| options.register = register), calls)
}

#[test]
fn it_registers_and_takes_itself_out() {
    let (server, calls) = registered(&[201, 204]);
    let call = calls.recv_timeout(MAX_WAIT).unwrap();
    assert!(call.starts_with("POST /api/v1/servers HTTP/1.1"), "{call}");
    assert!(call.contains(&format!(r#"{{"address":"{}","name":"a"}}"#, server.address())), "{call}");
    let lower = call.to_ascii_lowercase();
    assert!(lower.contains("content-type: application/json"), "{call}");
    assert!(lower.contains("authorization: bearer secret"), "{call}");
    server.stop();
    let call = calls.recv_timeout(MAX_WAIT).unwrap();
    assert!(call.starts_with("DELETE /api/v1/servers/a HTTP/1.1"), "{call}");
    assert!(call.to_ascii_lowercase().contains("content-type: application/json"), "{call}");
}

#[test]
fn without_a_balancer_it_serves_and_stops_at_once() {
    let unused = crate::support::unused_port();
    let server = start(|options| options.register = api(unused.address(), None));
    assert_eq!(ask(server.address(), &post("/requests")).0, 200);
    server.stop();
}
