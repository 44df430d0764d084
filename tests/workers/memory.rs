//! Memory and descriptors come back.

use super::*;

const MUCH: usize = 64 << 20;
const PIECE: usize = 1 << 20;

/// Reads what it gets and responds with how much that was; a GET gets `MUCH`.
fn bulk() -> Origin {
    Origin::start(|visit| {
        while let Some(head) = visit.head() {
            match head.framing().unwrap() {
                Framing::None => {
                    let piece = noise(PIECE);
                    if head.line.contains("/chunked") {
                        visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                        for _ in 0..MUCH / PIECE {
                            let mut chunk = chunked(&[&piece]);
                            chunk.truncate(chunk.len() - 5);
                            visit.send(chunk);
                        }
                        visit.send("0\r\n\r\n");
                    } else {
                        visit.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {MUCH}\r\n\r\n"));
                        (0..MUCH / PIECE).for_each(|_| visit.send(&piece));
                    }
                }
                _ => {
                    let seen = visit.body(head).unwrap();
                    visit.send(ok(&seen.body.len().to_string()));
                }
            }
        }
    })
}

#[track_caller]
fn check(balancer: &Evenkeel, told: &str, transfer: impl FnOnce(&mut Client)) {
    let mut client = Client::to(balancer);
    let before = balancer.peak_kib();
    transfer(&mut client);
    let grown = balancer.peak_kib().saturating_sub(before);
    assert!(grown < 4 * 1024, "{told}: {grown} KiB");
}

#[test]
fn memory_is_flat_whatever_goes_through() {
    let origin = bulk();
    let balancer = Evenkeel::before(&[&origin], patient(2, 4, 100));
    assert_eq!(
        Client::to(&balancer)
            .send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx")
            .response()
            .text(),
        "1"
    );
    let piece = noise(PIECE);
    check(&balancer, "up", |client| {
        client.send(format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {MUCH}\r\n\r\n"));
        (0..MUCH / PIECE).for_each(|_| _ = client.send(&piece));
        assert_eq!(client.response().text(), MUCH.to_string());
    });
    check(&balancer, "up in chunks", |client| {
        client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = chunked(&[&piece]);
        (0..MUCH / PIECE).for_each(|_| _ = client.send(&chunk[..chunk.len() - 5]));
        assert_eq!(client.send("0\r\n\r\n").response().text(), MUCH.to_string());
    });
    for path in ["/", "/chunked"] {
        check(&balancer, path, |client| {
            client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"));
            let (_, status) = client.head();
            let read = count_to_the_end(client);
            assert!(status == 200 && read >= MUCH, "{read} bytes");
        });
    }
}

/// Everything until the end, without keeping it.
fn count_to_the_end(client: &mut Client) -> usize {
    let mut piece = vec![0; 1 << 16];
    let mut total = client.buffered();
    loop {
        match client.stream.read(&mut piece) {
            Ok(0) => return total,
            Ok(count) => total += count,
            // The process was stopped and goes on.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => panic!("after {total} bytes: {error}"),
        }
    }
}

#[test]
fn memory_is_flat_over_many_requests() {
    let origin = Origin::responds("ok");
    let balancer = Evenkeel::before(&[&origin], patient(2, 4, 100));
    let mut client = Client::to(&balancer);
    let batch = GET.repeat(100);
    let mut run = |batches| {
        for _ in 0..batches {
            client.send(&batch);
            (0..100).for_each(|_| assert_eq!(client.response().status, 200));
        }
    };
    run(5);
    let before = balancer.rss_kib();
    run(30);
    let grown = balancer.rss_kib().saturating_sub(before);
    assert!(grown < 1024, "3000 requests took {grown} KiB");
}

#[test]
fn a_client_that_reads_none_of_our_own_responses_delays_no_other() {
    let origin = Origin::responds("ok");
    let over = json!({"timeouts": {"client_body": "120s"}});
    let balancer = Evenkeel::before(&[&origin], with(patient(1, 1, 100), over));
    let mut deaf = TcpStream::connect(balancer.address()).unwrap();
    deaf.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let last_hops = "OPTIONS * HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n\r\n".repeat(1000);
    // Until the balancer reads no more, because its own responses find no room.
    while deaf.write_all(last_hops.as_bytes()).is_ok() {}
    assert_eq!(Client::to(&balancer).get("/").text(), "ok");
}

#[test]
fn slow_readers_are_given_up_and_cost_no_memory() {
    let origin = bulk();
    let over = json!({"timeouts": {"client_body": "300ms"}, "admin": {"socket": ADMIN}});
    let config = with(patient(1, 8, 100), over);
    let balancer = Evenkeel::before(&[&origin], config);
    let before = balancer.peak_kib();
    let mut slow = clients(&balancer, 4);
    slow.iter_mut().for_each(|client| _ = client.send(GET));
    // They read nothing: the balancer stops, and its connections to the server end.
    origin.until("all four are there", |seen| seen.heads == 4);
    until("all four are given up", || {
        balancer.metric("evenkeel_rejections_total{reason=\"client_stalled\"}") == 4.0
    });
    origin.until("their connections to the server are closed", |seen| seen.over == 4);
    until("each has its log line", || {
        // There may be a line about all of them, too.
        balancer.log_lines().iter().filter(|line| line.contains("client_stalled")).count() >= 4
    });
    assert!(balancer.peak_kib().saturating_sub(before) < 4 * 1024);
}
