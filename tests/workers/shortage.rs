//! What becomes of service when the operating system gives no more of something: threads, descriptors, memory.

use crate::support::balancer::{ADMIN, list};
use crate::support::{Client, DEADLINE, Evenkeel, Gate, Origin, until};
use rustix::process::Signal;
use serde_json::json;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::time::Instant;

mod threads {
    use super::*;

    /// Two workers of many that there might be, and a queue that most requests find full. No admin API: its
    /// library cannot do without threads.
    fn start(origin: &Origin) -> Option<Evenkeel> {
        let balancer = Evenkeel::start_without_privileges(json!({
            "servers": { "list": list(&[origin]) },
            "threadpool": { "min_workers": 2, "max_workers": 20, "queue_capacity": 8 },
        }));
        let Some(balancer) = balancer else {
            eprintln!("not tested: no user here can be denied threads");
            return None;
        };
        until("the least workers are there", || balancer.workers() == 2);
        Some(balancer)
    }

    /// Responses `/first` once one gate is open, `/second` once the other is, and all else at once.
    fn gated(first: &Gate, second: &Gate) -> Origin {
        let (first, second) = (first.clone(), second.clone());
        Origin::start(move |visit| {
            while let Some(seen) = visit.request() {
                match seen.target() {
                    "/first" => first.wait(),
                    "/second" => second.wait(),
                    _ => {}
                }
                visit.response("ok");
            }
        })
    }

    fn ask_all(balancer: &Evenkeel, count: usize, path: &str) -> Vec<Client> {
        let mut many: Vec<_> = (0..count).map(|_| Client::to(balancer)).collect();
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
        many.iter_mut().for_each(|client| _ = client.send(&request));
        many
    }

    fn warnings(balancer: &Evenkeel) -> usize {
        balancer.log_lines().iter().filter(|line| line.contains("trying again later")).count()
    }

    /// How many were served; the others must have got a reason.
    fn served(many: &mut [Client]) -> usize {
        let served = many.iter_mut().filter_map(|client| {
            let response = client.response();
            let is_honest =
                ["queue_full", "queue_timeout", "overloaded"].contains(&response.reason().as_str());
            assert!(response.status == 200 || (response.status == 503 && is_honest), "{response:?}");
            (response.status == 200).then_some(())
        });
        served.count()
    }

    #[test]
    fn a_pool_that_gets_no_more_threads_serves_on_and_grows_when_it_can() {
        let (first, second) = (Gate::default(), Gate::default());
        let origin = gated(&first, &second);
        let Some(mut balancer) = start(&origin) else { return };
        let begun = Instant::now();
        balancer.allow_threads(false);
        let mut many = ask_all(&balancer, 40, "/first");
        until("it was tried again", || warnings(&balancer) >= 2);
        let (told, most) = (warnings(&balancer), 1 + begun.elapsed().as_secs() / 10);
        assert!(told as u64 <= most, "{told} warnings in {:?}", begun.elapsed());
        assert_eq!(balancer.workers(), 2);
        first.open();
        assert!(served(&mut many) >= 2, "the workers that there are serve");
        assert_eq!(Client::to(&balancer).get("/").status, 200, "and go on");
        drop(many);

        balancer.allow_threads(true);
        let mut many = ask_all(&balancer, 6, "/second");
        until("the pool grows again", || balancer.workers() >= 4);
        second.open();
        assert_eq!(served(&mut many), 6);
        drop(many);
        until("those that were started have stopped", || balancer.workers() == 2);
        assert_eq!(Client::to(&balancer).get("/").status, 200);
        balancer.signal(Signal::TERM);
        assert_eq!(balancer.wait().code(), Some(0));
    }

    /// Clients of a balancer that is ready and has no worker would wait for ever.
    #[test]
    fn a_balancer_that_is_ready_has_a_worker_whatever_the_limit_of_threads() {
        for limit in 5..=14 {
            match Evenkeel::try_start_with_threads(limit, json!({})) {
                Some(Ok(balancer)) => {
                    until(&format!("its name is there with {limit}"), || balancer.workers() > 0)
                }
                Some(Err((status, said))) => {
                    assert_eq!(status.code(), Some(1), "{limit}: {said}");
                    assert!(said.contains("Resource temporarily unavailable"), "{limit}: {said}");
                }
                None => return eprintln!("not tested: no user here can be denied threads"),
            }
        }
    }

    #[test]
    fn a_stop_that_gets_no_thread_still_finishes_what_is_in_flight() {
        let gate = Gate::default();
        let origin = gated(&gate, &Gate::default());
        let Some(mut balancer) = start(&origin) else { return };
        let mut client = Client::to(&balancer);
        client.send("GET /first HTTP/1.1\r\nHost: h\r\n\r\n");
        origin.until("the request came", |seen| seen.requests.len() == 1);
        balancer.allow_threads(false);
        balancer.signal(Signal::TERM);
        balancer.logs("a second signal is not handled");
        until("new connections are refused", || Client::connect(balancer.address()).is_err());
        gate.open();
        assert_eq!(client.response().text(), "ok");
        assert_eq!(balancer.wait().code(), Some(0));
    }
}

/// Whether the admin API responds to a connection of its own in time.
fn is_served(balancer: &Evenkeel, path: &str) -> bool {
    let mut stream = UnixStream::connect(balancer.folder().join(ADMIN)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).is_ok() && page.starts_with("HTTP/1.1 200 ")
}

mod admin_api {
    use super::*;

    #[test]
    fn it_responds_while_there_are_no_threads() {
        let origin = Origin::responds("ok");
        let balancer = Evenkeel::start_without_privileges(json!({
            "servers": { "list": list(&[&origin]) },
            "admin": { "socket": ADMIN },
        }));
        let Some(mut balancer) = balancer else {
            eprintln!("not tested: no user here can be denied threads");
            return;
        };
        let path = balancer.folder().join(ADMIN);
        balancer.may_panic();
        until("a worker is there", || balancer.workers() > 0);
        balancer.allow_threads(false);
        let mut many = Vec::new();
        for _ in 0..40 {
            let mut stream = UnixStream::connect(&path).unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            many.push(stream);
            assert!(is_served(&balancer, "/live"));
        }
        assert_eq!(Client::to(&balancer).get("/").status, 200, "the data plane does not notice");
        balancer.allow_threads(true);
        for mut stream in many {
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            let mut start = [0; 12];
            stream.read_exact(&mut start).unwrap();
            assert_eq!(&start, b"HTTP/1.1 200", "its library has come back, if it ended");
        }
        balancer.signal(Signal::TERM);
        assert_eq!(balancer.wait().code(), Some(0));
    }
}

mod descriptors {
    use super::*;
    use std::fs;
    use std::process::Command;

    const LIMIT: u32 = 96;

    /// The highest descriptor that is in use, but for those that the tests themselves were started with.
    fn last_descriptor(balancer: &Evenkeel) -> u32 {
        let open = fs::read_dir(format!("/proc/{}/fd", balancer.pid())).unwrap();
        let numbers = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        numbers.filter(|number| *number < LIMIT).max().unwrap()
    }

    #[test]
    fn a_limit_of_connections_that_is_lowered_is_told() {
        let config = json!({ "limits": { "connections": 1000 } });
        let balancer = Evenkeel::start_with_descriptors(LIMIT, config.clone());
        let lowered = "limits.connections: the limit of open files (96) allows 24;";
        balancer.logs(&format!("WARN  {lowered}"));
        let file = balancer.folder().join("small.json");
        fs::write(&file, config.to_string()).unwrap();
        let line = format!("ulimit -n {LIMIT}; exec \"$0\" check -c \"$1\"");
        let mut shell = Command::new("sh");
        shell.args(["-c", &line, env!("CARGO_BIN_EXE_evenkeel")]).arg(&file);
        let told = String::from_utf8(shell.output().unwrap().stdout).unwrap();
        assert!(told.contains("warning: ") && told.contains(lowered), "{told}");
    }

    /// A quarter of what there is is kept, and under some of these limits the balancer itself has the rest. With still fewer it says so.
    #[test]
    fn a_worker_starts_where_no_descriptor_is_left_for_clients_or_nothing_does() {
        for limit in 14..=40 {
            let admin = json!({ "admin": { "socket": ADMIN, "bind": "127.0.0.1:0" } });
            match Evenkeel::try_start_with_descriptors(limit, admin) {
                Ok(balancer) => until(&format!("a worker is there with {limit}"), || balancer.workers() > 0),
                Err((status, said)) => {
                    assert_eq!(status.code(), Some(1), "{limit}: {said}");
                    assert!(said.contains("open files"), "{limit}: {said}");
                }
            }
        }
    }

    #[test]
    fn the_admin_api_works_while_clients_have_all_that_they_may_have() {
        let gate = Gate::default();
        let gated = gate.clone();
        let origin = Origin::start(move |visit| {
            while visit.request().is_some() {
                gated.wait();
                visit.response("ok");
            }
        });
        let balancer = Evenkeel::start_with_descriptors(
            LIMIT,
            json!({ "servers": { "list": list(&[&origin]) }, "admin": { "socket": ADMIN } }),
        );
        let mut many: Vec<_> = (0..400).map(|_| Client::to(&balancer)).collect();
        many.iter_mut().for_each(|client| _ = client.try_send("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
        balancer.logs("cannot accept");
        // A quarter is kept. Of that a socket may be taken which is closed at once, or which shows that no more may be had.
        let most = LIMIT - LIMIT / 4 + 6;
        for _ in 0..1000 {
            let last = last_descriptor(&balancer);
            assert!(last <= most, "clients have descriptor {last} of {LIMIT}");
        }
        for asked in 0..40 {
            assert!(is_served(&balancer, "/api/v1/servers"), "request {asked}");
        }
        balancer.signal(Signal::HUP);
        balancer.logs("reload: nothing has changed");
        gate.open();
        drop(many);
        until("it serves newcomers again", || {
            Client::connect(balancer.address()).is_ok_and(|mut client| {
                let sent = client.try_send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
                sent.is_ok() && client.try_response().is_ok_and(|response| response.status == 200)
            })
        });
    }
}

mod memory {
    use super::*;

    /// The trace of a panic takes more than there is left.
    #[cfg(target_os = "linux")]
    #[test]
    fn with_too_little_memory_it_ends_and_does_not_hang() {
        for mebibytes in [5, 6, 7, 8, 10, 12] {
            let commands = format!("ulimit -d {}; export RUST_BACKTRACE=1", mebibytes * 1024);
            let admin = json!({ "admin": { "socket": ADMIN, "bind": "127.0.0.1:0" } });
            match Evenkeel::try_start_behind(&commands, admin) {
                Ok(mut balancer) => balancer.may_panic(),
                Err((status, said)) => {
                    assert_ne!(status.signal(), Some(9), "{mebibytes} MiB: it hung, and was killed; {said}");
                }
            }
        }
    }
}
