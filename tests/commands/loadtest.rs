//! The load generator against servers named by their fault.

use crate::support::tls::{Authority, TlsOrigin};
use crate::support::{Evenkeel, Origin, until, unused_port};
use evenkeel::loadtest::{Entry, Errors, Options, Stage, Summary, measure};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Served-By: one\r\n\r\nok";

/// A server that gives each connection to `serve`, with the number of the connection.
fn server(serve: impl Fn(TcpStream, u64) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(stream.unwrap(), number as u64));
        }
    });
    address
}

/// Reads one request without a body; false at the end.
fn read_head(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    let mut bytes = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut bytes) {
            Ok(0) | Err(_) => return false,
            Ok(count) => head.extend_from_slice(&bytes[..count]),
        }
    }
    true
}

/// Responds to every request with `response`, kept alive.
fn responses(response: &'static str) -> SocketAddr {
    server(
        move |mut stream, _| while read_head(&mut stream) && stream.write_all(response.as_bytes()).is_ok() {},
    )
}

/// Responds to every request with `response`, then closes.
fn responds_and_closes(response: &'static str) -> SocketAddr {
    server(move |mut stream, _| {
        read_head(&mut stream);
        let _ = stream.write_all(response.as_bytes());
    })
}

fn options(address: SocketAddr, requests: u64) -> Options {
    let options = Options::new(&format!("http://{address}/"));
    Options { requests: Some(requests), connections: 4, ..options }
}

fn load(address: SocketAddr, requests: u64) -> Summary {
    measure(&options(address, requests)).unwrap()
}

#[test]
fn every_request_is_answered_and_counted() {
    for threads in [1, 2, 3] {
        let options = Options { threads: Some(threads), ..options(responses(OK), 1001) };
        let summary = measure(&options).unwrap();
        assert_eq!((summary.started, summary.responses, summary.errors.total()), (1001, 1001, 0));
        assert_eq!(summary.statuses.get(&200), Some(&1001));
        assert_eq!(summary.servers.get("one"), Some(&1001));
        assert_eq!(summary.latency_chart.iter().map(|bar| bar.count).sum::<u64>(), 1001);
        assert!(summary.latency_us.p50 > 0.0 && summary.latency_us.p50 <= summary.latency_us.max);
        assert!(summary.requests_per_s > 0.0 && summary.complaint().is_none());
    }
}

#[test]
fn a_duration_ends_the_run() {
    let asked = Duration::from_secs(1);
    let options = Options { duration: Some(asked), requests: None, ..options(responses(OK), 0) };
    let summary = measure(&options).unwrap();
    assert_eq!(summary.elapsed_s, asked.as_secs_f64());
    assert_eq!(summary.responses, summary.started);
}

#[test]
fn a_warm_up_comes_before_the_duration_and_is_not_counted() {
    let asked = Duration::from_millis(150);
    let paced =
        Options { duration: Some(asked), requests: None, rate: Some(400.0), ..options(responses(OK), 0) };
    // 60 fall into the measured time, and those that were in flight when it began; again where the machine stood still.
    until("those of the measured time are counted", || {
        let summary = measure(&Options { warm_up: 2 * asked, ..paced.clone() }).unwrap();
        assert_eq!(summary.elapsed_s, asked.as_secs_f64());
        assert_eq!(summary.statuses.values().sum::<u64>(), summary.responses);
        (50..=90).contains(&summary.responses) && summary.complaint().is_none()
    });
}

#[test]
fn statuses_are_told_apart_and_complained_about() {
    let summary = load(responses("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"), 10);
    assert_eq!((summary.statuses.get(&503), summary.errors.total()), (Some(&10), 0));
    assert!(summary.complaint().unwrap().contains("10 responses"));
    assert_eq!((summary.good_per_s, summary.good_latency_us.max), (0.0, 0.0));
    assert!(summary.rejection_latency_us.p50 > 0.0);
}

#[test]
fn errors_are_counted_by_kind() {
    let check = |address, wanted: Errors| {
        let summary = load(address, 10);
        assert_eq!((summary.errors, summary.responses), (wanted, 0), "{:?}", summary.reasons);
        assert!(summary.complaint().unwrap().contains("10 requests") && summary.reasons.len() == 1);
    };
    let none = Errors::default();
    let refuses = unused_port();
    check(refuses.address(), Errors { connect: 10, ..none });
    let resets = server(|mut stream, _| {
        // Closing over bytes that were not read resets the connection.
        let _ = stream.read(&mut [0]);
    });
    check(resets, Errors { reset: 10, ..none });
    check(responds_and_closes(""), Errors { closed_early: 10, ..none });
    check(
        responds_and_closes("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"),
        Errors { closed_early: 10, ..none },
    );
    check(responds_and_closes("220 mail.test ESMTP\r\n\r\n"), Errors { bad_response: 10, ..none });
    check(responses("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nok"), Errors { bad_response: 10, ..none });
}

#[test]
fn a_server_that_stalls_is_a_timeout() {
    let stalls = server(|mut stream, _| while read_head(&mut stream) {});
    let options = Options { timeout: Duration::from_millis(60), ..options(stalls, 8) };
    let summary = measure(&options).unwrap();
    assert_eq!(summary.errors, Errors { timeout: 8, ..Errors::default() });
}

#[test]
fn responses_in_single_bytes_chunks_or_until_the_close_are_whole() {
    let one_byte_at_a_time = server(|mut stream, _| {
        stream.set_nodelay(true).unwrap();
        while read_head(&mut stream) {
            OK.bytes().for_each(|byte| drop(stream.write_all(&[byte])));
        }
    });
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    for address in
        [one_byte_at_a_time, responses(chunked), responds_and_closes("HTTP/1.1 200 OK\r\n\r\nto the end")]
    {
        let summary = load(address, 20);
        assert_eq!((summary.responses, summary.errors.total()), (20, 0), "{:?}", summary.reasons);
    }
}

#[test]
fn a_connection_for_each_request_when_asked() {
    let connections = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&connections);
    let address = server(move |mut stream, _| {
        seen.fetch_add(1, Ordering::SeqCst);
        while read_head(&mut stream) && stream.write_all(OK.as_bytes()).is_ok() {}
    });
    let once = Options { keep_alive: false, ..options(address, 50) };
    assert_eq!(measure(&once).unwrap().responses, 50);
    assert_eq!(connections.swap(0, Ordering::SeqCst), 50);
    assert_eq!(load(address, 50).responses, 50);
    assert_eq!(connections.load(Ordering::SeqCst), 4);
}

#[test]
fn bodies_of_any_size_arrive() {
    let address = server(|mut stream, _| {
        let mut received = 0;
        let mut bytes = [0; 64 << 10];
        while received < 1_000_000 {
            match stream.read(&mut bytes) {
                Ok(0) | Err(_) => return,
                Ok(count) => received += bytes[..count].iter().filter(|byte| **byte == b'x').count(),
            }
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    });
    let options = Options { method: "POST".into(), body_size: 1_000_000, ..options(address, 8) };
    let summary = measure(&options).unwrap();
    assert_eq!((summary.responses, summary.errors.total()), (8, 0), "{:?}", summary.reasons);
}

#[test]
fn a_fixed_rate_is_kept() {
    let half = Some(Duration::from_millis(500));
    let options = Options { duration: half, requests: None, rate: Some(400.0), ..options(responses(OK), 0) };
    // Requests 0 to 199 are due within the half second; a machine that stalls at the end begins some too late.
    until("most are begun in time", || {
        let summary = measure(&options).unwrap();
        assert_eq!(summary.started + summary.unsent, 200);
        summary.started >= 50
    });
}

#[test]
fn at_a_fixed_rate_the_latency_counts_from_the_intended_send() {
    let pause = Duration::from_millis(300);
    let pauses_once = server(move |mut stream, _| {
        let (_never, wait) = crossbeam_channel::bounded::<()>(0);
        read_head(&mut stream);
        let _ = wait.recv_timeout(pause);
        while stream.write_all(OK.as_bytes()).is_ok() && read_head(&mut stream) {}
    });
    let one = Options { connections: 1, rate: Some(100.0), ..options(pauses_once, 30) };
    let summary = measure(&one).unwrap();
    // In the closed loop one request of thirty would be slow. Here all that were due meanwhile are.
    assert_eq!(summary.responses, 30);
    assert!(summary.latency_us.p50 > 100_000.0, "{:?}", summary.latency_us);
}

#[test]
fn options_that_do_not_hold_together_are_rejected() {
    let check = |change: &dyn Fn(&mut Options)| {
        let mut options = Options::new("http://127.0.0.1:1/");
        change(&mut options);
        assert!(measure(&options).is_err());
    };
    check(&|options| options.url = "ftp://127.0.0.1/".into());
    check(&|options| options.entries = vec![Entry { url: "ftp://a/".into(), ..Entry::default() }]);
    let stage = |from_per_s, to_per_s| Stage { from_per_s, to_per_s, lasts: Duration::from_secs(1) };
    check(&|options| options.ramp = vec![stage(1.0, 0.0)]);
    check(&|options| options.ramp = vec![stage(-1.0, 5.0)]);
    check(&|options| {
        options.url = "https://127.0.0.1:1/".into();
        options.cacert = Some("/absent/ca.pem".into());
    });
    check(&|options| options.connections = 0);
    check(&|options| options.rate = Some(0.0));
    check(&|options| options.method = "G T".into());
    check(&|options| options.timeout = Duration::ZERO);
}

/// Runs the program with these arguments, and returns its exit code and what it printed.
fn program(arguments: &[&str]) -> (Option<i32>, String, String) {
    let ran = std::process::Command::new(env!("CARGO_BIN_EXE_evenkeel"))
        .current_dir(std::env::temp_dir())
        .arg("loadtest")
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (ran.status.code(), text(ran.stdout), text(ran.stderr))
}

#[test]
fn own_rejections_are_told_by_reason_and_good_responses_apart() {
    let balancer = Evenkeel::start(serde_json::json!({"servers": {"list": []}}));
    let summary = load(balancer.address(), 20);
    assert_eq!((summary.good, summary.rejected), (0, 20));
    assert_eq!(summary.own_reasons.get("no_server"), Some(&20), "{:?}", summary.own_reasons);
    let bad = summary.commonest_error.unwrap();
    assert_eq!((bad.status, bad.reason.as_deref(), bad.count), (503, Some("no_server"), 20));
    assert!(bad.body.contains("reason: no_server"), "{}", bad.body);

    let origin = Origin::responds("hi");
    let balancer = Evenkeel::before(&[&origin], serde_json::json!({}));
    let summary = load(balancer.address(), 20);
    assert_eq!((summary.good, summary.rejected, summary.own_reasons.len()), (20, 0, 0));
}

#[test]
fn the_habits_of_hey_work_and_a_report_with_charts_is_written() {
    let address = responses("HTTP/1.1 500 No\r\nContent-Length: 11\r\n\r\n<b>\x1b[31mno\n");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.html");
    let url = format!("http://{address}/a?b=<i>");
    let (code, out, _) =
        program(&["-c", "3", "-z", "60s", "-n", "30", "-m", "GET", "--html", file.to_str().unwrap(), &url]);
    assert_eq!(code, Some(1));
    assert!(out.contains("3 connections") && out.contains("30 of 30 requests"), "{out}");
    assert!(out.contains("Rejected    30 (100.0 %)") && out.contains("p95"), "{out}");
    assert!(out.contains("500, 30 times") && out.contains("<b>\\u{1b}[31mno"), "{out}");
    let html = std::fs::read_to_string(file).unwrap();
    assert!(html.contains("<svg") && html.contains("<polyline") && html.ends_with("</html>\n"));
    assert!(html.contains("&lt;b&gt;") && !html.contains("<b>") && !html.contains("<i>"));
    assert!(!html.contains("<script") && !html.contains("http-equiv") && !html.contains("src="));
}

#[test]
fn a_report_that_cannot_be_written_is_told_before_the_load() {
    let origin = Origin::responds("fine");
    let folder = tempfile::tempdir().unwrap();
    let (url, file) = (format!("http://{}/", origin.address()), folder.path().join("none/report.html"));
    let (code, printed, said) = program(&[&url, "-n", "5", "--html", file.to_str().unwrap()]);
    let why = format!("evenkeel: cannot write {}: No such file or directory (os error 2)\n", file.display());
    assert_eq!((code, &*printed, said), (Some(1), "", why));
    let (code, _, said) = program(&["8000"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("8000 is a port, and the host is missing; write http://localhost:8000/"), "{said}");
}

#[test]
fn it_stops_at_once_when_nothing_listens_and_says_what_to_do() {
    let unused = unused_port();
    let refuses = unused.address();
    let (code, out, err) = program(&["-z", "60s", &format!("http://{refuses}/")]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(
        err.contains(&format!("nothing listens on {refuses}")) && err.contains("start the balancer"),
        "{err}"
    );
}

#[test]
fn a_ramp_sends_what_its_rates_say() {
    let stage = |from_per_s, to_per_s| Stage { from_per_s, to_per_s, lasts: Duration::from_millis(300) };
    let ramp = vec![stage(0.0, 400.0), stage(400.0, 400.0)];
    let options = Options { requests: None, ramp, ..options(responses(OK), 0) };
    let summary = measure(&options).unwrap();
    // 60 while the rate grows, then 120.
    assert_eq!(summary.started + summary.unsent, 180);
    assert!(summary.is_ramp && summary.elapsed_s == 0.6);
    let counted = summary.over_time.iter().map(|slice| slice.good).sum::<u64>();
    assert_eq!(counted, summary.responses);
}

#[test]
fn several_requests_go_by_weight_to_their_hosts() {
    let seen: &[Arc<AtomicU64>; 2] = &[Arc::default(), Arc::default()];
    let counting = |count: &Arc<AtomicU64>, response: &'static str| {
        let count = Arc::clone(count);
        server(move |mut stream, _| {
            while read_head(&mut stream) {
                count.fetch_add(1, Ordering::SeqCst);
                if stream.write_all(response.as_bytes()).is_err() {
                    return;
                }
            }
        })
    };
    let one = counting(&seen[0], OK);
    let two = counting(&seen[1], "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n");
    let entry =
        |url: String, method: &str, weight| Entry { url, method: method.into(), weight, ..Entry::default() };
    let entries = vec![entry("/a".into(), "GET", 3), entry(format!("http://{two}/b"), "DELETE", 1)];
    for rate in [None, Some(2_000.0)] {
        seen.iter().for_each(|count| count.store(0, Ordering::SeqCst));
        let options = Options { entries: entries.clone(), rate, threads: Some(1), ..options(one, 400) };
        let summary = measure(&options).unwrap();
        assert_eq!((summary.responses, summary.errors.total()), (400, 0), "{:?}", summary.reasons);
        let told: Vec<_> =
            summary.urls.iter().map(|url| (url.request.as_str(), url.good + url.rejected)).collect();
        let counts: Vec<_> = seen.iter().map(|count| count.load(Ordering::SeqCst)).collect();
        assert_eq!(told, [("GET /a", counts[0]), (&*format!("DELETE http://{two}/b"), counts[1])]);
        assert!((295..=305).contains(&counts[0]), "{counts:?}");
        assert_eq!((summary.good, summary.rejected), (counts[0], counts[1]));
    }
}

#[test]
fn handshakes_are_resumed_unless_they_should_not_be() {
    let authority = Authority::new("ca");
    let origin = TlsOrigin::start(&authority.issue("site", &["localhost"]), None, OK);
    let options = Options {
        requests: Some(20),
        connections: 2,
        keep_alive: false,
        cacert: Some(authority.file()),
        ..Options::new(&format!("https://localhost:{}/", origin.address.port()))
    };
    let summary = measure(&options).unwrap();
    assert_eq!((summary.good, summary.handshakes), (20, 20), "{summary:?}");
    assert!(summary.resumed >= 15, "the first of each connection cannot be: {}", summary.resumed);
    let full = measure(&Options { resume: false, ..options }).unwrap();
    assert_eq!((full.handshakes, full.resumed), (20, 0));
}

#[test]
fn https_is_checked_unless_it_should_not_be() {
    let (authority, other) = (Authority::new("one"), Authority::new("other"));
    let origin = TlsOrigin::start(&authority.issue("site", &["localhost", "127.0.0.1"]), None, OK);
    let options = |insecure, cacert: Option<&Authority>| Options {
        url: format!("https://localhost:{}/", origin.address.port()),
        insecure,
        cacert: cacert.map(Authority::file),
        ..options(origin.address, 40)
    };
    for trusting in [options(false, Some(&authority)), options(true, None)] {
        let summary = measure(&trusting).unwrap();
        assert_eq!((summary.good, summary.errors.total()), (40, 0), "{:?}", summary.reasons);
        let once = measure(&Options { keep_alive: false, ..trusting }).unwrap();
        assert_eq!((once.good, once.errors.total()), (40, 0), "{:?}", once.reasons);
    }
    let (named, files) = Authority::self_signed("localhost");
    let own = TlsOrigin::start(&files, None, OK);
    let url = format!("https://localhost:{}/", own.address.port());
    let trusting = Options { url, cacert: Some(named.file()), ..self::options(own.address, 40) };
    assert_eq!(measure(&trusting).unwrap().good, 40, "it is named itself");
    let summary = measure(&options(false, Some(&other))).unwrap();
    assert_eq!((summary.errors, summary.good), (Errors { tls: 40, ..Errors::default() }, 0));
    assert!(summary.reasons[0].contains("--cacert FILE"), "{:?}", summary.reasons);
    let url = options(false, None).url;
    let (code, _, err) = program(&["--cacert", other.file().to_str().unwrap(), &url]);
    assert_eq!(code, Some(1));
    assert!(err.contains("no TLS with") && err.contains("--insecure"), "{err}");
    let plain = format!("https://{}/", responses(OK));
    let (_, _, err) = program(&["-k", &plain]);
    assert!(err.contains("no TLS with"), "{err}");
}

#[test]
fn the_generator_tells_its_own_lateness() {
    let paced = Options { rate: Some(500.0), connections: 50, ..options(responses(OK), 200) };
    let summary = measure(&paced).unwrap();
    assert!(summary.lateness_us.max > 0.0 && summary.lateness_us.p50 < summary.latency_us.max + 1.0);
    assert_eq!(load(responses(OK), 10).lateness_us.max, 0.0);
}
