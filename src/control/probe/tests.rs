//! Probes over real sockets: what servers say, and servers that are at fault.

use super::super::judge::{Probed, judge};
use super::*;
use crate::base::ids::{PoolId, ServerId};
use crate::base::time;
use crate::policy::health::Health;
use crate::state::addresses::Addresses;
use crate::state::config::{self, Config};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

/// The most that a probe of the tests of slow peers may take; its own limit is far shorter.
const LONGEST: Duration = Duration::from_secs(20);

/// A configuration's `health_check`.
fn check_of(keys: &str) -> HealthCheck {
    let text = format!(r#"{{"servers": {{"health_check": {{{keys}}}}}}}"#);
    let read: Config =
        config::parse(&text, std::path::Path::new("")).unwrap_or_else(|faults| panic!("{}", faults[0]));
    read.servers.health_check
}

/// The server at this address, as configured.
fn target(address: &str) -> Target {
    let address: Address = address.parse().unwrap();
    let candidates = Addresses::of(&address).candidates();
    Target {
        name: "a".into(),
        pool: "default".into(),
        address,
        candidates,
        connecting: ToServers::default(),
        tls: None,
    }
}

/// A plain request for `/health`.
fn ask(target: &Target, timeout_ms: u64) -> (Result<Response, Silence>, Option<SocketAddr>) {
    let Probe::Http(http) = check_of("").probe else { panic!("not the default") };
    http::ask(target, &request(&http, None), Duration::from_millis(timeout_ms))
}

fn ask_at(address: &str, timeout_ms: u64) -> Result<Response, Silence> {
    ask(&target(address), timeout_ms).0
}

fn head(stream: impl Read) -> Vec<String> {
    BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect()
}

/// A port below those that the kernel assigns: nothing listens there.
const REFUSES: &str = "127.0.0.1:1";

/// What a probe that may take so long makes of a server that says this, and the head that the server got.
fn asked(says: &'static str, timeout_ms: u64) -> (Result<Response, Silence>, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let lines = head(&stream);
        let _ = stream.write_all(says.as_bytes());
        if says.is_empty() {
            // Stalls: holds the connection until the prober gives up.
            let _ = stream.read(&mut [0]);
        }
        lines
    });
    let response = ask_at(&address, timeout_ms);
    let lines = server.join().unwrap();
    let host = format!("host: {address}");
    assert!(lines.is_empty() || lines.iter().any(|line| line.eq_ignore_ascii_case(&host)), "{lines:?}");
    (response, lines)
}

fn check(says: &'static str, expected: Result<u16, &str>) {
    let (response, lines) = asked(says, LONGEST.as_millis() as u64);
    match expected {
        Ok(status) => assert_eq!(response.map(|response| response.status), Ok(status)),
        Err(words) => {
            assert!(response.as_ref().is_err_and(|said| said.words.contains(words)), "{response:?}")
        }
    }
    assert_eq!(lines[0], "GET /health HTTP/1.1");
}

#[test]
fn responses_and_faults_of_a_server() {
    check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Ok(200));
    check("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", Ok(503));
    check("HTTP/1.1 302 Away\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", Ok(302));
    check("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\ncut", Ok(200));
    check("nonsense\r\n\r\n", Err(""));
}

#[test]
fn a_server_that_says_nothing_has_its_time() {
    // Longer where the machine is so slow that not even the request was sent.
    let mut tries = [50, 500, 5000].into_iter().map(|timeout_ms| (timeout_ms, asked("", timeout_ms)));
    let (timeout_ms, (response, _)) = tries.find(|(_, (_, lines))| !lines.is_empty()).unwrap();
    let words = response.unwrap_err().words;
    assert!(words.starts_with("no response in "), "{timeout_ms} ms: {words}");
}

#[test]
fn without_a_listener_there_is_an_error() {
    assert_eq!(ask_at(REFUSES, 5000), Err("connection refused".to_owned().into()));
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", folder.path().join("none.sock").display());
    assert_eq!(ask_at(&address, 5000), Err("there is no such socket".to_owned().into()));
}

#[test]
fn a_unix_socket_that_takes_no_connection_does_not_hold_the_probe() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("full.sock");
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    rustix::net::bind(&fd, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&fd, 0).unwrap();
    let _filler = UnixStream::connect(&path).unwrap();
    let asked = ask_at(&format!("unix:{}", path.display()), 50);
    assert_eq!(asked, Err("no response in 50ms".to_owned().into()));
}

#[test]
fn the_next_address_is_asked_when_the_first_takes_no_connection() {
    // A listener with a full backlog is silent to further connections.
    let silent = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    rustix::net::bind(&silent, &SocketAddr::from(([127, 0, 0, 31], 0))).unwrap();
    rustix::net::listen(&silent, 0).unwrap();
    let first: SocketAddr = rustix::net::getsockname(&silent).unwrap().try_into().unwrap();
    let _filler = TcpStream::connect(first).unwrap();
    let rejected = SocketAddr::from(([127, 0, 0, 32], first.port()));
    let live = TcpListener::bind(("127.0.0.33", first.port())).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = live.accept().unwrap();
        head(&stream);
        stream.write_all(b"HTTP/1.1 204 No\r\n\r\n").unwrap();
    });
    let address: Address = format!("app.test:{}", first.port()).parse().unwrap();
    let addresses = Addresses::of(&address);
    let third = SocketAddr::from(([127, 0, 0, 33], first.port()));
    addresses.replace(vec![first, rejected, third]);
    let target = Target { candidates: addresses.candidates(), ..target(&address.to_string()) };
    let (response, at) = ask(&target, 3000);
    assert_eq!((response.map(|response| response.status), at), (Ok(204), Some(third)));
    server.join().unwrap();
}

#[test]
fn a_unix_socket_is_asked_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let lines = head(&stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nX-Load-Report: 1\r\nContent-Length: 2\r\n\r\n{}").unwrap();
        lines
    });
    let response = ask_at(&format!("unix:{}", path.display()), 5000).unwrap();
    assert_eq!(response, Response { status: 200, body: b"{}".into(), has_reports: true });
    assert!(server.join().unwrap().iter().any(|line| line.eq_ignore_ascii_case("host: localhost")));
}

/// A server that does this with its first connection, and its address.
fn peer(serve: impl FnOnce(TcpStream) + Send + 'static) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (address, thread::spawn(move || serve(listener.accept().unwrap().0)))
}

/// One probe with these keys of a peer that does this; what it found in words, and whether it passed.
fn probed(keys: &str, serve: impl FnOnce(TcpStream) + Send + 'static) -> (bool, String) {
    let (address, thread) = peer(serve);
    let begun = time::now();
    let check = check_of(keys);
    let target = target(&address);
    let (reply, at) = probe(&target, &check, &Commands::default());
    assert!(time::now().since(begun) < LONGEST, "{keys}");
    thread.join().unwrap();
    let probed = Probed {
        pool: "servers",
        check: &check,
        is_secure: false,
        address: &target.address,
        at,
        has_page: true,
    };
    let judged = judge(&probed, &reply);
    (judged.passed, judged.outcome)
}

/// Writes these bytes again and again until the peer has gone.
fn flood(mut stream: TcpStream, begin: &str, piece: &[u8]) {
    head(&stream);
    let _ = stream.write_all(begin.as_bytes());
    while stream.write_all(piece).is_ok() {}
}

#[test]
fn a_request_is_sent_as_it_is_configured() {
    let keys = r#""method": "PUT", "path": "/check?deep=1", "body": "{\"ask\": 1}",
        "headers": {"Host": "app.example", "X-Token": "t 1", "User-Agent": "mine", "Content-Type": "application/json"}"#;
    let (passed, outcome) = probed(keys, |mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_ascii_lowercase()),
            }
        }
        let mut body = [0; 10];
        reader.read_exact(&mut body).unwrap();
        assert_eq!((lines[0].as_str(), &body), ("put /check?deep=1 http/1.1", b"{\"ask\": 1}"));
        for line in [
            "host: app.example",
            "x-token: t 1",
            "user-agent: mine",
            "content-length: 10",
            "connection: close",
        ] {
            assert_eq!(lines.iter().filter(|sent| *sent == line).count(), 1, "{line}: {lines:?}");
        }
        assert_eq!(lines.iter().filter(|line| line.starts_with("user-agent")).count(), 1);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    assert_eq!((passed, outcome.as_str()), (true, "200"));
}

#[test]
fn a_body_is_looked_at_where_the_configuration_says_what_it_has() {
    let check = |expected: &str, says: &'static str, passes: bool| {
        let keys = format!(r#""expect_body": {expected:?}, "path": "/h""#);
        let (passed, outcome) = probed(&keys, move |mut stream| {
            head(&stream);
            let length = says.len();
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{says}").unwrap();
        });
        assert_eq!(passed, passes, "{expected}: {outcome}");
        assert!(passes || outcome.starts_with("200, and its body is not what expect_body says"), "{outcome}");
    };
    check("\"status\":\"up\"", r#"{"status":"up"}"#, true);
    check("\"status\":\"up\"", r#"{"status":"down"}"#, false);
    check("ok", "", false);
    check("~^(up|ok)$", "ok", true);
    check("~^(up|ok)$", "not ok", false);
    check("~(?i)HEALTHY", "all healthy", true);
}

#[test]
fn a_peer_at_fault_takes_neither_more_than_the_time_nor_more_than_a_few_buffers() {
    const OK: &str = "HTTP/1.1 200 OK\r\n\r\n";
    let quick = r#""timeout": "300ms", "path": "/h""#;
    let with_body = r#""timeout": "300ms", "path": "/h", "expect_body": "never""#;
    // A body without end: what is expected is looked for in its beginning.
    let (passed, outcome) = probed(with_body, |stream| flood(stream, OK, &[b'x'; 4096]));
    assert!(!passed && outcome.starts_with("200, and"), "{outcome}");
    assert_eq!(probed(quick, |stream| flood(stream, OK, &[b'x'; 4096])), (true, "200".to_owned()));
    // Headers without end, in many lines and in one.
    for piece in [&b"X-Header: a value\r\n"[..], b"xxxxxxxxxxxxxxxx"] {
        let (passed, outcome) = probed(quick, |stream| flood(stream, "HTTP/1.1 200 OK\r\nX: ", piece));
        assert!(!passed, "{outcome}");
    }
    // Interim responses without end.
    let (passed, outcome) = probed(quick, |stream| flood(stream, "", b"HTTP/1.1 100 Continue\r\n\r\n"));
    assert!(!passed, "{outcome}");
    // A head, and a body, that come byte by byte.
    let drip = |begin: &'static str| {
        move |mut stream: TcpStream| {
            head(&stream);
            let _ = stream.write_all(begin.as_bytes());
            while stream.write_all(b"x").is_ok() {
                thread::park_timeout(Duration::from_millis(20));
            }
        }
    };
    let late = |found: (bool, String)| assert_eq!(found, (false, "no response in 300ms".to_owned()));
    late(probed(quick, drip("HTTP/1.1 200 OK\r\nX: ")));
    assert_eq!(probed(quick, drip(OK)), (true, "200".to_owned()));
    let (passed, outcome) = probed(with_body, drip("HTTP/1.1 200 OK\r\n\r\nalmost "));
    assert!(!passed && outcome.contains("\"almost x"), "{outcome}");
    // It accepts and says nothing; it reads nothing of a large request.
    late(probed(quick, |mut stream| {
        head(&stream);
        let _ = stream.read(&mut [0]);
    }));
    let large = format!(r#"{quick}, "method": "POST", "body": "{}""#, "x".repeat(60_000));
    let (passed, _) = probed(&large, drop);
    assert!(!passed);
}

#[test]
fn a_tcp_probe_connects_sends_and_expects() {
    let check = |keys: &str, serve: fn(TcpStream), expected: (bool, &str)| {
        let (passed, outcome) = probed(&format!(r#""type": "tcp", "timeout": "300ms"{keys}"#), serve);
        assert_eq!((passed, outcome.as_str()), expected, "{keys}");
    };
    fn replies(mut stream: TcpStream, says: &[u8]) {
        let mut asked = [0; 6];
        stream.read_exact(&mut asked).unwrap();
        assert_eq!(&asked, b"PING\r\n");
        let _ = stream.write_all(says);
    }
    check("", drop, (true, "connected"));
    let ping = r#", "send": "PING\r\n", "expect": "+PONG""#;
    check(ping, |stream| replies(stream, b"+PONG\r\n"), (true, "responded as expected"));
    check(
        ping,
        |stream| replies(stream, b"-LOADING\r\n"),
        (false, "did not respond as expected (it closed the connection); it sent \"-LOADING\\r\\n\""),
    );
    check(ping, |stream| replies(stream, b""), (false, "closed without a response"));
    let hex = r#", "send": "hex:50 49 4e 47 0d 0a", "expect": "hex:00ff""#;
    check(hex, |stream| replies(stream, &[0x20, 0x00, 0xff]), (true, "responded as expected"));
    // A banner that comes unasked, in pieces, while the connection stays open.
    let banner = |mut stream: TcpStream| {
        for byte in b"220 mail ready" {
            stream.write_all(&[*byte]).unwrap();
        }
        let _ = stream.read(&mut [0]);
    };
    check(r#", "expect": "~^220 .*ready$""#, banner, (true, "responded as expected"));
    check(
        r#", "expect": "~^221 ""#,
        banner,
        (false, "did not respond as expected (in 300ms); it sent \"220 mail ready\""),
    );
    let silent = |mut stream: TcpStream| drop(stream.read(&mut [0]));
    check(r#", "expect": "x""#, silent, (false, "no response in 300ms"));
    let endless = |mut stream: TcpStream| while stream.write_all(&[b'y'; 4096]).is_ok() {};
    let (passed, outcome) = probed(r#""type": "tcp", "expect": "x""#, endless);
    assert!(!passed && outcome.contains("not in the first 65536 bytes"), "{outcome}");
}

#[test]
fn a_port_of_its_own_is_probed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let spec = config::parse_server(r#"{"address": "127.0.0.1:1"}"#, config::Resolve::First).unwrap();
    let server = Server::new(ServerId(0), PoolId(0), "default", &spec, Health::Up);
    let check = check_of(&format!(r#""port": {port}, "path": "/h""#));
    let serve = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let lines = head(&stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        lines
    });
    let (reply, at) = probe(&Target::of_probe(&server, "default", &check, 0), &check, &Commands::default());
    assert!(matches!(reply, Ok(Reply::Http(Response { status: 200, .. }))), "{reply:?}");
    assert_eq!(at, Some(SocketAddr::from(([127, 0, 0, 1], port))));
    let host = format!("host: 127.0.0.1:{port}");
    assert!(serve.join().unwrap().iter().any(|line| line.eq_ignore_ascii_case(&host)));
}

/// Reads what a client of HTTP/2 sends first: the preface and three frames. Returns their payloads.
fn http2_request(stream: &mut TcpStream) -> Vec<Vec<u8>> {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).unwrap();
    assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let mut frame = || {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).unwrap();
        payload
    };
    vec![frame(), frame(), frame()]
}

/// SETTINGS, `:status: 200`, a message with this status, and trailers with `grpc-status: 0`.
fn http2_response(status: u8) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 4, 0, 0, 0, 0, 0];
    bytes.extend([0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88]);
    bytes.extend([0, 0, 7, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 2, 8, status]);
    bytes.extend([0, 0, 15, 1, 5, 0, 0, 0, 1, 0, 11]);
    bytes.extend(b"grpc-status\x010");
    bytes
}

#[test]
fn a_grpc_server_is_asked_and_only_serving_passes() {
    let check = |keys: &'static str, status: u8, expected: (bool, &str)| {
        let (passed, outcome) = probed(&format!(r#""type": "grpc"{keys}"#), move |mut stream| {
            let frames = http2_request(&mut stream);
            let text = String::from_utf8_lossy(&frames[1]).into_owned();
            assert!(
                text.contains("/grpc.health.v1.Health/Check") && text.contains("application/grpc"),
                "{text}"
            );
            assert_eq!(text.contains("app.example"), keys.contains("host"), "{text}");
            assert_eq!(frames[2].ends_with(b"shop.Cart"), keys.contains("service"));
            stream.write_all(&http2_response(status)).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        });
        assert_eq!((passed, outcome.as_str()), expected);
    };
    check("", 1, (true, "SERVING"));
    check(r#", "service": "shop.Cart", "host": "app.example""#, 1, (true, "SERVING"));
    check("", 2, (false, "NOT_SERVING"));
}

#[test]
fn a_grpc_peer_at_fault_is_told() {
    let check = |serve: fn(TcpStream), expected: &str| {
        let (passed, outcome) = probed(r#""type": "grpc", "timeout": "300ms""#, serve);
        assert!(!passed && outcome.contains(expected), "{outcome}");
    };
    let mute = |mut stream: TcpStream| drop(stream.read_to_end(&mut Vec::new()));
    check(mute, "no response in 300ms");
    check(|mut stream| drop(http2_request(&mut stream)), "closed without a response");
    let http1 = |mut stream: TcpStream| {
        http2_request(&mut stream);
        stream.write_all(b"HTTP/1.1 505 No\r\n\r\n").unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    };
    check(http1, "it responds in HTTP/1, not HTTP/2");
    let half = |mut stream: TcpStream| {
        http2_request(&mut stream);
        stream.write_all(&http2_response(1)[..30]).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    };
    check(half, "no response in 300ms");
    let endless = |mut stream: TcpStream| {
        http2_request(&mut stream);
        // Acknowledged PING frames, which need no reply.
        while stream.write_all(&[0, 0, 8, 6, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]).is_ok() {}
    };
    check(endless, "it sent 65536 bytes without an end of its response");
    let drips = |mut stream: TcpStream| {
        http2_request(&mut stream);
        while stream.write_all(&[0]).is_ok() {
            thread::park_timeout(Duration::from_millis(20));
        }
    };
    check(drips, "no response in 300ms");
}

/// A probe by a script.
fn run(script: &str, timeout_ms: u64, arguments: &[&str]) -> Result<Passed, Silence> {
    let arguments = ["-c", script, "sh"].iter().chain(arguments).map(|text| (*text).to_owned()).collect();
    let probe = config::ExecProbe { command: "/bin/sh".into(), arguments };
    exec::run(&target("127.0.0.1:9001"), &probe, &Commands::default(), Duration::from_millis(timeout_ms))
}

#[test]
fn a_command_says_by_its_exit_code_how_the_server_is() {
    let check = |script: &str, is_good: bool, words: &str| {
        assert_eq!(
            run(script, 20_000, &["{host}", "p{port}", "{server}/{pool}"]),
            Ok(Passed { is_good, words: words.into() })
        );
    };
    check("exit 0", true, "exit code 0");
    check("echo; echo fine; echo more", true, "exit code 0, \"fine\"");
    check("echo 'no\troute' >&2; exit 3", false, "exit code 3, \"no\\troute\"");
    check("kill -9 $$", false, "ended by signal 9");
    check("echo $1 $2 $3", true, "exit code 0, \"127.0.0.1 p9001 a/default\"");
    check(
        "echo $EVENKEEL_HOST $EVENKEEL_PORT $EVENKEEL_ADDRESS $EVENKEEL_SERVER $EVENKEEL_POOL",
        true,
        "exit code 0, \"127.0.0.1 9001 127.0.0.1:9001 a default\"",
    );
    check("echo ${CARGO_MANIFEST_DIR-none}", true, "exit code 0, \"none\"");
    // More than a pipe holds: it is read to the end.
    check(
        "i=0; while [ $i -lt 3000 ]; do echo 'a line that is of some length, and of many that are the same'; i=$((i+1)); done; exit 4",
        false,
        "exit code 4, \"a line that is of some length, and of many that are the same\"",
    );
    let none = config::ExecProbe { command: "/nonexistent".into(), arguments: Vec::new() };
    let told = exec::run(&target("127.0.0.1:1"), &none, &Commands::default(), LONGEST).unwrap_err();
    assert!(told.words.starts_with("the command cannot be run") && !told.is_ours, "{told:?}");
}

#[test]
fn a_command_is_killed_at_its_time_limit_and_with_it_what_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let begun = time::now();
    let script = format!(
        "trap '' TERM; sleep 1000 & echo $! > {0}/background; echo $$ > {0}/self; echo waits; sleep 1000",
        folder.path().display()
    );
    // However slow the machine is, the script has written its files first: the time is tried longer until it has.
    let mut timeout_ms = 200;
    loop {
        let told = run(&script, timeout_ms, &[]).unwrap_err();
        assert!(told.words.starts_with("no result in ") && !told.is_ours, "{told:?}");
        if told.words.ends_with("\"waits\"") {
            break;
        }
        timeout_ms *= 2;
        assert!(time::now().since(begun) < 10 * LONGEST);
    }
    for name in ["background", "self"] {
        let pid: i32 = std::fs::read_to_string(path(name)).unwrap().trim().parse().unwrap();
        let is_gone = || {
            // A zombie has ended; whoever has adopted it collects it.
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            state.is_empty() || state.contains(") Z ") || state.contains(") X ")
        };
        let deadline = time::now().after(LONGEST);
        while !is_gone() {
            assert!(time::now() < deadline, "{name} runs");
            thread::park_timeout(Duration::from_millis(5));
        }
    }
    // What a command leaves in the background holds up nothing, even with its output open.
    let passed = run("sleep 1000 & echo $! ; exit 0", 60_000, &[]).unwrap();
    assert!(passed.is_good && time::now().since(begun) < 10 * LONGEST);
}
