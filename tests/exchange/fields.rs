//! Which fields of a head go on, which are added, and which are not passed on.

use super::*;

#[test]
fn fields_go_on_with_their_order_case_duplicates_and_odd_bytes() {
    let sent = b"GET /a?b=%20&c HTTP/1.1\r\nHost: ExAmple:81\r\nx-ODD: \xe9\xff\r\nB: 2\r\na: 1\r\nB:  3 \r\nCookie: c=d\r\nEmpty:\r\n\r\n";
    let (seen, response) = forwarded(json!({}), sent);
    assert_eq!(response.status, 200);
    assert_eq!(seen.line, "GET /a?b=%20&c HTTP/1.1");
    let theirs: Vec<_> = seen.fields.0.iter().take(7).cloned().collect();
    let expected: [(&[u8], &[u8]); 7] = [
        (b"Host", b"ExAmple:81"),
        (b"x-ODD", b"\xe9\xff"),
        (b"B", b"2"),
        (b"a", b"1"),
        (b"B", b"3"),
        (b"Cookie", b"c=d"),
        (b"Empty", b""),
    ];
    assert_eq!(theirs, expected.map(|(name, value)| (name.to_vec(), value.to_vec())));
}

#[test]
fn fields_of_a_response_go_on_as_they_came() {
    let response = answered(
        &b"HTTP/1.1 299 S\xf6 la\r\nSet-Cookie: a=1\r\nx-Z: \xfe\r\nSET-cookie: b=2\r\nContent-Length: 1\r\nDate: then\r\n\r\nx"[..],
    );
    assert!(response.line.starts_with("HTTP/1.1 299 S"), "{}", response.line);
    assert_eq!(response.fields.all("Set-Cookie"), ["a=1", "b=2"]);
    assert_eq!(response.fields.0[0], (b"Set-Cookie".to_vec(), b"a=1".to_vec()));
    assert_eq!(response.fields.0[1], (b"x-Z".to_vec(), b"\xfe".to_vec()));
    assert_eq!(response.fields.0[2].0, b"SET-cookie");
    assert_eq!(response.fields.one("Date"), "then");
    assert!(response.fields.one("Via").starts_with("1.1 evenkeel-"));
    assert_eq!(response.fields.one("X-Served-By"), "a");
}

#[test]
fn hop_by_hop_fields_stay_behind_in_both_directions() {
    let sent = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: X-Private, keep-alive\r\nX-Private: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nTE: gzip\r\nUpgrade: foo\r\nX-Public: 2\r\n\r\n";
    let (seen, _) = forwarded(json!({}), sent);
    for name in ["Connection", "X-Private", "Keep-Alive", "Proxy-Connection", "TE", "Upgrade"] {
        assert!(!seen.fields.has(name), "{name} went on:{}", seen.fields);
    }
    assert_eq!(seen.fields.one("X-Public"), "2");
    let response = answered(
        "HTTP/1.1 200 OK\r\nConnection: X-Private, keep-alive\r\nX-Private: 1\r\nKeep-Alive: 5\r\nContent-Length: 0\r\nX-Public: 2\r\n\r\n",
    );
    for name in ["Connection", "X-Private", "Keep-Alive"] {
        assert!(!response.fields.has(name), "{name} went on:{}", response.fields);
    }
    assert_eq!(response.fields.one("X-Public"), "2");
}

#[test]
fn the_server_learns_where_a_request_came_from() {
    let (seen, _) = forwarded(json!({}), b"GET / HTTP/1.1\r\nHost: shop:1\r\nVia: 1.0 other\r\n\r\n");
    assert_eq!(seen.fields.one("X-Forwarded-For"), "127.0.0.1");
    assert_eq!(seen.fields.one("X-Forwarded-Proto"), "http");
    assert_eq!(seen.fields.one("X-Forwarded-Host"), "shop:1");
    assert_eq!(seen.fields.one("X-Request-Id").len(), 32);
    let via = seen.fields.all("Via");
    assert_eq!(via[0], "1.0 other");
    assert!(via[1].starts_with("1.1 evenkeel-"), "{via:?}");
}

#[test]
fn what_an_untrusted_client_says_of_its_way_is_replaced_and_a_trusted_one_is_believed() {
    let sent = b"GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Request-Id: mine-1\r\n\r\n";
    let (seen, _) = forwarded(json!({}), sent);
    assert_eq!(seen.fields.one("X-Forwarded-For"), "127.0.0.1");
    assert_eq!(seen.fields.one("X-Forwarded-Proto"), "http");
    assert_eq!(seen.fields.one("X-Forwarded-Host"), "h");
    assert!(!seen.fields.has("Forwarded"));
    assert_eq!(seen.fields.one("X-Request-Id").len(), 32);
    assert!(!seen.fields.has("X-Real-IP"));
    let (seen, _) = forwarded(json!({"load_balancer": {"trusted_proxies": ["127.0.0.0/8"]}}), sent);
    assert_eq!(
        (seen.fields.one("X-Request-Id"), seen.fields.one("X-Real-IP")),
        ("mine-1".into(), "6.6.6.6".into())
    );
    assert_eq!(seen.fields.one("X-Forwarded-For"), "6.6.6.6, 127.0.0.1");
    assert_eq!(seen.fields.one("X-Forwarded-Proto"), "https");
}

#[test]
fn two_requests_never_have_the_same_id() {
    let origin = Origin::responds("ok");
    let balancer = Evenkeel::before(&[&origin], json!({}));
    let mut client = Client::to(&balancer);
    (0..20).for_each(|_| drop(client.get("/")));
    let mut ids: Vec<_> = origin.requests().iter().map(|seen| seen.fields.one("X-Request-Id")).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20);
}

#[test]
fn the_absolute_form_becomes_the_origin_form_and_its_authority_the_host() {
    for (target, host, path) in [
        ("http://shop.example:8080/a?b", "shop.example:8080", "/a?b"),
        ("http://shop.example", "shop.example", "/"),
        ("http://shop.example?q", "shop.example", "/?q"),
    ] {
        let sent = format!("GET {target} HTTP/1.1\r\nHost: other\r\n\r\n");
        let (seen, _) = forwarded(json!({}), sent.as_bytes());
        assert_eq!((seen.target(), seen.fields.one("Host").as_str()), (path, host), "{target}");
    }
    let (seen, _) = forwarded(json!({}), b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(seen.line, "OPTIONS * HTTP/1.1");
}

#[test]
fn a_target_of_https_goes_on_when_a_trusted_proxy_asks_for_it() {
    let sent = b"GET https://shop/a HTTP/1.1\r\nHost: shop\r\n\r\n";
    let trusts = json!({"load_balancer": {"trusted_proxies": ["127.0.0.1/32"]}});
    let (seen, response) = forwarded(trusts, sent);
    assert_eq!((response.status, seen.line.as_str()), (200, "GET /a HTTP/1.1"));
}

#[test]
fn a_rejected_head_request_gets_a_head_alone() {
    let balancer = Evenkeel::start(json!({}));
    let mut client = Client::to(&balancer);
    let response = client.send("HEAD / HTTP/1.1\r\nHost : h\r\n\r\n").try_response_to("HEAD").unwrap();
    assert_eq!(response.status, 400);
    client.sees_the_end();
}

#[test]
fn any_method_goes_on() {
    for method in ["GET", "PURGE", "M-SEARCH", "get", "!x"] {
        let (seen, _) = forwarded(json!({}), format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        assert_eq!(seen.method(), method);
    }
}

#[test]
fn a_request_that_comes_round_again_is_a_loop() {
    let config = json!({"load_balancer": {"via": "keel-1"}});
    let origin = Origin::responds("ok");
    let balancer = Evenkeel::before(&[&origin], config);
    let mut client = Client::to(&balancer);
    let response = client.send("GET / HTTP/1.1\r\nHost: h\r\nVia: 1.1 a, 1.1 keel-1\r\n\r\n").response();
    assert_eq!((response.status, response.reason().as_str()), (508, "loop_detected"));
    assert_eq!(origin.count(), 0);
    assert_eq!(client.get("/").status, 200, "the connection goes on");
}
