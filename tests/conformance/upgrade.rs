//! Upgrade and what becomes of the connection (RFC 9110 sections 7.8 and 15.2.2, RFC 6455).

use super::case::{Area, Case, Level, OK, SMUGGLED, Script, Step, get, post};
use super::rule::{Rule, Rule::*, ensure};
use crate::support::origin::Visit;

const A: Area = Area::Upgrade;
const ASKS: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
const SWITCHES: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Switches where it was asked to, and echoes what it gets until the other side has finished, then `bye`.
fn echoes(visit: &mut Visit) {
    while let Some(seen) = visit.request() {
        if !seen.fields.has("Upgrade") {
            visit.send(OK);
            continue;
        }
        visit.send(SWITCHES);
        loop {
            let byte = visit.take(1);
            if byte.is_empty() {
                visit.send("bye");
                return visit.finish_writing();
            }
            visit.send(&byte);
        }
    }
}

/// Switches, and speaks first, in the same piece as its head.
fn greets(visit: &mut Visit) {
    if visit.request().is_some() {
        visit.send([SWITCHES, "hello"].concat());
        visit.to_the_end();
    }
}

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases = tunnels();
    cases.extend(rejected());
    cases.extend(not_asked());
    cases
}

fn tunnels() -> Vec<Case> {
    let case = |id: &str, level, rfc| Case::new(A, id, level, rfc).server(Script::Does(echoes));
    let open = |sent: &str| case(sent, Level::May, "9110 7.8").sends(get(ASKS)).response("GET");
    let named = |mut case: Case, id: &str| {
        case.id = id.into();
        case
    };
    vec![
        case("upgrade-switches", Level::May, "9110 7.8").sends(get(ASKS)).response("GET").holds([
            Status(&[101]),
            Has("Upgrade", "websocket"),
            Has("Connection", "upgrade"),
            HasAny("Sec-WebSocket-Accept"),
        ]),
        case("upgrade-goes-on-with-connection", Level::Must, "9110 7.8")
            .sends(get(ASKS))
            .response("GET")
            .holds([
                Status(&[101]),
                SeenHas("Upgrade", "websocket"),
                SeenHasAny("Sec-WebSocket-Key"),
                Servers(|seen| {
                    let named = seen.requests[0].fields.all("Connection").join(",").to_lowercase();
                    ensure(named.contains("upgrade"), || format!("Connection: {named}"))
                }),
            ]),
        named(
            open("x").sends("ping").step(Step::Bytes(4)).holds([Status(&[101]), Read(b"ping".to_vec())]),
            "tunnel-both-ways",
        ),
        named(
            open("x")
                .sends(b"\0\xff\r\n\r\nGET / HTTP/1.1\r\n\r\n")
                .step(Step::Bytes(22))
                .holds([Status(&[101]), Read(b"\0\xff\r\n\r\nGET / HTTP/1.1\r\n\r\n"[..22].to_vec())]),
            "tunnel-is-not-read",
        ),
        case("tunnel-keeps-early-bytes-of-the-client", Level::May, "9110 7.8")
            .sends([&get(ASKS)[..], b"early"].concat())
            .response("GET")
            .step(Step::Bytes(5))
            .holds([Status(&[101]), Read(b"early".to_vec())]),
        case("tunnel-keeps-early-bytes-of-the-server", Level::May, "9110 7.8")
            .server(Script::Does(greets))
            .sends(get(ASKS))
            .response("GET")
            .step(Step::Bytes(5))
            .holds([Status(&[101]), Read(b"hello".to_vec())]),
        named(
            open("x").sends("ab").step(Step::Bytes(2)).step(Step::Finish).step(Step::Bytes(3)).holds([
                Status(&[101]),
                Read(b"abbye".to_vec()),
                Ends,
            ]),
            "tunnel-closes-one-side-first",
        ),
        case("upgrade-is-rejected-by-the-server", Level::Must, "9110 7.8")
            .says(OK)
            .sends(get(ASKS))
            .response("GET")
            .holds([Status(&[200]), Body(b"ok".to_vec()), Stays]),
        case("upgrade-in-other-case", Level::Must, "9110 7.8")
            .sends(get("connection: keep-alive, uPGRADE\r\nUPGRADE: WebSocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"))
            .response("GET")
            .holds([Status(&[101])]),
    ]
}

/// Upgrades that must not come about, or must not hide requests.
fn rejected() -> Vec<Case> {
    let case = |id: &str, level, rfc| Case::new(A, id, level, rfc).server(Script::Does(echoes));
    let no_tunnel = |seen: &mut super::observe::AtClient| {
        let status = seen.responses.first().map(|response| response.status);
        ensure(status != Some(101), || "the proxy switched".into())
    };
    vec![
        case("upgrade-without-connection", Level::Safe, "9110 7.8")
            .sends(get("Upgrade: websocket\r\n"))
            .response("GET")
            .holds([Client(no_tunnel), SeenLacks("Upgrade")])
            .holds([Rejects(&[400, 426])]),
        case("connection-without-upgrade", Level::Must, "9110 7.8")
            .sends(get("Connection: Upgrade\r\n"))
            .response("GET")
            .holds([Status(&[200]), SeenLacks("Upgrade")])
            .holds([Rejects(&[400])]),
        case("upgrade-in-1.0-is-ignored", Level::Must, "9110 7.8")
            .sends(format!("GET / HTTP/1.0\r\nHost: h\r\n{ASKS}\r\n"))
            .response("GET")
            .holds([Client(no_tunnel), SeenLacks("Upgrade")])
            .holds([Rejects(&[400, 426])]),
        case("h2c-is-not-asked-for", Level::Safe, "9113 3.1")
            .sends(get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"))
            .response("GET")
            .holds([Client(no_tunnel), SeenLacks("HTTP2-Settings")])
            .holds([Rejects(&[400, 426])]),
        case("h2c-among-others-is-not-asked-for", Level::Safe, "9113 3.1")
            .sends(get("Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n"))
            .response("GET")
            .holds([Unseen("h2c")])
            .holds([Rejects(&[400, 426])]),
        Case::new(A, "upgrade-rejected-then-a-request", Level::Safe, "9110 7.8")
            .says(b"HTTP/1.1 426 No\r\nUpgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\nno")
            .sends([&get(ASKS)[..], SMUGGLED].concat())
            .response("GET")
            .response("GET")
            .holds([StatusOf(0, &[426]), StatusOf(1, &[426]), Seen(2)])
            .holds([StatusOf(0, &[426]), ResponsesAtMost(1), Ends, Seen(1)]),
        Case::new(A, "426-says-to-what", Level::Must, "9110 15.5.22")
            .says(b"HTTP/1.1 426 No\r\nUpgrade: a/2\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\nno")
            .sends(get(""))
            .response("GET")
            .holds([Status(&[426]), Has("Upgrade", "a/2")]),
        case("upgrade-with-a-body", Level::Safe, "9110 7.8")
            .says(OK)
            .sends(post(format!("{ASKS}Content-Length: 5\r\n"), "hello"))
            .response("GET")
            .holds([Status(&[200]), SeenBody(b"hello".to_vec()), Stays])
            .holds([Rejects(&[400, 426])]),
        case("upgrade-and-both-lengths", Level::Safe, "9112 11.2")
            .sends(post(format!("{ASKS}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), "0\r\n\r\n"))
            .step(Step::Finish)
            .response("GET")
            .holds([Rejects(&[400])])
            .holds([Client(no_tunnel), SeenBody(Vec::new())]),
    ]
}

/// A server that switches without being asked to (RFC 9110 section 15.2.2).
fn not_asked() -> Vec<Case> {
    let case = |id: &str| Case::new(A, id, Level::Safe, "9110 7.8").server(Script::Does(greets));
    let rejected = || [Status(&[502, 500, 504])];
    vec![
        case("101-unasked").sends(get("")).response("GET").holds(rejected()).holds([Incomplete]),
        case("101-unasked-to-1.0")
            .sends("GET / HTTP/1.0\r\nHost: h\r\n\r\n")
            .response("GET")
            .holds(rejected())
            .holds([Incomplete]),
        case("101-unasked-and-a-request-behind")
            .sends([&get("")[..], SMUGGLED].concat())
            .response("GET")
            .holds([Status(&[502, 500, 504]), Unseen("GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n")])
            .holds([Incomplete]),
    ]
}
