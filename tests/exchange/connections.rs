//! Which connections are kept, and for how long.

use super::*;

#[test]
fn both_sides_keep_their_connection() {
    let origin = Origin::responds("ok");
    let balancer = Evenkeel::before(&[&origin], one_worker(json!({})));
    let mut client = Client::to(&balancer);
    for _ in 0..10 {
        let response = client.get("/");
        assert_eq!((response.status, response.text().as_str()), (200, "ok"));
        assert!(!response.fields.has("Connection"), "{}", response.fields);
    }
    assert_eq!((origin.count(), origin.connections()), (10, 1));
}

#[test]
fn another_client_uses_the_same_server_connection() {
    let origin = Origin::responds("ok");
    let balancer = Evenkeel::before(&[&origin], one_worker(json!({})));
    for _ in 0..5 {
        assert_eq!(Client::to(&balancer).get("/").status, 200);
    }
    assert_eq!((origin.count(), origin.connections()), (5, 1));
}

/// With NTLM a server takes all that follows on a connection for the user's that has shown credentials there.
#[test]
fn a_connection_that_a_user_has_authenticated_is_no_other_users() {
    let origin = Origin::responds("ok");
    let balancer = Evenkeel::before(&[&origin], one_worker(json!({})));
    for (authorization, connections) in
        [("Basic YTpi", 1), ("Negotiate YII=", 1), ("NTLM TlRMTVNTUAAD", 2), ("Bearer a", 3), ("nego2 a", 3)]
    {
        let mut client = Client::to(&balancer);
        client.send(format!("GET / HTTP/1.1\r\nHost: h\r\nAuthorization: {authorization}\r\n\r\n"));
        assert_eq!(client.response().status, 200);
        assert_eq!(origin.connections(), connections, "{authorization}");
    }
    assert_eq!(Client::to(&balancer).get("/").status, 200);
    assert_eq!(origin.connections(), 4);
}

/// NTLM in three messages, as IIS has it: a challenge belongs to its connection, and what follows on that is the user's.
fn asks_for_ntlm(name: &'static str) -> Origin {
    Origin::start(move |visit| {
        let (mut challenged, mut user, mut is_last) = (false, None, false);
        while !is_last && let Some(seen) = visit.request() {
            is_last = seen.target() == "/last";
            let sent = seen.fields.all("Authorization").concat();
            match sent.strip_prefix("NTLM ") {
                Some("negotiate") => (challenged, user) = (true, None),
                Some(who) if challenged => user = Some(who.to_owned()),
                _ => {}
            }
            let challenge = if challenged { "NTLM challenge" } else { "NTLM" };
            match &user {
                Some(user) => visit.send(ok(&format!("{user} at {name}"))),
                None => visit.send(format!(
                    "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {challenge}\r\nContent-Length: 0\r\n\r\n"
                )),
            }
        }
    })
}

/// The status and the text of a response to a request with these credentials.
fn with_ntlm(client: &mut Client, credentials: &str) -> (u16, String) {
    let line =
        if credentials.is_empty() { String::new() } else { format!("Authorization: NTLM {credentials}\r\n") };
    let response = client.send(format!("GET / HTTP/1.1\r\nHost: h\r\n{line}\r\n")).response();
    (response.status, response.text())
}

#[track_caller]
fn logs_in(client: &mut Client, user: &str) -> String {
    assert_eq!(with_ntlm(client, "").0, 401);
    assert_eq!(with_ntlm(client, "negotiate").0, 401);
    let (status, text) = with_ntlm(client, user);
    assert_eq!((status, text.starts_with(user)), (200, true), "{text}");
    text
}

#[test]
fn a_user_who_has_logged_in_by_ntlm_stays_on_one_connection_and_no_other_is_on_it() {
    let origins = [asks_for_ntlm("a"), asks_for_ntlm("b")];
    let more = json!({"servers": {"algorithm": "round_robin", "hedge": {"after": "1ms"}}});
    let balancer = Evenkeel::before(&[&origins[0], &origins[1]], one_worker(more));
    let mut users: Vec<_> = ["ann", "bob", "cid"].map(|user| (user, Client::to(&balancer))).into();
    let greetings: Vec<_> = users.iter_mut().map(|(user, client)| logs_in(client, user)).collect();
    for _ in 0..5 {
        for ((_, client), greeting) in users.iter_mut().zip(&greetings) {
            assert_eq!(with_ntlm(client, ""), (200, greeting.clone()));
        }
        assert_eq!(with_ntlm(&mut Client::to(&balancer), "").0, 401, "a stranger");
    }
    drop(users);
    for _ in 0..5 {
        assert_eq!(with_ntlm(&mut Client::to(&balancer), "").0, 401, "after the users have left");
    }
}

/// Between two requests a connection is parked after a second; then another worker may get it.
fn until_parked() {
    let since = Instant::now();
    until("it is parked", || since.elapsed() > Duration::from_millis(1300));
}

#[test]
fn a_user_who_has_logged_in_by_ntlm_may_take_a_break() {
    let origin = asks_for_ntlm("a");
    let balancer = Evenkeel::before(&[&origin], json!({"threadpool": {"min_workers": 3}}));
    let mut client = Client::to(&balancer);
    let greeting = logs_in(&mut client, "ann");
    until_parked();
    assert_eq!(with_ntlm(&mut client, ""), (200, greeting));
}

/// A proxy in front may send the requests of several users on one connection.
#[test]
fn a_login_by_ntlm_that_comes_through_a_trusted_proxy_is_not_kept() {
    let origin = asks_for_ntlm("a");
    let balancer = Evenkeel::before(&[&origin], json!({"load_balancer": {"trusted_proxies": ["127.0.0.1"]}}));
    let mut client = Client::to(&balancer);
    assert_eq!(with_ntlm(&mut client, "negotiate").0, 401);
    assert_eq!(with_ntlm(&mut client, "ann").0, 401);
    assert_eq!(with_ntlm(&mut client, "").0, 401);
}

/// The server has closed the connection, or was taken out: the user logs in again.
#[test]
fn a_user_whose_connection_has_ended_logs_in_again() {
    let origin = asks_for_ntlm("a");
    let balancer = Evenkeel::before(&[&origin], one_worker(json!({})));
    let mut client = Client::to(&balancer);
    logs_in(&mut client, "ann");
    assert_eq!(client.get("/last").status, 200);
    assert_eq!(with_ntlm(&mut client, "").0, 401);
    logs_in(&mut client, "ann");
}

/// It may close the connection at any time, though it has not said so: Tomcat does, with a reset, where much is left to read.
#[test]
fn a_server_that_has_responded_before_the_request_is_whole_gets_a_new_connection_for_the_next() {
    let origin = Origin::start(|visit| {
        while let Some(head) = visit.head() {
            visit.response("early");
            visit.body(head);
        }
    });
    let balancer = Evenkeel::before(&[&origin], one_worker(json!({})));
    let mut client = Client::to(&balancer);
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nbegin");
    assert_eq!(client.response().text(), "early");
    client.send(" rest").sees_the_end();
    assert_eq!(Client::to(&balancer).get("/").status, 200);
    assert_eq!(origin.connections(), 2);
}

/// Much of a long upload fits into the buffers of the kernel, so the response does not tell whether the server has read it.
#[test]
fn a_server_that_rejects_a_long_upload_gets_a_new_connection_for_the_next() {
    #[track_caller]
    fn check(status: &'static str, length: usize, connections: usize) {
        let origin = Origin::replies(move |visit| {
            visit.send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"))
        });
        let balancer = Evenkeel::before(&[&origin], one_worker(json!({})));
        for _ in 0..2 {
            let mut client = Client::to(&balancer);
            client.send(format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n"));
            assert!(status.starts_with(&client.send(vec![b'x'; length]).response().status.to_string()));
        }
        assert_eq!(origin.connections(), connections, "{status} to {length} bytes");
    }
    check("401 Unauthorized", 100_000, 2);
    check("503 Service Unavailable", 100_000, 2);
    check("200 OK", 100_000, 1);
    check("401 Unauthorized", 1000, 1);
}

#[test]
fn a_client_that_asks_for_it_is_closed() {
    let origin = Origin::responds("ok");
    let balancer = Evenkeel::before(&[&origin], json!({}));
    let mut client = Client::to(&balancer);
    let response = client.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").response();
    assert_eq!(
        (response.text().as_str(), response.fields.all("Connection")),
        ("ok", vec!["close".to_owned()])
    );
    client.sees_the_end();
}

/// A segment less to send, to receive and to acknowledge.
#[cfg(target_os = "linux")]
#[test]
fn the_end_of_a_connection_comes_with_the_last_bytes() {
    let short = Origin::responds("ok");
    let long = Origin::replies(|visit| visit.response(noise(10_000)));
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".as_slice();
    let pieces = Origin::says([head, &chunked(&[b"one", b"two"])].concat());
    let serverless = Evenkeel::start(json!({}));
    let [short, long, pieces] = [&short, &long, &pieces].map(|to| Evenkeel::before(&[to], json!({})));
    for (balancer, fields) in [
        (&short, "Connection: close"),
        (&long, "Connection: close"),
        (&pieces, "Connection: close"),
        (&short, "Max-Forwards: 0\r\nConnection: close"),
        (&short, "Content-Length: one"),
        (&serverless, "Connection: close"),
    ] {
        let mut client = Client::to(balancer);
        client.send(format!("OPTIONS / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n"));
        assert!(client.sees_the_end_at_once(), "{fields}");
        assert!(client.rest().1.is_ok());
    }
}

#[test]
fn a_server_that_asks_for_it_gets_a_new_connection_each_time() {
    let origin =
        Origin::says_and_closes("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
    let balancer = Evenkeel::before(&[&origin], json!({}));
    let mut client = Client::to(&balancer);
    for _ in 0..5 {
        assert_eq!(client.get("/").text(), "ok");
    }
    assert_eq!((origin.count(), origin.connections()), (5, 5));
}

fn numbered(count: usize) -> Vec<u8> {
    let request = |at| match at % 3 {
        0 => format!("GET /{at} HTTP/1.1\r\nHost: h\r\n\r\n"),
        1 => format!("POST /{at} HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"),
        _ => format!(
            "POST /{at} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        ),
    };
    (0..count).flat_map(|at| request(at).into_bytes()).collect()
}

fn repeats_the_target() -> Origin {
    Origin::start(|visit| {
        while let Some(seen) = visit.request() {
            visit.send(ok(&format!("{} {}", seen.target(), seen.body.len())));
        }
    })
}

#[track_caller]
fn expect_numbered(client: &mut Client, count: usize) {
    for at in 0..count {
        let length = if at % 3 == 0 { 0 } else { 3 };
        assert_eq!(client.response().text(), format!("/{at} {length}"));
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = repeats_the_target();
    let balancer = Evenkeel::before(&[&origin], json!({}));
    let mut client = Client::to(&balancer);
    expect_numbered(client.send(numbered(300)), 300);
    assert!(client.is_quiet());
}

#[test]
fn pipelined_requests_may_be_split_at_every_byte() {
    let origin = repeats_the_target();
    let balancer = Evenkeel::before(&[&origin], json!({}));
    let all = numbered(3);
    let mut client = Client::to(&balancer);
    for at in 1..all.len() {
        client.send(&all[..at]);
        client.send(&all[at..]);
        expect_numbered(&mut client, 3);
    }
    all.iter().for_each(|byte| _ = client.send([*byte]));
    expect_numbered(&mut client, 3);
}

#[test]
fn a_client_that_pipelines_many_shares_the_worker_and_gets_all_its_responses() {
    let gate = Gate::default();
    let origin = Origin::waits_for(&gate, "ok");
    let balancer = Evenkeel::before(&[&origin], one_worker(json!({})));
    let mut greedy = Client::to(&balancer);
    greedy.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(100));
    origin.until("the first request came", |seen| !seen.requests.is_empty());
    // These come while the first of the hundred is with the server.
    let mut others: Vec<_> = (0..10).map(|_| Client::to(&balancer)).collect();
    others.iter_mut().for_each(|other| _ = other.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
    gate.open();
    for other in &mut others {
        assert_eq!(other.response().status, 200);
    }
    for at in 0..100 {
        let response = greedy.try_response();
        assert!(response.is_ok(), "response {at}: {response:?}");
    }
}

#[test]
fn a_client_may_close_its_side_once_it_has_asked() {
    let origin = Origin::responds("ok");
    let balancer = Evenkeel::before(&[&origin], json!({}));
    let mut client = Client::to(&balancer);
    client.send("GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n").finish_writing();
    assert_eq!([client.response().status, client.response().status], [200, 200]);
    client.sees_the_end();
}

#[test]
fn a_client_that_closes_its_side_with_its_last_request_sees_the_end() {
    let origin = Origin::echoes();
    let balancer = Evenkeel::before(&[&origin], one_worker(json!({})));
    let (mut held, mut client) = (Client::to(&balancer), Client::to(&balancer));
    assert_eq!([client.get("/").status, held.get("/").status], [200, 200]);
    // An upload that stands still, at the only worker.
    held.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n");
    origin.until("the upload is there", |seen| seen.heads == 3);
    // Request and end come while another exchange of the same worker waits.
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").finish_writing();
    held.send("x");
    assert_eq!([held.response().status, client.response().status], [200, 200]);
    client.sees_the_end();
}

#[test]
fn an_idle_client_is_closed_without_a_word() {
    let origin = Origin::responds("ok");
    let balancer = Evenkeel::before(&[&origin], json!({"timeouts": {"keep_alive": "200ms"}}));
    let mut client = Client::to(&balancer);
    assert_eq!(client.get("/").status, 200);
    client.sees_the_end();
}

#[test]
fn a_client_of_http_1_0_is_closed_unless_it_asks_to_be_kept() {
    let origin = Origin::responds("ok");
    let balancer = Evenkeel::before(&[&origin], json!({}));
    let mut client = Client::to(&balancer);
    let response = client.send("GET / HTTP/1.0\r\n\r\n").response();
    assert_eq!(response.text(), "ok");
    client.sees_the_end();
    let mut client = Client::to(&balancer);
    for _ in 0..3 {
        let response = client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").response();
        assert_eq!(response.text(), "ok");
        assert_eq!(response.fields.one("Connection"), "keep-alive");
    }
    let seen = &origin.requests()[0];
    assert_eq!(seen.line, "GET / HTTP/1.1");
    assert_eq!(seen.fields.one("Host"), origin.address().to_string(), "a request without a Host gets one");
    assert!(seen.fields.one("Via").starts_with("1.0 "));
}
