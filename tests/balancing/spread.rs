//! How requests spread over real servers, and how servers that go down and come back are noticed.

use crate::support::balancer::{list, with};
use crate::support::faults::ok;
use crate::support::{Client, Evenkeel, Gate, Origin, becomes, until, unused_port};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::ops::Range;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// A server that is well, with a health page.
fn well() -> Origin {
    Origin::responds("ok")
}

/// How many of so many requests each server got.
fn spread(client: &mut Client, requests: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        let response = client.get("/");
        assert_eq!(response.status, 200, "{}", response.text());
        *counts.entry(response.fields.one("X-Served-By")).or_default() += 1;
    }
    counts
}

fn counts(expected: &[(&str, usize)]) -> BTreeMap<String, usize> {
    expected.iter().map(|(name, count)| (name.to_string(), *count)).collect()
}

/// Servers a, b, c… with more said of them: `extra[0]` of a, and so on.
fn servers(origins: &[&Origin], extra: &[Value], config: Value) -> Evenkeel {
    let mut servers = list(origins);
    for (at, extra) in extra.iter().enumerate() {
        servers[at] = with(servers[at].take(), extra.clone());
    }
    Evenkeel::start(with(config, json!({"servers": {"list": servers}})))
}

fn algorithm(name: &str) -> Value {
    json!({"servers": {"algorithm": name}})
}

/// Probes at short intervals. None fails because its server was slow: a server that is stopped refuses at once.
fn probed(more: Value) -> Value {
    let quick = json!({"servers": {"health_check": {"enabled": true, "interval": "50ms", "timeout": "30s"}}});
    with(quick, json!({"servers": {"health_check": more}}))
}

/// Which server has a request now; empty where none has.
fn served_by(balancer: &Evenkeel) -> String {
    Client::to(balancer).get("/").fields.all("X-Served-By").concat()
}

/// Takes so long for a response, to be changed while it runs.
fn paced(ms: &Arc<AtomicU64>) -> Origin {
    let ms = Arc::clone(ms);
    Origin::replies(move |visit| {
        work_for(Duration::from_millis(ms.load(Ordering::SeqCst)));
        visit.send(ok("ok"));
    })
}

/// What a server does that needs so long for a response. The slowness is the subject here.
fn work_for(pause: Duration) {
    #[allow(clippy::disallowed_methods, reason = "tests measure time as it passes")]
    let begun = std::time::Instant::now();
    while let Some(left) = pause.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
}

mod algorithms {
    use super::*;

    #[test]
    fn round_robin_gives_each_server_the_same() {
        let origins = [well(), well(), well()];
        let all: Vec<_> = origins.iter().collect();
        let balancer = servers(&all, &[], algorithm("round_robin"));
        let spread = spread(&mut Client::to(&balancer), 30);
        assert_eq!(spread, counts(&[("a", 10), ("b", 10), ("c", 10)]));
        assert_eq!(origins.each_ref().map(Origin::count), [10, 10, 10]);
    }

    #[test]
    fn round_robin_heeds_weights_and_mixes_them() {
        let origins = [well(), well()];
        let balancer =
            servers(&[&origins[0], &origins[1]], &[json!({"weight": 3})], algorithm("round_robin"));
        let mut client = Client::to(&balancer);
        // Smooth: in every four in a row there is one for the lighter server.
        for _ in 0..10 {
            assert_eq!(spread(&mut client, 4), counts(&[("a", 3), ("b", 1)]));
        }
    }

    #[test]
    fn least_connections_goes_where_fewest_requests_are_in_hand() {
        let gate = Gate::default();
        let (slow, quick) = (Origin::waits_for(&gate, "late"), well());
        let balancer = servers(&[&slow, &quick], &[], algorithm("least_connections"));
        // One request is held by the slow server…
        let mut held = Vec::new();
        while slow.count() == 0 {
            let mut client = Client::to(&balancer);
            client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
            until("a server has it", || slow.count() == 1 || !client.is_quiet());
            held.push(client);
        }
        // …and all others go to the other one.
        assert_eq!(spread(&mut Client::to(&balancer), 20), counts(&[("b", 20)]));
        gate.open();
        assert_eq!(held.pop().unwrap().response().text(), "late");
    }

    #[test]
    fn random_two_uses_all_servers() {
        let origins = [well(), well(), well()];
        let all: Vec<_> = origins.iter().collect();
        let balancer = servers(&all, &[], algorithm("random_two"));
        let spread = spread(&mut Client::to(&balancer), 150);
        // By chance each gets 50; less than 10 happens once in 10^13 runs.
        assert!(spread.len() == 3 && spread.values().all(|count| *count >= 10), "{spread:?}");
    }

    #[test]
    fn ip_hash_keeps_a_client_on_its_server_and_uses_all() {
        let origins = [well(), well(), well()];
        let all: Vec<_> = origins.iter().collect();
        let balancer = servers(&all, &[], algorithm("ip_hash"));
        let mut used = HashSet::new();
        for host in 1..=60 {
            let source = format!("127.0.0.{host}");
            let mut homes: Vec<_> =
                (0..2).flat_map(|_| spread(&mut Client::from(&source, &balancer), 2).into_keys()).collect();
            homes.dedup();
            assert_eq!(homes.len(), 1, "{source} went to {homes:?}");
            used.extend(homes);
        }
        assert_eq!(used.len(), 3);
    }

    #[test]
    fn consistent_hash_keeps_a_key_on_its_server_with_two_balancers_and_uses_all() {
        let origins = [well(), well(), well()];
        let all: Vec<_> = origins.iter().collect();
        let config = json!({"servers": {"algorithm": "consistent_hash", "hash": {"by": "header:X-User", "seed": "s"}}});
        let mut clients =
            [(); 2].map(|()| servers(&all, &[], config.clone())).map(|one| (Client::to(&one), one));
        let mut used = HashSet::new();
        for user in 0..60 {
            let request = format!("GET /{user} HTTP/1.1\r\nHost: h\r\nX-User: u{user}\r\n\r\n");
            let homes = clients.each_mut().map(|(client, _)| {
                [(); 2].map(|()| client.send(&request).response().fields.one("X-Served-By"))
            });
            assert!(homes.iter().flatten().all(|home| *home == homes[0][0]), "u{user} went to {homes:?}");
            used.insert(homes[0][0].clone());
        }
        assert_eq!(used.len(), 3);
        // Without the header there is no key.
        let without = spread(&mut clients[0].0, 100);
        assert_eq!(without.len(), 3, "{without:?}");
    }

    #[test]
    fn least_connections_and_random_two_heed_weights() {
        for name in ["least_connections", "random_two"] {
            let origins = [well(), well()];
            let balancer = servers(&[&origins[0], &origins[1]], &[json!({"weight": 9})], algorithm(name));
            let spread = spread(&mut Client::to(&balancer), 200);
            assert!(spread["a"] > spread["b"] && spread["b"] > 0, "{name}: {spread:?}");
        }
    }

    #[test]
    fn dynamic_prefers_the_quick_server_and_comes_back_to_one_that_was_slow() {
        let pace = [0, 30].map(|ms| Arc::new(AtomicU64::new(ms)));
        let origins = pace.each_ref().map(paced);
        let balancer = servers(&[&origins[0], &origins[1]], &[], algorithm("dynamic"));
        let mut client = Client::to(&balancer);
        // A response that a busy machine delays counts against its server for a while.
        until("most requests go to the quick server", || {
            spread(&mut client, 100).get("a").is_some_and(|count| *count >= 80)
        });
        // They change places: what was slow gets the traffic.
        pace[0].store(30, Ordering::SeqCst);
        pace[1].store(0, Ordering::SeqCst);
        until("most requests go to the server that is quick now", || {
            spread(&mut client, 20).get("b").is_some_and(|count| *count >= 15)
        });
    }

    #[test]
    fn dynamic_heeds_what_servers_report_of_their_queues() {
        // A number that stays says nothing; one that stays above its own mean does. So the queue of a is long while it is
        // asked whether traffic avoids it, and empty until its mean is low again, as often as that takes.
        let queue = [0, 0].map(|length| Arc::new(AtomicU64::new(length)));
        let reported = [0, 0].map(|count| Arc::new(AtomicU64::new(count)));
        let reports = |server: usize| {
            let (queue, reported) = (Arc::clone(&queue[server]), Arc::clone(&reported[server]));
            Origin::start(move |visit| {
                while let Some(seen) = visit.request() {
                    let body = if seen.target() == "/queue/status" {
                        reported.fetch_add(1, Ordering::SeqCst);
                        let length = queue.load(Ordering::SeqCst);
                        format!("{{\"queue_length\":{length},\"in_progress\":0}}")
                    } else {
                        // Long beside the noise of a busy machine, which the bound of a report cannot outweigh.
                        work_for(Duration::from_millis(5));
                        "ok".to_owned()
                    };
                    visit.send(ok(&body));
                }
            })
        };
        let origins = [reports(0), reports(1)];
        let config = json!({"servers": {
            "algorithm": "dynamic",
            "health_check": {"enabled": true, "interval": "50ms"},
            "load_report": {"enabled": true, "interval": "100ms"},
        }});
        let balancer = servers(&[&origins[0], &origins[1]], &[], config);
        let mut client = Client::to(&balancer);
        let after_reports = |count: u64| {
            let from = reported[0].load(Ordering::SeqCst);
            until("a reported", || reported[0].load(Ordering::SeqCst) >= from + count);
        };
        until("nearly all requests go to the server whose queue is as usual", || {
            queue[0].store(0, Ordering::SeqCst);
            after_reports(10);
            queue[0].store(10_000, Ordering::SeqCst);
            after_reports(2);
            spread(&mut client, 40).get("b").is_some_and(|count| *count >= 32)
        });
    }

    #[test]
    fn a_backup_gets_traffic_only_while_no_other_server_can() {
        let mut origins = [well(), well()];
        let extra = [json!({}), json!({"backup": true})];
        let balancer = servers(&[&origins[0], &origins[1]], &extra, probed(json!({"fall": 1, "rise": 1})));
        balancer.logs("server a (");
        until("it has responded to its probe", || served_by(&balancer) == "a");
        assert_eq!(spread(&mut Client::to(&balancer), 20), counts(&[("a", 20)]));
        origins[0].stop();
        until("the backup serves", || served_by(&balancer) == "b");
        origins[0].start_again();
        until("the first serves again", || served_by(&balancer) == "a");
        assert_eq!(spread(&mut Client::to(&balancer), 20), counts(&[("a", 20)]));
    }

    #[test]
    fn the_own_zone_comes_first_then_other_zones_then_the_next_priority() {
        let mut origins = [well(), well(), well()];
        let extra =
            [json!({"zone": "here"}), json!({"zone": "there"}), json!({"zone": "here", "priority": 1})];
        let zone = json!({"load_balancer": {"zone": "here"}});
        let config = with(probed(json!({"fall": 1, "rise": 1})), zone);
        let balancer = servers(&[&origins[0], &origins[1], &origins[2]], &extra, config);
        let served_alone_by = |name: &str| {
            until(&format!("{name} serves alone"), || {
                spread(&mut Client::to(&balancer), 20) == counts(&[(name, 20)])
            });
        };
        served_alone_by("a");
        origins[0].stop();
        until("the other zone and the next priority have a part each", || {
            let spread = spread(&mut Client::to(&balancer), 40);
            // 1.4 times the half that is left, and the rest.
            spread.get("b").is_some_and(|count| (16..=38).contains(count)) && spread.contains_key("c")
        });
        origins[1].stop();
        served_alone_by("c");
        [0, 1].into_iter().for_each(|at| origins[at].start_again());
        served_alone_by("a");
    }
}

mod expect {
    use super::*;

    /// Three servers of which the last one responds at once with this; the others take 5 ms. After some requests that are
    /// not counted, its part of the requests in percent becomes one of these.
    fn share_of_fast_becomes(
        percents: Range<usize>,
        bad: &'static str,
        expect: Value,
    ) -> (Evenkeel, [Origin; 3]) {
        let slow = Arc::new(AtomicU64::new(5));
        let origins = [paced(&slow), paced(&slow), Origin::says(bad)];
        let config = json!({ "servers": { "expect": expect }, "admin": { "socket": crate::support::balancer::ADMIN } });
        let balancer = servers(&[&origins[0], &origins[1], &origins[2]], &[], config);
        let mut client = Client::to(&balancer);
        let mut share = |requests: usize| {
            let of_bad = (0..requests).filter(|_| client.get("/").fields.one("X-Served-By") == "c");
            100 * of_bad.count() / requests
        };
        share(50);
        until("its share is right", || percents.contains(&share(150)));
        (balancer, origins)
    }

    /// Responses that were not as expected are counted.
    fn are_counted(balancer: &Evenkeel) {
        let mut client = Client::to(balancer);
        until("they are counted", || {
            client.get("/");
            balancer.metric("evenkeel_server_unexpected_responses_total") >= 4.0
        });
    }

    #[test]
    fn an_empty_response_at_once_draws_no_requests_where_a_body_is_expected() {
        let responses = [
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ];
        for response in responses {
            let (balancer, _origins) = share_of_fast_becomes(0..34, response, json!({ "body": true }));
            are_counted(&balancer);
        }
        // Without `expect` it is a good response.
        let (balancer, _origins) = share_of_fast_becomes(51..101, responses[0], json!(null));
        assert_eq!(balancer.metric("evenkeel_server_unexpected_responses_total"), 0.0);
    }

    #[test]
    fn a_status_that_is_not_expected_counts_and_the_client_gets_it() {
        let not_found = "HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno";
        let (balancer, origins) = share_of_fast_becomes(0..34, not_found, json!({ "status": "200-399" }));
        are_counted(&balancer);
        assert!(origins[2].count() >= 4, "its responses went to clients");
    }

    #[test]
    fn responses_that_have_no_body_and_bodies_that_come_late_are_good() {
        let origin = Origin::start(|visit| {
            while let Some(seen) = visit.request() {
                match (seen.method(), seen.target()) {
                    ("HEAD", _) => visit.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
                    (_, "/204") => visit.send("HTTP/1.1 204 No Content\r\n\r\n"),
                    (_, "/404") => visit.send("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"),
                    (_, "/late") => {
                        visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                        thread::park_timeout(Duration::from_millis(20));
                        visit.send("2\r\nok\r\n0\r\n\r\n");
                    }
                    _ => visit.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
                }
            }
        });
        let config = json!({ "servers": { "expect": { "body": true } }, "admin": { "socket": crate::support::balancer::ADMIN } });
        let balancer = servers(&[&origin], &[], config);
        let mut client = Client::to(&balancer);
        for path in ["/204", "/404", "/late"] {
            client.get(path);
        }
        client.send("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
        client.try_response_to("HEAD").unwrap();
        client.get("/empty");
        balancer.metric_is("evenkeel_server_requests_total", 5.0);
        balancer.metric_is("evenkeel_server_unexpected_responses_total", 1.0);
        assert_eq!(origin.count(), 5);
    }
}

mod health {
    use super::*;

    #[test]
    fn a_server_that_goes_down_is_taken_out_and_put_back_and_no_request_fails() {
        let mut origins = [well(), well()];
        let config = with(probed(json!({"fall": 2, "rise": 2})), algorithm("round_robin"));
        let balancer = servers(&[&origins[0], &origins[1]], &[], config);
        let mut client = Client::to(&balancer);
        let changes = |what: &str| balancer.log_lines().iter().filter(|line| line.contains(what)).count();
        until("both were probed", || (changes("server a ("), changes("server b (")) == (1, 1));
        for round in 1..=2 {
            until("both serve", || spread(&mut client, 4).len() == 2);
            origins[0].stop();
            // `spread` fails on any response but 200.
            until("only b serves", || spread(&mut client, 4) == counts(&[("b", 4)]));
            until("a is known to be down", || changes(") is down: ") == round);
            origins[0].start_again();
        }
        until("both serve again", || spread(&mut client, 4).len() == 2);
        until("each transition is logged once", || (changes("server a ("), changes("server b (")) == (5, 1));
    }

    #[test]
    fn a_server_that_fails_its_probes_is_down_though_it_serves() {
        let sick = Arc::new(AtomicU64::new(0));
        let (page, calls) = (Arc::clone(&sick), Arc::new(AtomicU64::new(0)));
        let counter = Arc::clone(&calls);
        let origin = Origin::start(move |visit| {
            while let Some(seen) = visit.request() {
                let is_sick = seen.target() == "/health" && page.load(Ordering::SeqCst) == 1;
                counter.fetch_add(u64::from(seen.target() == "/health"), Ordering::SeqCst);
                visit.send(if is_sick { ok("").replace("200 OK", "500 Sick") } else { ok("ok") });
            }
        });
        // With the default the last known good server would be used.
        let closed = json!({"servers": {"panic_percent": 0}});
        let balancer = servers(&[&origin], &[], with(closed, probed(json!({"fall": 3, "rise": 2}))));
        balancer.logs("is up");
        sick.store(1, Ordering::SeqCst);
        until("it is down", || Client::to(&balancer).get("/").status == 503);
        assert!(balancer.logs("is down").contains("3 probes failed in a row (500)"));
        let before = calls.load(Ordering::SeqCst);
        sick.store(0, Ordering::SeqCst);
        until("it is up again", || Client::to(&balancer).get("/").status == 200);
        assert!(calls.load(Ordering::SeqCst) - before >= 2, "it took two probes");
    }

    /// A server whose pages are all 404: how a balancer with this health check judges it.
    #[track_caller]
    fn check_404(check: Value, status: u16, says: &str) {
        let origin = Origin::replies(|visit| visit.send("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"));
        let balancer = servers(&[&origin], &[], probed(check));
        balancer.logs(says);
        becomes(says, &status, || Client::to(&balancer).get("/").status);
    }

    #[test]
    fn a_health_page_that_is_not_there_is_no_fault_unless_the_file_names_it() {
        check_404(json!({}), 404, "is alive and has no page for probes: (404) at http://");
        check_404(json!({"path": "/health"}), 503, "is down");
        check_404(json!({"path": "/health", "expect_status": "404"}), 404, "is up");
    }

    #[test]
    fn without_probes_a_server_is_up() {
        let origin = well();
        let balancer = servers(&[&origin], &[], json!({"servers": {"health_check": {"enabled": false}}}));
        assert_eq!(Client::to(&balancer).get("/").status, 200);
        assert_eq!(origin.only_request().target(), "/", "no probe came");
    }

    #[test]
    fn a_server_that_fails_live_requests_is_ejected_without_any_probe() {
        let (sick, fine) = (Origin::resets(), well());
        let ejection = json!({"consecutive_failures": 2, "base_time": "1h", "max_time": "1h"});
        let config = with(algorithm("round_robin"), json!({"servers": {"ejection": ejection}}));
        let balancer = servers(&[&sick, &fine], &[], config);
        let mut client = Client::to(&balancer);
        until("it is ejected", || {
            assert_eq!(client.get("/").status, 200, "a GET is made up for by the other server");
            balancer.log_lines().iter().any(|line| line.contains("server a is ejected"))
        });
        let before = sick.count();
        assert_eq!(spread(&mut client, 20), counts(&[("b", 20)]));
        assert_eq!(sick.count(), before);
    }

    /// A server that serves one connection after the other, each until its client closes it.
    #[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    fn one_threaded() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut bytes = [0; 4096];
                while stream.read(&mut bytes).is_ok_and(|count| count > 0) {
                    let _ = stream.write_all(ok("ok").as_bytes());
                }
            }
        });
        address
    }

    #[test]
    fn an_idle_connection_does_not_shut_out_the_probes_of_a_server_with_one_thread() {
        let list = json!({"servers": {"list": [{"name": "a", "address": one_threaded().to_string()}]}});
        // A probe that finds the only thread with an idle connection fails, has that closed, and the next one passes. A fault
        // shows after twelve probes, which is longer than a machine stands still.
        let probes = probed(json!({"timeout": "300ms", "fall": 12}));
        let balancer = Evenkeel::start(with(probes, list));
        balancer.logs("is up");
        let mut client = Client::to(&balancer);
        for _ in 0..225 {
            assert_eq!(client.get("/").status, 200);
            thread::park_timeout(Duration::from_millis(20));
        }
        assert!(balancer.log_lines().iter().all(|line| !line.contains(" is down")));
    }

    #[test]
    fn a_rejected_health_page_is_explained() {
        let named = || json!({"path": "/health"});
        for (status, more) in
            [(400, json!({})), (401, json!({})), (426, json!({})), (500, json!({})), (500, named())]
        {
            let passes = more == json!({});
            let origin = Origin::start(move |visit| {
                while let Some(seen) = visit.request() {
                    let is_probe = seen.target() == "/health";
                    let text =
                        if is_probe { ok("").replace("200 OK", &format!("{status} No")) } else { ok("ok") };
                    visit.send(text);
                }
            });
            let balancer = servers(&[&origin], &[], probed(more));
            let line = balancer.logs(if passes { "is alive and does not serve" } else { "is down" });
            assert!(line.contains(&format!("({status}) at http://{}/health", origin.address())), "{line}");
            assert!(line.contains("servers.health_check.path"), "{line}");
            becomes("the status", &if passes { 200 } else { 503 }, || Client::to(&balancer).get("/").status);
        }
    }

    const FAILURE: &str = "HTTP/1.1 500 Sick\r\nContent-Length: 0\r\n\r\n";

    /// Eight clients at once, until `done` or so many requests of each; how many responses were 500, and all of them.
    fn flood(balancer: &Evenkeel, each: usize, done: impl Fn() -> bool + Sync) -> (usize, usize) {
        let (failed, all) = (AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let mut client = Client::to(balancer);
                    for _ in (0..each).take_while(|_| !done()) {
                        let is_failure = client.get("/").status == 500;
                        failed.fetch_add(u64::from(is_failure), Ordering::SeqCst);
                        all.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        (failed.into_inner() as usize, all.into_inner() as usize)
    }

    #[test]
    fn a_server_that_fails_at_once_gets_less_than_its_share_and_is_ejected() {
        for name in ["dynamic", "least_connections", "random_two"] {
            let pace = Arc::new(AtomicU64::new(2));
            let sick = Origin::start(|visit| {
                while let Some(seen) = visit.request() {
                    visit.send(if seen.target() == "/health" { ok("well") } else { FAILURE.to_owned() });
                }
            });
            let origins = [sick, paced(&pace), paced(&pace)];
            let all: Vec<_> = origins.iter().collect();
            let ejection = json!({"servers": {"ejection": {"base_time": "1h", "max_time": "1h"}}});
            let balancer = servers(&all, &[], with(ejection, with(algorithm(name), probed(json!({})))));
            // Before their first probes the others are only second choice.
            for server in ["server a (", "server b (", "server c ("] {
                balancer.logs(server);
            }
            let ejected =
                || balancer.log_lines().iter().any(|line| line.contains("server a is ejected for "));
            let (failed, all) = flood(&balancer, 5_000, ejected);
            assert!(failed * 100 <= all * 36, "{name}: {failed} of {all}");
            let line = balancer.logs("server a is ejected");
            assert!(line.contains("were 5xx or failed, while the other servers' share is 0 %"), "{line}");
            assert_eq!(
                spread(&mut Client::to(&balancer), 20).get("a"),
                None,
                "its probes pass, and it stays out"
            );
        }
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "the looks at the servers go by time")]
    fn where_all_servers_fail_none_is_ejected() {
        let origins = [Origin::says(FAILURE), Origin::says(FAILURE)];
        let balancer = servers(&[&origins[0], &origins[1]], &[], algorithm("dynamic"));
        let begun = std::time::Instant::now();
        // They are compared twice a second.
        until("both have failed for two looks at the least", || {
            let (failed, all) = flood(&balancer, 20, || false);
            assert_eq!(failed, all);
            begun.elapsed() > Duration::from_secs(2) && origins.iter().all(|origin| origin.count() > 100)
        });
        assert!(!balancer.log_lines().iter().any(|line| line.contains("is ejected")));
    }

    #[test]
    fn a_name_that_does_not_resolve_does_not_stop_the_start() {
        let origin = well();
        let both = json!([
            {"name": "lost", "address": "no-such-host.invalid:80"},
            {"name": "found", "address": format!("localhost:{}", origin.address().port())},
        ]);
        for enabled in [true, false] {
            let check = json!({"servers": {"list": both, "health_check": {"enabled": enabled}}});
            let balancer = Evenkeel::start(check);
            until("the other server serves", || served_by(&balancer) == "found");
        }
    }

    #[test]
    fn with_all_servers_down_there_is_503_and_one_clear_line_until_one_is_back() {
        let mut origins = [well(), well()];
        let balancer = servers(&[&origins[0], &origins[1]], &[], probed(json!({"fall": 1, "rise": 1})));
        until("both are up", || {
            balancer.log_lines().iter().filter(|line| line.contains("is up")).count() == 2
        });
        origins.iter_mut().for_each(Origin::stop);
        balancer.logs("no server can take requests");
        becomes("the response", &(503, "no_server".to_owned()), || {
            let response = Client::to(&balancer).get("/");
            (response.status, response.reason())
        });
        origins[1].start_again();
        balancer.logs("requests are served again");
        until("b serves", || served_by(&balancer) == "b");
        let told = balancer.log_lines().iter().filter(|line| line.contains("no server can take")).count();
        assert_eq!(told, 1);
    }

    #[test]
    fn a_server_that_is_not_there_at_the_start_is_found_later() {
        let mut origin = well();
        origin.stop();
        let balancer = servers(&[&origin], &[], probed(json!({"rise": 2})));
        balancer.logs("is down: a probe failed (connection refused)");
        origin.start_again();
        until("it serves", || served_by(&balancer) == "a");
    }

    #[test]
    fn a_server_that_does_not_listen_does_not_stop_the_start() {
        let port = unused_port();
        let config = json!({"servers": {"list": [{"address": port.address().to_string()}]}});
        let balancer = Evenkeel::start(with(config, probed(json!({}))));
        balancer.logs("is down");
        becomes("the status", &503, || Client::to(&balancer).get("/").status);
    }

    #[test]
    fn a_server_may_listen_on_a_unix_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.sock");
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || {
                    let (mut stream, mut bytes) = (stream, [0; 4096]);
                    // Small requests come in one piece on this socket.
                    while stream.read(&mut bytes).is_ok_and(|count| count > 0) {
                        if stream.write_all(ok("over unix").as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        let config =
            json!({"servers": {"list": [{"name": "u", "address": format!("unix:{}", path.display())}]}});
        let balancer = Evenkeel::start(with(config, probed(json!({}))));
        assert!(balancer.logs("server u (unix:").contains("is up"));
        let mut client = Client::to(&balancer);
        for _ in 0..3 {
            let response = client.get("/");
            assert_eq!(
                (response.text().as_str(), response.fields.one("X-Served-By").as_str()),
                ("over unix", "u")
            );
        }
    }
}
