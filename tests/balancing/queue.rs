//! The order of the queue in front of the servers: priorities of routes, and last in, first out while it stands.

use crate::support::balancer::{ADMIN, list, with};
use crate::support::{Client, DEADLINE, Evenkeel, Gate, Origin, Shared, until};
use serde_json::{Value, json};
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// A server that responds to each request once its target is released, and a balancer that sends it one at a time.
struct Queue {
    released: Shared<Vec<String>>,
    origin: Origin,
    balancer: Evenkeel,
    /// Clients that wait, by target.
    waiting: Vec<(String, Client)>,
}

impl Queue {
    /// The first request, /0, is with the server.
    fn start(over: Value) -> Self {
        let released = Shared::<Vec<String>>::default();
        let held = released.clone();
        let origin = Origin::start(move |visit| {
            while let Some(seen) = visit.request() {
                let target = seen.target().to_owned();
                held.wait_for(DEADLINE * 4, |released| released.contains(&target).then_some(()));
                visit.response(&target);
            }
        });
        let base = json!({
            "load_balancer": { "load_balancer_port": 0, "bind": "127.0.0.1" },
            "admin": { "socket": ADMIN, "bind": null },
            "log": { "access": "access.log", "access_format": "json" },
            "servers": {
                "list": list(&[&origin]), "max_in_flight": 1,
                "health_check": { "enabled": false }, "load_report": { "enabled": false },
            },
            // How long requests wait is not the subject.
            "threadpool": { "queue_timeout": "60s", "queue_target": "60s" },
            "routes": [
                { "path": "/high/*", "priority": "high" },
                { "path": "/low/*", "priority": "low" },
                { "path": "/*" },
            ],
        });
        let balancer = Evenkeel::start(with(base, over));
        let mut queue = Queue { released, origin, balancer, waiting: Vec::new() };
        let mut client = Client::to(&queue.balancer);
        client.send(get("/0"));
        queue.origin.until("the first is there", |seen| seen.requests.len() == 1);
        queue.waiting.push(("/0".to_owned(), client));
        queue
    }

    /// Sends a request that waits.
    fn waits(&mut self, target: &str) {
        let mut client = Client::to(&self.balancer);
        client.send(get(target));
        self.waiting.push((target.to_owned(), client));
        let waiting = (self.waiting.len() - 1) as f64;
        self.balancer.metric_is("evenkeel_requests_waiting", waiting);
    }

    fn release(&self, target: &str) {
        self.released.change(|released| released.push(target.to_owned()));
    }

    fn sent(&self) -> Vec<String> {
        self.origin.requests().iter().map(|seen| seen.target().to_owned()).collect()
    }

    /// All responses come, in any order; the targets in the order in which the server got them.
    fn ends(mut self) -> Vec<String> {
        self.waiting.iter().for_each(|(target, _)| self.release(target));
        for (target, client) in &mut self.waiting {
            assert_eq!(client.response().text(), *target);
        }
        self.balancer.metric_is("evenkeel_requests_waiting", 0.0);
        self.sent()
    }
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")
}

#[test]
fn a_higher_priority_is_served_first() {
    let mut queue = Queue::start(json!({}));
    ["/low/1", "/2", "/high/3", "/low/4", "/5", "/high/6"].into_iter().for_each(|target| queue.waits(target));
    let waiting = |priority: &str| {
        let labels = format!("{{pool=\"default\",priority=\"{priority}\"}}");
        queue.balancer.metric(&format!("evenkeel_pool_queue_requests{labels}"))
    };
    assert_eq!(["low", "normal", "high"].map(waiting), [2.0; 3]);
    assert_eq!(queue.ends(), ["/0", "/high/3", "/high/6", "/2", "/5", "/low/1", "/low/4"]);
}

#[test]
fn the_access_log_has_the_priority() {
    let queue = Queue::start(json!({}));
    ["/0", "/high/1", "/low/1"].into_iter().for_each(|target| queue.release(target));
    let mut client = Client::to(&queue.balancer);
    ["/high/1", "/low/1"].into_iter().for_each(|target| assert_eq!(client.get(target).status, 200));
    let logged = || {
        let text = fs::read_to_string(queue.balancer.folder().join("access.log")).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.map(|line| (line["target"].clone(), line["priority"].clone())).collect::<Vec<_>>()
    };
    for expected in [("/0", "normal"), ("/high/1", "high"), ("/low/1", "low")] {
        let expected = (json!(expected.0), json!(expected.1));
        until("its line is there", || logged().contains(&expected));
    }
}

#[test]
fn what_has_a_low_priority_does_not_wait_forever() {
    let mut queue = Queue::start(json!({}));
    queue.waits("/low/1");
    (1..=20).for_each(|at| queue.waits(&format!("/high/{at}")));
    let sent = queue.ends();
    assert_eq!(sent.iter().position(|target| target == "/low/1"), Some(9), "{sent:?}");
}

#[test]
fn in_a_full_queue_a_higher_priority_takes_the_place_of_a_lower_one() {
    let mut queue = Queue::start(json!({ "servers": { "queue_capacity": 1 } }));
    queue.waits("/low/1");
    let mut high = Client::to(&queue.balancer);
    high.send(get("/high/2"));
    let (_, mut low) = queue.waiting.pop().unwrap();
    let response = low.response();
    assert_eq!((response.status, response.reason().as_str()), (503, "queue_full"));
    // It finds no place again, and neither does another one of the same priority.
    for target in ["/low/1", "/high/3"] {
        let response = low.get(target);
        assert_eq!((response.status, response.reason().as_str()), (503, "queue_full"), "{target}");
    }
    queue.waiting.push(("/high/2".to_owned(), high));
    assert_eq!(queue.ends(), ["/0", "/high/2"]);
}

#[test]
fn while_it_stands_the_last_one_is_served_first() {
    let times = json!({ "queue_target": "1ms", "queue_interval": "1ms", "queue_max_wait": "60s" });
    // With deadlines, it stands from the target on.
    let mut queue = Queue::start(json!({ "threadpool": times, "timeouts": { "request": "60s" } }));
    (1..=5).for_each(|at| queue.waits(&format!("/{at}")));
    let served = |queue: &Queue, released: &str, next: &str| {
        // Longer than the interval: each wait counts as long.
        thread::park_timeout(Duration::from_millis(5));
        queue.release(released);
        queue.origin.until("the next one is there", |seen| seen.requests.last().unwrap().target() == next);
    };
    let standing = "evenkeel_pool_queue_standing{pool=\"default\",priority=\"normal\"}";
    served(&queue, "/0", "/1");
    queue.balancer.metric_is(standing, 0.0);
    served(&queue, "/1", "/2");
    queue.balancer.metric_is(standing, 1.0);
    served(&queue, "/2", "/5");
    assert_eq!(queue.ends(), ["/0", "/1", "/2", "/5", "/4", "/3"]);
}

/// A server that begins the response to `/stream` once `begin` is open and ends it once `end` is, and the others then.
fn streaming(begin: &Gate, end: &Gate) -> Origin {
    let (begin, end) = (begin.clone(), end.clone());
    Origin::start(move |visit| {
        while let Some(seen) = visit.request() {
            match seen.target() {
                "/stream" => {
                    begin.wait();
                    visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n");
                    end.wait();
                    visit.send("0\r\n\r\n");
                }
                "/" => visit.response("ok"),
                "/busy" => visit.send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"),
                _ => {
                    end.wait();
                    visit.response("y");
                }
            }
        }
    })
}

fn before(origin: &Origin, most: Value) -> Evenkeel {
    Evenkeel::before(
        &[origin],
        json!({
            "admin": { "socket": ADMIN, "bind": null }, "servers": { "max_in_flight": most },
            "threadpool": { "queue_timeout": "60s", "queue_target": "60s" },
        }),
    )
}

#[test]
fn a_stream_that_ends_frees_room_for_a_waiting_request() {
    let (begin, end) = (Gate::default(), Gate::default());
    begin.open();
    let origin = streaming(&begin, &end);
    let balancer = before(&origin, json!(1));
    let mut clients = ["/stream", "/next"].map(|target| {
        let mut client = Client::to(&balancer);
        client.send(get(target));
        origin.until("the stream has begun", |seen| seen.requests.len() == 1);
        client
    });
    balancer.metric_is("evenkeel_requests_waiting", 1.0);
    end.open();
    let [stream, next] = &mut clients;
    assert_eq!((stream.response().text(), next.response().text()), ("x".to_owned(), "y".to_owned()));
    assert_eq!(origin.requests()[1].target(), "/next");
}

/// The server says 503 to each of two requests at once, and so it gets one.
#[test]
fn of_a_limit_that_was_found_a_stream_takes_no_room() {
    let (begin, end) = (Gate::default(), Gate::default());
    let origin = streaming(&begin, &end);
    let balancer = before(&origin, json!("auto"));
    let mut busy = Client::to(&balancer);
    assert_eq!(busy.get("/").status, 200);
    let ask = |target: &str| {
        let mut client = Client::to(&balancer);
        client.send(get(target));
        client
    };
    let mut stream = ask("/stream");
    origin.until("the first one is there", |seen| seen.requests.len() == 2);
    // The next one would wait.
    (0..11).for_each(|_| assert_eq!(busy.get("/busy").status, 503));
    assert_eq!(balancer.metric("evenkeel_server_max_in_flight"), 1.0);
    let before = origin.count();
    let mut last = ask("/last");
    balancer.metric_is("evenkeel_requests_waiting", 1.0);
    assert_eq!(origin.count(), before);
    begin.open();
    origin.until("the last one is there", |seen| seen.requests.len() == before + 1);
    balancer.metric_is("evenkeel_requests_waiting", 0.0);
    end.open();
    assert_eq!((stream.response().text(), last.response().text()), ("x".to_owned(), "y".to_owned()));
}

/// A server that works on so many requests at once, in the order in which they come, each for so long.
fn working(slots: usize, each: Duration) -> Origin {
    let free_at = Mutex::new(vec![Instant::now(); slots]);
    Origin::start(move |visit| {
        while visit.request().is_some() {
            let ends = {
                let mut slots = free_at.lock().unwrap();
                let first = slots.iter_mut().min().unwrap();
                *first = (*first).max(Instant::now()) + each;
                *first
            };
            thread::sleep(ends.saturating_duration_since(Instant::now()));
            if !visit.try_send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") {
                return;
            }
        }
    })
}

/// Clients that leave after this time without a response, and come again.
#[derive(Default)]
struct Impatient {
    is_over: AtomicBool,
    served: AtomicUsize,
    left: AtomicUsize,
}

impl Impatient {
    fn come(&self, balancer: &Evenkeel, patience: Duration) {
        while !self.is_over.load(Relaxed) {
            let mut client = Client::to(balancer);
            client.max_wait(patience).send(get("/"));
            match client.try_response() {
                Ok(response) if response.status == 200 => drop(self.served.fetch_add(1, Relaxed)),
                Ok(_) => thread::sleep(Duration::from_millis(100)),
                Err(_) => drop(self.left.fetch_add(1, Relaxed)),
            }
        }
    }
}

/// Ends the clients, also where the test fails before.
struct Ends<'a>(&'a Impatient);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Relaxed);
    }
}

/// Without the limit of an overload the server works for clients that have left, and no response is in time any more.
#[test]
fn in_an_overload_clients_that_are_still_there_are_served_and_the_limit_goes_with_it() {
    let origin = working(2, Duration::from_millis(20));
    let times = json!({ "queue_target": "5ms", "queue_interval": "100ms", "queue_max_wait": "40ms", "queue_timeout": "5s" });
    let over = json!({ "admin": { "socket": ADMIN, "bind": null }, "threadpool": times });
    let (balancer, clients) = (Evenkeel::before(&[&origin], over), Impatient::default());
    let count = |of: &AtomicUsize| of.load(Relaxed);
    thread::scope(|scope| {
        let _ends = Ends(&clients);
        for _ in 0..300 {
            scope.spawn(|| clients.come(&balancer, Duration::from_secs(2)));
        }
        until("many leave", || count(&clients.left) >= 200);
        balancer.logs("server a: overloaded: ");
        until("there is a limit", || !balancer.metric_lines("evenkeel_server_max_in_flight").is_empty());
        // A third of what it can do.
        until("many are served", || {
            let before = count(&clients.served);
            thread::sleep(Duration::from_secs(1));
            count(&clients.served) - before >= 33
        });
    });
    // Another one may stay: with fewer requests at once their latencies can show how many slots the server has.
    let last_change = || {
        let mut changes = balancer.log_lines().into_iter().filter(|line| line.contains("server a: "));
        changes.rfind(|line| line.contains("overloaded: ")).unwrap_or_default()
    };
    until("the limit goes", || last_change().contains("no limit"));
}

/// However many there are: without late responses there is no overload, and none waits.
#[test]
fn long_polls_are_no_overload() {
    let (begin, end) = (Gate::default(), Gate::default());
    let origin = streaming(&begin, &end);
    let balancer = Evenkeel::before(&[&origin], json!({ "admin": { "socket": ADMIN, "bind": null } }));
    let ask = |_| {
        let mut client = Client::to(&balancer);
        client.send(get("/poll"));
        client
    };
    let mut polls: Vec<Client> = (0..300).map(ask).collect();
    origin.until("all of them are there", |seen| seen.requests.len() == 300);
    assert!(balancer.metric_lines("evenkeel_server_max_in_flight").is_empty());
    end.open();
    assert!(polls.iter_mut().all(|client| client.response().text() == "y"));
}

#[test]
fn a_reload_changes_the_order() {
    let mut queue = Queue::start(json!({}));
    queue.waits("/low/1");
    let text = fs::read_to_string(queue.balancer.folder().join("config.json")).unwrap();
    let text = text.replace("\"priority\":\"low\"", "\"priority\":\"high\"");
    fs::write(queue.balancer.folder().join("config.json"), text).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_evenkeel"))
        .arg("reload")
        .current_dir(queue.balancer.folder())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("priority: low -> high"), "{said}");
    queue.waits("/2");
    queue.waits("/low/3");
    // What waited before keeps its priority.
    assert_eq!(queue.ends(), ["/0", "/low/3", "/2", "/low/1"]);
}
