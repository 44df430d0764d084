//! Clients that want to starve, bloat or end the process.

use super::*;

#[test]
fn an_absurd_length_costs_nothing() {
    let origin = Origin::responds("ok");
    let balancer = Evenkeel::before(&[&origin], json!({"limits": {"body": "1MiB"}}));
    let before = balancer.rss_kib();
    for length in ["99999999999999", "18446744073709551615", "18446744073709551616"] {
        let sent = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\nabc");
        let status = Client::to(&balancer).send(sent).response().status;
        assert!(matches!(status, 400 | 413), "{length}: {status}");
    }
    assert!(balancer.rss_kib() < before + 4096);
    assert_eq!(Client::to(&balancer).get("/").status, 200);
}

#[test]
fn an_absurd_length_without_a_limit_is_an_upload_like_any_other() {
    let origin = Origin::start(|visit| {
        if visit.head().is_some() {
            visit.to_the_end();
        }
    });
    let balancer = Evenkeel::before(&[&origin], json!({}));
    let before = balancer.rss_kib();
    let mut client = Client::to(&balancer);
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999\r\n\r\nabc");
    origin.until("the head came", |seen| seen.heads == 1);
    assert!(balancer.rss_kib() < before + 4096);
    drop(client);
    origin.until("its connection is over", |seen| seen.ended == 1);
}

/// Garbage of every kind on so many connections: each is answered with an error or closed.
#[test]
fn garbage_is_rejected_and_nothing_panics() {
    let origin = Origin::echoes();
    let config = json!({"timeouts": {"client_head": "500ms", "client_body": "500ms"}});
    let balancer = Evenkeel::before(&[&origin], config);
    let good = b"POST /a?b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n4\r\nbody\r\n0\r\nT: u\r\n\r\n";
    let random = noise(4096);
    let mut sent = Vec::new();
    for round in 0..120 {
        // A good request with a few bytes changed, and plain noise.
        let mut bytes = good.to_vec();
        for change in 0..=round % 4 {
            let at = usize::from(random[round * 8 + change]) * 7 % bytes.len();
            bytes[at] = random[round * 8 + 4 + change];
        }
        sent.push(bytes);
        sent.push(noise(round * 20)[round..].to_vec());
    }
    sent.push(b"\r\n".repeat(40_000));
    sent.push(b"A".repeat(200_000));
    sent.push(vec![0; 1000]);
    let threads = sent.chunks(sent.len() / 6).map(<[Vec<u8>]>::to_vec).map(|sent| {
        let address = balancer.address();
        thread::spawn(move || {
            for bytes in sent {
                let mut client = Client::connect(address).unwrap();
                // It may be rejected and closed before all of it is sent.
                let _ = client.try_send(&bytes);
                let _ = client.stream.shutdown(std::net::Shutdown::Write);
                let (_, end) = client.rest();
                assert!(end != Err(Broken::Late), "{:?} was left open", String::from_utf8_lossy(&bytes));
            }
        })
    });
    threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
    // It has half a second for its head, however busy the machine is.
    until("good requests are served", || {
        let mut client = Client::to(&balancer);
        client.try_send(good).is_ok() && client.try_response().is_ok_and(|response| response.text() == "body")
    });
}

#[test]
fn slow_senders_hold_no_worker() {
    let origin = Origin::responds("ok");
    let balancer = Evenkeel::before(&[&origin], with(patient(1, 2, 300), long()));
    let mut slow = clients(&balancer, 200);
    let mut normal = Client::to(&balancer);
    for part in ["GET / HT", "TP/1.1\r\nHos", "t: h\r\nX: "] {
        slow.iter_mut().for_each(|client| _ = client.send(part));
        for _ in 0..10 {
            assert_eq!(normal.get("/").status, 200);
        }
    }
    assert_eq!(origin.count(), 30);
    slow.iter_mut().for_each(|client| _ = client.send("y\r\n\r\n"));
    slow.iter_mut().for_each(|client| assert_eq!(client.response().status, 200));
    assert!(balancer.workers() <= 2);
}

#[test]
fn clients_that_connect_and_close_leave_nothing_behind() {
    let origin = Origin::responds("ok");
    let balancer = Evenkeel::before(&[&origin], json!({"servers": {"pool": {"idle": 16}}}));
    assert_eq!(Client::to(&balancer).get("/").status, 200);
    until("the first client's descriptor is closed", || balancer.descriptors() < 40);
    let before = balancer.descriptors();
    for round in 0..2000 {
        let mut client = Client::to(&balancer);
        match round % 4 {
            0 => drop(client),
            1 => client.reset(),
            2 => _ = client.try_send("GET / HT"),
            _ => _ = client.try_send(GET),
        }
    }
    until("others are served", || Client::to(&balancer).get("/").status == 200);
    until("all descriptors are closed but for pooled ones", || balancer.descriptors() < before + 20);
}

#[test]
fn parked_connections_cost_little() {
    const COUNT: usize = 2000;
    raise_descriptors(2 * COUNT as u64 + 300);
    let origin = Origin::responds("ok");
    // The pool has two workers however busy the machine is.
    let balancer = Evenkeel::before(&[&origin], with(patient(2, 2, 100), long()));
    let mut first = Client::to(&balancer);
    assert_eq!(first.get("/").status, 200);
    until("both workers are there", || balancer.workers() == 2);
    let (before, threads) = (balancer.rss_kib(), balancer.threads());
    let mut many = clients(&balancer, COUNT);
    many.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
    let grown = balancer.rss_kib().saturating_sub(before);
    assert!(grown < 6 * 1024, "{COUNT} parked connections took {grown} KiB");
    assert!(balancer.threads() <= threads + 4, "no thread belongs to a parked connection");
    assert_eq!(first.get("/").status, 200);
    many.iter_mut().rev().for_each(|client| assert_eq!(client.get("/").status, 200));
    drop(many);
    until("all are closed", || balancer.descriptors() < 100);
}

#[test]
fn with_few_descriptors_it_rejects_or_waits_and_comes_back() {
    let origin = Origin::responds("ok");
    let servers = list(&[&origin]);
    let balancer = Evenkeel::start_with_descriptors(64, json!({"servers": {"list": servers}}));
    let mut first = Client::to(&balancer);
    assert_eq!(first.get("/").status, 200);
    let mut many = clients(&balancer, 150);
    many.iter_mut().for_each(|client| _ = client.try_send(GET));
    let mut statuses = Vec::new();
    for client in &mut many {
        if let Ok(response) = client.max_wait(Duration::from_millis(50)).try_response() {
            statuses.push(response.status);
        }
    }
    assert!(statuses.iter().all(|status| matches!(status, 200 | 503)), "{statuses:?}");
    // The first has made room, or is served on, or rejected with a reason that is ours, not a server's.
    _ = first.try_send(GET);
    if let Ok(response) = first.try_response() {
        let ours = ["connection_limit", "overloaded"].contains(&response.reason().as_str());
        assert!(response.status == 200 || ours, "{}", response.text());
    }
    let lines = balancer.log_lines();
    assert!(!lines.iter().any(|line| line.split(' ').any(|word| word == "ejected")), "{lines:?}");
    // No worker can be started, and the log is not filled with that.
    let told = lines.iter().filter(|line| line.contains("cannot start")).count();
    assert!(told < 10, "{told} warnings");
    drop(many);
    until("it serves newcomers again", || {
        Client::connect(balancer.address()).is_ok_and(|mut client| {
            client.try_send(GET).is_ok() && client.try_response().is_ok_and(|response| response.status == 200)
        })
    });
}
